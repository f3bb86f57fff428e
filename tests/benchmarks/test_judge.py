"""The study and its figures, in the short form of `make judge`."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judge.__main__ import main
from benchmarks.judge.cells import (
    COHORTS,
    GOOD,
    HELD_OUT,
    LIMITED,
    OTHERS_MOST,
    OTHERS_SHARE,
    OUTRIDER,
    PERFECT,
    REFERENCE,
    UNCLAIMED_MOST,
    Case,
    chosen,
    fleet_names,
    fleet_of,
    seeds_of,
    tabled,
)
from benchmarks.judge.claims import claims
from benchmarks.judge.figures import figures_of, grouped, paired, share_upper
from benchmarks.judge.plans import plan_of, variant_places
from benchmarks.judge.study import RULES, Kept, Result, run_seed, study
from benchmarks.judge.table import as_json, as_markdown, as_text

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
        "stopped_by": "evidence",
        "failed": 10,
        "failed_variant": 0,
        "exposed": 50,
        "days": 1.5,
        "days_to_95": None,
    }
    return Result(**{**fields, **changes})


def test_engine_harms_no_more_than_the_reference_in_the_worst_cell(tmp_path: Path) -> None:
    """A fifth of the fleet bricked silently: the short form of the first claim."""
    found = grouped(study(dict.fromkeys(SHORT, range(1, 7)), Kept(tmp_path), workers=2, done=lambda _: None))
    pair = paired(found, CASE)
    assert pair is not None
    assert pair.runs == 6
    assert pair.outrider_mean <= 1.05 * pair.reference_mean
    assert all(one.ending in ("halted", "held") for runs in found.values() for one in runs)


def test_a_study_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    """A thousand runs take hours: nothing finished is run again, and half a line is no run."""
    cells = {(REFERENCE, CASE): range(2)}
    first = study(cells, Kept(tmp_path), workers=1, done=lambda _: None)
    (path,) = tmp_path.glob("reference-*.jsonl")
    with path.open("a") as file:
        file.write('{"rule": "reference", "fle')
    told: list[int] = []
    again = study(cells, Kept(tmp_path), workers=1, done=told.append)
    assert told == [2]
    assert again == first


def test_a_run_is_repeated_exactly() -> None:
    """A figure that nobody can repeat is no figure."""
    assert run_seed("1.3", 5, SHORT) == run_seed("1.3", 5, SHORT)


def test_every_rule_and_claimed_cell_is_in_the_table() -> None:
    """A claim without its cell would silently not be made."""
    cells = tabled(tuple(RULES))
    assert {rule for rule, _ in cells} == set(RULES)
    assert {case.fleet for rule, case in cells if rule == OUTRIDER} == set(fleet_names())
    assert len(set(cells)) == len(cells)


def test_fleets_that_nothing_is_tuned_on_are_run_on_fewer_seeds() -> None:
    """Their runs are the longest; but one at least, or their claims would silently not be made."""
    tuned, held_out = (OUTRIDER, CASE), (OUTRIDER, Case(HELD_OUT[0], 0.01, 0.05, 1.0))
    seeds = seeds_of([tuned, held_out], range(1, 61))
    assert (len(seeds[tuned]), len(seeds[held_out])) == (60, min(OTHERS_MOST, 60 // OTHERS_SHARE))
    assert len(seeds_of([held_out], range(1, 2))[held_out]) == 1
    perfect = (OUTRIDER, replace(CASE, failure_rate=PERFECT[0], silent_share=PERFECT[1]))
    good, unclaimed = (Case(fleet, 0.01, *GOOD[0]) for fleet in ("1.3", "habits"))
    seeds = seeds_of([tuned, (OUTRIDER, good), held_out, perfect, (OUTRIDER, unclaimed)], range(1, 1001))
    assert [len(of_cell) for of_cell in seeds.values()] == [1000, 1000, OTHERS_MOST, UNCLAIMED_MOST, UNCLAIMED_MOST]


@pytest.mark.parametrize("name", LIMITED)
def test_a_limited_fleet_is_the_same_fleet_under_another_plan(name: str) -> None:
    """What differs between its row and the fleet's own is the limit, and nothing else."""
    limited, free = Case(name, 0.01, 0.0, 0.0), Case(LIMITED[name], 0.01, 0.0, 0.0)
    assert fleet_of(name).patterns == fleet_of(LIMITED[name]).patterns
    assert plan_of(limited).limits != plan_of(free).limits
    assert plan_of(limited).gate == plan_of(free).gate


