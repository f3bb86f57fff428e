"""Gates: a bad release stops, a good one does not, and nothing doubtful proceeds."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.gates import (
    HOLD_ABOVE,
    INCONSISTENT,
    SILENCE_HELD_UNTIL,
    SILENCE_HOLD_ABOVE,
    UNUSABLE,
    blast_upper,
    judge,
    permit_allowance,
    waiver,
)
from orchestrator.engine.gates.budget import FIRST_DOUBTFUL
from orchestrator.engine.gates.evidence import wilson_upper
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Stratum
from orchestrator.model.rollout import VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import a_cell, a_gate, a_plan, a_tally, some_limits

PLAN = a_plan()
CELL = a_cell()
PROCEED, HOLD, HALT = VerdictKind.PROCEED, VerdictKind.HOLD, VerdictKind.HALT
SEVERITY = (PROCEED, HOLD, HALT)


def verdict(tally: Tally, **kwargs):
    """The worst verdict about one cell's counts."""
    return judge({CELL: tally}, PLAN, **kwargs).worst


def test_nothing_exposed_proceeds_within_the_budget():
    """The first vehicles must be admitted on no evidence, but only as many as may be in doubt at first."""
    judgement = judge({}, PLAN)
    assert judgement.worst.kind is PROCEED
    assert judgement.permit_ceiling == FIRST_DOUBTFUL


@pytest.mark.parametrize(
    ("tally", "kind", "rule"),
    [
        (a_tally(failed=1), PROCEED, "none"),
        (a_tally(failed=1, succeeded=30), PROCEED, "none"),
        (a_tally(failed=2), HALT, "failures_evalue"),
        (a_tally(rolled_back=2), HALT, "failures_evalue"),
        (a_tally(failed=2, succeeded=15), HOLD, "failures_posterior"),
        (a_tally(failed=4, succeeded=20), HALT, "failures_evalue"),
        (a_tally(failed=5, succeeded=995), PROCEED, "none"),
        (a_tally(failed=15, succeeded=985), HOLD, "failures_posterior"),
        (a_tally(failed=40, succeeded=960), HALT, "failures_evalue"),
        (a_tally(timed_out=20, aged=((20, 2), (0, 0))), PROCEED, "none"),
        (a_tally(timed_out=20, aged=((20, 7), (0, 0))), HOLD, "silence_posterior_0"),
        (a_tally(timed_out=20, aged=((20, 12), (0, 0))), HALT, "silence_evalue_0"),
        (a_tally(succeeded=100, aged=((100, 5), (100, 40))), HALT, "silence_evalue_1"),
        (a_tally(succeeded=90, permitted=10, aged=((90, 5), (20, 4))), PROCEED, "none"),
    ],
)
def test_verdict_by_counts(tally, kind, rule):
    """The table of what stops: reports and silence, weak evidence and strong."""
    found = verdict(tally)
    assert (found.kind, found.rule) == (kind, rule)


def test_failed_before_the_permit_is_no_exposure():
    """Attempts that die before a permit harmed nobody: they must not stop a rollout as if they had."""
    found = verdict(a_tally(before={AttemptState.FAILED: 3, AttemptState.TIMED_OUT: 50}, succeeded=47))
    assert found.kind is PROCEED
    assert (found.inputs["n"], found.inputs["k"]) == (47, 0)


def test_pending_vehicles_do_not_dilute_silence():
    """Silence is judged on what is old enough: young exposures must neither hide nor add it."""
    old = a_tally(timed_out=20, aged=((20, 12), (0, 0)))
    with_young = a_tally(timed_out=20, permitted=10_000, aged=((20, 12), (0, 0)))
    assert verdict(old).rule == verdict(with_young).rule == "silence_evalue_0"


def test_one_bad_variant_stops_though_the_whole_looks_good():
    """A half percent of the fleet that bricks entirely drowns in the total: each stratum is judged on its own."""
    good = {a_cell(hardware=f"gen{n}"): a_tally(succeeded=1000, aged=((1000, 40), (1000, 40))) for n in range(1, 4)}
    cells = {**good, a_cell(hardware="rare"): a_tally(failed=3, succeeded=2, aged=((5, 0), (5, 0)))}
    judgement = judge(cells, PLAN)
    assert judgement.worst.kind is PROCEED
    (bad,) = [found for found in judgement.verdicts if found.kind is not PROCEED]
    assert bad.kind is HALT
    assert bad.scope == Stratum(region="eu", hardware="rare")
    assert "eu/rare" in bad.message
    assert judgement.permit_allowance > 0


