"""Use cases of a vehicle that polls: check in, fetch metadata. Permits and manifests have desks of their own.

Each follows one shape: read the record, decide (engine), commit (store, by id or version), answer. No decision is
held across an await without being committed by version: a grant is only true once `reserve` and `assign` said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from orchestrator.clock import FleetClock
from orchestrator.engine.admission import Candidate, choose
from orchestrator.engine.permits import rules_of
from orchestrator.engine.repeats import REPEATS_MAX
from orchestrator.model.attempt import BEFORE_PERMIT_STATES, Attempt, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Grant, Refusal
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.plan import Consent, Preconditions
from orchestrator.model.release import Release
from orchestrator.model.value import value
from orchestrator.model.vehicle import (
    EVERY_ROLLOUT,
    Conditions,
    Contact,
    Diagnostic,
    DirectorState,
    VehicleRecord,
)
from orchestrator.service.diagnoses import detail, exposed_attempt, new_critical
from orchestrator.service.director import DirectorDesk, assigned, renewed
from orchestrator.service.errors import NotFoundError
from orchestrator.service.grants import offered, slot_request
from orchestrator.service.image_files import ImageFiles
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.quarantine import keep_out
from orchestrator.service.records import record_of, still_known
from orchestrator.service.snapshot import Snapshot, SnapshotKeeper
from orchestrator.service.vouching import NOTHING_ASKED, Vouching
from orchestrator.service.waiting import PollPace, closed, defer
from orchestrator.store.base import Applied, Store
from orchestrator.telemetry import Metrics

log = structlog.get_logger()


@value(frozen=True, slots=True)
class Held:
    """Metadata versions of one repository that a vehicle holds; 0 means none."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


@value(frozen=True, slots=True)
class CheckIn:
    """What a poll says."""

    outbox_id: str
    events: Sequence[VehicleEvent]
    oldest_number: int
    manifest_sha256: str
    director: Held
    image: Held
    conditions: Conditions | None = None
    """None when it told none."""
    diagnostics: tuple[Diagnostic, ...] = ()


@value(frozen=True, slots=True)
class Install:
    """Directive: install what the Director's targets say."""

    attempt: Attempt
    consent: Consent
    """Of the region in which it was granted."""
    preconditions: Preconditions
    """What the vehicle looks at before it asks for a permit, which looks again."""
    notes: str
    """The release's, for the owner."""
    notes_by_language: Mapping[str, str] = field(default_factory=dict)
    """The same in other languages, where there are several."""
    offline_permit_ms: int = 0
    """Longest permit to install out of reach, in that region; 0: none is given."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Directive: drop an attempt."""

    attempt_id: AttemptId
    reason: str


@dataclass(frozen=True, slots=True)
class WithdrawalReason:
    """Why an attempt is taken back before its permit."""

    code: str
    """Of the attempt's record."""
    words: str
    """For the vehicle's log."""


FENCED = WithdrawalReason("fenced", "the rollout was aborted or halted")
UNATTESTED = WithdrawalReason("unattested", "nobody vouches for the release any more")
EXCLUDED = WithdrawalReason("excluded", "the vehicle is kept out of this rollout")


@value(frozen=True, slots=True)
class CheckInReply:
    """What a poll is answered with."""

    now: FleetTime
    next_poll_ms: int
    acknowledged_number: int
    manifest_wanted: bool
    directive: Install | Withdraw | None
    director_files: Mapping[str, bytes]
    image_files: Mapping[str, bytes]


