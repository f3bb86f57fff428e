"""Whose silence tells something: a mixed fleet is judged by those that are usually heard."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.gates import judge
from orchestrator.engine.gates.habits import CONTROLS_MIN, tells, told
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import DAY_MS, a_cell, a_gate, a_plan, a_tally, some_limits

PLAN = a_plan(limits=some_limits(blast_budget=10_000))


def mixed(often: AgeGroup, seldom: AgeGroup) -> Tally:
    """A thousand well exposures a day old, of two habits."""
    groups = {HabitAge(Habit.OFTEN, DAY_MS): often, HabitAge(Habit.SELDOM, DAY_MS): seldom}
    pooled = often + seldom
    tally = a_tally(succeeded=pooled.exposed, aged=((pooled.exposed, pooled.silent), (0, 0)))
    return replace(tally, age_groups=(pooled, AgeGroup()), habit_groups=groups)


def test_good_release_on_a_mixed_fleet_proceeds_though_seldom_callers_are_silent() -> None:
    """Late in a wave those come that call seldom: held against all controls together, every good release is stopped."""
    tally = mixed(AgeGroup(500, 2, 1500, 6), AgeGroup(500, 420, 500, 370))
    assert judge({a_cell(): tally}, PLAN).worst.kind is VerdictKind.PROCEED
    assert judge({a_cell(): replace(tally, habit_groups={})}, PLAN).worst.kind is not VerdictKind.PROCEED


def test_silence_that_ends_by_the_next_checkpoint_is_no_broken_vehicle() -> None:
    """Thirty more than usual are silent for a day and are heard later: they were slow, or it was chance."""
    day, later = AgeGroup(300, 45, 900, 45), AgeGroup(300, 9, 900, 27)
    tally = a_tally(succeeded=300, aged=((300, 45), (300, 9)))

    def doubt(later: AgeGroup) -> float:
        groups = {HabitAge(Habit.DAILY, DAY_MS): day, HabitAge(Habit.DAILY, 3 * DAY_MS): later}
        return judge({a_cell(): replace(tally, habit_groups=groups)}, PLAN).worst.inputs["silence_posterior_0"]

    assert doubt(AgeGroup()) > 0.8
    assert doubt(AgeGroup(100, 3, 300, 9)) > 0.8
    assert doubt(later) < 0.6


def test_exposures_that_no_control_stands_beside_are_not_compared() -> None:
    """Where a wave leaves few to wait, few are paired: the others are silent as often as their habits are."""
    apart = AgeGroup(1_000, 100, 300, 3, unpaired=900, unpaired_silent=99)
    groups = {HabitAge(Habit.OFTEN, DAY_MS): apart}
    tally = replace(a_tally(succeeded=1_000, aged=((1_000, 100), (0, 0))), age_groups=(apart, AgeGroup()))
    assert judge({a_cell(): replace(tally, habit_groups=groups)}, PLAN).worst.kind is VerdictKind.PROCEED
    paired = AgeGroup(1_000, 100, 300, 3)
    groups = {HabitAge(Habit.OFTEN, DAY_MS): paired}
    tally = replace(tally, age_groups=(paired, AgeGroup()), habit_groups=groups)
    assert judge({a_cell(): tally}, PLAN).worst.kind is VerdictKind.HALT


def test_bricks_show_among_those_that_are_usually_heard() -> None:
    """Twenty of five hundred are lost in the noise of seldom callers, and clear among hourly ones."""
    tally = mixed(AgeGroup(500, 20, 1500, 6), AgeGroup(500, 390, 1500, 1150))
    assert judge({a_cell(): tally}, PLAN).worst.kind is not VerdictKind.PROCEED


def test_nobody_who_tells_keeps_the_budget_shut() -> None:
    """Blind is not well: with no habit that tells, at most half of B is at risk, whatever has aged."""
    seldom = AgeGroup(500, 400, 1500, 1200)
    judgement = judge({a_cell(): mixed(AgeGroup(), seldom)}, a_plan(limits=some_limits(blast_budget=100)))
    assert judgement.permit_allowance <= 100


@pytest.mark.parametrize(
    ("often", "seldom"),
    [(AgeGroup(), AgeGroup(500, 500, 1500, 1200)), (AgeGroup(500, 2, 1500, 6), AgeGroup(500, 500, 500, 370))],
)
def test_habit_of_which_nobody_is_heard_speaks_whatever_is_usual(often: AgeGroup, seldom: AgeGroup) -> None:
    """A release that bricks just those that call seldom must not pass as nobody's silence."""
    assert judge({a_cell(): mixed(often, seldom)}, PLAN).worst.kind is VerdictKind.HALT


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (AgeGroup(100, 0, 300, 0), True),
        (AgeGroup(100, 0, 300, 20), True),
        (AgeGroup(100, 0, 300, 40), True),
        (AgeGroup(100, 0, 300, 60), False),
        (AgeGroup(0, 0, 3000, 460), False),
    ],
)
def test_a_habit_tells_while_its_controls_are_usually_heard(group: AgeGroup, told: bool) -> None:
    """Where most of a habit is silent anyway, a brick is lost among them."""
    assert tells(group) is told


def test_few_controls_leave_all_together() -> None:
    """A small fleet has no habits to speak of: the plan's reference serves for all."""
    few = AgeGroup(20, 1, CONTROLS_MIN - 1, 1)
    tally = mixed(few, few)
    assert told(tally, a_gate())[0].group == tally.age_groups[0]


@pytest.mark.parametrize("exposed", [0, 10])
def test_a_stratum_of_few_controls_is_not_halted_by_what_the_whole_fleet_is_used_to(exposed: int) -> None:
    """Its habits are too few to be told apart yet, while the whole is judged by those that call often: four of ten are
    silent as twelve of thirty controls are, and nothing is wrong with the release.
    """
    large = mixed(AgeGroup(300, 3, 900, 9), AgeGroup(300, 210, 900, 630))
    alike = AgeGroup(exposed, 4 * exposed // 10, 30, 12)
    small = replace(a_tally(succeeded=exposed), age_groups=(alike, AgeGroup()))
    judgement = judge({a_cell("eu"): large, a_cell("us"): small}, PLAN)
    verdicts = {str(verdict.scope): verdict.kind for verdict in judgement.verdicts}
    assert verdicts[str(a_cell("us").stratum)] is not VerdictKind.HALT
    bricked = replace(
        small, age_groups=(AgeGroup(40, 40, 30, 12), AgeGroup()), after_permit=a_tally(installing=40).after_permit
    )
    judgement = judge({a_cell("eu"): large, a_cell("us"): bricked}, PLAN)
    verdicts = {str(verdict.scope): verdict.kind for verdict in judgement.verdicts}
    assert verdicts[str(a_cell("us").stratum)] is VerdictKind.HALT