def test_more_strata_ask_for_more_evidence_each():
    """Looking at many strata finds chance patterns: the bound grows with their number."""
    cells = {a_cell(hardware=f"gen{n}"): a_tally(failed=1, succeeded=1) for n in range(10)}
    bounds = {found.scope: found.inputs["evidence_min"] for found in judge(cells, PLAN).verdicts}
    assert bounds.pop(None) == pytest.approx(20)
    assert list(bounds.values()) == pytest.approx([200] * 10)
    known = judge({CELL: a_tally(failed=2)}, PLAN, strata=12).verdicts[1]
    assert known.inputs["evidence_min"] == pytest.approx(240)


def test_a_single_stratum_is_judged_once():
    """It is everything: judged twice, a person would have to waive the same numbers twice."""
    judgement = judge({CELL: a_tally(failed=2, succeeded=15)}, PLAN, strata=1)
    assert [found.scope for found in judgement.verdicts] == [None]


def test_hold_clears_lower_than_it_begins():
    """Between 60 % and 80 % a hold stays and a running rollout runs, so that it does not flicker."""
    between = a_tally(failed=2, succeeded=80)
    likely = verdict(between).inputs["failures_posterior"]
    assert 0.6 < likely < 0.8
    assert verdict(between, held=False).kind is PROCEED
    assert verdict(between, held=True).kind is HOLD
    assert verdict(a_tally(failed=2, succeeded=300), held=True).kind is PROCEED


def test_waived_rule_is_not_judged_again():
    """A person who resumes has seen this rule at this scope; another rule or scope still stops."""
    tally = a_tally(failed=2, succeeded=15)
    found = verdict(tally)
    assert waiver(found) == "failures_posterior@all"
    waived = judge({CELL: tally}, PLAN, waived=("failures_posterior@all",), strata=2)
    assert waived.worst.kind is PROCEED
    assert "waived: failures_posterior" in waived.worst.message
    assert waived.verdicts[1].kind is HOLD
    both = judge({CELL: tally}, PLAN, waived=("failures_posterior@all", "failures_posterior@eu/gen2"), strata=2)
    assert [found.kind for found in both.verdicts] == [PROCEED, PROCEED]


def test_who_waived_the_halt_waived_the_hold():
    """Otherwise resuming from a halt would be held at once by the weaker rule about the same numbers."""
    tally = a_tally(timed_out=20, aged=((20, 12), (0, 0)))
    assert judge({CELL: tally}, PLAN, waived=("silence_evalue_0@all",)).worst.kind is PROCEED
    assert judge({CELL: tally}, PLAN, waived=("silence_posterior_0@all",)).worst.kind is HALT


@pytest.mark.parametrize(
    "tally",
    [
        a_tally(succeeded=-1),
        a_tally(failed=5, succeeded=-4),
        a_tally(before={AttemptState.OFFERED: -1}),
        a_tally(succeeded=10, aged=((11, 0), (0, 0))),
        a_tally(succeeded=10, aged=((5, 6), (0, 0))),
        a_tally(succeeded=10, aged=((5, 0), (6, 0))),
        a_tally(succeeded=10, aged=((-1, 0), (0, 0))),
        a_tally(succeeded=10, aged=((5, -1), (0, 0))),
        a_tally(succeeded=10, aged=((5, 0), (0, 0), (0, 0))),
    ],
)
def test_counters_that_contradict_themselves_hold(tally):
    """What cannot be true is not judged: nobody new is admitted, and nobody can waive it."""
    waived = ("inconsistent_counters@all", "inconsistent_counters@eu/gen2")
    judgement = judge({CELL: tally}, PLAN, waived=waived)
    assert judgement.worst.kind is HOLD
    assert judgement.worst.rule == INCONSISTENT
    assert judgement.permit_allowance == 0
    assert judgement.permit_ceiling == max(0, tally.exposed)


