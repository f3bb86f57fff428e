"""Proof that counters equal the records, on a store that is in use, shard by shard, and the repair of what is wrong.

No shard is held up while its records are read. Functions note meanwhile which records change (`functions/verify.lua`);
these are read again, at last in one step with the counters. So both sides are of one moment, and a difference is never
a matter of time. A correction is a difference too: right whatever was counted since. What is due is compared record by
record: whatever looks wrong is looked at again in one step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from orchestrator.model.attempt import Attempt
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.store import counters
from orchestrator.store.base import StoreError, StoreUnavailableError
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number, pairs
from orchestrator.store.redis.control_records import decode_watched
from orchestrator.store.redis.ended import ended_attempts
from orchestrator.store.redis.keys import key, rollout_tag, shard_tag
from orchestrator.store.redis.places_recount import recount_places
from orchestrator.store.streams import rollout_stream, shard_stream

RECORDS = ("inventory", "hot", "attempts", "controls", "cases")
"""What is counted in a shard."""
LIFE_MS = 60_000
"""Machine time for which changes are noted after the last word of whoever looks."""
FEW = 500
"""Changed records that are read in one step with the counters."""
AT_ONCE = 1000
PACKED_AT_ONCE = 200
"""Ended attempts that are moved in one step."""
ATTEMPTS = 3
"""How often a look is begun that was too slow for its life."""

Records = dict[str, dict[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that is not what the records say."""

    stream: str
    """Where: `shard/3` or `rollout/spring`; its correction is journalled there."""
    counter: str
    """`count`, `profiles`, `members`, `open_cases`, `changed` or `due` of a shard; of a rollout `in_flight`,
    `admitted`, `spent`, `unsettled` or `outstanding`.
    """
    field: str
    """What is counted; of `due`, `unsettled` and `outstanding` a member, of `members` a profile and a vehicle."""
    stands: int | None
    """What is there; None where nothing is."""
    recounted: int | None
    """What should be."""
    rollout_id: RolloutId | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """Records and counters of a shard, of one moment."""

    records: Records
    counts: Mapping[RolloutId, Mapping[str, int]]
    profiles: Mapping[str, int]
    open_cases: Mapping[str, int]
    told: frozenset[RolloutId]
    """Rollouts whose changes are told to who asks for counters."""


