"""Admission: may this vehicle begin an attempt now, and if not, why not.

Owns the order in which reasons are looked at, and their words; `vehicle explain` prints them. Slots, caps and the
dead-man are taken by the store, in one atomic step, when a grant is carried out.

The order for one rollout, from what will not change to what soon may:

1.  ROLLOUT_OVER             completed or aborted
2.  ATTEMPT_LIVE             this rollout already has a live attempt at the vehicle
3.  ALREADY_INSTALLED        its last manifest proves the plan's release
4.  ATTEMPT_SETTLED          an earlier attempt succeeded, was rejected, or had a permit: never again by itself
5.  QUARANTINED, DENIED      a person keeps it out of every rollout, or of this one
6.  NOT_TARGETED             a field does not match
7.  NO_IMAGE_FOR_HARDWARE    the release has nothing for any of its ECUs
8.  REGION_NOT_IN_PLAN       the rollout does not run in its region
9.  ATTEMPTS_SPENT           it was tried often enough
10. HOLDOUT                  it stays out until the last wave has aged
11. FOLLOWED_REGION_FIRST    its region has not begun: the one that it follows is not through with the first wave
12. APPROVAL_MISSING         its region has not begun: people have to approve the first wave
13. WAVE_NOT_REACHED         no wave so far is for its cohort
14. NOT_YET_DRAWN            the waves so far are for its cohort, but its draw is not open
15. OTHER_ROLLOUT_FIRST      another rollout has a live attempt at the vehicle
16. RETRY_LATER              the wait before the next try is not over
17. ROLLOUT_PAUSED, ROLLOUT_HELD, ROLLOUT_HALTED

Everything is judged by the vehicle's record as it is now: one that moved to another region or cohort while a rollout
runs is looked at where it is, and counted where it was granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.engine import openings, selection, turns, waves
from orchestrator.engine.habits import habit_of
from orchestrator.engine.permits import excluded
from orchestrator.engine.targets import CompiledTarget, mismatch
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import AttemptState, Try
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import FleetTime
from orchestrator.model.release import Release
from orchestrator.model.rollout import RegionProgress, Rollout, RolloutStatus
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A rollout that a vehicle may be considered for."""

    rollout: Rollout
    release: Release | None
    """The plan's release; None when it is not registered."""
    target: CompiledTarget
    """Of the plan."""


@dataclass(frozen=True, slots=True)
class _Question:
    """One vehicle, one rollout, one moment."""

    record: VehicleRecord
    candidate: Candidate
    now: FleetTime
    draw: int
    """The vehicle's, in this rollout."""

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
    question = _Question(
        record=record,
        candidate=Candidate(rollout=rollout, release=release, target=target),
        now=now,
        draw=selection.draw(rollout.salt, record.vehicle.vehicle_id),
    )
    for look in _REASONS:
        refusal = look(question)
        if refusal is not None:
            return refusal
    return _grant(question)


def choose(record: VehicleRecord, rollouts: Iterable[Candidate], now: FleetTime) -> Grant | tuple[Refusal, ...]:
    """May a vehicle begin an attempt at any of several rollouts?

    Args:
        record: The vehicle.
        rollouts: Candidates in any order; the older one goes first.
        now: Fleet time.

    Returns:
        The grant of the oldest rollout that grants, or the refusals of all, oldest rollout first. A vehicle with a
        live attempt is granted nothing.
    """
    refusals: list[Refusal] = []
    for candidate in by_age(rollouts):
        answer = consider(record, candidate.rollout, candidate.release, candidate.target, now)
        if isinstance(answer, Grant):
            return answer
        refusals.append(answer)
    return tuple(refusals)


def by_age(rollouts: Iterable[Candidate]) -> Sequence[Candidate]:
    """Candidates, oldest rollout first; of equal age by id, so that every worker sees the same order."""
    return sorted(rollouts, key=lambda candidate: (candidate.rollout.created_at, candidate.rollout.rollout_id))


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
    release = question.rollout.plan.release
    if question.record.installed != release:
        return None
    return Refusal(
        RefusalReason.ALREADY_INSTALLED,
        f"release {release} is installed already",
        {"installed": release, "release": release},
    )


