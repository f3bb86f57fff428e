"""Use case of whoever asks why a vehicle does or does not get an update: one reason a rollout, and what happens next.

Owns what only the store and the snapshot know: slots, starts and blast budget as they are spent now, the evaluator's
sign of life, revocation, and which of several rollouts comes first. Leaves every reason that follows from record, plan
and time to `engine.explain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.clock import FleetClock
from orchestrator.engine.admission import Candidate, in_turn
from orchestrator.engine.explain import GRANT, NOT_ENROLLED, SILENT, Explanation, explain
from orchestrator.engine.targets import compile_plan
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import AttemptState
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.errors import NotFoundError
from orchestrator.service.records import record_of
from orchestrator.service.snapshot import Snapshot, SnapshotKeeper
from orchestrator.service.vouching import NOTHING_ASKED, Vouching
from orchestrator.store.base import DEAD_MAN_LIFE_MS, Standing, Store
from orchestrator.store.refusals import refusal

REVOKED = "revoked"
"""Its certificates are refused: it cannot call."""


UNATTESTED = "unattested"
"""Nobody vouches for the rollout's release: the Director assigns it to no vehicle."""


BY_PROGRESS = (
    RefusalReason.WAVE_NOT_REACHED,
    RefusalReason.FOLLOWED_REGION_FIRST,
    RefusalReason.NOT_YET_DRAWN,
    RefusalReason.QUOTA_SPENT,
    RefusalReason.HOLDOUT,
    RefusalReason.ROLLOUT_HELD,
    RefusalReason.OTHER_ROLLOUT_FIRST,
)
"""Reasons that a rollout's own progress ends: no clock says when, but no person has to act either."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why, for each rollout, and what happens next."""

    explanations: Sequence[Explanation]
    """Newest rollout first."""
    summary: str
    """One sentence."""


class ExplainDesk:
    """Answers why.

    Args:
        store: knows what is spent.
        snapshots: rollouts, releases, revocations; read anew for each answer.
        clock: fleet time.
        vouching: says which releases may be assigned.
    """

    def __init__(
        self, *, store: Store, snapshots: SnapshotKeeper, clock: FleetClock, vouching: Vouching = NOTHING_ASKED
    ) -> None:
        self._store = store
        self._vouching = vouching
        self._snapshots = snapshots
        self._clock = clock

    async def explain(self, vehicle_id: VehicleId, rollout_id: RolloutId | None) -> Explained:
        """Why the vehicle gets, or does not get, one rollout's release (also of one that is over), or that of each
        that is not over.

        Raises:
            NotFoundError: no such vehicle or rollout.
        """
        record = await record_of(self._store, vehicle_id)
        snapshot = await self._snapshots.refresh()
        now = FleetTime(self._clock.now())
        found: list[Explanation] = []
        taken: Rollout | None = None
        for candidate in candidates_of(snapshot, rollout_id, record):
            said = explain(record, candidate, now)
            if vehicle_id in snapshot.revoked:
                said = revoked(said)
            elif said.reason == GRANT and (fault := self._vouching.fault(candidate.release)):
                said = replace(said, reason=UNATTESTED, message=f"nobody is assigned it: {fault}")
            elif said.reason == GRANT and taken is not None:
                said = after_another(said, candidate.rollout, taken)
            else:
                standing = await self._store.standing(candidate.rollout.rollout_id, now=now)
                said = with_limits(said, record, candidate.rollout, standing)
            taken = taken or (candidate.rollout if said.reason == GRANT else None)
            found.append(said)
        found.reverse()
        return Explained(explanations=found, summary=summary(found, record, now))


