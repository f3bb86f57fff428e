"""Faults of a release over a modelled fleet of a hundred thousand, where only many vehicles can show the bound."""

from __future__ import annotations

from statistics import fmean

import pytest

from benchmarks.judge.cells import OUTRIDER, Case
from benchmarks.judge.study import Result, run_seed

SILENT_BRICKS_MAX = 25.0
"""Vehicles harmed at 5 %, all silent, by the reference rule: the design's table 1.3."""
VARIANT_MAX = 3.0
"""Vehicles of a variant of 0.5 % that always fails by word, on average."""
SEEDS = range(5001, 5013)


def runs(case: Case, seeds: range) -> list[Result]:
    """One run of the engine for each seed."""
    return [run_seed(case.fleet, seed, [(OUTRIDER, case)])[0] for seed in seeds]


@pytest.mark.fault("F8")
def test_a_twentieth_bricked_in_silence_harms_no_more_than_the_published_bound() -> None:
    """A rule that reads acknowledgements alone would have let it through to five thousand."""
    found = runs(Case("1.3", 0.01, 0.05, 1.0), SEEDS)
    assert all(run.ending in ("halted", "held") for run in found)
    assert 0 < fmean(run.failed for run in found) <= SILENT_BRICKS_MAX


@pytest.mark.fault("F9")
def test_a_variant_that_always_fails_stops_after_a_few_of_it() -> None:
    """One in two hundred drowns in the sum: without strata nearly all of them would be lost."""
    found = runs(Case("1.3-variant", 0.01, 0.003, 0.0), SEEDS[:4])
    assert 0 < fmean(run.failed_variant for run in found) <= VARIANT_MAX