def _settled(question: _Question) -> Refusal | None:
    tried = question.tried
    if tried is None or not (tried.exposed or tried.state in (AttemptState.SUCCEEDED, AttemptState.REJECTED)):
        return None
    if tried.state is AttemptState.SUCCEEDED:
        why = f"attempt {tried.number} succeeded at {instant(tried.state_at)}"
    elif tried.state is AttemptState.REJECTED:
        why = f"the vehicle rejected attempt {tried.number} at {instant(tried.state_at)}: it is not offered again"
    else:
        why = f"attempt {tried.number} had a permit and is {tried.state}: a case for a person, not for another try"
    facts = {"state": tried.state.value, "number": str(tried.number), "exposed": str(tried.exposed).lower()}
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
    release = question.candidate.release
    version = question.rollout.plan.release
    wanted = sorted({ecu.hardware_id for ecu in question.record.vehicle.ecus})
    facts = {"release": version, "hardware_ids": ", ".join(wanted)}
    if release is None:
        return Refusal(RefusalReason.NO_IMAGE_FOR_HARDWARE, f"release {version} is not registered", facts)
    if any(release.image_for(hardware_id) is not None for hardware_id in wanted):
        return None
    held = ", ".join(image.hardware_id for image in release.images) or "nothing"
    return Refusal(
        RefusalReason.NO_IMAGE_FOR_HARDWARE,
        f"release {version} has images for {held}, the vehicle has ECUs {', '.join(wanted) or 'of no kind'}",
        {**facts, "images_for": held},
    )


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


def retry_at(tried: Try, backoff_ms: int) -> FleetTime:
    """When the try after `tried` may begin: the wait doubles with every one, up to 1024 times the first.

    Args:
        tried: The latest try.
        backoff_ms: Wait before the second try.
    """
    return FleetTime(tried.state_at + backoff_ms * 2 ** min(tried.number - 1, 10))


def _retry(question: _Question) -> Refusal | None:
    tried = question.tried
    if tried is None:
        return None
    due = retry_at(tried, question.rollout.plan.limits.retry_backoff_ms)
    if question.now >= due:
        return None
    return Refusal(
        RefusalReason.RETRY_LATER,
        f"attempt {tried.number} is {tried.state}; "
        f"the next one may begin at {instant(due)}, in {duration(due - question.now)}",
        {"number": str(tried.number), "state": tried.state.value, "retry_at": instant(due), "retry_at_ms": str(due)},
    )


def stopped(rollout: Rollout) -> Refusal | None:
    """Why a rollout that is not over gives nothing at present: who stopped it, and when; None when it runs."""
    reason = _STOPPED.get(rollout.status)
    if reason is None:
        return None
    return Refusal(
        reason,
        f"rollout {rollout.rollout_id} is {rollout.status} "
        f"since {instant(rollout.updated_at)} by {rollout.actor}: {rollout.reason}",
        {"status": rollout.status.value, "since": instant(rollout.updated_at), "actor": rollout.actor},
    )


def _status(question: _Question) -> Refusal | None:
    return stopped(question.rollout)


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
    _holdout,
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
    quota = _places(question, progress, habit)
    place = f"region {vehicle.region} is in wave {wave}"
    if waves.holdout_open(progress):
        place = f"region {vehicle.region} admits everybody its waves are for, the holdout included"
    return Grant(
        rollout_id=rollout.rollout_id,
        release=rollout.plan.release,
        cell=Cell(region=vehicle.region, hardware=vehicle.hardware, cohort=vehicle.cohort),
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


def _places(question: _Question, progress: RegionProgress, habit: Habit) -> int | None:
    opening = openings.at(progress, question.record.vehicle)
    if opening is None:
        return None
    soak_ends_at = FleetTime(progress.wave_started_at + question.rollout.plan.waves[progress.wave].soak_ms)
    return openings.places_for(habit, progress, opening, soak_ends_at, question.now)