def test_contradiction_in_one_stratum_is_not_hidden_by_the_sum():
    """Errors of opposite sign cancel in a total; each scope is checked by itself."""
    cells = {
        a_cell(hardware="gen1"): a_tally(succeeded=10, aged=((12, 0), (0, 0))),
        a_cell(hardware="gen2"): a_tally(succeeded=10, aged=((5, 0), (0, 0))),
    }
    assert judge(cells, PLAN).worst.rule == INCONSISTENT


def test_missing_silence_reference_holds():
    """Without a reference silence cannot be judged, and missing data never means PROCEED."""
    plan = a_plan(gate=a_gate(silence_reference=()))
    assert judge({CELL: a_tally(succeeded=30)}, plan).worst.rule == UNUSABLE


def test_silence_of_the_controls_is_normal():
    """Where 20 % of those not yet admitted are silent, 20 % of the exposures may be."""
    assert verdict(a_tally(timed_out=20, succeeded=80, aged=((100, 20), (0, 0)))).kind is HOLD
    other = a_tally(timed_out=20, succeeded=80, aged=((100, 20, 400, 20), (0, 0)))
    assert verdict(other).kind is HALT
    beside = a_tally(timed_out=20, succeeded=80, aged=((100, 20, 400, 80), (0, 0)))
    assert verdict(beside).kind is PROCEED
    assert verdict(beside).inputs["q_a0"] == pytest.approx(0.2, abs=0.001)


def test_every_verdict_can_be_made_again_from_its_inputs():
    """The ledger keeps the inputs: all counts, references, limits, evidence and the bounds they were held against."""
    judgement = judge({CELL: a_tally(failed=1, succeeded=29, aged=((30, 1), (10, 0)))}, PLAN)
    wanted = {"n", "k", "s", "failure_ratio_max", "alpha", "evidence_min", "hold_above", "silence_hold_above"}
    wanted |= {"failures_log_e", "failures_posterior"}
    for index in (0, 1):
        wanted |= {
            f"{name}{index}" for name in ("n_a", "k_a", "q_a", "age_ms_", "silence_log_e_", "silence_posterior_")
        }
    for found in judgement.verdicts:
        assert wanted <= set(found.inputs)
    budget = {"blast_budget", "blast_upper", "young", "permit_allowance", "permit_ceiling"}
    assert budget <= set(judgement.verdicts[0].inputs)


def test_message_has_both_numbers():
    """What is seen and what it is held against, in the words of people."""
    assert "2 of 17 exposed failed, limit 1 %" in verdict(a_tally(failed=2, succeeded=15)).message
    silent = verdict(a_tally(timed_out=20, aged=((20, 12), (0, 0)))).message
    assert "12 of 20 exposed were silent after 1 d, expected 1.0 (5 %), limit 6 %" in silent
    assert "halt from 20" in silent


@pytest.mark.uptane("A15")
def test_silence_holds_by_a_higher_probability_than_words_and_clears_later():
    """A word is a fact; of silence a good fleet has some as well, by chance now more and now fewer."""
    by_silence = a_tally(succeeded=1_000, aged=((1_000, 60, 3_000, 120), (0, 0)))
    inputs = judge({CELL: by_silence}, PLAN).worst.inputs
    assert (inputs["hold_above"], inputs["silence_hold_above"]) == (HOLD_ABOVE, SILENCE_HOLD_ABOVE)
    assert HOLD_ABOVE < inputs["silence_posterior_0"] < SILENCE_HOLD_ABOVE
    assert judge({CELL: by_silence}, PLAN).worst.kind is VerdictKind.PROCEED
    assert inputs["silence_posterior_0"] > SILENCE_HELD_UNTIL
    assert judge({CELL: by_silence}, PLAN, held=True).worst.rule == "silence_posterior_0"


