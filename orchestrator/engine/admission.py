"""Admission: may this vehicle begin an attempt now, and if not, why not.

Owns the order in which reasons are looked at, and the words of most; `vehicle explain` prints them. Whether the release
suits the vehicle is the matter of `suitability`, whether its turn has come that of `turns`. Slots, places, caps and the
dead-man are taken by the store, in one atomic step, when a grant is carried out.

The order for one rollout, from what will not change to what soon may:

1.  ROLLOUT_OVER             completed, aborted or superseded
2.  ATTEMPT_LIVE             this rollout already has a live attempt at the vehicle
3.  ALREADY_INSTALLED        its last manifest proves the plan's release
4.  NEWER_INSTALLED          its last manifest proves a release that the plan's cannot follow
5.  ATTEMPT_SETTLED          an earlier attempt ended so that no other one follows by itself, see `retries`
6.  QUARANTINED, DENIED      a person keeps it out of every rollout, or of this one
7.  NOT_TARGETED             a field does not match
8.  RELEASE_CHANGED          the release registered now is not the one that the rollout was written for
9.  NO_IMAGE_FOR_HARDWARE    the release has nothing for any of its ECUs
10. REGION_NOT_IN_PLAN       the rollout does not run in its region
11. ATTEMPTS_SPENT           it was tried often enough
12. INTERMEDIATE_MISSING     another rollout has to bring it the required intermediate release first
13. HOLDOUT                  it stays out until the last wave has aged, or called after that wave's patience
14. FOLLOWED_REGION_FIRST    its region has not begun: the one that it follows is not through with the first wave
15. APPROVAL_MISSING         its region has not begun: people have to approve the first wave
16. WAVE_NOT_REACHED         no wave so far is for its cohort
17. NOT_YET_DRAWN            the waves so far are for its cohort, but its draw is not open
18. OTHER_ROLLOUT_FIRST      another rollout has a live attempt at the vehicle
19. RETRY_LATER              the wait before the next try is not over
20. ROLLOUT_NOT_STARTED, ROLLOUT_PAUSED, ROLLOUT_HELD, ROLLOUT_HALTED: the rollout, or this part of it, stands still

Of several rollouts that want the same vehicle the one of the highest priority goes first, then the oldest.

Everything is judged by the vehicle's record as it is now: one that moved to another region or cohort while a rollout
runs is looked at where it is, and counted where it was granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.engine import brakes, openings, retries, selection, suitability, turns, waves
from orchestrator.engine.habits import habit_of
from orchestrator.engine.permits import excluded
from orchestrator.engine.targets import CompiledTarget, mismatch
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import Try
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.fleet import Cell, Habit, Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.release import Release
from orchestrator.model.rollout import BrakeKind, Rollout, RolloutStatus, place_key
from orchestrator.model.value import value
from orchestrator.model.vehicle import VehicleRecord

_STOPPED: Mapping[RolloutStatus, RefusalReason] = MappingProxyType(
    {
        RolloutStatus.DRAFT: RefusalReason.ROLLOUT_NOT_STARTED,
        RolloutStatus.APPROVED: RefusalReason.ROLLOUT_NOT_STARTED,
        RolloutStatus.PAUSED: RefusalReason.ROLLOUT_PAUSED,
        RolloutStatus.HELD: RefusalReason.ROLLOUT_HELD,
        RolloutStatus.HALTED: RefusalReason.ROLLOUT_HALTED,
    }
)


_BRAKED: Mapping[BrakeKind, RefusalReason] = MappingProxyType(
    {
        BrakeKind.PAUSED: RefusalReason.ROLLOUT_PAUSED,
        BrakeKind.HELD: RefusalReason.ROLLOUT_HELD,
        BrakeKind.HALTED: RefusalReason.ROLLOUT_HALTED,
    }
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rollout that a vehicle may be considered for."""

    rollout: Rollout
    release: Release | None
    """The plan's release; None when it is not registered."""
    target: CompiledTarget
    """Of the plan, see `targets.compile_plan`."""


@value(frozen=True, slots=True)
class _Question:
    """One vehicle, one rollout, one moment."""

    record: VehicleRecord
    candidate: Candidate
    now: FleetTime

    @property
    def draw(self) -> int:
        """The vehicle's, in this rollout; most are refused before it matters."""
        return selection.draw(self.rollout.salt, self.record.vehicle.vehicle_id)

    @property
    def drawn(self) -> str:
        """The draw, for people."""
        return turns.drawn(self.draw)

    @property
    def rollout(self) -> Rollout:
        return self.candidate.rollout

    @property
    def tried(self) -> Try | None:
        return self.record.tries.get(self.rollout.rollout_id)


