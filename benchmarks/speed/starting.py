"""How long a rollout takes to begin and to stop, in whole installations with a large fleet and with a small one.

`outrider serve` on a store that has the fleet already, an operator who starts, pauses and aborts rollouts by the API,
and vehicles that check in fifty times a second over mutual TLS. Begin: from the operator's call to the first check-in
that was answered with a directive to install; each start is for a vehicle of its own, so that nobody else could have
been faster. Stop: from the operator's answer to the last grant that any of two workers gave.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import grpc
from outrider.v1 import rollout_pb2, rollout_pb2_grpc, vehicle_pb2, vehicle_pb2_grpc

from agent_sim.evidence import BUILDER, write_evidence
from benchmarks.speed.fleet import Amount
from benchmarks.speed.running import OUTRIDER, running
from benchmarks.speed.serving import Caller, identity_of, known_manifest, request_of
from orchestrator.clock import MachineClock
from orchestrator.model.fleet import Ecu, Vehicle
from orchestrator.model.ids import EcuSerial, FleetTime, HardwareId, VehicleId
from orchestrator.store.redis import RedisStore
from signing.ceremony import DataFolder

STARTS = 20
STOPS = 50
GRANTED_EACH = 60
"""Vehicles that wait to be granted at each stop."""
CALLERS = 8
"""Vehicles that call at once while a rollout is stopped."""
BETWEEN_S = 0.02
"""Between the calls of a vehicle: one that calls more than 600 times in a minute is told to wait."""
LISTENED_S = 1.5
"""After a stop, for grants that should not be."""
DEADLINE_S = 30.0
HARDWARE = ("acme-gw-2", "acme-brake-1")
PLAN = """release: 1.1.0
target: {{model: [{model}]}}
holdout: 0%
waves: [{{name: all, share: 100%, soak: 24h}}]
limits: {{blast_budget: 20, in_flight: 100000}}
"""


@dataclass(frozen=True, slots=True)
class Began:
    """Seconds from the operator's call to the first grant, of each start."""

    seconds: Sequence[float]
    vehicles: int
    """That are registered."""


def first_grants(data: DataFolder, *, vehicles: int, starts: int = STARTS) -> Began:
    """Start rollouts one after the other.

    Args:
        data: an installation whose store has the fleet; served by nobody.
        vehicles: how many there are.
        starts: how many.
    """
    with running(data.path):
        targets = asyncio.run(_register(data, [(f"t{number}", 1) for number in range(starts)]))
        _publish(data.path)
        return Began(asyncio.run(_start_all(data, [group[0] for group in targets])), vehicles)


def last_grants(data: DataFolder, *, stops: int = STOPS) -> Sequence[float]:
    """Pause and abort rollouts in turn while two workers grant; seconds from each answer to the last grant after it.

    Args:
        data: an installation, served by nobody, whose release is published.
        stops: how many.
    """
    with running(data.path, "--workers", "2"):
        groups = asyncio.run(_register(data, [(f"s{number}", GRANTED_EACH) for number in range(stops)]))
        return asyncio.run(_stop_all(data, groups))


def amounts(large: Began, small: Began, stopped: Sequence[float]) -> list[Amount]:
    """The figures as they are reported."""
    at_large, at_small = median(large.seconds), median(small.seconds)
    worst = sorted(stopped)[max(0, round(0.99 * len(stopped)) - 1)]
    return [
        Amount(
            "first_grant_s",
            at_large,
            "s",
            f"from start to first grant, median of {len(large.seconds)}, {large.vehicles:,} registered",
            "at most 1",
        ),
        Amount(
            "first_grant_flatness",
            at_large / at_small,
            "ratio",
            f"the same over that with {small.vehicles:,} registered",
            "at most 1.5",
        ),
        Amount(
            "last_grant_after_stop_s",
            worst,
            "s",
            f"from pause or abort to the last grant of two workers, 99th percentile of {len(stopped)}",
            "under 1",
        ),
    ]


async def _start_all(data: DataFolder, targets: Sequence[Caller]) -> Sequence[float]:
    found = []
    async with _operator(data) as operator:
        for number, caller in enumerate(targets):
            async with _vehicle(data, caller) as vehicle, asyncio.TaskGroup() as group:
                request = await _settled(vehicle, caller)
                granted = group.create_task(_until_granted(vehicle, request))
                await asyncio.sleep(0.2 + number * 0.05)  # so that starts lie anywhere between two ticks
                began = perf_counter()
                name = await _create(operator, f"first-{number}", f"t{number}")
                found.append(await granted - began)
            await operator.AbortRollout(rollout_pb2.AbortRolloutRequest(name=name, request_id=name, reason="measured"))
    return found


async def _stop_all(data: DataFolder, groups: Sequence[Sequence[Caller]]) -> Sequence[float]:
    async with _operator(data) as operator:
        return [await _stop(data, operator, number, list(group)) for number, group in enumerate(groups)]


async def _stop(
    data: DataFolder, operator: rollout_pb2_grpc.RolloutServiceAsyncStub, number: int, waiting: list[Caller]
) -> float:
    """Seconds from the answer of a pause, or in turn of an abort, to the last grant behind it."""
    grants: list[float] = []
    under_way = asyncio.Event()
    name = await _create(operator, f"stop-{number}", f"s{number}")
    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(_grant_each(data, waiting, grants, under_way)) for _ in range(CALLERS)]
        await under_way.wait()
        if number % 2:
            await operator.AbortRollout(rollout_pb2.AbortRolloutRequest(name=name, request_id=name, reason="measured"))
        else:
            await operator.PauseRollout(rollout_pb2.PauseRolloutRequest(name=name, request_id=name, reason="measured"))
        stopped = perf_counter()
        await asyncio.sleep(LISTENED_S)
        assert waiting, "nobody was left to be granted: that nobody was proves nothing"
        assert max(grants) > stopped - LISTENED_S, "grants had ended before the stop"
        for caller in callers:
            caller.cancel()
    if not number % 2:
        over = rollout_pb2.AbortRolloutRequest(name=name, request_id=f"{name}-over", reason="measured")
        await operator.AbortRollout(over)
    return max(0.0, max(grants) - stopped)


