"""What a large fleet takes of the store's memory, and how fast it comes in: on the server that ships.

Every vehicle has two control units with keys of their own and is one of some dozen kinds. What one takes once it is in
service, having enrolled, called, attested and got its Director files, and what a rollout leaves behind, is measured on
a sample of one shard's vehicles: for the latter each goes through every store step of whole rollouts, one after the
other, until its last age was reached and the journal was carried off, as the ledger feed does. What a shard keeps once
for all its vehicles is counted with it.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.speed.journeys import Journeys
from benchmarks.speed.pairs import Pair, measured
from orchestrator.model.fleet import Ecu, Vehicle
from orchestrator.model.ids import EcuSerial, FleetTime, HardwareId, VehicleId
from orchestrator.store.base import ImportOutcome
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.address import connection_to
from orchestrator.store.redis.inventory import encode_units
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.store.shards import shard_of
from orchestrator.store.streams import shard_stream

VEHICLES = 1_000_000
SAMPLE = 8_000
ROLLOUTS = 4
IMPORTED = 5_000
"""Vehicles of a round of the import pair."""
NOW = FleetTime(1_800_000_000_000)
_AT_ONCE = 256
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
"""What stands before a P-256 point; the points are noise: nobody verifies by them here."""


@dataclass(frozen=True, slots=True)
class Amount:
    """A number with a unit of its own, or a share of a rate."""

    key: str
    """Name in `build/bench.json`."""
    value: float
    unit: str
    what: str
    """What was counted or compared, for the table."""
    asked: str
    """What it was asked to be, in words."""

    def as_json(self, command: str) -> dict[str, object]:
        """For `build/bench.json`.

        Args:
            command: That measured it.
        """
        return {"name": self.key, "value": self.value, "unit": self.unit, "baseline": self.what, "command": command}


def fleet(
    folder: Path,
    *,
    rounds: int,
    vehicles: int = VEHICLES,
    sample: int = SAMPLE,
    rollouts: int = ROLLOUTS,
    imported: int = IMPORTED,
) -> list[Amount]:
    """The amounts; some minutes for a million.

    Args:
        folder: Of the server's data; new.
        rounds: Of the import pair.
        vehicles: That are registered.
        sample: How many of them each rollout touches.
        rollouts: One after the other.
        imported: Vehicles of a round of the import pair.
    """
    server = EmbeddedServer(folder)
    server.start()
    loop = asyncio.new_event_loop()
    try:
        work = _Fleet(loop, server.url, random.Random(1))  # noqa: S311 - filler, not secrets
        share = work.import_share(rounds, imported)
        registered = work.register(vehicles)
        known, left = work.roll_out(vehicles, sample, rollouts)
        work.close()
    finally:
        loop.close()
        server.stop()
    return [
        Amount(
            "store_bytes_per_vehicle", registered, "bytes", f"used_memory over {vehicles:,} vehicles", "at most 350"
        ),
        Amount(
            "store_bytes_per_vehicle_in_service",
            registered + known,
            "bytes",
            f"the same of one that enrolled, called, attested and has its Director files, by {sample:,} of them",
            "to be told",
        ),
        Amount(
            "store_bytes_per_vehicle_rollout",
            left,
            "bytes",
            f"more by vehicle and rollout: {rollouts} to {sample:,} of them",
            "at most 40",
        ),
        Amount("import_vs_pipeline", share, "ratio", "the same bytes, one HSET a vehicle, pipelined", "at least 0.5"),
    ]


def fill(folder: Path, vehicles: int, *, now: FleetTime) -> None:
    """Register a fleet in a store of its own, as `fleet` does.

    Args:
        folder: Of the server's data; new.
        vehicles: How many.
        now: Fleet time.
    """
    server = EmbeddedServer(folder)
    server.start()
    loop = asyncio.new_event_loop()
    try:
        work = _Fleet(loop, server.url, random.Random(1))  # noqa: S311 - filler, not secrets
        work.register(vehicles, now)
        work.close()
    finally:
        loop.close()
        server.stop()


class _Fleet:
    """A store that fills up.

    Args:
        loop: everything runs on.
        url: of a new server.
        rng: of keys.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._store = loop.run_until_complete(RedisStore.connect(url))
        self._bare = Pipeline(connection_to(url))

    def close(self) -> None:
        self._loop.run_until_complete(self._bare.close())
        self._loop.run_until_complete(self._store.close())

    def import_share(self, rounds: int, imported: int) -> float:
        """How fast the import is against a bare pipeline: median of the rates' ratio. Leaves nothing behind."""
        batches = [
            [self._vehicle(number) for number in range(first, first + imported)]
            for first in range(0, (rounds + 1) * imported, imported)
        ]
        records = iter([[(each.vehicle_id, b"1|" + encode_units(each)) for each in batch] for batch in batches])
        waiting = iter(batches)

        def ours() -> int:
            outcome = self._loop.run_until_complete(self._store.import_vehicles(next(waiting), now=NOW))
            assert outcome == ImportOutcome(added=imported, changed=0, unchanged=0)
            return imported

        def bare() -> int:
            return self._loop.run_until_complete(self._write(next(records)))

        pair = Pair("import_vs_pipeline", "import", "vehicles", "HSET", ours, bare, clock=perf_counter)
        share = 1.0 / measured(pair, rounds).times
        self._loop.run_until_complete(self._forget())
        return share

    async def _write(self, records: Sequence[tuple[VehicleId, bytes]]) -> int:
        for low in range(0, len(records), _AT_ONCE):
            chunk = enumerate(records[low : low + _AT_ONCE])
            await asyncio.gather(
                *(self._bare.call("HSET", f"bare:{n % self._store.shards}", *each) for n, each in chunk)
            )
        return len(records)

    async def _forget(self) -> None:
        """Every key but what the data set is known by."""
        for pattern in ("bare:*", "{s:*"):
            for key in await self._bare.call("KEYS", pattern):
                await self._bare.call("DEL", key)

    def register(self, vehicles: int, now: FleetTime = NOW) -> float:
        """Import the fleet; bytes a vehicle, all told."""
        for batch in _batches(range(vehicles), 20_000):
            fleet = [self._vehicle(number) for number in batch]
            self._loop.run_until_complete(self._store.import_vehicles(fleet, now=now))
        return self._used() / vehicles

    def roll_out(self, vehicles: int, sample: int, rollouts: int) -> tuple[float, float]:
        """Put some of the fleet into service and send rollouts to them; bytes more of each vehicle by the one, and by
        each rollout.
        """
        names = [name for name in map(_name, range(vehicles)) if shard_of(name, self._store.shards) == 0]
        journeys = Journeys(self._store, self._bare, self._rng.sample(names, sample), self._rng, NOW)
        registered = self._used()
        self._loop.run_until_complete(journeys.acquaint())
        known = self._used()
        for number in range(rollouts):
            self._loop.run_until_complete(journeys.roll_out(number))
        return (known - registered) / sample, (self._used() - known) / (sample * rollouts)

    def _used(self) -> int:
        """Bytes that the server has taken, once the ledger has what the journals hold."""
        return self._loop.run_until_complete(self._measure())

    async def _measure(self) -> int:
        for shard in range(self._store.shards):
            stream = shard_stream(shard)
            if mark := await self._store.journal_mark(stream):
                await self._store.trim_journal(stream, upto=mark)
        text: bytes = await self._bare.call("INFO", "memory")
        return next(int(line[12:]) for line in text.decode().splitlines() if line.startswith("used_memory:"))

    def _vehicle(self, number: int) -> Vehicle:
        return Vehicle(
            vehicle_id=_name(number),
            model="SX"[number % 2],
            hardware=f"gen{number % 3}",
            region=("eu", "us", "ap")[number % 5 % 3],
            cohort="early" if number % 10 == 0 else "general",
            tags=("beta",) if number % 7 == 0 else (),
            ecus=(
                Ecu(EcuSerial(f"gw-{number:08d}"), HardwareId("acme-gw-2"), self._key(), primary=True),
                Ecu(EcuSerial(f"brake-{number:08d}"), HardwareId("acme-brake-1"), self._key(), primary=False),
            ),
        )

    def _key(self) -> str:
        return base64.b64encode(_SPKI + self._rng.randbytes(64)).decode()


def _name(number: int) -> VehicleId:
    return VehicleId(f"veh-{number:08d}")


def _batches(numbers: range, size: int) -> Iterator[range]:
    for low in range(0, len(numbers), size):
        yield numbers[low : low + size]
