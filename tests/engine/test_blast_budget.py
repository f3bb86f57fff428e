"""The blast budget and the pace: how many are at risk while it is not known what a release does."""

from __future__ import annotations

import pytest

from orchestrator.engine.gates import judge
from orchestrator.engine.gates.budget import FIRST_DOUBTFUL, FIRST_DOUBTFUL_SHARE, FIRST_YOUNG, GROWTH, Doubt, Slope
from orchestrator.model.rollout import VerdictKind
from tests.builders import a_cell, a_plan, a_tally, some_limits

PLAN = a_plan()
CELL = a_cell()


def test_budget_counts_every_young_exposure_as_harmed_at_first():
    """Until 20 have aged nothing is excluded: at most B vehicles can be hurt by a release that bricks them all."""
    for exposed in range(12, 25):
        aged = max(0, min(19, exposed - 10))
        # Every word was good, which says nothing of silence.
        judgement = judge({CELL: a_tally(succeeded=exposed, aged=((aged, 0), (0, 0)))}, PLAN)
        young = exposed - aged
        if FIRST_DOUBTFUL + exposed // 2 < 20 - young:
            continue
        assert judgement.permit_ceiling == exposed + max(0, 20 - young)


def test_first_exposures_wait_for_first_words():
    """A release that breaks one in five is stopped by its first words, if these are waited for."""
    doubtful = judge({CELL: a_tally(permitted=8, succeeded=1)}, PLAN)
    assert doubtful.permit_allowance == 0
    assert judge({CELL: a_tally(permitted=4, succeeded=6)}, PLAN).permit_allowance == FIRST_DOUBTFUL + 3 - 4


def test_pace_is_bound_to_what_is_known():
    """A few hundred that seem well must not open ten thousand at once, however large the budget."""
    plan = a_plan(limits=some_limits(blast_budget=2_000))
    tally = a_tally(succeeded=1_000, aged=((1_000, 40), (0, 0)))
    assert judge({CELL: tally}, plan).permit_allowance == GROWTH * 1_000
    assert judge({CELL: a_tally(succeeded=30)}, plan).permit_allowance == FIRST_DOUBTFUL_SHARE * 2_000 + 15


def test_pace_falls_while_failures_leave_a_release_in_doubt():
    """A release near its limit goes on by small steps, not by doubling, and one that seems well loses nothing."""
    plan = a_plan(limits=some_limits(blast_budget=2_000))
    young = max(FIRST_YOUNG, round(0.2 * 2_000))
    allowed = [
        judge({CELL: a_tally(failed=failed, succeeded=1_000 - failed, aged=((1_000, 40), (0, 0)))}, plan)
        for failed in (0, 5, 8, 10, 11)
    ]
    well, *_, doubtful = (each.permit_allowance for each in allowed)
    assert all(each.worst.kind is VerdictKind.PROCEED for each in allowed)
    assert well == GROWTH * 1_000
    assert doubtful == young
    assert [each.permit_allowance for each in allowed] == sorted((e.permit_allowance for e in allowed), reverse=True)


def test_pace_is_whole_again_where_a_person_answered_for_the_failures():
    """Who let a held rollout go on did not ask for a tenth of it a day."""
    plan = a_plan(limits=some_limits(blast_budget=2_000))
    tally = a_tally(failed=14, succeeded=986, aged=((1_000, 40), (0, 0)))
    assert judge({CELL: tally}, plan).worst.rule == "failures_posterior"
    waived = judge({CELL: tally}, plan, waived=("failures_posterior@all",))
    assert waived.permit_allowance == GROWTH * 1_000


def test_pace_falls_while_silence_leaves_a_release_in_doubt():
    """Silence holds late, as good vehicles are silent, too; until then fewer are added the likelier it is."""
    plan = a_plan(limits=some_limits(blast_budget=200))
    silent = (40, 53, 54, 60)
    tallies = [a_tally(succeeded=1_000, aged=((1_000, k, 3_000, 120), (0, 0))) for k in silent]
    said = [judge({CELL: tally}, plan) for tally in tallies]
    allowed = [each.permit_allowance for each in said]
    assert all(each.worst.kind is VerdictKind.PROCEED for each in said)
    assert allowed[0] == GROWTH * 1_000
    assert allowed == sorted(set(allowed), reverse=True)
    waived = judge({CELL: tallies[-1]}, plan, waived=("silence_posterior_0@all",))
    assert waived.permit_allowance > allowed[-1]


def test_pace_is_whole_until_in_doubt_and_never_nought():
    """The slope has its ends where it says, whatever the probability; of two doubts the greater one counts."""
    slope = Slope(start=0.2, end=0.6, least=0.1)
    assert [slope.at(doubt) for doubt in (0.0, 0.2)] == [1.0, 1.0]
    assert slope.at(0.4) == pytest.approx(0.5)
    assert [slope.at(doubt) for doubt in (0.6, 0.79, 1.0)] == [0.1] * 3
    assert Doubt().pace == 1.0
    assert Doubt(failures=0.4, silence=0.3).pace == Doubt(failures=0.4).pace < 1.0
    assert Doubt(failures=0.1, silence=0.7).pace == Doubt(silence=0.7).pace < 1.0


def test_budget_opens_with_aged_evidence():
    """Aged exposures without harm exclude high rates, and more may be exposed at once."""
    allowances = []
    for aged in (20, 100, 1000, 10_000):
        groups = ((aged, round(aged * 0.03)), (0, 0))
        allowances.append(judge({CELL: a_tally(succeeded=aged, aged=groups)}, PLAN).permit_allowance)
    assert allowances == sorted(allowances)
    assert allowances[0] == FIRST_YOUNG
    assert allowances[-1] > 5_000
