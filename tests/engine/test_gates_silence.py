"""Silence at the gate: of vehicles that call often, and of vehicles that have no permit yet."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from orchestrator.engine.gates import judge
from orchestrator.engine.gates.budget import AGED_MIN, losses_upper
from orchestrator.engine.gates.evidence import wilson_upper
from orchestrator.engine.gates.habits import CONTROLS_MIN, POOLED_BELIEF, Told
from orchestrator.engine.gates.rules import CONTROLS_ENOUGH, estimate
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import DAY_MS, a_cell, a_gate, a_plan, a_tally
from tests.engine.tallies import DAILY_18H, HABIT_GATE, OFTEN_6H, in_two_strata

PLAN = a_plan(gate=HABIT_GATE)
PROCEED, HOLD, HALT = VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT


def of_habit(*counts: int, place=OFTEN_6H) -> Tally:
    """Exposures without an end, some of them of vehicles of one habit that reached its age."""
    return replace(a_tally(permitted=counts[0]), habit_groups={place: AgeGroup(*counts)})


def without_permit(*counts: int, controls: tuple[int, int] = (0, 0)) -> Tally:
    """Grants that reached the first checkpoint, and the silent ones of these."""
    tally = a_tally(before={AttemptState.DOWNLOADING: counts[0]}, aged=((0, 0, *controls), (0, 0)))
    return replace(tally, grants=AgeGroup(*counts))


def judged(tally: Tally, plan=PLAN, **kwargs):
    """The verdict about everything."""
    return judge({a_cell(): tally}, plan, **kwargs).worst


@pytest.mark.parametrize(
    ("tally", "kind", "rule"),
    [
        (of_habit(10, 0, 100, 5), PROCEED, "none"),
        (of_habit(10, 1, 100, 5), PROCEED, "none"),
        (of_habit(6, 6, 100, 5), HALT, "silence_evalue_often_0"),
        (of_habit(20, 8, 100, 5), HOLD, "silence_posterior_often_0"),
        (of_habit(20, 10, 100, 5), HALT, "silence_evalue_often_0"),
        (of_habit(20, 10, 100, 50), PROCEED, "none"),
        (of_habit(20, 10, 100, 5, place=DAILY_18H), HALT, "silence_evalue_daily_0"),
    ],
)
def test_hourly_callers_that_fall_silent_say_so_within_hours(tally, kind, rule):
    """Six of six that called every hour and are silent for six: nobody waits a day for that."""
    found = judged(tally)
    assert (found.kind, found.rule) == (kind, rule)


def test_a_habit_without_enough_controls_is_not_judged():
    """Nobody knows what is normal then: no evidence, neither for nor against; the checkpoints still judge."""
    few = judged(of_habit(20, 20, CONTROLS_MIN - 1, 0))
    assert few.kind is PROCEED
    assert "silence_log_e_often_0" not in few.inputs
    assert (few.inputs["n_often_0"], few.inputs["k_often_0"]) == (20, 20)
    assert judged(of_habit(20, 20, CONTROLS_MIN, 0)).kind is HALT
    aged = replace(of_habit(20, 20), age_groups=(AgeGroup(20, 20), AgeGroup()))
    assert judged(aged).rule == "silence_evalue_0"


def test_a_habit_that_is_not_counted_opens_nothing():
    """The budget goes by the plan's first checkpoint, whatever was or was not counted before."""
    with_habit, without = (judge({a_cell(): tally}, PLAN) for tally in (of_habit(15, 0, 100, 5), a_tally(permitted=15)))
    assert with_habit.permit_ceiling == without.permit_ceiling == 15


def test_a_plan_without_habits_does_not_pay_for_them():
    """What is not looked at costs nothing: the other rules share its part of alpha."""
    tally = a_tally(failed=1)
    looked, not_looked = (judged(tally, a_plan(gate=gate)).inputs["log_e"] for gate in (HABIT_GATE, a_gate()))
    assert not_looked > looked