def consider(
    record: VehicleRecord, rollout: Rollout, release: Release | None, target: CompiledTarget, now: FleetTime
) -> Grant | Refusal:
    """May a vehicle begin an attempt at one rollout?

    Args:
        record: The vehicle.
        rollout: The rollout as it stands.
        release: The plan's release; None when it is not registered.
        target: The plan's target, compiled.
        now: Fleet time.

    Returns:
        A grant, or the first reason against it in the order above.
    """
    return _consider(record, Candidate(rollout=rollout, release=release, target=target), now)


def _consider(record: VehicleRecord, candidate: Candidate, now: FleetTime) -> Grant | Refusal:
    question = _Question(record=record, candidate=candidate, now=now)
    for look in _REASONS:
        refusal = look(question)
        if refusal is not None:
            return refusal
    return _grant(question)


def choose(record: VehicleRecord, rollouts: Iterable[Candidate], now: FleetTime) -> Grant | tuple[Refusal, ...]:
    """May a vehicle begin an attempt at any of several rollouts?

    Args:
        record: The vehicle.
        rollouts: Candidates in any order.
        now: Fleet time.

    Returns:
        The grant of the first rollout in turn that grants, or the refusals of all, in turn. A vehicle with a live
        attempt is granted nothing.
    """
    refusals: list[Refusal] = []
    for candidate in in_turn(rollouts):
        answer = _consider(record, candidate, now)
        if isinstance(answer, Grant):
            return answer
        refusals.append(answer)
    return tuple(refusals)


def in_turn(rollouts: Iterable[Candidate]) -> Sequence[Candidate]:
    """Candidates, the highest priority first, then the oldest; of equal age by id, so that every worker sees the same
    order.
    """
    return sorted(rollouts, key=_turn)


def _turn(candidate: Candidate) -> tuple[int, FleetTime, RolloutId]:
    rollout = candidate.rollout
    return -rollout.plan.priority, rollout.created_at, rollout.rollout_id


def _over(question: _Question) -> Refusal | None:
    rollout = question.rollout
    if not rollout.status.over:
        return None
    return Refusal(
        RefusalReason.ROLLOUT_OVER,
        f"rollout {rollout.rollout_id} is {rollout.status}: it admits nobody",
        {"status": rollout.status.value},
    )


def _live(question: _Question) -> Refusal | None:
    attempt, tried, rollout_id = question.record.attempt, question.tried, question.rollout.rollout_id
    if attempt is not None and attempt.rollout_id == rollout_id:
        number, state, since = attempt.number, attempt.state, attempt.state_at
    elif tried is not None:
        number, state, since = tried.number, tried.state, tried.state_at
    else:
        return None
    if state.terminal:
        return None
    return Refusal(
        RefusalReason.ATTEMPT_LIVE,
        f"attempt {number} is {state} since {instant(since)}",
        {"number": str(number), "state": state.value, "state_at": instant(since)},
    )


def _installed(question: _Question) -> Refusal | None:
    return suitability.installed(question.record, question.rollout, question.candidate.target)


def _settled(question: _Question) -> Refusal | None:
    tried = question.tried
    why = retries.settled(tried, question.rollout.plan) if tried is not None else ""
    if tried is None or not why:
        return None
    facts = {
        "state": tried.state.value,
        "number": str(tried.number),
        "exposed": str(tried.exposed).lower(),
        "failure_code": tried.failure_code,
    }
    return Refusal(RefusalReason.ATTEMPT_SETTLED, why, facts)


def _excluded(question: _Question) -> Refusal | None:
    return excluded(question.record, question.rollout)


def _targeted(question: _Question) -> Refusal | None:
    record = question.record
    found = mismatch(question.candidate.target, record.vehicle.profile(record.installed))
    if found is None:
        return None
    return Refusal(
        RefusalReason.NOT_TARGETED,
        f"{found.field}: the target wants {found.wanted}, the vehicle has {found.found}",
        {"field": found.field, "wanted": found.wanted, "found": found.found},
    )


def _image(question: _Question) -> Refusal | None:
    return suitability.image(question.record, question.rollout, question.candidate.release)


def _intermediate(question: _Question) -> Refusal | None:
    return suitability.intermediate(question.record, question.rollout, question.candidate.target)


def _region(question: _Question) -> Refusal | None:
    region = question.record.vehicle.region
    if region in question.rollout.regions:
        return None
    regions = ", ".join(sorted(question.rollout.regions))
    return Refusal(
        RefusalReason.REGION_NOT_IN_PLAN,
        f"region {region} is not one of the rollout's ({regions})",
        {"region": region, "regions": regions},
    )


def _tries_left(question: _Question) -> Refusal | None:
    tried = question.tried
    most = question.rollout.plan.limits.attempts_max
    if tried is None or tried.number < most:
        return None
    return Refusal(
        RefusalReason.ATTEMPTS_SPENT,
        f"tried {tried.number} times of at most {most}; the last is {tried.state}",
        {"number": str(tried.number), "attempts_max": str(most), "state": tried.state.value},
    )