class Verifier:
    """Counts anew.

    Args:
        calls: carries the calls.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def shard(self, shard: int) -> list[Difference]:
        """What is wrong in one shard.

        Raises:
            StoreError: it did not answer, or a record cannot be read.
        """
        tag, stream = shard_tag(shard), shard_stream(shard)
        for _ in range(ATTEMPTS):
            look = await self._look(tag)
            if look is not None:
                break
        else:
            raise StoreUnavailableError(f"shard {shard} was not read within {LIFE_MS} ms; try when there is less to do")
        # Both only grow: whatever the records name is there by now.
        frames = {int(name): each async for name, each in self._scan(tag, "frames")}
        shapes = {name: each async for name, each in self._scan(tag, "shapes")}
        found = list(_compared(stream, look, _counted(look.records, frames)))
        owners = _owners(look.records, shapes)
        found += _differences(stream, "profiles", look.profiles, Counter(owners.values()))
        found += await self._members(tag, stream, owners, look.profiles)
        cases = Counter(str(codec.decode_case(packed).rollout_id) for packed in look.records["cases"].values())
        found += _differences(stream, "open_cases", look.open_cases, cases)
        return found + await self._due(tag, stream, look.records)

    async def _look(self, tag: str) -> _Look | None:
        """Records and counters of one moment; None when it took too long."""
        await self._calls.function("look_begin", tag, LIFE_MS)
        records: Records = {name: {} for name in RECORDS}
        for name in RECORDS:
            async for member, packed in self._scan(tag, name):
                records[name][member] = packed
            await self._calls.command("PEXPIRE", key(tag, "touched"), LIFE_MS)
        rollouts = {name.split(b".", 1)[0] for name in records["attempts"]}
        while True:
            reply = await self._calls.function("look_on", tag, FEW, LIFE_MS, *rollouts)
            if reply[0] == b"unknown":
                return None
            for name, member, packed in zip(reply[1][::3], reply[1][1::3], reply[1][2::3], strict=True):
                if name.decode() in records:
                    records[name.decode()][member] = packed
            if len(reply) > 2:
                break
        for name in RECORDS:
            records[name] = {member: packed for member, packed in records[name].items() if packed}
        counts, profiles, cases, told = reply[2:]
        return _Look(
            records=records,
            counts={RolloutId(name.decode()): _numbers(cells) for name, cells in pairs(counts)},
            profiles=_numbers(profiles),
            open_cases=_numbers(cases),
            told=frozenset(RolloutId(name.decode()) for name in told),
        )

    async def _scan(self, tag: str, name: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """Members and values of a hash; one may come twice."""
        cursor = -1
        while cursor != 0:
            following, cells = await self._calls.command("HSCAN", key(tag, name), max(cursor, 0), "COUNT", AT_ONCE)
            cursor = int(following)
            for pair in pairs(cells):
                yield pair

    async def _due(self, tag: str, stream: str, records: Records) -> list[Difference]:
        """What is wrong with the due set."""
        stands: dict[bytes, int] = {}
        cursor = -1
        while cursor != 0:
            following, cells = await self._calls.command("ZSCAN", key(tag, "due"), max(cursor, 0), "COUNT", AT_ONCE)
            cursor = int(following)
            stands.update((member, int(float(at))) for member, at in pairs(cells))
        wanted: dict[bytes, int | None] = {}
        for packed in records["attempts"].values():
            wanted.update(due_members(codec.decode_attempt(packed)))
        doubtful = {member for member, at in wanted.items() if member not in stands or at not in (None, stands[member])}
        doubtful |= {
            member
            for member in stands.keys() - wanted.keys()
            if member[:1] not in b"kl" or member.partition(b"|")[2] not in records["controls"]
        }
        found: list[Difference] = []
        for batch in _batches(sorted(doubtful), AT_ONCE):
            reply = await self._calls.function("check_due", tag, "0", 0, "", "", *batch)
            for member, was, now in zip(reply[1::3], reply[2::3], reply[3::3], strict=True):
                rollout_id = RolloutId(member.partition(b"|")[2].decode().partition(".")[0].partition("|")[0])
                found.append(Difference(stream, "due", member.decode(), _time(was), _time(now), rollout_id))
        return found

    async def _members(
        self, tag: str, stream: str, owners: Mapping[bytes, str], profiles: Iterable[str]
    ) -> list[Difference]:
        """Vehicles that are noted under a profile that they have not, or not under the one that they have."""
        stands: set[tuple[str, bytes]] = set()
        for profile in {*owners.values(), *profiles}:
            cursor = -1
            while cursor != 0:
                members = key(tag, "members", profile)
                following, cells = await self._calls.command("SSCAN", members, max(cursor, 0), "COUNT", AT_ONCE)
                cursor = int(following)
                stands.update((profile, vehicle_id) for vehicle_id in cells)
        doubtful = stands ^ {(profile, vehicle_id) for vehicle_id, profile in owners.items()}
        found: list[Difference] = []
        for batch in _batches(sorted(doubtful), AT_ONCE):
            reply = await self._calls.function("check_members", tag, "0", 0, "", "", *chain.from_iterable(batch))
            for profile, vehicle_id, there in zip(reply[1::3], reply[2::3], reply[3::3], strict=True):
                was, now = (1, None) if there == b"1" else (None, 1)
                found.append(Difference(stream, "members", f"{profile.decode()}|{vehicle_id.decode()}", was, now))
        return found

    async def rollout(self, rollout_id: RolloutId) -> list[Difference]:
        """What is wrong on one rollout's own keys: of one moment as well.

        Raises:
            StoreError: it did not answer.
        """
        reply = await self._calls.function("look_places", rollout_tag(rollout_id))
        slots, permits = (dict(pairs(cells)) for cells in reply[1:3])
        counted = dict(zip(("in_flight", "admitted", "spent"), map(_numbers, reply[3:6]), strict=True))
        wanted, stray = recount_places(slots, permits, counted["spent"], unsettled=reply[6], outstanding=reply[7])
        stream = rollout_stream(rollout_id)
        found: list[Difference] = []
        for name, expected in wanted.items():
            found += _differences(stream, name, counted[name], expected, rollout_id)
        return found + [Difference(stream, name, member.decode(), 1, None, rollout_id) for name, member in stray]

    async def repair(self, difference: Difference, *, at: FleetTime, actor: str, reason: str) -> tuple[str, str]:
        """Put a counter right and journal it with who and why, in one step; what was there, and what is.

        Args:
            difference: as it was found.
            at: fleet time.
            actor: who repairs.
            reason: why.

        Raises:
            StoreError: it did not answer; look again.
        """
        kind, _, name = difference.stream.partition("/")
        amount = (difference.recounted or 0) - (difference.stands or 0)
        if kind == "rollout":
            tag, about = rollout_tag(RolloutId(name)), (difference.counter, difference.field, amount)
            reply = await self._calls.function("repair_place", tag, *about, at, actor, reason)
        elif difference.counter == "due":
            tag = shard_tag(int(name))
            reply = await self._calls.function("check_due", tag, "1", at, actor, reason, difference.field)
            return (reply[2].decode(), reply[3].decode()) if len(reply) > 1 else ("", "")
        elif difference.counter == "members":
            profile, _, vehicle_id = difference.field.rpartition("|")
            tag, member = shard_tag(int(name)), (profile, vehicle_id)
            reply = await self._calls.function("check_members", tag, "1", at, actor, reason, *member)
            noted = reply[3:] == [b"1"]
            return (str(int(noted)), str(int(not noted))) if len(reply) > 1 else ("", "")
        else:
            rollout_id = difference.rollout_id or ""
            tag, counter = shard_tag(int(name)), (difference.counter, rollout_id, difference.field, amount)
            reply = await self._calls.function("repair_counter", tag, *counter, at, actor, reason)
        return str(number(reply, 1)), str(number(reply, 2))

    async def pack_ended(self, shard: int) -> int:
        """Move attempts into their vehicles' records that were over before builds did so; how many were moved.

        Raises:
            StoreError: it did not answer; what was moved is moved.
        """
        tag, moved = shard_tag(shard), 0
        ended: list[bytes] = []
        async for name, packed in self._scan(tag, "attempts"):
            if codec.decode_attempt(packed).state.terminal:
                ended.append(name)
        for batch in _batches(ended, PACKED_AT_ONCE):
            moved += number(await self._calls.function("pack_ended", tag, *batch))
        return moved

    async def spend_permits(self, rollout_id: RolloutId) -> None:
        """Let permits be a number whose attempts were released before builds did so.

        Raises:
            StoreError: it did not answer.
        """
        tag = rollout_tag(rollout_id)
        names = [name async for name, _ in self._scan(tag, "permits")]
        for batch in _batches(names, PACKED_AT_ONCE):
            await self._calls.function("spend_permits", tag, *batch)


def due_members(attempt: Attempt) -> Iterator[tuple[bytes, int | None]]:
    """What stands in the due set of an attempt, with its time where the record tells it."""
    name = attempt.attempt_id
    if attempt.deadline_at is not None:
        yield f"d|{name}".encode(), attempt.deadline_at
    if attempt.checkpoints_ms and not attempt.grant_aged:
        yield f"g|{name}".encode(), None
    if attempt.exposed:
        for kind, reached in (("c", attempt.aged), ("h", attempt.habit_aged)):
            for index, done in enumerate(reached):
                if not done:
                    yield f"{kind}{index}|{name}".encode(), None


def _counted(records: Records, frames: Mapping[int, bytes]) -> Mapping[RolloutId, Mapping[str, int]]:
    """The counters of each rollout that the records of a shard amount to; a thousand attempts at a time."""
    found: dict[RolloutId, Counter[str]] = {}
    for batch in _batches(_attempts(records, frames), AT_ONCE):
        by_rollout: dict[RolloutId, list[Attempt]] = {}
        for attempt in batch:
            by_rollout.setdefault(attempt.rollout_id, []).append(attempt)
        for rollout_id, attempts in by_rollout.items():
            found.setdefault(rollout_id, Counter()).update(counters.count_records(attempts, ()))
    for packed in records["controls"].values():
        watched = decode_watched(packed)
        counted = counters.count_records((), (watched,))
        found.setdefault(watched.control.rollout_id, Counter()).update(counted)
    return found


def _attempts(records: Records, frames: Mapping[int, bytes]) -> Iterator[Attempt]:
    for packed in records["attempts"].values():
        yield codec.decode_attempt(packed)
    for name, packed in records["hot"].items():
        try:
            yield from ended_attempts(VehicleId(name.decode()), codec.unpack_hot(packed)[-1], frames)
        except KeyError as error:
            raise StoreError(
                f"vehicle {name.decode()} names frame {error}, which is not there: restore the store from a backup"
            ) from error


def _owners(records: Records, shapes: Mapping[bytes, bytes]) -> Mapping[bytes, str]:
    """The key of the profile that each vehicle has which is in the inventory."""
    found: dict[bytes, str] = {}
    for name, record in records["inventory"].items():
        installed = ""
        if name in records["hot"]:
            values = dict(zip(codec.HOT, codec.unpack_hot(records["hot"][name]), strict=True))
            if values["removed"]:
                continue
            installed = values["installed"]
        found[name] = codec.profile_key(shapes[record.partition(b"|")[0]], installed)
    return found


def _compared(stream: str, look: _Look, counted: Mapping[RolloutId, Mapping[str, int]]) -> Iterator[Difference]:
    for rollout_id in sorted(look.counts.keys() | counted.keys()):
        stands = look.counts.get(rollout_id, {})
        yield from _differences(stream, "count", stands, counted.get(rollout_id, {}), rollout_id)
        if any(stands.values()) and rollout_id not in look.told:
            yield Difference(stream, "changed", rollout_id, None, 1, rollout_id)


def _differences(
    stream: str,
    counter: str,
    stands: Mapping[str, int],
    recounted: Mapping[str, int],
    rollout_id: RolloutId | None = None,
) -> Iterator[Difference]:
    """Fields in which two counts differ; what counts nothing may be absent."""
    for field in sorted(stands.keys() | recounted.keys()):
        there, wanted = stands.get(field, 0), recounted.get(field, 0)
        if there != wanted:
            yield Difference(stream, counter, field, there, wanted, rollout_id)


def _numbers(cells: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(count) for name, count in pairs(cells)}


def _time(text: bytes) -> int | None:
    return int(text) if text else None


def _batches(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(values)
    for first in rest:
        yield list(chain((first,), islice(rest, size - 1)))
