"""The study and its figures, in the short form of `make judge`."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judge.figures import claims, figures_of, grouped, paired, share_upper
from benchmarks.judge.study import OUTRIDER, REFERENCE, RULES, Case, Kept, Result, run_seed, study, tabled
from benchmarks.judge.table import as_json, as_markdown

CASE = Case("1.3", 0.01, 0.2, 1.0)
SHORT = [(rule, CASE) for rule in (REFERENCE, OUTRIDER)]
FIELDS = {
    "rule",
    "fleet",
    "limit",
    "failure_rate",
    "silent_share",
    "runs",
    "failed_mean",
    "failed_ci95",
    "halted_share",
    "held_share",
    "days_to_95",
}


def a_result(**changes: Any) -> Result:
    """A halted run of the engine."""
    fields: dict[str, Any] = {
        "rule": OUTRIDER,
        "fleet": "1.3",
        "limit": 0.01,
        "failure_rate": 0.2,
        "silent_share": 1.0,
        "seed": 1,
        "ending": "halted",
        "failed": 10,
        "exposed": 50,
        "days": 1.5,
        "days_to_95": None,
    }
    return Result(**{**fields, **changes})


def test_engine_harms_no_more_than_the_reference_in_the_worst_cell(tmp_path: Path) -> None:
    """A fifth of the fleet bricked silently: the short form of the first claim."""
    found = grouped(study(SHORT, range(1, 7), Kept(tmp_path), workers=2, done=lambda _: None))
    pair = paired(found, CASE)
    assert pair is not None
    assert pair.runs == 6
    assert pair.outrider_mean <= 1.05 * pair.reference_mean
    assert all(one.ending in ("halted", "held") for runs in found.values() for one in runs)


def test_a_study_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    """A thousand runs take hours: nothing finished is run again, and half a line is no run."""
    cells = [(REFERENCE, CASE)]
    first = study(cells, range(2), Kept(tmp_path), workers=1, done=lambda _: None)
    (path,) = tmp_path.glob("reference-*.jsonl")
    with path.open("a") as file:
        file.write('{"rule": "reference", "fle')
    told: list[int] = []
    again = study(cells, range(2), Kept(tmp_path), workers=1, done=told.append)
    assert told == [2]
    assert again == first


def test_a_run_is_repeated_exactly() -> None:
    """A figure that nobody can repeat is no figure."""
    assert run_seed("1.3", 5, SHORT) == run_seed("1.3", 5, SHORT)


def test_every_rule_and_claimed_cell_is_in_the_table() -> None:
    """A claim without its cell would silently not be made."""
    cells = tabled(tuple(RULES))
    assert {rule for rule, _ in cells} == set(RULES)
    assert {case.fleet for rule, case in cells if rule == OUTRIDER} == {"1.3", "1.3-variant", "habits"}
    assert len(set(cells)) == len(cells)


def test_figures_are_those_of_the_runs() -> None:
    """Mean and interval by hand, shares by count, days of the runs that got there."""
    runs = [
        a_result(seed=1, failed=10),
        a_result(seed=2, failed=20, ending="held"),
        a_result(seed=3, failed=30, ending="completed", days_to_95=18.0),
    ]
    row = figures_of(OUTRIDER, CASE, runs)
    assert row.failed_mean == 20.0
    assert row.failed_ci95 == pytest.approx((20 - 1.96 * 10 / 3**0.5, 20 + 1.96 * 10 / 3**0.5))
    assert (row.halted_share, row.held_share, row.days_to_95) == (1 / 3, 1 / 3, 18.0)


def test_difference_is_paired_by_seed() -> None:
    """Chance of the fleet falls out only where both rules met the same one."""
    results = [a_result(seed=seed, failed=10 * seed) for seed in (1, 2, 3)]
    results += [a_result(rule=REFERENCE, seed=seed, failed=10 * seed + 5) for seed in (2, 3, 4)]
    pair = paired(grouped(results), CASE)
    assert pair is not None
    assert (pair.runs, pair.difference, pair.upper95) == (2, -5.0, -5.0)


def test_one_run_claims_nothing() -> None:
    """A single run has no interval, and must not read as a proof."""
    results = [a_result(failure_rate=0.02), a_result(rule=REFERENCE, failure_rate=0.02, failed=100)]
    pair = paired(grouped(results), Case("1.3", 0.01, 0.02, 1.0))
    assert pair is not None
    assert pair.upper95 == inf
    assert [claim.reached for claim in claims(grouped(results))] == [False]


def test_share_upper_is_the_exact_bound() -> None:
    """None of a thousand is at most 0.3 %; all of them is all."""
    assert share_upper(0, 1000) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert share_upper(7, 7) == 1.0


def test_files_have_the_promised_form() -> None:
    """Others read the JSON; people read the table."""
    results = [a_result(seed=seed, rule=rule) for seed in (1, 2) for rule in (OUTRIDER, REFERENCE)]
    rows = json.loads(as_json(results))
    assert [set(row) for row in rows] == [FIELDS, FIELDS]
    text = as_markdown(results, "make judge RUNS=2")
    assert "make judge RUNS=2" in text
    assert "Seeds 1 to 2" in text
