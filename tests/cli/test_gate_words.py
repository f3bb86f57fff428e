"""The numbers behind a verdict: those of its rule, by names that people know, from what the gate really writes."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from orchestrator.cli.gate_words import deciding
from orchestrator.engine.gates import judge
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_gate, a_plan, a_signal, a_tally, after

OFTEN = HabitAge(Habit.OFTEN, 6 * HOUR_MS)


@pytest.mark.parametrize(
    ("tally", "rule", "words"),
    [
        (a_tally(failed=5), "failures_evalue", ["exposed 5", "failed 5", "evidence", "halts from"]),
        (
            a_tally(failed=2, succeeded=18),
            "failures_posterior",
            ["exposed 20", "failed 2", "probability", "holds above 80 %"],
        ),
        (
            a_tally(rebooting=20, aged=((20, 20), (0, 0))),
            "silence_evalue_0",
            ["aged 20", "silent 20", "normal 5 %", "evidence", "halts from"],
        ),
        (
            replace(a_tally(permitted=20), habit_groups={OFTEN: AgeGroup(20, 20, 99, 9)}),
            "silence_evalue_often_0",
            ["aged 20", "silent 20", "normal 9.1 %", "evidence", "halts from"],
        ),
        (
            a_tally(before={AttemptState.FAILED: 9}),
            "losses_evalue",
            ["granted 9", "failed 9", "evidence", "halts from"],
        ),
        (
            replace(a_tally(before={AttemptState.DOWNLOADING: 30}), grants=AgeGroup(30, 30)),
            "losses_silence_evalue",
            ["aged 30", "silent 30", "normal 5 %", "evidence", "halts from"],
        ),
        (
            replace(a_tally(succeeded=600, rebooting=300), habit_groups={OFTEN: AgeGroup(900, 300, 900, 9, 900, 300)}),
            "silence_unpaired_posterior_often_0",
            ["not compared 900", "silent 300", "limit 12 %", "probability", "holds above 90 %"],
        ),
    ],
)
def test_a_real_verdict_is_shown_by_the_numbers_of_its_rule(tally: Tally, rule: str, words: list[str]) -> None:
    """Four dozen inputs stand in the record; whoever reads at night wants the four that decided."""
    plan = a_plan(gate=a_gate(habit_ages_ms={Habit.OFTEN: (OFTEN.age_ms,)}))
    verdict = judge({a_cell(): tally}, plan).worst
    assert verdict.rule == rule
    shown = deciding(verdict.rule, verdict.inputs)
    names = [re.sub(r" [\d.e+]+( %)?$", "", part) for part in shown.split(", ")]
    assert names == [re.sub(r" [\d.e+]+( %)?$", "", part) for part in words]
    for part in words:
        assert part in shown


@pytest.mark.parametrize(
    ("changes", "words"), [({"value": 7.5}, "value 7.5"), ({"value": 0.0}, "measured 2026-01-01 00:00:00 UTC")]
)
def test_what_is_said_from_outside_is_shown_by_its_value_or_its_age(changes: dict[str, float], words: str) -> None:
    """Counters did not decide it."""
    feed = a_signal(measured_at=NOW, good_for_ms=HOUR_MS, **changes)
    verdict = judge({a_cell(): a_tally()}, a_plan(), signals=[feed], now=after(DAY_MS)).worst
    assert deciding(verdict.rule, verdict.inputs) == words


def test_a_rule_that_is_not_known_hides_nothing() -> None:
    """A newer server may judge by rules that this command line never heard of, or leave an input out."""
    assert deciding("moonphase", {"b": 2.5, "a": 1}) == "a 1, b 2.5"
    assert deciding("failures_evalue", {"evalue": 3}) == "evalue 3"