class VehicleDesk:
    """Serves vehicles that poll.

    Args:
        store: committed to.
        snapshots: what is known by heart.
        clock: fleet time.
        director: signs what is assigned.
        images: the Image repository's metadata.
        last_seen: written behind.
        pace: polls.
        repeats_max: rollouts in a row that a vehicle may fail in before it is kept out; 0: however many.
        metrics: counted into.
        vouching: says which releases may be assigned.
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
        repeats_max: int = REPEATS_MAX,
        vouching: Vouching = NOTHING_ASKED,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._director = director
        self._images = images
        self._last_seen = last_seen
        self._pace = pace
        self._metrics = metrics
        self._repeats_max = repeats_max
        self._vouching = vouching

    def adopt(self, pace: PollPace, *, repeats_max: int) -> None:
        """Answer so from the next poll on."""
        self._pace = pace
        self._repeats_max = repeats_max

    async def check_in(self, vehicle_id: VehicleId, poll: CheckIn) -> CheckInReply:
        """Answer a poll.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            StoreUnavailableError: nothing is acknowledged; call again.
        """
        now = self._now()
        # One step where there are events: an acknowledgement answers with the record.
        record = await (self._acknowledge(vehicle_id, poll, now) if poll.events else self._read(vehicle_id, poll, now))
        # After the look at what was known before, which tells an old diagnosis from a new one.
        self._last_seen.saw(vehicle_id, Contact(at=now, conditions=poll.conditions, diagnostics=poll.diagnostics))
        self._metrics.contacts.labels(region=record.vehicle.region).inc()
        if poll.diagnostics:
            await self._diagnose(record, poll.diagnostics, now)
        snapshot = self._snapshots.current
        # Other than what stands only if the store was set back, as by a restored backup: then the vehicle has done what
        # is not known here, and begins nothing before its manifest was seen.
        remembered = self._director.caught_up(record.director, poll.director, now)
        set_back = remembered is not record.director
        record, directive = await self._direct(record, snapshot, now, may_begin=not set_back)
        record = await self._keep_director_fresh(record, snapshot, now, remembered if set_back else None)
        if isinstance(directive, Install) and (release := snapshot.releases.get(directive.attempt.release)):
            await self._images.cover(release.version)
            directive = replace(directive, notes_by_language=self._vouching.notes(release))
        at = directive.attempt if isinstance(directive, Install) else None
        return CheckInReply(
            now=now,
            next_poll_ms=self._pace.live_ms if set_back else self._pace.of(at),
            acknowledged_number=record.acknowledged_number,
            manifest_wanted=set_back or poll.manifest_sha256 != record.manifest_sha256 or record.manifest_sha256 == "",
            directive=directive,
            director_files=await self._director_files(record, snapshot, poll.director),
            image_files=self._images.newer_than(poll.image) if isinstance(directive, Install) else {},
        )

    async def _read(self, vehicle_id: VehicleId, poll: CheckIn, now: FleetTime) -> VehicleRecord:
        record = await record_of(self._store, vehicle_id)
        return record if poll.outbox_id == record.outbox_id else await self._acknowledge(vehicle_id, poll, now)

    async def _acknowledge(self, vehicle_id: VehicleId, poll: CheckIn, now: FleetTime) -> VehicleRecord:
        with still_known(vehicle_id):
            applied = await self._store.apply(
                vehicle_id, outbox_id=poll.outbox_id, oldest_number=poll.oldest_number, events=poll.events, now=now
            )
        self._metrics.events.labels(outcome="acknowledged").inc(len(poll.events))
        return applied.record

    async def _diagnose(self, record: VehicleRecord, told: Sequence[Diagnostic], now: FleetTime) -> None:
        """A critical diagnosis after an exposure is a case, before the vehicle has its answer."""
        blamed = exposed_attempt(record, now)
        found = new_critical(told, record) if blamed is not None else ()
        if blamed is None or not found:
            return
        if await self._store.diagnose(blamed, detail=detail(found), now=now):
            log.warning("case_by_diagnosis", attempt_id=blamed, codes=[each.code for each in found])

    async def _direct(
        self, record: VehicleRecord, snapshot: Snapshot, now: FleetTime, *, may_begin: bool
    ) -> tuple[VehicleRecord, Install | Withdraw | None]:
        attempt = record.attempt
        if attempt is not None and not attempt.state.terminal:
            if attempt.state in BEFORE_PERMIT_STATES and attempt.epoch < snapshot.fence_of(attempt):
                return await self._withdraw(record, attempt, snapshot, now, FENCED)
            if attempt.state in BEFORE_PERMIT_STATES and _excluded(record, attempt.rollout_id):
                return await self._withdraw(record, attempt, snapshot, now, EXCLUDED)
            if attempt.state in BEFORE_PERMIT_STATES and self._vouching.fault(snapshot.releases.get(attempt.release)):
                return await self._withdraw(record, attempt, snapshot, now, UNATTESTED)
            self._metrics.checkins.labels(outcome="attempt_live").inc()
            rollout = snapshot.rollouts.get(attempt.rollout_id)
            shut = closed(record, attempt, rollout, now) if rollout else None
            if shut is not None:
                record = await defer(self._store, attempt, shut, now) or record
            return record, install(record.attempt or attempt, snapshot)
        record = await keep_out(
            self._store, self._metrics, record, snapshot.rollouts, now, repeats_max=self._repeats_max
        )
        candidates = self._assignable(snapshot) if may_begin else ()
        if not candidates:
            self._metrics.checkins.labels(outcome="nothing").inc()
            return record, None
        answer = choose(record, candidates, now)
        if isinstance(answer, Grant):
            return await self._grant(record, answer, snapshot, now)
        for refusal in answer:
            self._metrics.refusals.labels(reason=refusal.reason.value).inc()
        self._metrics.checkins.labels(outcome="refused").inc()
        return record, None

    def _assignable(self, snapshot: Snapshot) -> Sequence[Candidate]:
        """Rollouts whose release somebody vouches for: of any other the signer would refuse the files."""
        found = [candidate for candidate in snapshot.candidates if not self._vouching.fault(candidate.release)]
        if left_out := len(snapshot.candidates) - len(found):
            self._metrics.refusals.labels(reason=UNATTESTED.code).inc(left_out)
        return found

    async def _withdraw(
        self, record: VehicleRecord, attempt: Attempt, snapshot: Snapshot, now: FleetTime, why: WithdrawalReason
    ) -> tuple[VehicleRecord, Install | Withdraw]:
        applied = await self._store.change(attempt.attempt_id, AttemptEvent.WITHDRAWN, now=now, failure_code=why.code)
        record = applied.record if applied else record
        current = record.attempt
        if current is not None and current.attempt_id == attempt.attempt_id and not current.state.terminal:
            # A permit came in between: what has a permit runs on.
            self._metrics.checkins.labels(outcome="attempt_live").inc()
            return record, install(current, snapshot)
        self._metrics.checkins.labels(outcome="withdrawn").inc()
        return record, Withdraw(attempt.attempt_id, why.words)

    async def _grant(
        self, record: VehicleRecord, grant: Grant, snapshot: Snapshot, now: FleetTime
    ) -> tuple[VehicleRecord, Install | None]:
        rollout = snapshot.rollouts[grant.rollout_id]
        attempt = offered(record, grant, rollout, now)
        wanted = slot_request(record, grant, rollout, snapshot.releases.get(grant.release), now)
        reserved = await self._store.reserve(rollout.rollout_id, attempt.attempt_id, wanted)
        answer: Applied | Refusal
        if isinstance(reserved, Refusal):
            answer = reserved
        else:
            answer = await self._store.assign(
                attempt,
                assigned(record.director, grant.release, now),
                expected_timestamp_version=record.director.timestamp_version,
            )
        if isinstance(answer, Refusal):
            self._metrics.refusals.labels(reason=answer.reason.value).inc()
            self._metrics.checkins.labels(outcome="refused").inc()
            return record, None
        self._metrics.checkins.labels(outcome="granted").inc()
        log.info("attempt_granted", rollout_id=rollout.rollout_id, attempt_id=attempt.attempt_id)
        granted = answer.record.attempt
        return answer.record, install(granted, snapshot) if granted and not granted.state.terminal else None

    async def _keep_director_fresh(
        self, record: VehicleRecord, snapshot: Snapshot, now: FleetTime, remembered: DirectorState | None = None
    ) -> VehicleRecord:
        wanted = owed(record)
        if self._vouching.fault(self._snapshots.current.releases.get(wanted)):
            wanted = ReleaseVersion("")
        state = remembered or record.director
        stands = remembered is None and state.release == wanted
        state = renewed(state, now) if stands else assigned(state, wanted, now)
        if state == record.director:
            return record
        state = await self._director.pinned(record.vehicle, state, assigned_release(state, snapshot), now)
        won = await self._store.direct(
            record.vehicle.vehicle_id, state, expected_timestamp_version=record.director.timestamp_version
        )
        return replace(record, director=state) if won else await record_of(self._store, record.vehicle.vehicle_id)

    async def _director_files(self, record: VehicleRecord, snapshot: Snapshot, held: Held) -> Mapping[str, bytes]:
        release = assigned_release(record.director, snapshot)
        return await self._director.newer_than(held, record.vehicle, record.director, release)

    async def director_metadata(self, vehicle_id: VehicleId, names: Sequence[str]) -> Mapping[str, bytes]:
        """The vehicle's own Director files by name; unknown names are absent."""
        snapshot = self._snapshots.current
        record = await self._keep_director_fresh(await record_of(self._store, vehicle_id), snapshot, self._now())
        release = assigned_release(record.director, snapshot)
        files = dict(await self._director.files(record.vehicle, record.director, release))
        files |= self._director.roots_above(0)
        return {name: files[name] for name in names if name in files}

    def image_metadata(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Image repository files by name; unknown names are absent."""
        return self._images.named(names)

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def install(attempt: Attempt, snapshot: Snapshot) -> Install:
    """The directive for a live attempt: with what its owner has to hear or say, and what must hold."""
    release = snapshot.releases.get(attempt.release)
    rollout = snapshot.rollouts.get(attempt.rollout_id)
    if rollout is None:
        # Only a worker that has just started; the permit asks for all of it again.
        return Install(attempt, Consent.NONE, Preconditions(), "")
    rules = rules_of(attempt.cell.region, rollout)
    return Install(
        attempt,
        consent=rules.consent,
        preconditions=rollout.plan.preconditions,
        notes=release.notes if release else "",
        offline_permit_ms=rules.offline_permit_ms,
    )


def _excluded(record: VehicleRecord, rollout_id: RolloutId) -> bool:
    """Whether the vehicle is kept out of a rollout, or of every one."""
    return any(each.scope in (EVERY_ROLLOUT, rollout_id) for each in record.exclusions)


def owed(record: VehicleRecord) -> ReleaseVersion:
    """What the Director shall assign: the release of an attempt that is live or succeeded, and else nothing.

    An attempt that ended badly must not leave signed leave to install behind.
    """
    attempt = record.attempt
    if attempt is None or (attempt.state.terminal and attempt.state is not AttemptState.SUCCEEDED):
        return ReleaseVersion("")
    return attempt.release


def assigned_release(state: DirectorState, snapshot: Snapshot) -> Release | None:
    """The release that a Director state assigns; None when it assigns nothing.

    Raises:
        NotFoundError: never registered here, which a restored store can show.
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