def candidates_of(snapshot: Snapshot, rollout_id: RolloutId | None, record: VehicleRecord) -> Sequence[Candidate]:
    """The rollouts that were asked for, in turn, as they are considered.

    Where none was named, the one with the vehicle's live attempt is among them although it is over: a vehicle that fell
    silent in a rollout that was aborted is waiting for that attempt, whatever else is under way.

    Raises:
        NotFoundError: there is no such rollout.
    """
    if rollout_id is None:
        live = live_rollout(record)
        if live is None or live not in snapshot.rollouts or not snapshot.rollouts[live].status.over:
            return in_turn(snapshot.candidates)
        return [*candidates_of(snapshot, live, record), *in_turn(snapshot.candidates)]
    rollout = snapshot.rollouts.get(rollout_id)
    if rollout is None:
        raise NotFoundError(
            f"there is no rollout {rollout_id}",
            reason="ROLLOUT_UNKNOWN",
            remedy="`outrider rollout list` shows all rollouts",
        )
    target = compile_plan(rollout.plan, snapshot.releases.values())
    return [Candidate(rollout=rollout, release=snapshot.releases.get(rollout.plan.release), target=target)]


def live_rollout(record: VehicleRecord) -> RolloutId | None:
    """The rollout of the attempt that is under way."""
    return record.attempt.rollout_id if record.attempt and not record.attempt.state.terminal else None


def revoked(said: Explanation) -> Explanation:
    """What is said of a vehicle whose certificates are refused, whatever else holds."""
    message = "its certificates are refused: it cannot call, so nothing reaches it"
    return replace(said, reason=REVOKED, message=message, changes_at=None)


def after_another(said: Explanation, rollout: Rollout, other: Rollout) -> Explanation:
    """What is said of a rollout whose turn comes after one that would grant as well: by priority, then by age."""
    ours, theirs = rollout.plan.priority, other.plan.priority
    why = f"has priority {theirs} > {ours}" if theirs > ours else "is older"
    message = f"rollout {other.rollout_id} {why} and goes first; this one has its turn once that attempt ended"
    return replace(
        said,
        reason=RefusalReason.OTHER_ROLLOUT_FIRST.value,
        message=message,
        facts={**said.facts, "other_rollout": other.rollout_id, "priority": str(ours), "other_priority": str(theirs)},
    )


def with_limits(said: Explanation, record: VehicleRecord, rollout: Rollout, standing: Standing) -> Explanation:
    """The same with what is spent now; a limit that is reached is the reason where nothing else is in the way."""
    if said.reason == GRANT:
        no, facts = _slots(record, rollout, standing)
        no = no or _quota(said, record, standing, facts)
    elif said.reason == AttemptState.DOWNLOADED.value:
        no, facts = _permits(rollout, standing)
    else:
        return said
    facts = {**said.facts, **facts}
    if no is None:
        return replace(said, facts=facts)
    return replace(said, reason=no.reason.value, message=no.message, facts={**facts, **no.facts})


def _slots(record: VehicleRecord, rollout: Rollout, standing: Standing) -> tuple[Refusal | None, dict[str, str]]:
    """Why `reserve` would refuse now, and how far its limits are used."""
    region = record.vehicle.region
    rules = rollout.plan.regions.get(region, rollout.plan.region_defaults)
    used = [
        (region, standing.in_flight.get(region, 0), rules.in_flight_max),
        ("all regions", standing.in_flight_total, rollout.plan.limits.in_flight_max),
    ]
    facts = {f"in flight in {scope}": f"{held} of {limit}" for scope, held, limit in used}
    if not standing.evaluator_alive:
        return _evaluator_silent(), facts
    for scope, held, limit in used:
        if held >= limit:
            spent = {"scope": scope, "in_flight": str(held), "limit": str(limit)}
            return refusal(RefusalReason.IN_FLIGHT_SPENT, spent), facts
    facts["slots without a permit"] = f"{standing.at_risk} of {standing.grant_ceiling} that the blast budget allows now"
    if standing.at_risk >= standing.grant_ceiling:
        spent = {"at_risk": str(standing.at_risk), "ceiling": str(standing.grant_ceiling)}
        return refusal(RefusalReason.BLAST_BUDGET_SPENT, spent), facts
    return None, facts


