"""Doubt at the gate: a wrong or missing input never means PROCEED, and tiny fleets get an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.gates import INCONSISTENT, UNUSABLE, judge
from orchestrator.engine.gates.budget import FIRST_DOUBTFUL
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import DAY_MS, a_cell, a_gate, a_plan, a_signal, a_tally, some_limits
from tests.engine.tallies import (
    HABIT_GATE,
    NONSENSE,
    OFTEN_6H,
    brakes,
    cell_tallies,
    in_two_strata,
    signals,
    spoilt,
    spoilt_gates,
    tallies,
    waivers,
)

PLAN = a_plan(gate=HABIT_GATE)
PROCEED, HOLD, HALT = VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT
GOOD = replace(
    a_tally(
        succeeded=90,
        permitted=10,
        before={AttemptState.OFFERED: 5},
        aged=((80, 3, 120, 5), (60, 2, 110, 4)),
    ),
    habit_groups={OFTEN_6H: AgeGroup(40, 1, 80, 2)},
    grants=AgeGroup(85, 1),
)
NO_COUNTS = [value for value in NONSENSE if not (isinstance(value, int) and value >= 0)]
BOUNDED = [
    name for name in spoilt(GOOD, 0) if ":exposed" in name or "silent" in name or name in ("diagnosed", "safety")
]


def assert_shut(judgement, rule: str) -> None:
    """The whole is held by this rule, nothing is added, and nobody can waive it."""
    assert (judgement.worst.kind, judgement.worst.rule) == (HOLD, rule)
    assert (judgement.permit_allowance, judgement.grant_ceiling) == (0, 0)
    assert judgement.permit_ceiling >= 0


def test_the_counts_that_are_spoilt_below_are_good_ones():
    """Otherwise the tests that follow would prove nothing."""
    judgement = judge({a_cell(): GOOD}, PLAN)
    assert judgement.worst.kind is PROCEED
    assert judgement.permit_allowance > 0


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("name", sorted(spoilt(GOOD, 0)))
def test_what_is_no_count_holds(name, value):
    """Negative, broken, not a number, endless: in whichever count, of whichever stratum."""
    bad = spoilt(GOOD, value)[name]
    waived = ("inconsistent_counters@all", "inconsistent_counters@eu/gen2")
    assert_shut(judge({a_cell(): bad}, PLAN, waived=waived), INCONSISTENT)
    assert_shut(judge(in_two_strata(bad, GOOD), PLAN, waived=waived), INCONSISTENT)


@pytest.mark.parametrize("name", sorted(BOUNDED))
def test_more_than_there_can_be_holds(name):
    """A part that is larger than its whole was counted twice, or its whole was lost."""
    assert_shut(judge({a_cell(): spoilt(GOOD, 10**9)[name]}, PLAN), INCONSISTENT)


@given(
    cells=cell_tallies,
    signals=st.lists(signals, max_size=2),
    brakes=st.lists(brakes, max_size=2),
    waived=st.lists(waivers, max_size=3),
    data=st.data(),
)
def test_one_spoilt_count_anywhere_never_proceeds(cells, signals, brakes, waived, data):
    """Whatever else is counted, said or waived."""
    cells = cells or {a_cell(): GOOD}
    where = data.draw(st.sampled_from(sorted(cells)))
    bad = spoilt(cells[where], data.draw(st.sampled_from(NO_COUNTS)))
    cells = {**cells, where: bad[data.draw(st.sampled_from(sorted(bad)))]}
    assert_shut(judge(cells, PLAN, signals=signals, brakes=brakes, waived=waived), INCONSISTENT)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.01, 1.5, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", sorted(spoilt_gates(HABIT_GATE, 0.0)))
def test_limits_that_are_none_hold(name, value):
    """0 % asks for what nobody can show, 100 % accepts everything; the plan file refuses both, and so does the gate."""
    plan = a_plan(gate=spoilt_gates(HABIT_GATE, value)[name])
    assert_shut(judge({a_cell(): GOOD}, plan, waived=("limits_unusable@all",)), UNUSABLE)
    assert_shut(judge({}, plan), UNUSABLE)


@pytest.mark.parametrize(
    "gate",
    [
        a_gate(checkpoints_ms=(), silence_reference=()),
        a_gate(checkpoints_ms=(3 * DAY_MS, DAY_MS)),
        a_gate(checkpoints_ms=(DAY_MS, DAY_MS)),
        a_gate(checkpoints_ms=(-DAY_MS, DAY_MS)),
        a_gate(silence_reference=(0.05,)),
        a_gate(silence_reference=(0.05, 0.04, 0.03)),
        a_gate(silence_reference=(0.995, 0.04)),
        replace(HABIT_GATE, habit_ages_ms={OFTEN_6H.habit: (0,)}),
        replace(HABIT_GATE, habit_ages_ms={OFTEN_6H.habit: (float("nan"),)}),
    ],
)
def test_checkpoints_and_references_that_do_not_fit_hold(gate):
    """A look without its reference is no look."""
    assert_shut(judge({a_cell(): a_tally(succeeded=30)}, a_plan(gate=gate)), UNUSABLE)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), 0.5])
def test_a_budget_that_is_none_says_so(budget):
    """A rollout that nobody may enter must not look as if it proceeded."""
    judgement = judge({}, a_plan(limits=some_limits(blast_budget=budget)))
    assert_shut(judgement, UNUSABLE)
    assert "blast budget" in judgement.worst.message


@given(tally=tallies())
def test_what_was_not_counted_opens_nothing(tally):
    """Groups that are missing are as if nothing had aged: neither ceiling is higher than with them."""
    clean = replace(
        tally, safety=0, diagnosed=0, age_groups=tuple(replace(group, silent=0) for group in tally.age_groups)
    )
    whole = judge({a_cell(): clean}, PLAN)
    for less in (
        replace(clean, age_groups=()),
        replace(clean, age_groups=clean.age_groups[:1]),
        replace(clean, grants=AgeGroup()),
        replace(clean, habit_groups={}),
    ):
        judged = judge({a_cell(): less}, PLAN)
        if whole.worst.kind is PROCEED:
            assert judged.permit_ceiling <= whole.permit_ceiling
            assert judged.grant_ceiling <= whole.grant_ceiling


@given(young=st.integers(0, 500), fewer=st.integers(0, 500), aged=st.integers(0, 2000))
def test_counts_of_young_exposures_that_fall_open_nothing(young, fewer, aged):
    """The ceiling goes by what has aged: exposures that a lost shard forgot make no room for others."""

    def ceiling(exposed: int) -> int:
        tally = a_tally(permitted=exposed, succeeded=aged, aged=((aged, 0), (0, 0)))
        return judge({a_cell(): tally}, PLAN).permit_ceiling

    assert ceiling(min(fewer, young)) <= ceiling(young) <= max(ceiling(0), young + aged)


@given(aged=st.integers(0, 3000), lost=st.integers(0, 3000))
def test_aged_counts_that_fall_open_nothing(aged, lost):
    """Less evidence of a good release is less room."""

    def ceiling(counted: int) -> int:
        return judge({a_cell(): a_tally(succeeded=3000, aged=((counted, 0), (0, 0)))}, PLAN).permit_ceiling

    assert ceiling(max(0, aged - lost)) <= max(ceiling(aged), 3000)


def test_a_fleet_of_nobody_proceeds_within_the_budget():
    """Nothing is known and nobody is at risk: the first vehicle to come may begin."""
    judgement = judge({}, PLAN)
    assert (judgement.worst.kind, len(judgement.verdicts)) == (PROCEED, 1)
    assert (judgement.permit_ceiling, judgement.grant_ceiling) == (FIRST_DOUBTFUL, PLAN.limits.blast_budget)
    assert judge({a_cell(): Tally()}, PLAN).worst.kind is PROCEED


@pytest.mark.parametrize(
    "tally",
    [
        a_tally(permitted=1),
        a_tally(succeeded=1, aged=((1, 0), (1, 0))),
        a_tally(failed=1, aged=((1, 0), (1, 0))),
        a_tally(timed_out=1, aged=((1, 1), (1, 1))),
    ],
)
def test_a_fleet_of_one_is_no_evidence(tally):
    """One failure may be chance; there is nobody left to protect by stopping. A report of safety stops all the same."""
    assert judge({a_cell(): tally}, PLAN).worst.kind is PROCEED
    assert judge({a_cell(): tally}, PLAN, signals=[a_signal(value=9.0)]).worst.kind is HOLD
    assert judge({a_cell(): replace(tally, safety=1)}, PLAN).worst.kind is HOLD


def test_a_stratum_of_one_is_judged_with_the_others():
    """Alone it can show nothing; its failure counts for the whole, and three such strata hold it."""
    good = a_tally(succeeded=10)
    one = a_tally(failed=1)
    cells = {a_cell(hardware=f"gen{n}"): one for n in range(3)} | {a_cell(region="us"): good}
    judgement = judge(cells, PLAN)
    assert [found.kind for found in judgement.verdicts[1:]] == [PROCEED] * 4
    assert judgement.worst.kind is HALT


def test_a_budget_of_one_still_moves():
    """The smallest budget exposes one at a time until twenty have aged."""
    plan = a_plan(limits=some_limits(blast_budget=1))
    assert judge({}, plan).permit_ceiling == 1
    assert judge({a_cell(): a_tally(permitted=1)}, plan).permit_ceiling == 1
    aged = a_tally(succeeded=1, aged=((1, 0), (0, 0)))
    assert judge({a_cell(): aged}, plan).permit_ceiling == 2
