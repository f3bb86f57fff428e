"""Statistics: checked against exact sums, since nothing else here computes them."""

from __future__ import annotations

from fractions import Fraction
from math import comb, exp, isfinite, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.gates.evidence import (
    FAILURE_GRID,
    SILENCE_GRID,
    beta_above,
    e_value,
    incomplete_beta,
    log_e_value,
    wilson_upper,
)

rates = st.floats(min_value=0.0001, max_value=0.9999)


def binomial_tail(hits: int, trials: int, rate: float) -> float:
    """P(at least `hits` of `trials`), summed exactly: equals the incomplete beta function at whole numbers."""
    p = Fraction(rate)
    return float(sum(comb(trials, n) * p**n * (1 - p) ** (trials - n) for n in range(hits, trials + 1)))


@given(data=st.data(), trials=st.integers(min_value=1, max_value=60), rate=rates)
def test_incomplete_beta_equals_binomial_sums(data, trials, rate):
    """I_x(k, n - k + 1) is the binomial tail: an independent, exact way to the same number."""
    hits = data.draw(st.integers(min_value=1, max_value=trials))
    expected = binomial_tail(hits, trials, rate)
    assert incomplete_beta(rate, hits, trials - hits + 1) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [
        (0.5, 0.5, 0.5, 0.5),
        (0.25, 0.5, 0.5, 1 / 3),
        (0.3, 1.0, 1.0, 0.3),
        (0.3, 1.0, 2.5, 1 - 0.7**2.5),
        (0.3, 2.5, 1.0, 0.3**2.5),
    ],
)
def test_incomplete_beta_has_the_closed_forms(x, a, b, expected):
    """Half-integer and unit parameters, where the binomial sums do not reach."""
    assert incomplete_beta(x, a, b) == pytest.approx(expected, rel=1e-12)


@given(x=st.floats(min_value=0, max_value=1), a=st.floats(0.05, 1e7), b=st.floats(0.05, 1e7))
def test_incomplete_beta_is_a_probability(x, a, b):
    """Up to ten million vehicles it neither overflows nor leaves 0 to 1."""
    value = incomplete_beta(x, a, b)
    assert 0.0 <= value <= 1.0
    assert value + beta_above(x, a, b) == pytest.approx(1.0, abs=1e-6)


def test_probability_beyond_a_tiny_limit_keeps_its_digits():
    """One minus a tiny number is one to a float: the complement must not be computed through it."""
    x, a = 3e-64, 0.0625
    assert incomplete_beta(x, a, 1.0) == pytest.approx(x**a)
    assert beta_above(x, a, 1.0) == pytest.approx(1 - x**a)


@given(a=st.floats(0.1, 1e5), b=st.floats(0.1, 1e5), x=rates, y=rates)
def test_incomplete_beta_rises(a, b, x, y):
    """A distribution function never falls."""
    low, high = sorted((x, y))
    assert incomplete_beta(low, a, b) <= incomplete_beta(high, a, b) + 1e-9


@given(data=st.data(), trials=st.integers(min_value=0, max_value=10**7), limit=st.floats(0.0001, 0.9))
def test_e_value_is_finite(data, trials, limit):
    """A gate that crashes on a large fleet does not stop a bad release."""
    hits = data.draw(st.integers(min_value=0, max_value=trials))
    for grid in (FAILURE_GRID, SILENCE_GRID):
        logarithm = log_e_value(hits, trials, limit, grid)
        assert isfinite(logarithm)
        assert isfinite(e_value(logarithm))


@given(trials=st.integers(min_value=1, max_value=500), limit=st.floats(0.001, 0.5))
def test_e_value_rises_with_hits_and_falls_with_trials(trials, limit):
    """More failures are more evidence; more vehicles that did not fail are less."""
    values = [log_e_value(hits, trials, limit, FAILURE_GRID) for hits in range(trials + 1)]
    assert values == sorted(values)
    assert log_e_value(0, trials + 1, limit, FAILURE_GRID) < log_e_value(0, trials, limit, FAILURE_GRID)


@pytest.mark.parametrize("limit", [0.01, 0.06, 0.3])
@pytest.mark.parametrize("grid", [FAILURE_GRID, SILENCE_GRID])
def test_e_value_has_expectation_one_at_the_limit(limit, grid):
    """This is what makes it evidence: under a release that just keeps the limit it does not grow on average."""
    trials = 25
    mean = sum(
        comb(trials, hits) * limit**hits * (1 - limit) ** (trials - hits) * exp(log_e_value(hits, trials, limit, grid))
        for hits in range(trials + 1)
    )
    assert mean == pytest.approx(1.0, rel=1e-9)


def test_good_release_is_halted_rarely_however_often_one_looks():
    """Peeking is the first bug: the chance that the bound is ever crossed within 2,000 vehicles, computed exactly by
    walking every path at a true rate that equals the limit, stays below alpha.
    """
    limit, alpha = 0.01, 0.05
    alive = {0: 1.0}
    crossed = 0.0
    for trials in range(1, 2001):
        after: dict[int, float] = {}
        for hits, chance in alive.items():
            after[hits] = after.get(hits, 0.0) + chance * (1 - limit)
            after[hits + 1] = after.get(hits + 1, 0.0) + chance * limit
        for hits in [hits for hits in after if log_e_value(hits, trials, limit, FAILURE_GRID) >= log(1 / alpha)]:
            crossed += after.pop(hits)
        alive = after
    assert 0.001 < crossed < alpha


@given(data=st.data(), trials=st.integers(min_value=1, max_value=10**7))
def test_wilson_upper_lies_above_the_rate(data, trials):
    """An upper bound below what was seen would open the budget too far."""
    hits = data.draw(st.integers(min_value=0, max_value=trials))
    assert hits / trials <= wilson_upper(hits, trials) + 1e-12
    assert wilson_upper(hits, trials) <= 1.0


def test_wilson_upper_known_values():
    """Without hits it is z^2 / (n + z^2); without trials nothing is known."""
    assert wilson_upper(0, 20) == pytest.approx(1.645**2 / (20 + 1.645**2))
    assert wilson_upper(0, 0) == 1.0
    assert wilson_upper(5, 5) == pytest.approx(1.0)