def test_budget_is_the_formula():
    """B / U with U from failures and from silence beyond the reference. Source: docs/decisions/0006."""
    upper = blast_upper(2, AgeGroup(exposed=100, silent=10), 0.05)
    assert upper == pytest.approx(wilson_upper(2, 100) + wilson_upper(10, 100) - 0.05)
    assert permit_allowance(20, upper, 30) == int(20 / upper) - 30
    assert permit_allowance(20, 1.0, 30) == 0
    assert blast_upper(0, AgeGroup(exposed=1000, silent=0), 0.05) == pytest.approx(wilson_upper(0, 1000))


@pytest.mark.parametrize("tally", [a_tally(failed=2), a_tally(failed=2, succeeded=15)])
def test_nothing_is_permitted_while_not_proceeding(tally):
    """Between the verdict and its transition no permit slips through."""
    judgement = judge({CELL: tally}, PLAN)
    assert judgement.permit_allowance == 0
    assert judgement.permit_ceiling == tally.exposed


counts = st.integers(min_value=-3, max_value=400)
states = st.dictionaries(st.sampled_from(sorted(AttemptState)), counts, max_size=6)
tallies = st.builds(
    Tally,
    before_permit=states,
    after_permit=states,
    age_groups=st.lists(st.builds(AgeGroup, counts, counts), max_size=3).map(tuple),
)


@given(
    cells=st.dictionaries(st.builds(a_cell, hardware=st.sampled_from("abc")), tallies, max_size=3), held=st.booleans()
)
def test_judging_is_total_and_never_opens_on_doubt(cells, held):
    """Whatever the counters say, there is an answer; the ceiling is never below what is given, and opens on PROCEED
    only.
    """
    judgement = judge(cells, PLAN, held=held)
    exposed = sum(tally.exposed for tally in cells.values())
    assert judgement.permit_ceiling == max(0, exposed) + judgement.permit_allowance
    assert judgement.permit_allowance >= 0
    if judgement.worst.kind is not PROCEED:
        assert judgement.permit_allowance == 0
    negative = any(
        count < 0
        for tally in cells.values()
        for states in (tally.before_permit, tally.after_permit)
        for count in states.values()
    )
    if negative:
        assert judgement.worst.kind is not PROCEED
    assert judgement.worst is judgement.verdicts[0]
    assert judgement.worst.scope is None


@given(failed=st.integers(0, 30), succeeded=st.integers(0, 500), pending=st.integers(0, 500))
def test_one_more_failure_is_never_better(failed, succeeded, pending):
    """A verdict that improves by a failure could be argued away by one."""
    less = verdict(a_tally(failed=failed, succeeded=succeeded, permitted=pending + 1))
    more = verdict(a_tally(failed=failed + 1, succeeded=succeeded, permitted=pending))
    assert SEVERITY.index(more.kind) >= SEVERITY.index(less.kind)


@given(silent=st.integers(0, 49), aged=st.integers(50, 500))
def test_one_more_silent_vehicle_is_never_better(silent, aged):
    """The same for silence."""
    less = verdict(a_tally(timed_out=aged, aged=((aged, silent), (0, 0))))
    more = verdict(a_tally(timed_out=aged, aged=((aged, silent + 1), (0, 0))))
    assert SEVERITY.index(more.kind) >= SEVERITY.index(less.kind)


def test_one_checkpoint_is_enough():
    """A plan may look at silence once; that look may then spend what two would have shared."""
    plan = a_plan(gate=a_gate(checkpoints_ms=(60_000,), silence_reference=(0.05,)), limits=some_limits(blast_budget=5))
    judgement = judge({CELL: a_tally(succeeded=3, aged=((3, 0),))}, plan)
    assert judgement.worst.kind is PROCEED
    twice = judge({CELL: a_tally(succeeded=3, aged=((3, 0), (0, 0)))}, PLAN)
    first, second = (found.worst.inputs["silence_log_e_0"] for found in (judgement, twice))
    assert first == pytest.approx(second + log(2))
    assert judgement.permit_ceiling == 8


def test_counts_of_a_rollout_that_just_began_may_lack_age_groups():
    """A store that has counted no checkpoint yet gives none; that is young, not wrong."""
    tally = replace(a_tally(succeeded=5), age_groups=())
    judgement = judge({CELL: tally}, PLAN)
    assert judgement.worst.kind is PROCEED
    assert judgement.permit_ceiling == 5 + FIRST_DOUBTFUL + 2
