"""Inputs of decisions: what the ledger keeps is enough to judge again, and says the same."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import inputs
from orchestrator.engine.gates import Judgement, judge, judge_rollout
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import RolloutStatus, VerdictKind
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_gate, a_plan, a_rollout, a_signal, a_tally, after
from tests.engine.tallies import HABIT_GATE, brakes, cell_tallies, signals, waivers

PLAN = a_plan(gate=HABIT_GATE)


def through_json(judgement: Judgement, cells, waiting=None) -> dict:
    """What a ledger gives back."""
    return json.loads(json.dumps(inputs.written(judgement, cells, waiting or {}), allow_nan=False))


@given(
    cells=cell_tallies,
    held=st.booleans(),
    strata=st.integers(0, 12),
    waived=st.lists(waivers, max_size=4),
    brakes=st.lists(brakes, max_size=3),
    signals=st.lists(signals, max_size=3),
    now=st.integers(NOW - HOUR_MS, NOW + DAY_MS).map(FleetTime),
)
def test_every_judgement_is_made_again_from_the_ledger_alone(cells, held, strata, waived, brakes, signals, now):
    """Promise 8: counters, terms, signals and waivers are all there, and lead to the same verdicts and ceilings."""
    judgement = judge(cells, PLAN, held=held, strata=strata, waived=waived, brakes=brakes, signals=signals, now=now)
    assert inputs.judged_again(through_json(judgement, cells)) == judgement


def test_judgement_of_a_rollout_looks_at_all_that_stands():
    """Whoever judges a rollout may not forget its signals, brakes or waivers: one call takes them all from it."""
    rollout = a_rollout(
        plan=PLAN,
        status=RolloutStatus.HELD,
        waived=("failures_posterior@all",),
        signals=(a_signal(value=9.0),),
    )
    cells = {a_cell(): a_tally(failed=2, succeeded=15)}
    judgement = judge_rollout(rollout, cells, {a_cell(region="us"): 50}, after(HOUR_MS))
    assert judgement.worst.rule == "signal_tow_rate"
    terms = judgement.terms
    assert (terms.held, terms.strata, terms.waived, terms.signals) == (True, 2, rollout.waived, rollout.signals)
    assert terms.now == after(HOUR_MS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_limits_that_are_no_numbers_are_kept_as_they_were(value):
    """JSON has no word for them, and the record of a hold must be a record all the same."""
    plan = a_plan(gate=a_gate(failure_ratio_max=value))
    judgement = judge({a_cell(): a_tally(succeeded=5)}, plan)
    again = inputs.judged_again(through_json(judgement, {a_cell(): a_tally(succeeded=5)}))
    assert again.worst.kind is VerdictKind.HOLD
    assert (again.worst.rule, again.worst.message) == (judgement.worst.rule, judgement.worst.message)
    assert repr(again.terms.gate.failure_ratio_max) == repr(value)


def test_decisions_of_earlier_builds_can_be_read():
    """A ledger outlives the build that wrote it: cells without controls, habits and losses have none."""
    old = {"cells": [[["eu", "gen2", "canary"], [[True, "succeeded", 5]], [[5, 1], [2, 0]]]]}
    assert inputs.cells_read(old) == {a_cell(): a_tally(succeeded=5, aged=((5, 1), (2, 0)))}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.pop("terms"),
        lambda data: data.pop("cells"),
        lambda data: data["terms"].pop("gate"),
        lambda data: data["terms"].update(blast_budget="20"),
        lambda data: data["terms"].update(signals=[{"name": "x"}]),
        lambda data: data["terms"]["gate"].update(alpha=None),
        lambda data: data["terms"]["gate"].update(alpha="half"),
        lambda data: data["cells"][0].pop(),
        lambda data: data["cells"][0].__setitem__(3, [["often", 5]]),
        lambda data: data["cells"][0].__setitem__(5, "many"),
    ],
)
def test_a_record_that_lacks_something_is_an_error(spoil):
    """A ledger row that was tampered with must not replay as something else."""
    cells = {a_cell(): replace(a_tally(succeeded=5), diagnosed=1)}
    data = through_json(judge(cells, PLAN), cells)
    spoil(data)
    with pytest.raises(ValueError, match=r"not the inputs|not enough values|is not a valid|could not convert"):
        inputs.judged_again(data)