def test_controls_speak_alone_once_there_are_enough():
    """The plan's reference fades as controls are seen, and what they say is never nought."""
    controls = (0, 50, 150, CONTROLS_ENOUGH, 3000)
    shares = [estimate(Told(AgeGroup(0, 0, n, n // 5), POOLED_BELIEF), 0.05) for n in controls]
    assert shares[0] == 0.05
    assert shares == sorted(shares)
    assert shares[3] == pytest.approx(0.2, abs=0.001)
    assert 0.0 < estimate(Told(AgeGroup(0, 0, 10_000, 0), POOLED_BELIEF), 0.05) < 0.0001


def test_a_stratum_without_controls_goes_by_those_of_all():
    """A region where everybody is silent for longer than the plan says shows in the others' controls, too."""
    seen = a_tally(succeeded=800, aged=((800, 120, 1000, 150), (0, 0)))
    small = a_tally(timed_out=3, succeeded=17, aged=((20, 3), (0, 0)))
    judgement = judge(in_two_strata(small, seen), PLAN)
    (found,) = [found for found in judgement.verdicts if str(found.scope) == "eu/gen2"]
    assert found.inputs["q_a0"] == pytest.approx(0.15, abs=0.002)
    assert found.kind is PROCEED
    alone = judged(a_tally(timed_out=7, succeeded=13, aged=((20, 7), (0, 0))))
    assert alone.kind is HOLD


@pytest.mark.parametrize(
    ("tally", "kind", "rule"),
    [
        (a_tally(before={AttemptState.FAILED: 2, AttemptState.DOWNLOADING: 18}), PROCEED, "none"),
        (a_tally(before={AttemptState.FAILED: 4, AttemptState.DOWNLOADING: 16}), HOLD, "losses_posterior"),
        (a_tally(before={AttemptState.REJECTED: 9}), HALT, "losses_evalue"),
        (a_tally(before={AttemptState.FAILED: 20}, succeeded=980), PROCEED, "none"),
        (a_tally(before={AttemptState.TIMED_OUT: 50, AttemptState.WITHDRAWN: 50}), PROCEED, "none"),
        (without_permit(20, 1), PROCEED, "none"),
        (without_permit(20, 7), HOLD, "losses_silence_posterior"),
        (without_permit(20, 16), HALT, "losses_silence_evalue"),
        (without_permit(20, 8, controls=(400, 160)), PROCEED, "none"),
    ],
)
def test_losses_before_the_permit_are_judged_apart(tally, kind, rule):
    """A payload can crash an agent that merely downloads it: no exposure, no failure, and yet a vehicle lost."""
    found = judged(tally)
    assert (found.kind, found.rule) == (kind, rule)
    assert found.inputs["k"] == 0


def test_a_payload_that_kills_on_download_hurts_no_more_than_the_budget():
    """CrowdStrike, 19 July 2024, with a canary: until 20 grants have aged at most B hold the payload at once, and
    their silence stops it.
    """
    budget = PLAN.limits.blast_budget
    lost = 0
    for day in range(10):
        aged = AgeGroup(lost, lost) if day else AgeGroup()
        tally = replace(a_tally(before={AttemptState.DOWNLOADING: lost}), grants=aged)
        judgement = judge({a_cell(): tally}, PLAN)
        lost = max(lost, judgement.grant_ceiling)
    assert lost == budget
    assert judgement.worst.kind is HALT
    assert judgement.grant_ceiling == 0


def test_grant_ceiling_opens_with_aged_grants():
    """Grants that were heard again exclude high rates of loss, and more may hold the payload at once."""
    ceilings = []
    for aged in (0, AGED_MIN - 1, AGED_MIN, 200, 2000):
        tally = replace(a_tally(succeeded=aged, aged=((0, 0), (0, 0))), grants=AgeGroup(aged, 0))
        ceilings.append(judge({a_cell(): tally}, PLAN).grant_ceiling)
    assert ceilings[:2] == [PLAN.limits.blast_budget] * 2
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] > 5000


def test_losses_that_cannot_be_excluded_are_the_formula():
    """B / U, with U what is unusual, and never less than what so many grants could hide."""
    assert losses_upper(AgeGroup(100, 30), 0.05) == pytest.approx(wilson_upper(30, 100) - 0.05)
    assert losses_upper(AgeGroup(100, 1), 0.05) == pytest.approx(wilson_upper(0, 100))
    assert losses_upper(AgeGroup(AGED_MIN - 1, 0), 0.05) == 1.0


def test_a_good_fleet_of_frequent_callers_is_not_halted():
    """Two looks at silence, two habits, losses: a release that breaks nothing, with 4 % normally silent, runs through
    2,000 exposures without a halt in 40 of 40 runs.
    """
    random = Random("good fleet")
    for _ in range(40):
        silent = silent_controls = 0
        for exposed in range(1, 2001):
            silent += random.random() < 0.04
            silent_controls += random.random() < 0.04
            if exposed % 50 == 0:
                group = AgeGroup(exposed, silent, exposed + 60, silent_controls)
                tally = replace(
                    a_tally(succeeded=exposed - silent, timed_out=silent),
                    age_groups=(group, group),
                    habit_groups={OFTEN_6H: group, DAILY_18H: group},
                    grants=AgeGroup(exposed, 0),
                )
                assert judged(tally).kind is not HALT


def test_few_controls_of_a_habit_hold_later():
    """The same share among forty controls is worth less than among four thousand: the hold waits for more."""
    few, many = (
        judged(of_habit(40, 8, controls, controls // 20)).inputs["silence_posterior_often_0"] for controls in (40, 4000)
    )
    assert 0.5 < few < many - 0.05


NEAR_THE_CHOICE = {Habit.OFTEN: 0.065, Habit.DAILY: 0.07, Habit.SELDOM: 0.08, Habit.UNKNOWN: 0.075}


def ever_halts(random: Random, *, extra: float, exposures: int, looks: int) -> bool:
    """Whether a fleet of four habits, whose exposures are silent by so much more, is ever halted."""
    groups = dict.fromkeys(NEAR_THE_CHOICE, AgeGroup())
    for exposed in range(1, exposures + 1):
        habit = random.choice(list(groups))
        usual = NEAR_THE_CHOICE[habit]
        groups[habit] += AgeGroup(1, random.random() < usual + extra, 1, random.random() < usual)
        if exposed % (exposures // looks):
            continue
        pooled = sum(groups.values(), AgeGroup())
        tally = replace(
            a_tally(timed_out=pooled.silent, succeeded=pooled.exposed - pooled.silent),
            age_groups=(pooled, pooled),
            habit_groups={
                HabitAge(habit, age): group for habit, group in groups.items() for age in (DAY_MS, 3 * DAY_MS)
            },
        )
        if judged(tally, a_plan()).kind is HALT:
            return True
    return False


def test_alpha_holds_though_habits_are_chosen_by_their_controls():
    """Which habits are judged follows from the same controls that they are held against: at the edge of the limit,
    and of the choice, a good release is halted in less than alpha of the runs all the same. One that is not good is.
    """
    random = Random("chosen habits")
    good = sum(ever_halts(random, extra=0.01, exposures=1500, looks=25) for _ in range(40))
    assert good <= 40 * a_gate().alpha
    assert all(ever_halts(random, extra=0.25, exposures=400, looks=20) for _ in range(10))