def _holdout(question: _Question) -> Refusal | None:
    return turns.holdout(question.record.vehicle, question.rollout, question.draw)


def _late(question: _Question) -> Refusal | None:
    return turns.late(question.record.vehicle, question.rollout)


def _pending(question: _Question) -> Refusal | None:
    return turns.pending(question.record.vehicle, question.rollout)


def _wave(question: _Question) -> Refusal | None:
    return turns.wave(question.record.vehicle, question.rollout, question.draw)


def _other(question: _Question) -> Refusal | None:
    attempt = question.record.attempt
    if attempt is None or attempt.state.terminal:
        return None
    return Refusal(
        RefusalReason.OTHER_ROLLOUT_FIRST,
        f"attempt {attempt.attempt_id} of rollout {attempt.rollout_id} is {attempt.state}",
        {"attempt_id": attempt.attempt_id, "rollout_id": attempt.rollout_id, "state": attempt.state.value},
    )


def _retry(question: _Question) -> Refusal | None:
    tried = question.tried
    if tried is None:
        return None
    due = retries.retry_at(tried, question.rollout.plan, question.draw)
    if question.now >= due:
        return None
    return Refusal(
        RefusalReason.RETRY_LATER,
        f"attempt {tried.number} is {tried.state}; "
        f"the next one may begin at {instant(due)}, in {duration(due - question.now)}",
        {"number": str(tried.number), "state": tried.state.value, "retry_at": instant(due), "retry_at_ms": str(due)},
    )


def stopped(rollout: Rollout, stratum: Stratum) -> Refusal | None:
    """Why a rollout that is not over gives a stratum nothing at present: who stopped it, and when; None when it runs.

    Args:
        rollout: As it stands.
        stratum: Of the vehicle.
    """
    reason = _STOPPED.get(rollout.status)
    if reason is not None:
        return Refusal(
            reason,
            f"rollout {rollout.rollout_id} is {rollout.status} "
            f"since {instant(rollout.updated_at)} by {rollout.actor}: {rollout.reason}",
            {"status": rollout.status.value, "since": instant(rollout.updated_at), "actor": rollout.actor},
        )
    brake = rollout.brake_on(stratum)
    if brake is None:
        return None
    return Refusal(
        _BRAKED[brake.kind],
        f"of rollout {rollout.rollout_id}, {brakes.described(brake)}",
        {"scope": brake.scope, "status": brake.kind.value, "since": instant(brake.since), "actor": brake.actor},
    )


def _status(question: _Question) -> Refusal | None:
    vehicle = question.record.vehicle
    return stopped(question.rollout, Stratum(vehicle.region, vehicle.hardware))


_REASONS: tuple[Callable[[_Question], Refusal | None], ...] = (
    _over,
    _live,
    _installed,
    _settled,
    _excluded,
    _targeted,
    _image,
    _region,
    _tries_left,
    _intermediate,
    _holdout,
    _late,
    _pending,
    _wave,
    _other,
    _retry,
    _status,
)


def _grant(question: _Question) -> Grant:
    rollout, vehicle = question.rollout, question.record.vehicle
    progress = rollout.regions[vehicle.region]
    wave = rollout.plan.waves[progress.wave].name
    number = question.tried.number + 1 if question.tried else 1
    habit = habit_of(question.record.gaps)
    cell = Cell(region=vehicle.region, hardware=vehicle.hardware, cohort=vehicle.cohort)
    quota = places(rollout, cell, habit, question.now)
    place = f"region {vehicle.region} is in wave {wave}"
    if waves.holdout_open(progress):
        place = f"region {vehicle.region} admits everybody its waves are for, the holdout included"
    return Grant(
        rollout_id=rollout.rollout_id,
        release=rollout.plan.release,
        cell=cell,
        number=number,
        epoch=rollout.epoch,
        habit=habit,
        quota=quota,
        message=f"{place}; drawn at {question.drawn}; attempt {number}",
        facts={
            "region": vehicle.region,
            "cohort": vehicle.cohort,
            "hardware": vehicle.hardware,
            "wave": wave,
            "draw": question.drawn,
            "number": str(number),
            **({"quota": str(quota)} if quota is not None else {}),
        },
    )


def places(rollout: Rollout, cell: Cell, habit: Habit, now: FleetTime) -> int | None:
    """How many of a cell may be admitted in the present wave before one of this habit finds no place; None: any."""
    progress = rollout.regions.get(cell.region)
    opening = progress.openings.get(place_key(cell.hardware, cell.cohort)) if progress is not None else None
    if progress is None or opening is None:
        return None
    soak_ends_at = FleetTime(progress.wave_started_at + rollout.plan.waves[progress.wave].soak_ms)
    return openings.places_for(habit, progress, opening, soak_ends_at, now)
