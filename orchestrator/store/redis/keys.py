"""Every key of the store: name, type, members, lifetime, writer. The only home of key names.

A function is given one key, its *tag*, and derives every other from it: `{s:0f}` is shard 15, `{r:spring}` the rollout
`spring`, `{g}` the fleet. All keys of a tag hash to one cluster slot, so whatever a function touches is in one place;
every key begins with its tag, by which calls find their node.
The table below is handed to the Lua functions as `KEY`; the same name plus a tag makes the key on either side. Nothing
expires unless its line says so; functions are the only writers unless a line says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orchestrator.model.ids import RolloutId

FLEET_TAG = "{g}"


def shard_tag(shard: int) -> str:
    """The tag of a shard, `{s:0f}`."""
    return f"{{s:{shard:02x}}}"


def rollout_tag(rollout_id: RolloutId) -> str:
    """The tag of a rollout, `{r:<rollout id>}`."""
    return f"{{r:{rollout_id}}}"


SHARD_KEYS: Mapping[str, str] = {
    # hash: vehicle id -> inventory record (inventory.py). Written by import and change_vehicles; stays on removal.
    "inventory": ":inventory",
    # hash: number -> shape (inventory.SHAPE): what many vehicles have in common. Written as `inventory`; only grows.
    "shapes": ":shapes",
    # hash: shape -> its number.
    "shape_numbers": ":shape_numbers",
    # hash: vehicle id -> hot record (codec.HOT), from the first thing that is known of a vehicle. Written by every
    # function that concerns one.
    "hot": ":hot",
    # hash: vehicle id -> last contact (contact.py): when, gaps, conditions, diagnostics. Written behind by touch.
    "seen": ":seen",
    # hash: attempt id -> attempt record (codec.ATTEMPT), until it is over and nothing of it is due: then `hot` has it,
    # for ever, as a late word still corrects it.
    "attempts": ":attempts",
    # hash: number -> frame (ended.FRAME): what many ended attempts have in common. Only grows.
    "frames": ":frames",
    # hash: frame as it is before a time stands in it -> `<number>|<that time>`.
    "frame_numbers": ":frame_numbers",
    # hash: `<region>|<half hour modulo 50>` -> `<half hour>|<calls>`: the last day and a little. Written by touch.
    "contacts": ":contacts",
    # hash: `<rollout id>|<vehicle id>|<enrolled at>` -> control record (control_records.py). Kept: counters are
    # recounted from it.
    "controls": ":controls",
    # zset, at fleet time: `d|<attempt id>` at its deadline while it lives; `c<i>|<attempt id>` at its i-th checkpoint,
    # `h<i>|<attempt id>` at the i-th age of its habit, `g|<attempt id>` at the first checkpoint after its grant;
    # `k<i>|<control>` and `l<i>|<control>` as `c<i>` and `h<i>`.
    "due": ":due",
    # hash per rollout, `:count:<rollout id>`: `<region>|<hardware>|<cohort>|<b or p>|<state>` -> attempts before or
    # after their permit; all other fields in `store/counters.py`.
    "count": ":count:",
    # string: number of the last change of any counter of this shard.
    "change": ":change",
    # string: that of the last change of `profiles`.
    "profiles_change": ":profiles_change",
    # zset: rollout id at the change number of its counters.
    "changed": ":changed",
    # hash: profile (codec.profile_key) -> vehicles that have it.
    "profiles": ":profiles",
    # set per profile, `:members:<profile>`: ids of those vehicles. Written with the count.
    "members": ":members:",
    # hash: attempt id -> case record (codec.CASE), open ones: what is read at every look stays small.
    "cases": ":cases",
    # hash: attempt id -> case record (codec.CASE), settled ones; an attempt is in one of the two.
    "settled_cases": ":settled_cases",
    # hash: rollout id -> its open cases, where there are any.
    "open_cases": ":open_cases",
    # hash per vehicle, `:token:<vehicle id>`: `token` -> SHA-256 of the enrolment token, `request` -> SHA-256 of the
    # request that spent it. Expires with the token.
    "token": ":token:",
    # set: `<name>|<member>` of records that changed since a look at the shard began, and an empty member while it
    # lasts; expires a minute after whoever looked fell silent.
    "touched": ":touched",
    # stream: journal entries `k` kind, `t` fleet time, `d` data (msgpack), `b` bytes where it carries any. Trimmed once
    # they are in the ledger.
    "journal": ":journal",
}
"""Suffixes after a shard's tag."""

