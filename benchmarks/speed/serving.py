"""A whole installation for the bench: `outrider serve` with one worker, its store on the disk, and a fleet that calls.

Owns the data folder and who has which certificate; leaves to `calling` what is measured. The fleet has
two groups. The quiet have nothing to do: they hold what the Director says, their manifest is known, and the one rollout
that runs is not for them. The eventful are at an attempt.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import clock_gettime

from outrider.v1 import vehicle_pb2

from benchmarks.speed.running import TRUST_DOMAIN, running
from orchestrator.app.worker import PROCESS_NAME
from orchestrator.clock import MachineClock
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.requests import start
from orchestrator.model.decision import Grant
from orchestrator.model.fleet import Cell, Ecu, Habit, Vehicle
from orchestrator.model.ids import (
    AttemptId,
    EcuSerial,
    FleetTime,
    HardwareId,
    ReleaseVersion,
    RolloutId,
    VehicleId,
)
from orchestrator.model.release import Release
from orchestrator.service.director import assigned
from orchestrator.service.grants import offered
from orchestrator.service.snapshot import REFRESH_S
from orchestrator.store.base import Attestation, JournalEntry
from orchestrator.store.redis import RedisStore
from signing.ceremony import DataFolder, initialise
from signing.pki import Authority, certificate_request, key_pem, new_key

ROLLOUT = RolloutId("spring")
RELEASE = ReleaseVersion("1.1.0")
PLAN = "release: 1.1.0\ntarget: {model: [S]}\nwaves:\n  - {name: all, share: 100%, soak: 24h}\n"
LIFE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Caller:
    """A vehicle that may call."""

    vehicle_id: VehicleId
    key_pem: bytes
    chain_pem: bytes
    attempt_id: AttemptId | None
    """That it has events about; None for a quiet one."""


@dataclass(frozen=True, slots=True)
class Served:
    """An installation that serves."""

    address: str
    """Of the vehicle port."""
    folder: DataFolder
    processes: Sequence[int]
    """Ids of those that answer a check-in: the worker, and the store behind it."""
    quiet: Sequence[Caller]
    eventful: Sequence[Caller]
    now: datetime
    """When its certificates begin."""
    life: timedelta


@contextmanager
def serving(data: Path, *, vehicles: int) -> Iterator[Served]:
    """An installation that serves, ended afterwards.

    Args:
        data: its folder; new.
        vehicles: of each group.
    """
    folder = initialise(data, trust_domain=TRUST_DOMAIN, now=now())
    with running(data) as server:
        store_url = json.loads((data / "run" / "orders.json").read_text())["store_url"]
        attempts = asyncio.run(_fill(store_url, vehicles))
        identities = _identities(folder, 2 * vehicles)
        callers = [replace(each, attempt_id=attempts.get(each.vehicle_id)) for each in identities]
        yield Served(
            address=json.loads((data / "endpoints.json").read_text())["vehicles"],
            folder=folder,
            processes=(_worker_of(server.pid), int(json.loads((data / "store" / "store.json").read_text())["pid"])),
            quiet=[each for each in callers if each.attempt_id is None],
            eventful=[each for each in callers if each.attempt_id is not None],
            now=now(),
            life=LIFE,
        )


def request_of(caller: Caller, answer: vehicle_pb2.CheckInResponse | None) -> vehicle_pb2.CheckInRequest:
    """A poll of a vehicle that holds what an answer brought it; the first poll, without one."""
    held: dict[int, dict[str, int]] = {vehicle_pb2.REPOSITORY_DIRECTOR: {}, vehicle_pb2.REPOSITORY_IMAGE: {}}
    for file in answer.metadata if answer else ():
        signed = json.loads(file.content)["signed"]
        held[file.repository][signed["_type"]] = signed["version"]
    return vehicle_pb2.CheckInRequest(
        outbox_id="bench",
        manifest_sha256=_digest_of(caller.vehicle_id),
        conditions=vehicle_pb2.Conditions(
            link_type=vehicle_pb2.LINK_TYPE_CELLULAR,
            signal_percent=70,
            battery_percent=80,
            parked=caller.attempt_id is None,
            storage_free_bytes=8 << 30,
        ),
        director_versions=vehicle_pb2.MetadataVersions(**held[vehicle_pb2.REPOSITORY_DIRECTOR]),
        image_versions=vehicle_pb2.MetadataVersions(**held[vehicle_pb2.REPOSITORY_IMAGE]),
    )


def cpu_s(process: int) -> float:
    """Processor time of another process so far, all its threads, seconds. Linux keeps such a clock for each."""
    return clock_gettime(~process << 3 | 2)


async def _fill(store_url: str, vehicles: int) -> dict[VehicleId, AttemptId]:
    """A release, a rollout, and vehicles of both groups; the attempts of the eventful ones."""
    store = await RedisStore.connect(store_url)
    try:
        at = FleetTime(MachineClock().wall_ms())
        release = Release(RELEASE, images=(), notes="", created_at=at, targets_version=1)
        await store.create_release(release, JournalEntry("", "", "release_created", at, {}))
        plan = read_plan(PLAN)
        rules = {"eu": plan.region_defaults}
        rollout = start(ROLLOUT, plan, PLAN, bytes(16), rules, "bench", "bench", "", at)
        await store.create_rollout(rollout, JournalEntry(ROLLOUT, "", "rollout_created", at, {}))
        fleet = [_vehicle(number, model) for model in ("S", "X") for number in range(vehicles)]
        await store.import_vehicles(fleet, now=at)
        attempts = {}
        for vehicle in fleet:
            await store.attest(vehicle.vehicle_id, known_manifest(vehicle.vehicle_id), now=at)
            record = await store.vehicle(vehicle.vehicle_id)
            assert record is not None
            if vehicle.model == "X":
                continue
            cell = Cell(vehicle.region, vehicle.hardware, vehicle.cohort)
            grant = Grant(ROLLOUT, RELEASE, cell, 1, rollout.epoch, Habit.OFTEN, quota=None, message="")
            attempt = offered(record, grant, rollout, at)
            await store.assign(attempt, assigned(record.director, RELEASE, at), expected_timestamp_version=0)
            attempts[vehicle.vehicle_id] = attempt.attempt_id
        await asyncio.sleep(2 * REFRESH_S)  # by then the worker knows the release
        return attempts
    finally:
        await store.close()


def _vehicle(number: int, model: str) -> Vehicle:
    vehicle_id = VehicleId(f"v-{model.lower()}-{number}")
    units = (("gw-2", True), ("bcm-2", False))
    ecus = tuple(
        Ecu(EcuSerial(f"{vehicle_id}-{hardware}"), HardwareId(hardware), "", primary=primary)
        for hardware, primary in units
    )
    return Vehicle(vehicle_id, model, "gen2", "eu", "general", (), ecus)


def _identities(folder: DataFolder, count: int) -> list[Caller]:
    return [identity_of(folder, _vehicle(number // 2, "SX"[number % 2]).vehicle_id) for number in range(count)]


def identity_of(folder: DataFolder, vehicle_id: VehicleId) -> Caller:
    """A vehicle with a certificate, at no attempt."""
    authority, key = Authority.load(folder.authorities, "vehicle"), new_key()
    chain = authority.issue_vehicle(
        certificate_request(key), trust_domain=TRUST_DOMAIN, vehicle_id=vehicle_id, now=now(), life=LIFE
    )
    return Caller(vehicle_id, key_pem(key), chain, attempt_id=None)


def known_manifest(vehicle_id: VehicleId) -> Attestation:
    """What the server knows of the manifest that the vehicle's requests name."""
    return Attestation(_digest_of(vehicle_id), 1, b"{}", ReleaseVersion("1.0.0"), None, None)


def _digest_of(vehicle_id: VehicleId) -> str:
    return vehicle_id.encode().hex().ljust(64, "0")


def now() -> datetime:
    """Of the machine, in whole seconds: certificates begin then."""
    return datetime.fromtimestamp(MachineClock().wall_ms() // 1000, tz=UTC)


def _worker_of(supervisor: int) -> int:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    [worker] = [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text().strip() == PROCESS_NAME]
    return worker
