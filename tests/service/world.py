"""The use cases put together in one process: reference store, real signatures, a clock that a test turns by hand."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.evaluator import Evaluator
from orchestrator.ledger import Ledger
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import AttemptId, FleetTime, HardwareId, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.release import Image, Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies, Tally, total
from orchestrator.model.vehicle import Conditions, Contact, Diagnostic, VehicleRecord
from orchestrator.service.cases import CaseDesk
from orchestrator.service.director import DirectorDesk, to_datetime
from orchestrator.service.explain import ExplainDesk
from orchestrator.service.fleet_care import FleetCareDesk
from orchestrator.service.image_files import ImageFiles
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.service.manifests import ManifestDesk
from orchestrator.service.permits import PermitDesk
from orchestrator.service.releases import ReleaseDesk
from orchestrator.service.rollouts import RolloutDesk
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.service.vehicles import CheckIn, CheckInReply, Held, Install, VehicleDesk
from orchestrator.service.vouching import Vouching
from orchestrator.service.waiting import PollPace
from orchestrator.store.base import JournalEntry
from orchestrator.store.memory import MemoryStore
from orchestrator.telemetry import Metrics
from signing.ceremony import DataFolder, initialise
from signing.director import (
    Assignment,
    DirectorSigners,
    DirectorVersions,
    Renewal,
    director_files,
    director_timestamp,
)
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.ingest_gate import IngestGate
from signing.keys import generate_ecu_key, public_key_base64
from signing.manifest import EcuReport, sign_manifest, sign_report
from signing.reverts import revert_images, revert_version
from tests.builders import NOW, PRIMARY_HARDWARE, SECONDARY_HARDWARE, a_vehicle, an_ecu
from tests.evidence import vouched_for

TICK_LIFE_MS = 10_000
PLAN = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\n"
POLL = CheckIn(outbox_id="box", events=(), oldest_number=0, manifest_sha256="", director=Held(), image=Held())


class HandClock:
    """Machine time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now_ms = int(NOW)
        self.machine = MachineClock(
            monotonic_ns=lambda: self.now_ms * 1_000_000, wall_ns=lambda: self.now_ms * 1_000_000
        )

    def advance(self, milliseconds: int) -> None:
        """Let machine time, and fleet time with it, go by."""
        self.now_ms += milliseconds


def make_template(folder: Path) -> Path:
    """A data folder with release 1.1.0 in its Image repository; keys and signatures take a while."""
    data = initialise(folder, trust_domain="test", now=to_datetime(NOW))
    publish(data, "1.1.0", 2, NOW)
    return data.path


def publish(data: DataFolder, version: str, counter: int, now: FleetTime) -> Sequence[TargetInfo]:
    """Sign small images for a Primary and a Secondary; what is signed already stays as it is."""
    new = []
    for hardware_id in (PRIMARY_HARDWARE, SECONDARY_HARDWARE):
        file = data.path / f"{hardware_id}-{version}.img"
        file.write_bytes(f"{hardware_id} {version}".encode())
        new.append(vouched_for(NewImage(file.name, file, hardware_id, counter, version), data.image_keys))
    return ImageRepository(data.image_repo).publish(new, data.image_keys, to_datetime(now))


def image_of(target: TargetInfo) -> Image:
    """An image to register, as it was signed."""
    return Image(target.path, HardwareId(target.hardware_id), target.length, target.sha256, target.release_counter)


class FailingStore(MemoryStore):
    """The reference store with calls that fail while a test says so."""

    def __init__(self, hand: HandClock, *, dead_man_life_ms: int = TICK_LIFE_MS) -> None:
        super().__init__(2, machine_ms=lambda: hand.now_ms, dead_man_life_ms=dead_man_life_ms)
        self.fail_with: Exception | None = None
        self.swapped: Release | None = None
        """What stands in the place of the release of its version, as after a restore of the wrong backup."""

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        if self.fail_with is not None:
            raise self.fail_with
        return await super().tallies(rollout_ids)

    async def touch(self, seen: Mapping[VehicleId, Contact]) -> None:
        if self.fail_with is not None:
            raise self.fail_with
        await super().touch(seen)

    async def releases(self) -> Sequence[Release]:
        if self.fail_with is not None:
            raise self.fail_with
        swapped = self.swapped
        held = await super().releases()
        return [swapped if swapped and release.version == swapped.version else release for release in held]