async def _grant_each(data: DataFolder, waiting: list[Caller], grants: list[float], under_way: asyncio.Event) -> None:
    """Let vehicles that wait call until each is granted, one after the other."""
    while waiting:
        caller = waiting.pop()
        async with _vehicle(data, caller) as vehicle:
            # The first answer counts: what is directed once is directed again, whatever stands still by then.
            grants.append(await _until_granted(vehicle, request_of(caller, None)))
        if len(grants) >= 2 * CALLERS:
            under_way.set()


async def _until_granted(
    vehicle: vehicle_pb2_grpc.VehicleServiceAsyncStub, request: vehicle_pb2.CheckInRequest
) -> float:
    """Check in again and again; when the answer came that said to install."""
    while True:
        await asyncio.sleep(BETWEEN_S)
        answer = await vehicle.CheckIn(request, timeout=DEADLINE_S)
        if answer.directive.HasField("install"):
            return perf_counter()


async def _settled(vehicle: vehicle_pb2_grpc.VehicleServiceAsyncStub, caller: Caller) -> vehicle_pb2.CheckInRequest:
    """The request of a vehicle that has the metadata which its first call brings."""
    return request_of(caller, await vehicle.CheckIn(request_of(caller, None), timeout=DEADLINE_S))


async def _create(operator: rollout_pb2_grpc.RolloutServiceAsyncStub, rollout_id: str, model: str) -> str:
    request = rollout_pb2.CreateRolloutRequest(
        plan=PLAN.format(model=model), rollout_id=rollout_id, request_id=rollout_id, reason="measured"
    )
    return (await operator.CreateRollout(request, timeout=DEADLINE_S)).name


async def _register(data: DataFolder, groups: Sequence[tuple[str, int]]) -> Sequence[Sequence[Caller]]:
    """Vehicles of models of their own, each group of one: known, with certificates, and running what they came with."""
    store = await RedisStore.connect(json.loads((data.path / "run" / "orders.json").read_text())["store_url"])
    try:
        at = FleetTime(MachineClock().wall_ms())
        found = []
        for model, size in groups:
            fleet = [_a_vehicle(f"{model}-{number}", model) for number in range(size)]
            await store.import_vehicles(fleet, now=at)
            for vehicle in fleet:
                await store.attest(vehicle.vehicle_id, known_manifest(vehicle.vehicle_id), now=at)
            found.append([identity_of(data, vehicle.vehicle_id) for vehicle in fleet])
        return found
    finally:
        await store.close()


def _a_vehicle(name: str, model: str) -> Vehicle:
    ecus = tuple(
        Ecu(EcuSerial(f"{name}-{hardware}"), HardwareId(hardware), "", primary=not place)
        for place, hardware in enumerate(HARDWARE)
    )
    return Vehicle(VehicleId(name), model, "gen2", "eu", "general", (), ecus)


def _publish(data: Path) -> None:
    """A release for these vehicles, with evidence, by the command line."""
    folder = data / "release"
    folder.mkdir()
    lines = ["version: 1.1.0", "notes: Measured", "images:"]
    for hardware in HARDWARE:
        image = folder / f"{hardware}.img"
        image.write_bytes(hardware.encode() * 100)
        evidence = ", ".join(
            f"{kind}: {file.name}" for kind, file in write_evidence(image, name=hardware, version="1.1.0").items()
        )
        lines.append(f"  - {{file: {image.name}, hardware_id: {hardware}, release_counter: 2, {evidence}}}")
    (data / "ingest.yaml").write_text(f"builders:\n  - id: {BUILDER}\n")
    (folder / "release.yaml").write_text("\n".join(lines) + "\n")
    subprocess.run(
        [OUTRIDER, "release", "publish", str(folder / "release.yaml"), "--data", str(data)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@asynccontextmanager
async def _vehicle(data: DataFolder, caller: Caller) -> AsyncIterator[vehicle_pb2_grpc.VehicleServiceAsyncStub]:
    credentials = _credentials(data, caller.key_pem, caller.chain_pem)
    # Each on a connection of its own, as vehicles are: which worker has it, the kernel says.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(_endpoints(data)["vehicles"], credentials, options) as channel:
        yield vehicle_pb2_grpc.VehicleServiceStub(channel)


@asynccontextmanager
async def _operator(data: DataFolder) -> AsyncIterator[rollout_pb2_grpc.RolloutServiceAsyncStub]:
    folder = data.path / "operators" / "admin"
    key, chain = (folder / "operator.key").read_bytes(), (folder / "operator.crt").read_bytes()
    async with grpc.aio.secure_channel(_endpoints(data)["operators"], _credentials(data, key, chain)) as channel:
        yield rollout_pb2_grpc.RolloutServiceStub(channel)


def _credentials(data: DataFolder, key_pem: bytes, chain_pem: bytes) -> grpc.ChannelCredentials:
    server_ca = (data.authorities / "server.crt").read_bytes()
    return grpc.ssl_channel_credentials(server_ca, key_pem, chain_pem)


def _endpoints(data: DataFolder) -> dict[str, str]:
    found: dict[str, str] = json.loads((data.path / "endpoints.json").read_text())
    return found
