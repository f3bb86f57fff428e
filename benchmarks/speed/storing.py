"""What the store costs: its atomic steps against a bare SET, on the same server, through the same pipeline.

The server is the one that ships (Valkey, or a Redis that is found), with `appendfsync always`: an answer means that it
is on the disk. Calls come as they do in a worker, many at once, so that they share a round trip and a sync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.speed.pairs import Pair, Work
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.progress import start
from orchestrator.model.fleet import Cell, Ecu, Vehicle
from orchestrator.model.ids import AttemptId, EcuSerial, FleetTime, HardwareId, RolloutId, VehicleId
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import JournalEntry
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.address import connection_to
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.store.values import PermitRequest, SlotRequest

NOW = FleetTime(1_800_000_000_000)
ROLLOUT = RolloutId("spring")
CELL = Cell("eu", "gen2", "general")
PLENTY = 100_000_000
BASELINE = "SET of 64 bytes, pipelined"
AT_ONCE = 256
"""Calls that wait together."""
VALUE = "x" * 64


@contextmanager
def storing(folder: Path, *, calls: int = 2_048) -> Iterator[list[Pair]]:
    """The pairs, on a server of their own.

    Args:
        folder: Of the server's data; new.
        calls: Of a round.
    """
    server = EmbeddedServer(folder)
    server.start()
    loop = asyncio.new_event_loop()
    try:
        bench = loop.run_until_complete(_Bench.open(server.url, calls))
        yield [
            Pair(key, name, unit, BASELINE, _on(loop, work), _on(loop, bench.sets), clock=perf_counter)
            for key, name, unit, work in (
                ("store_reserve_ratio", "store: reserve", "slots", bench.reserve),
                ("store_permit_ratio", "store: reserve and authorize", "permits", bench.permit),
                ("store_touch_ratio", "store: touch, 256 at a time", "contacts", bench.touch),
            )
        ]
        loop.run_until_complete(bench.close())
    finally:
        loop.close()
        server.stop()


class _Bench:
    """A store with a rollout and vehicles, and what is done to it.

    Args:
        store: open.
        bare: the same server, without functions.
        calls: of a round.
    """

    def __init__(self, store: RedisStore, bare: Pipeline, calls: int) -> None:
        self._store = store
        self._bare = bare
        self._calls = calls
        self._number = count()
        self._minute = count()

    @classmethod
    async def open(cls, url: str, calls: int) -> _Bench:
        store = await RedisStore.connect(url)
        plan = read_plan("release: 1.1.0\n")
        rules = {"eu": plan.region_defaults}
        rollout = start(ROLLOUT, plan, "", bytes(16), rules, "bench", "bench", "", NOW)
        await store.create_rollout(rollout, JournalEntry(ROLLOUT, "", "rollout_created", NOW, {}))
        await store.import_vehicles([_vehicle(number) for number in range(calls)], now=NOW)
        return cls(store, Pipeline(connection_to(url)), calls)

    async def close(self) -> None:
        await self._bare.close()
        await self._store.close()

    async def sets(self) -> int:
        """The baseline."""
        return await self._many(lambda number: self._bare.call("SET", f"bare:{number}", VALUE))

    async def reserve(self) -> int:
        """Slots."""
        await self._alive()
        return await self._many(self._reserve)

    async def permit(self) -> int:
        """Slots and permits: what a grant costs the rollout's keys from its begin to its exposure."""
        await self._alive()
        return await self._many(self._permit)

    async def touch(self) -> int:
        """Last contacts, written behind in batches."""
        at = FleetTime(NOW + next(self._minute) * 3_600_000)
        batches = [range(low, low + AT_ONCE) for low in range(0, self._calls, AT_ONCE)]
        for batch in batches:
            await self._store.touch({VehicleId(f"v-{number}"): Contact(at=at) for number in batch})
        return len(batches) * AT_ONCE

    async def _reserve(self, number: int) -> AttemptId:
        attempt_id = AttemptId(f"spring.r-{number}.1")
        request = SlotRequest(CELL, 1, region_max=PLENTY, total_max=PLENTY, quota=None, transfer_ms=0, now=NOW)
        answer = await self._store.reserve(ROLLOUT, attempt_id, request)
        assert not hasattr(answer, "reason"), answer
        return attempt_id

    async def _permit(self, number: int) -> None:
        attempt_id = await self._reserve(number)
        request = PermitRequest(
            cell=CELL,
            attempt_epoch=1,
            region_max=PLENTY,
            total_max=PLENTY,
            starts_per_minute_max=PLENTY,
            region_starts_per_minute_max=PLENTY,
            valid_ms=900_000,
            now=NOW,
        )
        answer = await self._store.authorize(ROLLOUT, attempt_id, request)
        assert not hasattr(answer, "reason"), answer

    async def _alive(self) -> None:
        """Grants need a recent sign of life of the evaluator."""
        clock = await self._store.clock(origin=NOW, scale=1.0)
        await self._store.renew(
            ROLLOUT, permit_ceiling=PLENTY, grant_ceiling=PLENTY, began_ms=clock.machine_ms, epoch=1
        )

    async def _many(self, call: Callable[[int], Awaitable[Any]]) -> int:
        numbers = [next(self._number) for _ in range(self._calls)]
        for low in range(0, len(numbers), AT_ONCE):
            await asyncio.gather(*(call(number) for number in numbers[low : low + AT_ONCE]))
        return len(numbers)


def _vehicle(number: int) -> Vehicle:
    ecu = Ecu(EcuSerial(f"e-{number}"), HardwareId("gw-2"), "", primary=True)
    return Vehicle(VehicleId(f"v-{number}"), "S", CELL.hardware, CELL.region, CELL.cohort, (), (ecu,))


def _on(loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[int]]) -> Work:
    async def done() -> int:
        return await work()

    return lambda: loop.run_until_complete(done())
