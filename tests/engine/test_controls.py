"""Controls: the coins, and how many they make of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import openings
from orchestrator.engine.controls import (
    HEARD_AFTER_MS,
    PAIRED_SHARE_MIN,
    can_be_heard,
    compared_share,
    control_of,
    is_paired,
    permitted_share,
    stands_aside,
    trial_share,
)
from orchestrator.engine.habits import SAME_CONTACT_MS
from orchestrator.model.attempt import Attempt
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import AttemptId, FleetTime, VehicleId
from orchestrator.model.plan import Wave
from orchestrator.model.rollout import Opening, RegionPhase, RegionProgress, Rollout, place_key
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_gate, a_plan, a_rollout, an_attempt

MANY = 4_000


def a_trial(
    share: float, *, per_exposure: int = 3, phase: RegionPhase = RegionPhase.ROLLING, counted: bool = True
) -> Rollout:
    """A rollout of which a share of the attempts in the wave is in the trial; its places are counted, or not."""
    rollout = a_rollout(plan=a_plan(gate=a_gate(controls_per_exposure=per_exposure)))
    cell = a_cell()
    places = {place_key(cell.hardware, cell.cohort): Opening(MANY, 1.0)} if counted else {}
    progress = replace(rollout.regions[cell.region], phase=phase, trial=share, openings=places)
    return replace(rollout, regions={**rollout.regions, cell.region: progress})


def attempts(habit: Habit = Habit.DAILY) -> list[Attempt]:
    """One attempt of each of many vehicles."""
    return [
        replace(an_attempt(), vehicle_id=VehicleId(f"v-{n}"), attempt_id=AttemptId(f"r.v-{n}.1"), habit=habit)
        for n in range(MANY)
    ]


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_share_of_the_attempts_is_in_the_trial_and_three_of_four_of_them_stand_aside(share: float) -> None:
    """The odds within the trial must never change, or exposures and controls could not be added up over waves."""
    rollout = a_trial(share)
    paired = [attempt for attempt in attempts() if is_paired(rollout, attempt)]
    aside = [attempt for attempt in paired if stands_aside(rollout, attempt, NOW)]
    assert len(paired) == pytest.approx(share * MANY, abs=4 * (share * (1 - share) * MANY) ** 0.5)
    assert len(aside) == pytest.approx(0.75 * len(paired), abs=4 * (0.1875 * len(paired)) ** 0.5)
    assert not [each for each in attempts() if stands_aside(rollout, each, NOW) and not is_paired(rollout, each)]


def test_who_is_in_a_small_trial_is_in_a_larger_one() -> None:
    """A wave that changes the share must not choose anew."""
    small, large = a_trial(0.1), a_trial(0.4)
    assert all(is_paired(large, attempt) for attempt in attempts() if is_paired(small, attempt))


def test_coin_is_the_same_within_a_contact_and_another_at_the_next() -> None:
    """An answer that was lost is given again; who waited once may have its permit at the next call."""
    rollout, began = a_trial(1.0), FleetTime(NOW // SAME_CONTACT_MS * SAME_CONTACT_MS)
    first = [stands_aside(rollout, attempt, began) for attempt in attempts()]
    assert first == [stands_aside(rollout, each, FleetTime(began + SAME_CONTACT_MS - 1)) for each in attempts()]
    later = [stands_aside(rollout, each, FleetTime(began + SAME_CONTACT_MS)) for each in attempts()]
    both = sum(one and other for one, other in zip(first, later, strict=True))
    assert both == pytest.approx(0.5625 * MANY, abs=4 * (0.25 * MANY) ** 0.5)


def test_who_has_a_permit_never_stands_aside() -> None:
    """It is told its permit again, whatever a coin says."""
    rollout = a_trial(1.0)
    assert not [each for each in attempts() if stands_aside(rollout, replace(each, permitted_at=NOW), NOW)]


def test_without_controls_all_are_compared_and_nobody_waits() -> None:
    """Small fleets learn nothing from silence: they are held against what the plan says."""
    rollout = a_trial(1.0, per_exposure=0)
    assert all(is_paired(rollout, attempt) for attempt in attempts())
    assert not any(stands_aside(rollout, attempt, NOW) for attempt in attempts())


@pytest.mark.parametrize("phase", [RegionPhase.AGING, RegionPhase.HOLDOUT, RegionPhase.DONE])
def test_behind_the_last_wave_nobody_waits_by_a_coin(phase: RegionPhase) -> None:
    """A region that waits for its last vehicles must not send them away."""
    rollout = a_trial(1.0, phase=phase)
    assert not any(is_paired(rollout, attempt) for attempt in attempts())


def test_who_calls_seldom_waits_only_where_all_do() -> None:
    """In the last wave a weekly caller could lose weeks, and its silence says little."""
    assert all(is_paired(a_trial(1.0), attempt) for attempt in attempts(Habit.SELDOM))
    assert not any(is_paired(a_trial(0.9), attempt) for attempt in attempts(Habit.SELDOM))


@given(st.integers(1, 20), st.floats(1.0, 1e7), st.floats(0.0, 1e7))
def test_trial_takes_no_more_to_wait_than_the_wave_leaves(per_exposure: int, fresh: float, left: float) -> None:
    """Those that stand aside beside the exposures of a wave are found among those that wait anyway."""
    share = trial_share(per_exposure, fresh, left)
    permitted = permitted_share(per_exposure, share)
    aside_per_exposure = (1.0 - permitted) / permitted
    assert 0.0 < share <= 1.0
    assert aside_per_exposure <= max(left / fresh, per_exposure * PAIRED_SHARE_MIN) * (1 + 1e-9)


def test_openings_are_wider_by_those_that_stand_aside() -> None:
    """Who waits takes no place: to fill a quota of 100 four times as many must be drawn."""
    cell = a_cell()
    waves = (
        Wave(name="first", cohorts=(), share=0.01, soak_ms=DAY_MS),
        Wave(name="all", cohorts=(), share=1.0, soak_ms=0),
    )
    without = a_plan(waves=waves)
    plan = replace(without, gate=replace(without.gate, controls_per_exposure=3))
    of_plan, of_none = (openings.of_wave(each, 0, {cell: 10_000}, {}) for each in (plan, without))
    name = place_key(cell.hardware, cell.cohort)
    assert of_plan[name].quota == of_none[name].quota == 100
    assert of_plan[name].share == pytest.approx(4 * of_none[name].share)
    assert openings.trial(plan, 0, {cell: 10_000}) == 1.0
    assert openings.trial(plan, 1, {cell: 10_000}) == pytest.approx(4 * PAIRED_SHARE_MIN / (1 + 3 * PAIRED_SHARE_MIN))
    assert openings.trial(without, 0, {cell: 10_000}) == 0.0


def test_wave_of_whole_cohorts_is_compared_as_well() -> None:
    """Of its own cohorts nobody is left to wait, but of its region; else silence in it would be heard late."""
    fleet = {a_cell(cohort=name): count for name, count in (("canary", 100), ("early", 1_000), ("general", 9_000))}
    waves = tuple(
        Wave(name=cohort, cohorts=(cohort,), share=1.0, soak_ms=DAY_MS) for cohort in ("canary", "early", "general")
    )
    plan = a_plan(waves=waves, gate=a_gate(controls_per_exposure=3))
    first, second, last = (openings.trial(plan, wave, fleet) for wave in range(3))
    assert (first, second) == (1.0, 1.0)
    assert compared_share(3, last) == pytest.approx(PAIRED_SHARE_MIN)


def test_trial_of_the_first_wave_begins_when_its_fleet_is_counted() -> None:
    """A rollout starts before anybody knows whom it is for; a wave that is open keeps the trial it began with."""
    plan = a_plan(waves=(Wave("all", (), 0.01, DAY_MS), Wave("rest", (), 1.0, 0)), gate=a_gate(controls_per_exposure=3))
    begun = RegionProgress(RegionPhase.ROLLING, 0, NOW)
    counted = openings.completed(plan, begun, {a_cell(): 10_000})
    assert counted.trial == 1.0
    under_way = replace(counted, trial=0.5)
    assert openings.completed(plan, under_way, {a_cell(): 20_000}) is under_way


def test_who_calls_seldom_does_not_stand_aside_where_nobody_takes_its_place() -> None:
    """In a wave of a whole cohort a weekly caller would wait a month for nothing."""
    seldom = attempts(Habit.SELDOM)
    assert any(is_paired(a_trial(1.0), each) for each in seldom)
    assert not any(is_paired(a_trial(1.0, counted=False), each) for each in seldom)
    assert all(is_paired(a_trial(1.0, counted=False), each) for each in attempts(Habit.DAILY))


def test_control_is_what_an_exposure_of_the_same_attempt_would_be() -> None:
    """Same cell, same habit, same ages, from its contact on: like is compared with like."""
    attempt = replace(an_attempt(), habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,))
    control = control_of(a_trial(1.0), attempt, FleetTime(NOW + 1))
    assert (control.cell, control.habit) == (attempt.cell, Habit.OFTEN)
    assert NOW + 1 - SAME_CONTACT_MS < control.enrolled_at <= NOW + 1
    assert (control.checkpoints_ms, control.habit_ages_ms) == (attempt.checkpoints_ms, attempt.habit_ages_ms)


def test_ages_at_which_no_control_could_be_heard_are_none_to_compare_at() -> None:
    """A checkpoint of a quarter of an hour would find every control silent, and so no release too silent."""
    assert can_be_heard(a_gate(checkpoints_ms=(2 * HEARD_AFTER_MS,)))
    assert not can_be_heard(a_gate(checkpoints_ms=(2 * HEARD_AFTER_MS - 1,)))
    assert not can_be_heard(a_gate(checkpoints_ms=(DAY_MS,), habit_ages_ms={Habit.OFTEN: (HEARD_AFTER_MS,)}))