def _quota(said: Explanation, record: VehicleRecord, standing: Standing, facts: dict[str, str]) -> Refusal | None:
    """Why the present wave has no place left for the vehicle; adds how many are taken to the facts."""
    if "quota" not in said.facts:
        return None
    vehicle, quota = record.vehicle, int(said.facts["quota"])
    cell = Cell(vehicle.region, vehicle.hardware, vehicle.cohort)
    admitted = standing.admitted.get(cell, 0)
    facts["places of the wave"] = f"{admitted} of {quota}"
    if admitted < quota:
        return None
    spent = {"cell": f"{cell.stratum}/{cell.cohort}", "admitted": str(admitted), "quota": str(quota)}
    return refusal(RefusalReason.QUOTA_SPENT, spent)


def _permits(rollout: Rollout, standing: Standing) -> tuple[Refusal | None, dict[str, str]]:
    """Why `authorize` would refuse now, and how far its limits are used."""
    starts_max = rollout.plan.limits.starts_per_minute_max
    facts = {
        "starts in the last minute": f"{standing.starts} of {starts_max}",
        "permits so far": f"{standing.permits} of {standing.permit_ceiling} that the blast budget allows now",
    }
    if not standing.evaluator_alive:
        return _evaluator_silent(), facts
    if standing.starts >= starts_max:
        return refusal(RefusalReason.STARTS_SPENT, {"starts": str(standing.starts), "limit": str(starts_max)}), facts
    if standing.permits >= standing.permit_ceiling:
        spent = {"permits": str(standing.permits), "ceiling": str(standing.permit_ceiling)}
        return refusal(RefusalReason.BLAST_BUDGET_SPENT, spent), facts
    return None, facts


def _evaluator_silent() -> Refusal:
    return refusal(RefusalReason.EVALUATOR_SILENT, {"life_ms": str(DEAD_MAN_LIFE_MS)})


def summary(explanations: Sequence[Explanation], record: VehicleRecord, now: FleetTime) -> str:
    """What happens next, and when: of a live attempt, else of the grant that comes, else of what time alone changes.

    Args:
        explanations: newest rollout first.
        record: the vehicle.
        now: fleet time.
    """
    if not explanations:
        return "Nothing will happen: no rollout is under way."
    heard = (
        f"last heard {duration(now - record.last_seen_at)} ago" if record.last_seen_at is not None else "never heard"
    )
    live = live_rollout(record)
    for said in explanations:
        if said.rollout_id == live:
            return f"Rollout {said.rollout_id}: {said.message}{_when(said, now)} ({heard})."
    for said in explanations:
        if said.reason == GRANT:
            return f"It begins with rollout {said.rollout_id} at its next call ({heard})."
    for said in explanations:
        if said.reason in (REVOKED, NOT_ENROLLED, SILENT):
            return f"Nothing will happen before it calls: {said.message}."
    due = [said for said in explanations if said.changes_at is not None]
    if due:
        first = min(due, key=lambda said: said.changes_at or now)
        return f"Nothing happens before{_at(first, now)}; rollout {first.rollout_id}: {first.message}."
    for said in explanations:
        if said.reason in BY_PROGRESS:
            return f"Not yet, and no time can be told; rollout {said.rollout_id}: {said.message}."
    newest = explanations[0]
    return f"Nothing will happen by time alone; rollout {newest.rollout_id}: {newest.message}."


def _when(said: Explanation, now: FleetTime) -> str:
    """When time alone changes it, for people, where the message does not say so."""
    if said.changes_at is None or instant(said.changes_at) in said.message:
        return ""
    return f"; that changes at{_at(said, now)} at the latest"


def _at(said: Explanation, now: FleetTime) -> str:
    at = said.changes_at if said.changes_at is not None else now
    return f" {instant(at)}, in {duration(at - now)}"
