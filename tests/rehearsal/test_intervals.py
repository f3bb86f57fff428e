"""What several runs say together agrees with SciPy and NumPy."""

from __future__ import annotations

from math import lgamma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binomtest

from orchestrator.rehearsal.intervals import share, spread


@given(runs=some.integers(1, 2000), part=some.floats(0, 1), confidence=some.sampled_from([0.8, 0.95, 0.99]))
def test_the_interval_of_a_share_is_the_exact_one(runs: int, part: float, confidence: float) -> None:
    """A chance of a false stop that is stated too narrowly is a promise nobody keeps."""
    hits = round(part * runs)
    ours = share(hits, runs, confidence)
    theirs = binomtest(hits, runs).proportion_ci(confidence, method="exact")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert ours.low <= ours.share <= ours.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Counted, not derived: over every outcome of 40 runs at a chance of 7 %."""
    truth, runs = 0.07, 40
    covered = sum(
        float(np.exp(_log_choose(runs, hits) + hits * np.log(truth) + (runs - hits) * np.log1p(-truth)))
        for hits in range(runs + 1)
        if share(hits, runs).low <= truth <= share(hits, runs).high
    )
    assert covered >= 0.95


def test_no_run_says_nothing() -> None:
    """From nothing follows neither never nor always."""
    nothing = share(0, 0)
    assert (nothing.low, nothing.high, nothing.share) == (0.0, 1.0, 0.0)
    assert spread([]) is None


@pytest.mark.parametrize(("hits", "runs"), [(-1, 5), (6, 5)])
def test_a_count_that_cannot_be_is_refused(hits: int, runs: int) -> None:
    """It would be a defect of the report, not a result."""
    with pytest.raises(ValueError, match="not within"):
        share(hits, runs)


@given(some.lists(some.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_quantiles_are_those_of_numpy(values: list[float]) -> None:
    """People compare them with their own tools."""
    found = spread(values)
    assert found is not None
    assert found.median == pytest.approx(float(np.quantile(values, 0.5)), rel=1e-9, abs=1e-6)
    assert found.ninety == pytest.approx(float(np.quantile(values, 0.9)), rel=1e-9, abs=1e-6)
    assert found.mean == pytest.approx(float(np.mean(values)), rel=1e-9, abs=1e-6)
    assert (found.least, found.most, found.runs) == (min(values), max(values), len(values))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
