"""What is asked of all shards together on Redis: counters, calls by region, profiles, cases, journals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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
from orchestrator.store.redis.calls import Calls, pairs, yes
from orchestrator.store.redis.control_records import decode_watched
from orchestrator.store.redis.counts import ShardCounts
from orchestrator.store.redis.ended import ended_attempts
from orchestrator.store.redis.keys import FLEET_TAG, key, rollout_tag, shard_tag
from orchestrator.store.redis.rollouts import RedisRollouts
from orchestrator.store.streams import FLEET_STREAM, after_position, rollout_stream, shard_stream, stream_parts
from orchestrator.store.watched import Watched

STREAMS_MAX = 4096
"""Whose places are remembered."""
SCAN_COUNT = 1000
"""Records asked for at a time in a recount."""


class RedisShards:
    """The part of `base.VehicleStore` that goes over every shard.

    Args:
        calls: carries the calls.
        shards: how many there are.
        rollouts: names the rollouts' streams.
        greeted: how often a server was connected to so far.
    """

    def __init__(self, calls: Calls, shards: int, rollouts: RedisRollouts, *, greeted: Callable[[], int]) -> None:
        self._calls = calls
        self._tags = [shard_tag(shard) for shard in range(shards)]
        self._rollouts = rollouts
        self._counts = ShardCounts(calls, self._tags, greeted=greeted)

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        await self._counts.look()
        return {rollout_id: self._counts.tallies(rollout_id) for rollout_id in rollout_ids}

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
        for values in await self._calls.commands("HMGET", [(key(tag, "contacts"), *fields) for tag in self._tags]):
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
        await self._counts.look()
        return self._counts.profiles()

    async def cases(self, *, rollout_id: RolloutId | None, settled: bool) -> Sequence[Case]:
        """See `base.VehicleStore`."""
        replies = await self._calls.functions("cases", [(tag, int(settled)) for tag in self._tags])
        found = [codec.decode_case(packed) for reply in replies for packed in reply[1:]]
        return sorted(
            (case for case in found if rollout_id is None or case.rollout_id == rollout_id),
            key=lambda case: (case.opened_at, case.attempt_id),
            reverse=True,
        )

    async def open_cases(self) -> Mapping[RolloutId, int]:
        """See `base.VehicleStore`."""
        await self._counts.look()
        return self._counts.open_cases()

    async def journal(self, stream: str, *, after: str, count: int) -> Sequence[JournalEntry]:
        """See `base.VehicleStore`."""
        first = f"({after}" if after else "-"
        reply = await self._calls.command("XRANGE", _stream_key(stream), first, "+", "COUNT", count)
        return _entries(stream, reply)

    async def journals_beyond(self, marks: Mapping[str, str], *, count: int) -> Mapping[str, BeyondMark]:
        """See `base.VehicleStore`."""
        places = [(*_stream_place(stream), mark) for stream, mark in marks.items()]
        replies = await self._calls.functions(
            "journal_beyond", [(tag, key("", name), mark, count) for tag, name, mark in places]
        )
        return {
            stream: BeyondMark(yes(reply), _entries(stream, reply[2]))
            for stream, reply in zip(marks, replies, strict=True)
        }

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


def _entries(stream: str, found: Sequence[Any]) -> Sequence[JournalEntry]:
    return [codec.decode_entry(stream, entry_id, dict(pairs(cells))) for entry_id, cells in found]


def _stream_key(stream: str) -> str:
    return key(*_stream_place(stream))


@lru_cache(maxsize=STREAMS_MAX)
def _stream_place(stream: str) -> tuple[str, str]:
    """Tag and name of its key."""
    shard, rollout_id = stream_parts(stream)
    if shard is not None:
        return shard_tag(shard), "journal"
    if rollout_id is not None:
        return rollout_tag(rollout_id), "log"
    return FLEET_TAG, "fleet_log"
