"""Use case of the point of no return: a permit or a refusal. Exposure begins here.

What the plan and the vehicle decide (window, conditions, consent) is the engine's `permits`; what all vehicles share is
taken by the store. A permit is only true once `authorize` said so on the rollout's keys and `permit` on the vehicle's
shard, both on disk; and before them, where the plan asks for it, the owner's consent. Who asks was heard, whatever the
answer: that is what silence is judged by, of one that waits.

Who could have its permit may be told to wait for one more call instead (`engine.controls`). It holds nothing from the
step on that says so; then it is watched, then DEFERRED. A crash in between leaves what the next asking within the same
contact makes good, and what harms nobody where none follows: the coin falls the same way, and a watch has one name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from orchestrator.clock import AHEAD_MAX_MS, FleetClock
from orchestrator.engine import controls, pins, selection
from orchestrator.engine.admission import places
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.engine.permits import Clear, NotNow, may_install, rules_of
from orchestrator.model.attempt import BEFORE_PERMIT_STATES, Attempt, AttemptEvent, AttemptState
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId
from orchestrator.model.plan import Consent
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import Conditions, Contact, VehicleRecord
from orchestrator.service.budget_turns import BudgetTurns
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.records import record_of
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.service.waiting import defer
from orchestrator.store.base import JournalEntry, PermitRequest, Permitted, Store
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

PERMIT_RETRY_MS = 120_000
"""Fleet time after which a vehicle with a refused permit asks again; who has waited for long asks more seldom."""
PLACE_RETRY_MS = 3_600_000
"""The same where its wave has no place for it: waves last hours and days."""


STOOD_ASIDE = frozenset({RefusalReason.WATCHED.value, RefusalReason.QUOTA_SPENT.value})
"""What those are deferred for that had all they need, and waited to be heard or for a place."""


@dataclass(frozen=True, slots=True)
class PermitAnswer:
    """A permit (`valid_ms` > 0) or a refusal."""

    attempt_id: AttemptId
    now: FleetTime
    valid_ms: int
    refusal: Refusal | None
    retry_after_ms: int | None
    """None: the attempt is over, do not ask again."""


class PermitDesk:
    """Gives permits.

    Args:
        store: committed to.
        snapshots: plans of the rollouts.
        clock: fleet time.
        last_seen: written behind.
        metrics: counted into.
    """

    def __init__(
        self, *, store: Store, snapshots: SnapshotKeeper, clock: FleetClock, last_seen: LastSeen, metrics: Metrics
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._last_seen = last_seen
        self._metrics = metrics
        self._turns = BudgetTurns()

    async def authorize(
        self,
        vehicle_id: VehicleId,
        wanted: AttemptId,
        *,
        conditions: Conditions | None = None,
        consented: bool = False,
        offline: bool = False,
    ) -> PermitAnswer:
        """Answer at the point of no return. A permit is durable on the rollout's and the vehicle's keys before it is
        told.

        Args:
            vehicle_id: Who asks.
            wanted: Its attempt.
            conditions: As it tells them now; None: as at its last contact.
            consented: Whether its owner agreed to this attempt.
            offline: Whether it will install where it cannot be reached.

        Raises:
            NotFoundError: the vehicle is not in the inventory.
            StoreUnavailableError: no permit; ask again.
        """
        now = FleetTime(self._clock.now())
        record = await record_of(self._store, vehicle_id)
        self._last_seen.saw(vehicle_id, Contact(at=now, told=False))
        attempt = record.attempt
        if attempt is None or attempt.attempt_id != wanted:
            return self._refused(wanted, now, unknown_attempt(wanted), None)
        if attempt.state.terminal or attempt.state not in BEFORE_PERMIT_STATES | {AttemptState.PERMITTED}:
            return self._refused(wanted, now, attempt_over(attempt), None)
        rollout = self._snapshots.current.rollouts.get(attempt.rollout_id)
        if rollout is None:
            return self._refused(wanted, now, stale(attempt.rollout_id), PERMIT_RETRY_MS)
        changed = pins.changed(rollout, self._snapshots.current.releases.get(attempt.release))
        if changed and attempt.permitted_at is None:
            return self._refused(wanted, now, Refusal(RefusalReason.RELEASE_CHANGED, changed), PERMIT_RETRY_MS)
        # Whose fleet time is ahead runs slowly: a permit would be told for longer than it was good.
        repeats = self._clock.ahead_ms() <= AHEAD_MAX_MS
        known = conditions or record.conditions
        answer = judged(record, attempt, rollout, known, consented, now, offline=offline, repeats=repeats)
        if isinstance(answer, NotNow):
            await defer(self._store, attempt, answer.refusal, now)
            return self._refused(wanted, now, answer.refusal, answer.retry_after_ms)
        # Asking implies that the images are there, also when the event that says so is still in the outbox.
        if attempt.state in (AttemptState.OFFERED, AttemptState.DOWNLOADING):
            await self._store.change(wanted, AttemptEvent.DOWNLOAD_FINISHED, now=now)
        consent = consented and rules_of(attempt.cell.region, rollout).consent is Consent.REQUIRED
        asked = permit_request(attempt, rollout, answer, now, repeats=repeats)
        return await self._permit(attempt, rollout, asked, consented=consent)

    async def _permit(
        self, attempt: Attempt, rollout: Rollout, asked: PermitRequest, *, consented: bool
    ) -> PermitAnswer:
        now = asked.now
        answer = await self._store.authorize(rollout.rollout_id, attempt.attempt_id, asked)
        if isinstance(answer, Permitted):
            if consented:
                # Before the vehicle hears of its permit, and whoever completes it after a crash of ours.
                await self._store.record(consent_entry(attempt, now))
            marked = await self._store.permit(
                attempt.attempt_id,
                permitted_at=answer.permitted_at,
                offline_ms=answer.offline_ms,
                paired=answer.paired,
            )
            if isinstance(marked, Refusal):
                if marked.reason is RefusalReason.ATTEMPT_OVER:
                    # It ended in between, unexposed, and stays so: its place in the budget is another's.
                    await self._store.forfeit(rollout.rollout_id, [attempt.attempt_id])
                return self._refused(attempt.attempt_id, now, marked, None)
            self._metrics.permits.labels(outcome="issued").inc()
            self._turns.exposed(rollout.rollout_id, answer.permitted_at, offline_ms=answer.offline_ms)
            good_ms = answer.offline_ms or asked.valid_ms
            log.info(
                "permit_issued",
                rollout_id=rollout.rollout_id,
                attempt_id=attempt.attempt_id,
                offline=answer.offline_ms > 0,
            )
            left_ms = max(1, good_ms - max(0, now - answer.permitted_at))
            return PermitAnswer(attempt.attempt_id, now, left_ms, None, None)
        watched = answer.reason is RefusalReason.WATCHED
        # Each watch is a wait of its own: who calls once a week must not run out of time by waiting for our sake.
        anew = watched and await self._store.enrol(controls.control_of(rollout, attempt, now))
        await defer(self._store, attempt, answer, now, anew=anew)
        full = answer.reason is RefusalReason.BLAST_BUDGET_SPENT
        room_in_ms = self._turns.wait_ms(attempt, rollout, now) if full else None
        return self._refused(attempt.attempt_id, now, answer, _again(answer, attempt, room_in_ms, now))

    def _refused(self, wanted: AttemptId, now: FleetTime, refusal: Refusal, retry_after_ms: int | None) -> PermitAnswer:
        self._metrics.permits.labels(outcome=refusal.reason.value).inc()
        return PermitAnswer(wanted, now, 0, refusal, retry_after_ms)


def permit_request(
    attempt: Attempt, rollout: Rollout, clear: Clear, now: FleetTime, *, repeats: bool = True
) -> PermitRequest:
    """What the rollout's keys are asked for, with its plan's limits."""
    rules, limits = rules_of(attempt.cell.region, rollout), rollout.plan.limits
    return PermitRequest(
        cell=attempt.cell,
        attempt_epoch=attempt.epoch,
        region_max=rules.in_flight_max,
        total_max=limits.in_flight_max,
        starts_per_minute_max=limits.starts_per_minute_max,
        region_starts_per_minute_max=rules.starts_per_minute_max or limits.starts_per_minute_max,
        valid_ms=clear.valid_ms,
        offline_ms=clear.offline_ms,
        now=now,
        quota=places(rollout, attempt.cell, attempt.habit, now),
        stands_aside=controls.stands_aside(rollout, attempt, now),
        paired=controls.is_paired(rollout, attempt),
        repeats=repeats,
    )


def _again(refusal: Refusal, attempt: Attempt, room_in_ms: int | None, now: FleetTime) -> int | None:
    """When a vehicle asks again that the rollout's keys refused; None: the attempt is over.

    Who stood aside comes back when a call of its counts as another one, before any age at which it is looked for, and
    spread by lot: those that were told at once must not come back at once. Who waits for the budget comes when there is
    room again; where nobody knows when, or the rollout stands, after half of what it has waited already: a wait of half
    a day is some twenty calls and not three hundred.

    Args:
        refusal: Why.
        attempt: That asks.
        room_in_ms: Until there is room in the budget, where that is what it lacks; None: nobody knows.
        now: Fleet time.
    """
    if refusal.reason in (RefusalReason.FENCED, RefusalReason.ROLLOUT_OVER, RefusalReason.ATTEMPT_OVER):
        return None
    if refusal.reason is RefusalReason.QUOTA_SPENT:
        return PLACE_RETRY_MS
    if refusal.reason is RefusalReason.WATCHED:
        heard_at = controls.enrolled_at(now) + controls.HEARD_AFTER_MS
        return heard_at - now + int(selection.lot(attempt.attempt_id) * SAME_CONTACT_MS)
    # Deferred for its window or its owner, it has waited for something else.
    for_room = attempt.state is AttemptState.DOWNLOADED or attempt.failure_code in STOOD_ASIDE
    if refusal.reason is RefusalReason.STARTS_SPENT or not for_room:
        return PERMIT_RETRY_MS
    if room_in_ms is not None:
        return max(PERMIT_RETRY_MS, room_in_ms)
    return min(PLACE_RETRY_MS, max(PERMIT_RETRY_MS, (now - attempt.state_at) // 2))


def judged(
    record: VehicleRecord,
    attempt: Attempt,
    rollout: Rollout,
    conditions: Conditions | None,
    consented: bool,
    now: FleetTime,
    *,
    offline: bool = False,
    repeats: bool = True,
) -> Clear | NotNow:
    """What plan and vehicle decide; a permit that has lapsed unused, or is not to be repeated, is as none: it is asked
    for in the open again.
    """
    answer = may_install(record, attempt, rollout, conditions, consented, now, offline=offline)
    if attempt.permitted_at is None or isinstance(answer, NotNow):
        return answer
    if repeats and -answer.valid_ms < now - attempt.permitted_at < (answer.offline_ms or answer.valid_ms):
        return answer
    unpermitted = replace(attempt, permitted_at=None)
    return may_install(record, unpermitted, rollout, conditions, consented, now, offline=offline)


def consent_entry(attempt: Attempt, now: FleetTime) -> JournalEntry:
    """That the owner agreed, for the ledger: the permit rests on it."""
    return JournalEntry(
        stream="fleet",
        entry_id="",
        kind="consent_given",
        at=now,
        data={
            "rollout_id": attempt.rollout_id,
            "vehicle_id": attempt.vehicle_id,
            "attempt_id": attempt.attempt_id,
            "release": attempt.release,
            "consented": True,
        },
    )


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
