"""What is asked of all shards together on Redis: counters, calls by region, profiles, cases, journals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from orchestrator.model.attempt import Attempt, Case
from orchestrator.model.fleet import Profile
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.model.tally import CellTallies
from orchestrator.store import counters
from orchestrator.store.base import BeyondMark, ContactRate, JournalEntry
from orchestrator.store.contacts import compared, place
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number, pairs, yes
from orchestrator.store.redis.control_records import decode_watched
from orchestrator.store.redis.ended import ended_attempts
from orchestrator.store.redis.keys import FLEET_TAG, key, rollout_tag, shard_tag
from orchestrator.store.redis.rollouts import RedisRollouts
from orchestrator.store.streams import FLEET_STREAM, after_position, rollout_stream, shard_stream, stream_parts
from orchestrator.store.watched import Watched

PROFILES_MAX = 100_000
"""Remembered as values."""
SCAN_COUNT = 1000
"""Records asked for at a time in a recount."""


@dataclass(slots=True)
class _ShardCounters:
    """Counters of one shard as last seen."""

    change: int = 0
    """Change number up to which they are known."""
    by_rollout: dict[RolloutId, dict[str, int]] = field(default_factory=dict)
    profiles: Mapping[Profile, int] = field(default_factory=dict)
    """As they are now, like what follows; not by change."""
    open_cases: Mapping[RolloutId, int] = field(default_factory=dict)


class RedisShards:
    """The part of `base.VehicleStore` that goes over every shard.

    Args:
        calls: carries the calls.
        shards: how many there are.
        rollouts: names the rollouts' streams.
    """

    def __init__(self, calls: Calls, shards: int, rollouts: RedisRollouts) -> None:
        self._calls = calls
        self._tags = [shard_tag(shard) for shard in range(shards)]
        self._rollouts = rollouts
        self._seen = [_ShardCounters() for _ in range(shards)]
        self._looking: asyncio.Task[None] | None = None
        """A look at every shard that has not begun yet, so that whoever asks now may share it."""

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`. Only what changed since the last call is fetched."""
        await self._look()
        return {
            rollout_id: counters.tallies(counters.add(seen.by_rollout.get(rollout_id, {}) for seen in self._seen))
            for rollout_id in rollout_ids
        }

    async def _look(self) -> None:
        """See what every shard counts now; those who ask in one turn of the loop share one look."""
        if self._looking is None:
            # Not in a TaskGroup: it belongs to all who share it, and ends by the deadline of its calls.
            self._looking = asyncio.get_running_loop().create_task(self._refresh_all(), name="store-look")
        await asyncio.shield(self._looking)

    async def _refresh_all(self) -> None:
        self._looking = None
        await asyncio.gather(*(self._refresh(shard) for shard in range(len(self._tags))))

    async def _refresh(self, shard: int) -> None:
        since = self._seen[shard].change
        reply = await self._calls.function("tally", self._tags[shard], since)
        if number(reply) < since:
            # The store went back, for example after a repair: what was seen is void.
            self._seen[shard] = _ShardCounters()
            reply = await self._calls.function("tally", self._tags[shard], 0)
        seen = self._seen[shard]
        if number(reply) < seen.change:
            return  # Another refresh overtook this one.
        seen.change = number(reply)
        seen.profiles = {_profile(packed): int(count) for packed, count in pairs(reply[2])}
        seen.open_cases = {RolloutId(name.decode()): int(count) for name, count in pairs(reply[3])}
        for index in range(4, len(reply), 2):
            cells = reply[index + 1]
            seen.by_rollout[RolloutId(reply[index].decode())] = {
                name.decode(): int(count) for name, count in zip(cells[::2], cells[1::2], strict=True)
            }

    async def recount(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        attempts: dict[RolloutId, list[Attempt]] = {rollout_id: [] for rollout_id in rollout_ids}
        watched: dict[RolloutId, list[Watched]] = {rollout_id: [] for rollout_id in rollout_ids}
        for tag in self._tags:
            for attempt in await self._attempts(tag):
                if attempt.rollout_id in attempts:
                    attempts[attempt.rollout_id].append(attempt)
            for packed in (await self._records(tag, "controls")).values():
                each = decode_watched(packed)
                if each.control.rollout_id in watched:
                    watched[each.control.rollout_id].append(each)
        return {
            rollout_id: counters.tallies(counters.count_records(attempts[rollout_id], watched[rollout_id]))
            for rollout_id in rollout_ids
        }

    async def _attempts(self, tag: str) -> Collection[Attempt]:
        """Every attempt of a shard, once: one may become an ended one while this looks."""
        found = {name: codec.decode_attempt(packed) for name, packed in (await self._records(tag, "attempts")).items()}
        hots = {VehicleId(name.decode()): packed for name, packed in (await self._records(tag, "hot")).items()}
        frames = {int(number): frame for number, frame in (await self._records(tag, "frames")).items()}
        for vehicle_id, packed in hots.items():
            for attempt in ended_attempts(vehicle_id, codec.unpack_hot(packed)[-1], frames):
                found[attempt.attempt_id.encode()] = attempt
        return found.values()

    async def _records(self, tag: str, name: str) -> Mapping[bytes, bytes]:
        """Every record of a hash; once each, though a scan may return a member twice."""
        records: dict[bytes, bytes] = {}
        cursor = -1
        while cursor != 0:
            following, cells = await self._calls.command("HSCAN", key(tag, name), max(cursor, 0), "COUNT", SCAN_COUNT)
            cursor = int(following)
            records.update(zip(cells[::2], cells[1::2], strict=True))
        return records

    async def contacts(self, regions: Sequence[str], *, now: FleetTime) -> Mapping[str, ContactRate]:
        """See `base.VehicleStore`."""
        if not regions:
            return {}
        asked = [(region, half_hour) for region in regions for half_hour in compared(now)]
        fields = [f"{region}|{place(half_hour)}" for region, half_hour in asked]
        counted: Counter[tuple[str, int]] = Counter()
        for values in await asyncio.gather(
            *(self._calls.command("HMGET", key(tag, "contacts"), *fields) for tag in self._tags)
        ):
            for (region, half_hour), value in zip(asked, values, strict=True):
                held, _, count = (value or b"").partition(b"|")
                # What is kept there may be of another day.
                counted[region, half_hour] += int(count) if held == b"%d" % half_hour else 0
        last, day_before = compared(now)
        return {
            region: ContactRate(recent=counted[region, last], day_before=counted[region, day_before])
            for region in regions
        }

    async def profiles(self) -> Mapping[Profile, int]:
        """See `base.VehicleStore`."""
        await self._look()
        summed: dict[Profile, int] = {}
        for seen in self._seen:
            for profile, count in seen.profiles.items():
                summed[profile] = summed.get(profile, 0) + count
        return summed

    async def cases(self, *, rollout_id: RolloutId | None, settled: bool) -> Sequence[Case]:
        """See `base.VehicleStore`."""
        replies = await asyncio.gather(*(self._calls.function("cases", tag, int(settled)) for tag in self._tags))
        found = [codec.decode_case(packed) for reply in replies for packed in reply[1:]]
        return sorted(
            (case for case in found if rollout_id is None or case.rollout_id == rollout_id),
            key=lambda case: (case.opened_at, case.attempt_id),
            reverse=True,
        )

    async def open_cases(self) -> Mapping[RolloutId, int]:
        """See `base.VehicleStore`."""
        await self._look()
        summed: Counter[RolloutId] = Counter()
        for seen in self._seen:
            summed.update(seen.open_cases)
        return summed

    async def journal(self, stream: str, *, after: str, count: int) -> Sequence[JournalEntry]:
        """See `base.VehicleStore`."""
        first = f"({after}" if after else "-"
        reply = await self._calls.command("XRANGE", _stream_key(stream), first, "+", "COUNT", count)
        return _entries(stream, reply)

    async def journal_beyond(self, stream: str, *, mark: str, count: int) -> BeyondMark:
        """See `base.VehicleStore`."""
        tag, name = _stream_place(stream)
        reply = await self._calls.function("journal_beyond", tag, key("", name), mark, count)
        return BeyondMark(yes(reply), _entries(stream, reply[2]))

    async def journal_streams(self) -> Sequence[str]:
        """See `base.VehicleStore`."""
        shards = [shard_stream(shard) for shard in range(len(self._tags))]
        ids = await self._rollouts.rollout_ids()
        return [*shards, *(rollout_stream(rollout_id) for rollout_id in ids), FLEET_STREAM]

    async def journal_mark(self, stream: str) -> str:
        """See `base.VehicleStore`."""
        name = _stream_key(stream)
        if not await self._calls.command("EXISTS", name):
            return ""
        about: dict[bytes, Any] = await self._calls.command("XINFO", "STREAM", name)
        mark: bytes = about[b"last-generated-id"]
        return mark.decode()

    async def trim_journal(self, stream: str, *, upto: str) -> None:
        """See `base.VehicleStore`."""
        await self._calls.command("XTRIM", _stream_key(stream), "MINID", after_position(upto))


@lru_cache(maxsize=PROFILES_MAX)
def _profile(packed: bytes) -> Profile:
    """A fleet has few, which every look brings again."""
    return codec.decode_profile(packed)


def _entries(stream: str, found: Sequence[Any]) -> Sequence[JournalEntry]:
    return [codec.decode_entry(stream, entry_id, dict(pairs(cells))) for entry_id, cells in found]


def _stream_key(stream: str) -> str:
    return key(*_stream_place(stream))


def _stream_place(stream: str) -> tuple[str, str]:
    """Tag and name of its key."""
    shard, rollout_id = stream_parts(stream)
    if shard is not None:
        return shard_tag(shard), "journal"
    if rollout_id is not None:
        return rollout_tag(rollout_id), "log"
    return FLEET_TAG, "fleet_log"
