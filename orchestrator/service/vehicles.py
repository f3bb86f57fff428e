"""Use cases of a vehicle: check in, hand in a manifest, ask for a permit, fetch metadata.

Each follows one shape: read the record, decide (engine), commit (store, by id or version), answer. No decision is
held across an await without being committed by version: a grant is only true once `reserve` and `assign` said so, a
permit once `authorize` and `permit` did.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import structlog

from orchestrator.clock import FleetClock
from orchestrator.engine.admission import choose
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId, attempt_id
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import DirectorState, VehicleRecord
from orchestrator.service.director import DirectorDesk, assigned, renewed, to_datetime
from orchestrator.service.errors import InvalidInputError, NotFoundError
from orchestrator.service.image_files import ImageFiles
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.snapshot import Snapshot, SnapshotKeeper
from orchestrator.store.base import Applied, Attestation, JournalEntry, Permitted, Store
from orchestrator.telemetry import Metrics
from signing.errors import AttackCode, VerificationError
from signing.manifest import InventoryEcu, Manifest, verify_manifest

log = structlog.get_logger()

BEFORE_PERMIT = frozenset(
    {AttemptState.OFFERED, AttemptState.DOWNLOADING, AttemptState.DOWNLOADED, AttemptState.DEFERRED}
)
PERMIT_RETRY_MS = 120_000
"""Fleet time after which a vehicle with a refused permit asks again."""


@dataclass(frozen=True, slots=True)
class Held:
    """Metadata versions of one repository that a vehicle holds; 0 means none."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


@dataclass(frozen=True, slots=True)
class CheckIn:
    """What a poll says."""

    outbox_id: str
    events: Sequence[VehicleEvent]
    oldest_number: int
    manifest_sha256: str
    director: Held
    image: Held


@dataclass(frozen=True, slots=True)
class Install:
    """Directive: install what the Director's targets say."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Directive: drop an attempt."""

    attempt_id: AttemptId
    reason: str


@dataclass(frozen=True, slots=True)
class CheckInReply:
    """What a poll is answered with."""

    now: FleetTime
    next_poll_ms: int
    acknowledged_number: int
    manifest_wanted: bool
    directive: Install | Withdraw | None
    director_files: Mapping[str, bytes]
    image_files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class PermitAnswer:
    """A permit (`valid_ms` > 0) or a refusal."""

    attempt_id: AttemptId
    now: FleetTime
    valid_ms: int
    refusal: Refusal | None
    retry_after_ms: int | None
    """None: the attempt is over, do not ask again."""


@dataclass(frozen=True, slots=True)
class PollPace:
    """How often vehicles shall call, fleet time."""

    idle_ms: int
    live_ms: int
    """While an attempt is live."""