class InProcessSigner:
    """The signer without its process: the same pure function with the same keys."""

    def __init__(self, keys_folder: Path) -> None:
        self._signers = DirectorSigners.load(keys_folder)
        self.asked = 0
        """How often for all three files."""
        self.renewed = 0
        """How often for a timestamp alone."""

    async def director_files(self, assignment: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
        self.asked += 1
        return director_files(self._signers, assignment, versions)

    async def director_timestamp(self, renewal: Renewal) -> bytes:
        self.renewed += 1
        return director_timestamp(self._signers, renewal)


class Car:
    """A vehicle's keys, and the manifests it can sign."""

    def __init__(self, vehicle_id: str, **fields: str) -> None:
        self.vehicle_id = VehicleId(vehicle_id)
        self.keys = {f"{vehicle_id}-gw": generate_ecu_key(), f"{vehicle_id}-bcm": generate_ecu_key()}
        self.hardware = {f"{vehicle_id}-gw": PRIMARY_HARDWARE, f"{vehicle_id}-bcm": SECONDARY_HARDWARE}
        self.primary = f"{vehicle_id}-gw"
        self.counter = 0
        ecus = [
            an_ecu(
                serial, hardware_id=self.hardware[serial], primary=serial == self.primary, key=public_key_base64(key)
            )
            for serial, key in self.keys.items()
        ]
        self.vehicle = a_vehicle(vehicle_id, ecus=ecus, **fields)

    def manifest(self, now: FleetTime, release: Release | None = None, *, counter: int | None = None) -> bytes:
        """What it runs: the images of `release`, or the factory's."""
        self.counter = self.counter + 1 if counter is None else counter
        reports = []
        for serial, key in self.keys.items():
            image = release.image_for(self.hardware[serial]) if release else None
            report = EcuReport(
                ecu_serial=serial,
                path=image.path if image else "factory.img",
                length=image.length_bytes if image else 1,
                sha256=image.sha256 if image else "00" * 32,
                attack="",
                time=to_datetime(now),
                counter=self.counter,
            )
            reports.append(sign_report(report, key))
        return sign_manifest(self.vehicle_id, self.primary, reports, self.keys[self.primary])


class World:
    """Everything between the edge and the store.

    Args:
        folder: of the test.
        template: a data folder with release 1.1.0, made by `make_template`; copied.
        dead_man_life_ms: how long a tick lets others grant; longer for a test that turns the clock by hours.
    """

    def __init__(self, folder: Path, template: Path, *, dead_man_life_ms: int = TICK_LIFE_MS) -> None:
        self.folder = folder
        self.hand = HandClock()
        self.store = FailingStore(self.hand, dead_man_life_ms=dead_man_life_ms)
        self.data = DataFolder(shutil.copytree(template, folder / "data"))
        self.metrics = Metrics(CollectorRegistry())
        self.clock = FleetClock(
            origin=NOW, started_ms=NOW, scale=1.0, machine_ms=self.hand.now_ms, machine=self.hand.machine
        )
        self.snapshots = SnapshotKeeper(self.store, self.clock, origin=NOW, scale=1.0)
        self.signer = InProcessSigner(self.data.director_keys)
        self.director = DirectorDesk(self.signer, self.data.director_metadata)
        self.images = ImageFiles(self.data.image_repo / "metadata")
        self.last_seen = LastSeen(self.store)
        self.repository = ImageRepository(self.data.image_repo)
        self.vouching = Vouching(self.repository, IngestGate(self.data.image_repo))
        self.desk = VehicleDesk(
            store=self.store,
            snapshots=self.snapshots,
            clock=self.clock,
            director=self.director,
            images=self.images,
            last_seen=self.last_seen,
            pace=PollPace(idle_ms=3_600_000, live_ms=300_000),
            metrics=self.metrics,
            vouching=self.vouching,
        )
        self.permits = self.permit_desk()
        self.manifests = ManifestDesk(
            store=self.store, snapshots=self.snapshots, clock=self.clock, metrics=self.metrics
        )
        self.releases = ReleaseDesk(
            store=self.store, repository=self.repository, clock=self.clock, vouching=self.vouching
        )
        self.care = FleetCareDesk(store=self.store, clock=self.clock)
        self.explain = ExplainDesk(store=self.store, snapshots=self.snapshots, clock=self.clock, vouching=self.vouching)
        self.cases = CaseDesk(store=self.store, clock=self.clock)
        self.rollouts = RolloutDesk(
            store=self.store,
            clock=self.clock,
            machine=self.hand.machine,
            # Draws and coins follow from the salt: the same in every run, or a test would fail once in a hundred.
            random_bytes=random.Random(0).randbytes,
            vouching=self.vouching,
        )
        self.ledger_file = folder / "ledger.sqlite3"
        self.ledger = Ledger(self.ledger_file, busy_timeout_s=0.1)
        self.feed = LedgerFeed(self.store, self.ledger)
        self.evaluator = self.an_evaluator(self.feed)

    def permit_desk(self) -> PermitDesk:
        """Of a worker that has given no permit yet."""
        return PermitDesk(
            store=self.store,
            snapshots=self.snapshots,
            clock=self.clock,
            last_seen=self.last_seen,
            metrics=self.metrics,
        )

    def an_evaluator(
        self, feed: LedgerFeed, *, reachable: Callable[[], bool] = lambda: True, unnoticed_s: float = 10**9
    ) -> Evaluator:
        """One more evaluator on the same store; hours between its ticks are no absence unless said so."""
        return Evaluator(
            store=self.store,
            feed=feed,
            clock=self.clock,
            machine=self.hand.machine,
            metrics=self.metrics,
            origin=NOW,
            scale=1.0,
            reachable=reachable,
            unnoticed_s=unnoticed_s,
        )

    @property
    def now(self) -> FleetTime:
        """Fleet time."""
        return FleetTime(self.clock.now())

    def signed_now(self) -> datetime:
        """Fleet time as signatures want it."""
        return to_datetime(self.now)

    async def add(self, *cars: Car) -> None:
        """Put vehicles into the inventory."""
        await self.store.import_vehicles([car.vehicle for car in cars], now=self.now)

    async def release(self, version: str = "1.1.0", *, counter: int = 2) -> Release:
        """Sign and register a release."""
        targets = publish(self.data, version, counter, self.now)
        images = sorted((image_of(target) for target in targets), key=lambda image: image.hardware_id)
        release = Release(version, tuple(images), f"What is new in {version}", self.now, targets[0].targets_version)  # type: ignore[arg-type]
        await self.store.create_release(release, JournalEntry("fleet", "", "release_created", self.now, {}))
        self.images.refresh()
        await self.snapshots.refresh()
        return release

    def way_back(self, version: str, to: str) -> Release:
        """Sign what undoes a release, as its publication does; not yet registered."""
        listed = self.repository.verified_targets(self.signed_now())
        new = [
            NewImage(target.path, self.data.path / target.path, target.hardware_id, target.release_counter, version)
            for target in listed
            if target.version == version
        ]
        images = revert_images(new, to=to, listed=listed, repository=self.repository)
        images = [vouched_for(image, self.data.image_keys) for image in images]
        targets = self.repository.publish(images, self.data.image_keys, self.signed_now())
        return Release(
            version=ReleaseVersion(revert_version(version)),
            images=tuple(sorted((image_of(target) for target in targets), key=lambda image: image.hardware_id)),
            notes="",
            created_at=self.now,
            targets_version=0,
            reverts=ReleaseVersion(version),
        )

    async def undoable(self, version: str = "1.2.0", *, counter: int = 3, to: str = "1.1.0") -> tuple[Release, Release]:
        """Publish a release with its way back, as `outrider release publish` does: the release and what undoes it."""
        self.hand.advance(1000)
        release = await self.release(version, counter=counter)
        self.hand.advance(1000)
        back = await self.releases.create(self.way_back(version, to), actor="alice", reason="published")
        self.images.refresh()
        await self.snapshots.refresh()
        return release, back

    async def start(self, plan: str = PLAN, *, rollout_id: str = "spring") -> Rollout:
        """Start a rollout and let the evaluator look once, as it does within a second."""
        rollout = await self.rollouts.create(plan, rollout_id=rollout_id, request_id="", actor="alice", reason="test")
        await self.tick()
        return rollout

    async def tick(self) -> None:
        """One look of the evaluator, and what every worker knows afterwards."""
        await self.evaluator.tick()
        await self.snapshots.refresh()

    async def check_in(
        self,
        car: Car,
        *events: VehicleEvent,
        conditions: Conditions | None = None,
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> CheckInReply:
        """A poll with these events."""
        poll = CheckIn(
            outbox_id=POLL.outbox_id,
            events=events,
            oldest_number=events[0].number if events else 0,
            manifest_sha256="",
            director=Held(),
            image=Held(),
            conditions=conditions,
            diagnostics=diagnostics,
        )
        return await self.desk.check_in(car.vehicle_id, poll)

    async def granted(self, car: Car) -> AttemptId:
        """Poll; the attempt that it leads to."""
        reply = await self.check_in(car)
        assert isinstance(reply.directive, Install), reply
        return reply.directive.attempt.attempt_id

    async def downloaded(self, car: Car) -> AttemptId:
        """Take a vehicle to the point of no return."""
        attempt_id = await self.granted(car)
        await self.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.DOWNLOAD_FINISHED))
        return attempt_id

    async def permitted(self, car: Car) -> AttemptId:
        """Take a vehicle past the point of no return."""
        attempt_id = await self.downloaded(car)
        answer = await self.permits.authorize(car.vehicle_id, attempt_id)
        assert answer.refusal is None, answer
        return attempt_id

    async def record(self, car: Car) -> VehicleRecord:
        """All that is hot about a vehicle."""
        record = await self.store.vehicle(car.vehicle_id)
        assert record is not None
        return record

    async def attempt(self, car: Car) -> Attempt:
        """A vehicle's latest attempt."""
        attempt = (await self.record(car)).attempt
        assert attempt is not None
        return attempt

    async def state(self, car: Car) -> AttemptState:
        """Where a vehicle's latest attempt stands."""
        return (await self.attempt(car)).state

    async def rollout(self, rollout_id: str = "spring") -> Rollout:
        """A rollout as it stands."""
        return await self.rollouts.get(RolloutId(rollout_id))

    async def counted(self, rollout_id: str = "spring") -> Tally:
        """Counts of a rollout, all cells."""
        return total((await self.store.tallies([RolloutId(rollout_id)])).get(RolloutId(rollout_id), {}).values())

    async def journal(self, kind: str) -> Sequence[JournalEntry]:
        """Entries of one kind that are still in the journal."""
        found: list[JournalEntry] = []
        for stream in await self.store.journal_streams():
            found += await self.store.journal(stream, after="", count=1000)
        return [entry for entry in found if entry.kind == kind]