@pytest.mark.parametrize("name", COHORTS)
def test_a_fleet_in_cohorts_goes_by_whole_cohorts_and_is_the_same_fleet(name: str) -> None:
    """Whoever writes such a plan, and most do, has to find in the table what it costs."""
    fleet, plan = fleet_of(name), plan_of(Case(name, 0.01, 0.0, 0.0))
    assert fleet.patterns == fleet_of(COHORTS[name]).patterns
    assert sum(share for _, share in fleet.cells) == pytest.approx(1.0)
    named = {cohort for wave in plan.waves for cohort in wave.cohorts}
    assert named < {cell.cohort for cell, _ in fleet.cells}
    assert {wave.share for wave in plan.waves} == {1.0}


def test_a_quick_look_is_at_what_was_asked_for() -> None:
    """Whoever tunes asks for a cell that the table need not have; without releases it is the table's own."""
    release = (0.07, 0.5)
    assert chosen(["outrider"], ["habits-slow"], [release]) == [(OUTRIDER, Case("habits-slow", 0.01, *release))]
    known = chosen([], ["1.3"], [])
    assert {rule for rule, _ in known} == {OUTRIDER, REFERENCE}
    assert set(known) <= set(tabled(tuple(RULES)))


@pytest.mark.parametrize("written", ["much", "2:1", "0.05:-1", "nan:1"])
def test_a_release_that_is_none_is_refused(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error must not become a study of something else."""
    with pytest.raises(SystemExit):
        main(["--release", written])
    assert written in capsys.readouterr().err


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


def test_a_single_run_is_json_that_everybody_can_read() -> None:
    """Infinity is no JSON: an interval that nobody knows is null."""
    (row,) = json.loads(as_json([a_result()]), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert row["failed_ci95"] is None
    assert row["failed_mean"] == 10


def test_only_the_variants_own_vehicles_count_for_its_claim() -> None:
    """The others fail at their own rate, by the hundred: what they lose is not the variant's."""
    results = [
        a_result(fleet="1.3-variant", failure_rate=0.003, silent_share=0.0, seed=seed, failed=300, failed_variant=2)
        for seed in (1, 2)
    ]
    (claim,) = claims(grouped(results))
    assert claim.reached
    assert claim.measured == "2.0 vehicles of it"


def test_a_silent_variant_is_held_against_its_places_in_the_first_wave() -> None:
    """Nobody can hear of silence before the first wave is exposed: its share of that is what cannot be saved."""
    case = Case("1.3-variant", 0.01, 0.003, 1.0)
    places = variant_places(case)
    assert 1 <= places <= 25
    shared = {"fleet": case.fleet, "failure_rate": 0.003, "failed": 300}
    for failed, reached in ((places, True), (places + 1, False)):
        (claim,) = claims(grouped([a_result(**shared, failed_variant=failed)]))
        assert claim.reached is reached
        assert f"{places} places" in claim.measured


def test_a_run_counts_the_variant_apart() -> None:
    """The variant's vehicles are among those that failed, and never all of them where the others fail as well."""
    (result,) = run_seed("1.3-variant", 1, [(OUTRIDER, Case("1.3-variant", 0.01, 0.02, 1.0))])
    assert 0 < result.failed_variant < result.failed
    (result,) = run_seed("1.3", 1, [(OUTRIDER, CASE)])
    assert result.failed_variant == 0 < result.failed


@pytest.mark.parametrize("ending", ["halted", "held", "stalled"])
def test_a_perfect_release_that_is_stopped_once_breaks_its_claim(ending: str) -> None:
    """One false stop of a release that harms nobody is one too many in so few runs."""
    endings = ["completed"] * 19 + [ending]
    runs = [
        a_result(fleet="habits-fast", failure_rate=0.0, silent_share=0.0, seed=seed, ending=one, failed=0)
        for seed, one in enumerate(endings)
    ]
    (claim,) = claims(grouped(runs))
    assert not claim.reached
    assert f"1 {ending}" in claim.measured
    (claim,) = claims(grouped(runs[:19]))
    assert claim.reached


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


def test_the_short_table_says_what_stopped_the_runs() -> None:
    """Whoever tunes wants the rule that held, not only that it did."""
    results = [a_result(seed=1), a_result(seed=2, ending="held", stopped_by="silence_posterior_1"), a_result(seed=3)]
    assert "evidence 2, silence_posterior_1 1" in as_text(results)