ROLLOUT_KEYS: Mapping[str, str] = {
    # hash: `document` (codec, JSON), `status`, `epoch`, `fence`, and of what stands still or is fenced in part
    # `brake:<scope>` -> kind and `fence:<scope>` -> epoch, scope being `<region>`, `<region>/<hardware>` or `_other`:
    # whatever has no `apart:<scope>`, where strata are judged together; by renew
    # `alive_until` and `began_ms` (machine time), `ceiling` of permits and `grant_ceiling` of slots without one.
    "rollout": ":rollout",
    # hash: attempt id -> `<machine time>|<region>|<hardware>|<cohort>` while it lives: since when it holds its
    # in-flight slot, nothing before the bar while it is suspended and holds none, `-` while it stands aside and has
    # no place in the quota either.
    "slots": ":slots",
    # hash: region -> slots held in it, `*` -> all, `*b` -> those without a permit.
    "in_flight": ":in_flight",
    # hash: `<region>|<hardware>|<cohort>` -> vehicles admitted: live attempts that do not stand aside, and permits.
    "admitted": ":admitted",
    # hash: region -> fleet time until which its bandwidth is given away.
    "links": ":links",
    # hash: attempt id -> `<first>|<latest>|<offline>|<paired>|<region>|<hardware>|<cohort>`: fleet time of its permit,
    # how long the latest is good for if it is an offline one (else 0), whether it is compared with controls (`1` or
    # `0`), and its cell; until the attempt is over and the shard is known to have heard of it.
    "permits": ":permits",
    # hash: `<region>|<hardware>|<cohort>` -> permits of attempts that are over, `*` -> all. With the length of
    # `permits` it is what the ceiling limits.
    "spent": ":spent",
    # zset: attempt id at the fleet time at which its permit lapses, until then or until the attempt is over.
    "outstanding": ":outstanding",
    # zset: attempt id at the fleet time of its permit, of the last two minutes.
    "starts": ":starts",
    # zset per region, `:starts:<region>`: the same of its attempts.
    "region_starts": ":starts:",
    # zset: `s|<attempt id>` and `p|<attempt id>` at the machine time of reservation or permit, until confirmed.
    "unsettled": ":unsettled",
    # stream: as a shard's.
    "log": ":log",
}
"""Suffixes after a rollout's tag."""

FLEET_KEYS: Mapping[str, str] = {
    # hash: `schema`, `dataset_id`, `shards`. Written once, by the first connection.
    "meta": ":meta",
    # hash: `origin`, `started_ms`, `scale` of the fleet clock. Written once.
    "clock": ":clock",
    # hash: version -> release (codec, JSON).
    "releases": ":releases",
    # set: rollout ids, added before the rollout itself; a member without a rollout is one that was never written.
    "rollouts": ":rollouts",
    # set: vehicle ids whose certificates are refused.
    "revoked": ":revoked",
    # stream: as a shard's.
    "fleet_log": ":log",
}
"""Suffixes after the fleet's tag."""

ALL_KEYS: Mapping[str, str] = {**SHARD_KEYS, **ROLLOUT_KEYS, **FLEET_KEYS}

MARK = ":mark"
"""Suffix after any tag. String, empty: written by the pipeline behind a round of changes that replicas have to confirm,
under the tag of one of them.
"""


def key(tag: str, name: str, member: str = "") -> str:
    """The full name of a key, for commands that need no function."""
    return f"{tag}{ALL_KEYS[name]}{member}"


def is_ours(name: str) -> bool:
    """Whether a key has a tag of ours; the rest of its name may be another build's."""
    return _TAG.match(name) is not None


_TAG = re.compile(r"\{(g|s:[0-9a-f]{2,}|r:[^}]+)\}:")


def tag_of(command: Sequence[object]) -> str:
    """The tag of the key that a command is about; empty when it is about none.

    Args:
        command: name and arguments, of which the first that begins with a tag is the key.
    """
    for argument in command[1:]:
        if isinstance(argument, str) and argument.startswith("{"):
            return argument[: argument.find("}") + 1]
    return ""
