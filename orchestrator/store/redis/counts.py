"""What every shard counts, as last seen: tallies of rollouts, vehicles by profile, open cases.

Owns what is fetched and what is worked out anew: only what changed since the last look, as a tick asks every second and
most of it is as it was. The first look has to see every rollout that ever ran: it goes in steps, and counters stay as
numbers. Leaves what the fields mean to `counters`.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.model.fleet import Profile
from orchestrator.model.ids import RolloutId
from orchestrator.model.tally import CellTallies
from orchestrator.store import counters
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number, pairs

CHANGED_MAX = 16
"""Rollouts that a shard tells in one step: more would hold up everybody else at the store, and not be told in time."""
_TOLD = 4
"""Where the rollouts begin in what a shard tells."""
TALLIES_MAX = 512
"""Rollouts whose tallies are kept, those asked for last: the evaluator asks for a few, a listing for all."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """Counters of one rollout in one shard, as numbers: most rollouts are over, and nobody asks for them."""

    fields: array[int]
    """Numbers of the fields."""
    counts: array[int]
    """Of each its count."""


@dataclass(slots=True)
class _Shard:
    """Counts of one shard."""

    change: int = 0
    """Change number up to which counters are known."""
    by_rollout: dict[RolloutId, _Counts] = field(default_factory=dict)
    profiles: Sequence[bytes] = ()
    """Profile and count in turns, as they were told."""
    open_cases: Sequence[bytes] = ()
    """The same of rollouts; as they are now, not by change."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was seen of every shard."""

    greeted: int
    """The connection since which it holds."""
    shards: Sequence[_Shard]


class ShardCounts:
    """Counts of every shard.

    Args:
        calls: carries the calls.
        tags: of the shards.
        greeted: how often a server was connected to so far: what was seen before is void, for whoever answers may have
            been set back, and its change numbers may have overtaken those that were seen.
    """

    def __init__(self, calls: Calls, tags: Sequence[str], *, greeted: Callable[[], int]) -> None:
        self._calls = calls
        self._tags = tags
        self._greeted = greeted
        self._shown = _Seen(greeted(), [_Shard() for _ in tags])
        self._coming = self._shown
        """What looks go on with: another one while everything is seen anew."""
        self._turn = asyncio.Lock()
        """Looks go one after the other, as each goes on where the one before ended."""
        self._looking: asyncio.Task[None] | None = None
        """A look at every shard that has not begun yet, so that whoever asks now may share it."""
        self._fields: list[str] = []
        """Every field by its number: shards and rollouts have the same few hundred."""
        self._numbers: dict[bytes, int] = {}
        """Of each field its number."""
        self._tallies: dict[RolloutId, CellTallies] = {}
        """Of rollouts whose counters did not change since they were asked for; the one asked for last is the last."""
        self._profiles: Mapping[Profile, int] | None = None
        """None: a shard told others since."""
        self._decoded: Mapping[bytes, Profile] = {}
        """Profiles as they were told last: releases come and go, and each brings as many as the fleet has kinds."""

    async def look(self) -> None:
        """See what every shard counts now; those who ask in one turn of the loop share one look."""
        if self._looking is None:
            # Not in a TaskGroup: it belongs to all who share it, and ends by the deadline of its calls.
            self._looking = asyncio.get_running_loop().create_task(self._refresh(), name="store-look")
        await asyncio.shield(self._looking)

    def tallies(self, rollout_id: RolloutId) -> CellTallies:
        """Counters of a rollout, over all shards."""
        tallies = self._tallies.pop(rollout_id, None)
        if tallies is None:
            tallies = counters.tallies(self._summed(rollout_id))
        self._tallies[rollout_id] = tallies
        if len(self._tallies) > TALLIES_MAX:
            del self._tallies[next(iter(self._tallies))]
        return tallies

    def _summed(self, rollout_id: RolloutId) -> counters.Counters:
        summed: dict[int, int] = {}
        for seen in self._shown.shards:
            if kept := seen.by_rollout.get(rollout_id):
                for place, count in zip(kept.fields, kept.counts, strict=True):
                    summed[place] = summed.get(place, 0) + count
        return {self._fields[place]: count for place, count in summed.items()}

    def profiles(self) -> Mapping[Profile, int]:
        """How many vehicles have each profile; the same object while nothing changed."""
        if self._profiles is None:
            counted = _summed(seen.profiles for seen in self._shown.shards)
            known = self._decoded
            self._decoded = {packed: known.get(packed) or codec.decode_profile(packed) for packed in counted}
            self._profiles = {self._decoded[packed]: count for packed, count in counted.items()}
        return self._profiles

    def open_cases(self) -> Mapping[RolloutId, int]:
        """How many cases of each rollout are open."""
        return {
            RolloutId(name.decode()): count
            for name, count in _summed(seen.open_cases for seen in self._shown.shards).items()
        }

    async def _refresh(self) -> None:
        async with self._turn:
            self._looking = None
            while not await self._follow(self._coming):
                # Seen anew beside what is shown until then, or somebody would read nothing.
                self._coming = _Seen(self._greeted(), [_Shard() for _ in self._tags])
            if self._coming is not self._shown:
                self._shown = self._coming
                self._tallies.clear()
                self._profiles = None

    async def _follow(self, seen: _Seen) -> bool:
        """Bring up to now what was seen; False: it is void, for the store went back or may have."""
        behind = list(range(len(self._tags)))
        while behind:
            # Each step has a deadline of its own; what it told stays known when a later one fails by itself.
            asked = [(self._tags[shard], seen.shards[shard].change, CHANGED_MAX) for shard in behind]
            replies = dict(zip(behind, await self._calls.functions("tally", asked), strict=True))
            if self._greeted() != seen.greeted:
                return False
            if any(number(reply) < seen.shards[shard].change for shard, reply in replies.items()):
                return False  # Under a connection that lasted, for example by a repair.
            for shard, reply in replies.items():
                self._take(seen.shards[shard], reply)
            behind = [shard for shard, reply in replies.items() if len(reply) == _TOLD + 2 * CHANGED_MAX]
        return True

    def _take(self, seen: _Shard, reply: Sequence[Any]) -> None:
        seen.change = number(reply)
        # Of a shard where nothing ever changed everything is told, time and again.
        if reply[2] not in (b"", seen.profiles):
            seen.profiles = reply[2]
            self._profiles = None
        seen.open_cases = reply[3]
        for index in range(_TOLD, len(reply), 2):
            rollout_id = RolloutId(reply[index].decode())
            seen.by_rollout[rollout_id] = self._counts(reply[index + 1])
            self._tallies.pop(rollout_id, None)

    def _counts(self, cells: Sequence[bytes]) -> _Counts:
        """Counters as they are kept, from fields and counts in turns."""
        for name in cells[::2]:
            if name not in self._numbers:
                self._numbers[name] = len(self._fields)
                self._fields.append(name.decode())
        return _Counts(array("I", [self._numbers[name] for name in cells[::2]]), array("q", map(int, cells[1::2])))


def _summed(parts: Iterable[Sequence[bytes]]) -> Mapping[bytes, int]:
    """Names and counts that follow each other in each part, in all."""
    summed: Counter[bytes] = Counter()
    for cells in parts:
        for name, count in pairs(cells):
            summed[name] += int(count)
    return summed