class VehicleDesk:
    """Serves vehicles.

    Args:
        store: committed to.
        snapshots: what is known by heart.
        clock: fleet time.
        director: signs what is assigned.
        images: the Image repository's metadata.
        last_seen: written behind.
        pace: polls.
        metrics: counted into.
    """

    def __init__(
        self,
        *,
        store: Store,
        snapshots: SnapshotKeeper,
        clock: FleetClock,
        director: DirectorDesk,
        images: ImageFiles,
        last_seen: LastSeen,
        pace: PollPace,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._director = director
        self._images = images
        self._last_seen = last_seen
        self._pace = pace
        self._metrics = metrics

    async def check_in(self, vehicle_id: VehicleId, poll: CheckIn) -> CheckInReply:
        """Answer a poll.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            StoreUnavailableError: nothing is acknowledged; call again.
        """
        now = self._now()
        self._last_seen.saw(vehicle_id, now)
        record = await self._record(vehicle_id)
        if poll.events or poll.outbox_id != record.outbox_id:
            record = await self._acknowledge(vehicle_id, poll, now)
        snapshot = self._snapshots.current
        record, directive = await self._direct(record, snapshot, now)
        record = await self._keep_director_fresh(record, now)
        wants_images = isinstance(directive, Install)
        return CheckInReply(
            now=now,
            next_poll_ms=self._pace.live_ms if wants_images else self._pace.idle_ms,
            acknowledged_number=record.acknowledged_number,
            manifest_wanted=record.manifest_sha256 == "" or poll.manifest_sha256 != record.manifest_sha256,
            directive=directive,
            director_files=await self._director_files(record, snapshot, poll.director),
            image_files=self._images.newer_than(poll.image) if wants_images else {},
        )

    async def _acknowledge(self, vehicle_id: VehicleId, poll: CheckIn, now: FleetTime) -> VehicleRecord:
        applied = await self._store.apply(
            vehicle_id, outbox_id=poll.outbox_id, oldest_number=poll.oldest_number, events=poll.events, now=now
        )
        self._metrics.events.labels(outcome="acknowledged").inc(len(poll.events))
        return applied.record

    async def _direct(
        self, record: VehicleRecord, snapshot: Snapshot, now: FleetTime
    ) -> tuple[VehicleRecord, Install | Withdraw | None]:
        attempt = record.attempt
        if attempt is not None and not attempt.state.terminal:
            if attempt.state in BEFORE_PERMIT and attempt.epoch < snapshot.fence_of(attempt.rollout_id):
                return await self._withdraw(record, attempt, now)
            self._metrics.checkins.labels(outcome="attempt_live").inc()
            return record, Install(attempt)
        if not snapshot.candidates:
            self._metrics.checkins.labels(outcome="nothing").inc()
            return record, None
        answer = choose(record, snapshot.candidates, now)
        if isinstance(answer, Grant):
            return await self._grant(record, answer, snapshot, now)
        for refusal in answer:
            self._metrics.refusals.labels(reason=refusal.reason.value).inc()
        self._metrics.checkins.labels(outcome="refused").inc()
        return record, None

    async def _withdraw(
        self, record: VehicleRecord, attempt: Attempt, now: FleetTime
    ) -> tuple[VehicleRecord, Withdraw | None]:
        applied = await self._store.change(attempt.attempt_id, AttemptEvent.WITHDRAWN, now=now, failure_code="fenced")
        self._metrics.checkins.labels(outcome="withdrawn").inc()
        record = applied.record if applied else record
        state = assigned(record.director, ReleaseVersion(""), now)
        await self._store.direct(
            record.vehicle.vehicle_id, state, expected_timestamp_version=record.director.timestamp_version
        )
        return replace(record, director=state), Withdraw(attempt.attempt_id, "the rollout was aborted or halted")

    async def _grant(
        self, record: VehicleRecord, grant: Grant, snapshot: Snapshot, now: FleetTime
    ) -> tuple[VehicleRecord, Install | None]:
        rollout = snapshot.rollouts[grant.rollout_id]
        attempt = offered(record, grant, rollout, now)
        plan = rollout.plan
        reserved = await self._store.reserve(
            rollout.rollout_id,
            attempt.attempt_id,
            region=grant.cell.region,
            region_max=plan.regions[grant.cell.region].in_flight_max,
            total_max=plan.limits.in_flight_max,
            epoch=grant.epoch,
        )
        answer: Applied | Refusal
        if isinstance(reserved, Refusal):
            answer = reserved
        else:
            answer = await self._store.assign(attempt, assigned(record.director, grant.release, now))
        if isinstance(answer, Refusal):
            self._metrics.refusals.labels(reason=answer.reason.value).inc()
            self._metrics.checkins.labels(outcome="refused").inc()
            return record, None
        self._metrics.checkins.labels(outcome="granted").inc()
        log.info("attempt_granted", rollout_id=rollout.rollout_id, attempt_id=attempt.attempt_id)
        granted = answer.record.attempt
        return answer.record, Install(granted) if granted and not granted.state.terminal else None

    async def _keep_director_fresh(self, record: VehicleRecord, now: FleetTime) -> VehicleRecord:
        state = renewed(record.director, now)
        if state == record.director:
            return record
        won = await self._store.direct(
            record.vehicle.vehicle_id, state, expected_timestamp_version=record.director.timestamp_version
        )
        return replace(record, director=state) if won else await self._record(record.vehicle.vehicle_id)

    async def _director_files(self, record: VehicleRecord, snapshot: Snapshot, held: Held) -> Mapping[str, bytes]:
        files = self._director.roots_above(held.root)
        if held.timestamp < record.director.timestamp_version:
            files |= await self._director.files(
                record.vehicle, record.director, assigned_release(record.director, snapshot)
            )
        return files

    async def submit_manifest(self, vehicle_id: VehicleId, content: bytes) -> tuple[str, VehicleRecord]:
        """Verify and record a vehicle version manifest; this alone settles an attempt as succeeded.

        Returns:
            The manifest's SHA-256 in hex and the vehicle's record afterwards.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            InvalidInputError: forged, replayed, incomplete or foreign: dropped and recorded.
        """
        now = self._now()
        record = await self._record(vehicle_id)
        digest = hashlib.sha256(content).hexdigest()
        if digest == record.manifest_sha256:
            return digest, record
        try:
            manifest = await asyncio.to_thread(self._verify, record, content, now)
        except VerificationError as error:
            await self._refuse_manifest(vehicle_id, error.code, str(error), now)
        answer = await self._store.attest(vehicle_id, self._attestation(record, manifest, content), now=now)
        if isinstance(answer, Refusal):
            await self._refuse_manifest(vehicle_id, AttackCode.REPLAY, answer.message, now)
        self._metrics.manifests.labels(outcome="accepted").inc()
        return manifest.sha256, answer.record

    def _verify(self, record: VehicleRecord, content: bytes, now: FleetTime) -> Manifest:
        ecus = [
            InventoryEcu(serial=ecu.serial, public_key=ecu.public_key, primary=ecu.primary)
            for ecu in record.vehicle.ecus
        ]
        return verify_manifest(
            content,
            vehicle_id=record.vehicle.vehicle_id,
            ecus=ecus,
            counter_above=record.manifest_counter,
            now=to_datetime(now),
        )

    async def _refuse_manifest(self, vehicle_id: VehicleId, code: AttackCode, message: str, now: FleetTime) -> NoReturn:
        self._metrics.manifests.labels(outcome="refused").inc()
        await self._store.record(
            JournalEntry(
                stream="fleet",
                entry_id="",
                kind="manifest_refused",
                at=now,
                data={"vehicle_id": vehicle_id, "code": code.value, "message": message},
            )
        )
        raise InvalidInputError(
            f"manifest refused: {message}",
            reason=code.value.upper(),
            remedy="sign a fresh manifest with every ECU's own key",
        )

    def _attestation(self, record: VehicleRecord, manifest: Manifest, content: bytes) -> Attestation:
        releases = self._snapshots.current.releases
        installed = {report.ecu_serial: (report.path, report.sha256) for report in manifest.reports}
        proven = [release for release in releases.values() if runs(record, release, installed)]
        newest = max(proven, key=lambda release: release.created_at, default=None)
        event = None
        if record.attempt is not None:
            wanted = releases.get(record.attempt.release)
            matches = wanted is not None and runs(record, wanted, installed)
            event = AttemptEvent.ATTESTED_RELEASE if matches else AttemptEvent.ATTESTED_OTHER
        return Attestation(
            sha256=manifest.sha256,
            counter=manifest.counter,
            content=content,
            installed=newest.version if newest else ReleaseVersion(""),
            attempt_id=record.attempt.attempt_id if record.attempt else None,
            event=event,
        )

    async def authorize_install(self, vehicle_id: VehicleId, wanted: AttemptId) -> PermitAnswer:
        """Answer at the point of no return. A permit is durable on the rollout's and the vehicle's keys before it is
        told.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            StoreUnavailableError: no permit; ask again.
        """
        now = self._now()
        record = await self._record(vehicle_id)
        attempt = record.attempt
        if attempt is None or attempt.attempt_id != wanted:
            return self._refuse_permit(wanted, now, unknown_attempt(wanted), None)
        if attempt.state.terminal or attempt.state not in BEFORE_PERMIT | {AttemptState.PERMITTED}:
            return self._refuse_permit(wanted, now, attempt_over(attempt), None)
        rollout = self._snapshots.current.rollouts.get(attempt.rollout_id)
        if rollout is None:
            return self._refuse_permit(wanted, now, stale(attempt.rollout_id), PERMIT_RETRY_MS)
        # Asking implies that the images are there, also when the event that says so is still in the outbox.
        if attempt.state in BEFORE_PERMIT and attempt.state is not AttemptState.DOWNLOADED:
            await self._store.change(wanted, AttemptEvent.DOWNLOAD_FINISHED, now=now)
        return await self._permit(attempt, rollout, now)

    async def _permit(self, attempt: Attempt, rollout: Rollout, now: FleetTime) -> PermitAnswer:
        limits = rollout.plan.limits
        answer = await self._store.authorize(
            rollout.rollout_id,
            attempt.attempt_id,
            attempt_epoch=attempt.epoch,
            starts_per_minute_max=limits.starts_per_minute_max,
            valid_ms=limits.permit_valid_ms,
            now=now,
        )
        if isinstance(answer, Permitted):
            marked = await self._store.permit(attempt.attempt_id, permitted_at=answer.permitted_at)
            if isinstance(marked, Refusal):
                return self._refuse_permit(attempt.attempt_id, now, marked, None)
            self._metrics.permits.labels(outcome="issued").inc()
            log.info("permit_issued", rollout_id=rollout.rollout_id, attempt_id=attempt.attempt_id)
            valid_ms = max(1, limits.permit_valid_ms - max(0, now - answer.permitted_at))
            return PermitAnswer(attempt.attempt_id, now, valid_ms, None, None)
        fenced = answer.reason in (RefusalReason.FENCED, RefusalReason.ROLLOUT_OVER)
        return self._refuse_permit(attempt.attempt_id, now, answer, None if fenced else PERMIT_RETRY_MS)

    def _refuse_permit(
        self, wanted: AttemptId, now: FleetTime, refusal: Refusal, retry_after_ms: int | None
    ) -> PermitAnswer:
        self._metrics.permits.labels(outcome=refusal.reason.value).inc()
        return PermitAnswer(wanted, now, 0, refusal, retry_after_ms)

    async def director_metadata(self, vehicle_id: VehicleId, names: Sequence[str]) -> Mapping[str, bytes]:
        """The vehicle's own Director files by name; unknown names are absent."""
        record = await self._keep_director_fresh(await self._record(vehicle_id), self._now())
        release = assigned_release(record.director, self._snapshots.current)
        files = dict(await self._director.files(record.vehicle, record.director, release))
        files |= self._director.roots_above(0)
        return {name: files[name] for name in names if name in files}

    def image_metadata(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Image repository files by name; unknown names are absent."""
        return self._images.named(names)

    async def _record(self, vehicle_id: VehicleId) -> VehicleRecord:
        record = await self._store.vehicle(vehicle_id)
        if record is None:
            raise NotFoundError(
                f"vehicle {vehicle_id} is not in the inventory",
                reason="VEHICLE_UNKNOWN",
                remedy="import it with `outrider fleet import`",
            )
        return record

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def offered(record: VehicleRecord, grant: Grant, rollout: Rollout, now: FleetTime) -> Attempt:
    """The attempt that a grant starts."""
    deadlines = rollout.plan.deadlines_ms
    return Attempt(
        attempt_id=attempt_id(grant.rollout_id, record.vehicle.vehicle_id, grant.number),
        rollout_id=grant.rollout_id,
        vehicle_id=record.vehicle.vehicle_id,
        number=grant.number,
        release=grant.release,
        cell=grant.cell,
        epoch=grant.epoch,
        state=AttemptState.OFFERED,
        state_at=now,
        deadline_at=FleetTime(now + deadlines[AttemptState.OFFERED]),
        granted_at=now,
        permitted_at=None,
        failure_code="",
        deadlines_ms=deadlines,
        checkpoints_ms=rollout.plan.gate.checkpoints_ms,
        aged=tuple(False for _ in rollout.plan.gate.checkpoints_ms),
        silent=tuple(False for _ in rollout.plan.gate.checkpoints_ms),
    )


def runs(record: VehicleRecord, release: Release, installed: Mapping[str, tuple[str, str]]) -> bool:
    """Whether every ECU that the release has an image for runs that image, and there is at least one."""
    wanted = [(ecu.serial, release.image_for(ecu.hardware_id)) for ecu in record.vehicle.ecus]
    pairs = [(serial, image) for serial, image in wanted if image is not None]
    return bool(pairs) and all(installed.get(serial) == (image.path, image.sha256) for serial, image in pairs)


def assigned_release(state: DirectorState, snapshot: Snapshot) -> Release | None:
    """The release that a Director state assigns; None when it assigns nothing.

    Raises:
        InvalidInputError: never registered here, which a restored store can show.
    """
    if not state.release:
        return None
    release = snapshot.releases.get(state.release)
    if release is None:
        raise NotFoundError(
            f"release {state.release} is assigned but not registered",
            reason="RELEASE_UNKNOWN",
            remedy="register it again with `outrider release publish`",
        )
    return release


def unknown_attempt(wanted: AttemptId) -> Refusal:
    """There is no such attempt, or a later one took its place."""
    return Refusal(RefusalReason.UNKNOWN_ATTEMPT, f"{wanted} is not this vehicle's latest attempt")


def attempt_over(attempt: Attempt) -> Refusal:
    """The attempt cannot get a permit any more."""
    return Refusal(
        RefusalReason.ATTEMPT_OVER,
        f"{attempt.attempt_id} is {attempt.state.value}",
        {"state": attempt.state.value},
    )


def stale(rollout_id: RolloutId) -> Refusal:
    """This worker does not know the rollout yet."""
    return Refusal(RefusalReason.STALE_EPOCH, f"rollout {rollout_id} is not known here yet", {"rollout": rollout_id})
