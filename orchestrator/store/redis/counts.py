"""What every shard counts, as last seen: tallies of rollouts, vehicles by profile, open cases.

Owns what is fetched and what is worked out anew: only what changed since the last look, as a tick asks every second and
most of it is as it was. Leaves what the fields mean to `counters`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from orchestrator.model.fleet import Profile
from orchestrator.model.ids import RolloutId
from orchestrator.model.tally import CellTallies
from orchestrator.store import counters
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number, pairs


@dataclass(slots=True)
class _Shard:
    """Counts of one shard."""

    change: int = 0
    """Change number up to which counters are known."""
    by_rollout: dict[RolloutId, dict[str, int]] = field(default_factory=dict)
    profiles: Sequence[bytes] = ()
    """Profile and count in turns, as they were told."""
    open_cases: Sequence[bytes] = ()
    """The same of rollouts; as they are now, not by change."""


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
        self._seen_since = greeted()
        """The connection since which what was seen holds."""
        self._seen = [_Shard() for _ in tags]
        self._looking: asyncio.Task[None] | None = None
        """A look at every shard that has not begun yet, so that whoever asks now may share it."""
        self._tallies: dict[RolloutId, CellTallies] = {}
        """Of rollouts whose counters did not change since they were asked for."""
        self._profiles: Mapping[Profile, int] | None = None
        """None: a shard told others since."""

    async def look(self) -> None:
        """See what every shard counts now; those who ask in one turn of the loop share one look."""
        if self._looking is None:
            # Not in a TaskGroup: it belongs to all who share it, and ends by the deadline of its calls.
            self._looking = asyncio.get_running_loop().create_task(self._refresh(), name="store-look")
        await asyncio.shield(self._looking)

    def tallies(self, rollout_id: RolloutId) -> CellTallies:
        """Counters of a rollout, over all shards."""
        if rollout_id not in self._tallies:
            summed = counters.add(seen.by_rollout.get(rollout_id, {}) for seen in self._seen)
            self._tallies[rollout_id] = counters.tallies(summed)
        return self._tallies[rollout_id]

    def profiles(self) -> Mapping[Profile, int]:
        """How many vehicles have each profile; the same object while nothing changed."""
        if self._profiles is None:
            summed: Counter[Profile] = Counter()
            for packed, count in _summed(seen.profiles for seen in self._seen).items():
                summed[codec.decode_profile(packed)] += count
            self._profiles = summed
        return self._profiles

    def open_cases(self) -> Mapping[RolloutId, int]:
        """How many cases of each rollout are open."""
        return {
            RolloutId(name.decode()): count for name, count in _summed(seen.open_cases for seen in self._seen).items()
        }

    async def _refresh(self) -> None:
        self._looking = None
        seen_since, since = self._seen_since, [seen.change for seen in self._seen]
        replies = await self._calls.functions("tally", zip(self._tags, since, strict=True))
        if self._greeted() != seen_since:
            seen_since, since = self._greeted(), [0] * len(self._tags)
            replies = await self._calls.functions("tally", zip(self._tags, since, strict=True))
            self._seen_since = seen_since
            self._forget(range(len(self._tags)))
        for shard, (told, change) in enumerate(zip(replies, since, strict=True)):
            reply = told
            if number(reply) < change:
                # The store went back under a connection that lasted, for example by a repair.
                reply = await self._calls.function("tally", self._tags[shard], 0)
                self._forget([shard])
            self._take(self._seen[shard], reply)

    def _forget(self, shards: Iterable[int]) -> None:
        """Void what was seen; no await between this and what is seen instead, or somebody would read nothing."""
        for shard in shards:
            self._seen[shard] = _Shard()
        self._tallies.clear()

    def _take(self, seen: _Shard, reply: Sequence[Any]) -> None:
        if number(reply) < seen.change:
            return  # Another refresh overtook this one.
        seen.change = number(reply)
        # Of a shard where nothing ever changed everything is told, time and again.
        if reply[2] not in (b"", seen.profiles):
            seen.profiles = reply[2]
            self._profiles = None
        seen.open_cases = reply[3]
        for index in range(4, len(reply), 2):
            rollout_id = RolloutId(reply[index].decode())
            # Shards and rollouts have the same few hundred names, and what is over is kept as well: each name once.
            seen.by_rollout[rollout_id] = {intern(name.decode()): int(count) for name, count in pairs(reply[index + 1])}
            self._tallies.pop(rollout_id, None)


def _summed(parts: Iterable[Sequence[bytes]]) -> Mapping[bytes, int]:
    """Names and counts that follow each other in each part, in all."""
    summed: Counter[bytes] = Counter()
    for cells in parts:
        for name, count in pairs(cells):
            summed[name] += int(count)
    return summed
