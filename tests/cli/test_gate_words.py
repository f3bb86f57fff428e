"""The numbers behind a verdict: those of its rule, by names that people know, from what the gate really writes."""

from __future__ import annotations

import re

import pytest

from orchestrator.cli.gate_words import deciding
from orchestrator.engine.gates import judge
from orchestrator.model.attempt import AttemptState
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import a_cell, a_plan


@pytest.mark.parametrize(
    ("states", "groups", "rule", "words"),
    [
        ({AttemptState.FAILED: 5}, (), "failures_evalue", ["exposed 5", "failed 5", "evidence", "halts from"]),
        (
            {AttemptState.FAILED: 2, AttemptState.SUCCEEDED: 18},
            (),
            "failures_posterior",
            ["exposed 20", "failed 2", "probability", "holds above 80 %"],
        ),
        (
            {AttemptState.REBOOTING: 20},
            (AgeGroup(20, 20),),
            "silence_evalue_0",
            ["aged 20", "silent 20", "normal 5 %", "evidence", "halts from"],
        ),
    ],
)
def test_a_real_verdict_is_shown_by_the_numbers_of_its_rule(
    states: dict[AttemptState, int], groups: tuple[AgeGroup, ...], rule: str, words: list[str]
) -> None:
    """Two dozen inputs stand in the record; whoever reads at night wants the four that decided."""
    verdict = judge({a_cell(): Tally(after_permit=states, age_groups=groups)}, a_plan()).worst
    assert verdict.rule == rule
    shown = deciding(verdict.rule, verdict.inputs)
    names = [re.sub(r" [\d.e+]+( %)?$", "", part) for part in shown.split(", ")]
    assert names == [re.sub(r" [\d.e+]+( %)?$", "", part) for part in words]
    for part in words:
        assert part in shown


def test_a_rule_that_is_not_known_hides_nothing() -> None:
    """A newer server may judge by rules that this command line never heard of, or leave an input out."""
    assert deciding("moonphase", {"b": 2.5, "a": 1}) == "a 1, b 2.5"
    assert deciding("failures_evalue", {"evalue": 3}) == "evalue 3"
