"""Statistics of yes-or-no outcomes: what a gate asks of counts.

Owns the formulas, knows nothing of rollouts. Everything is computed in logarithms or bounded forms, so that counts from
none to ten million neither overflow nor divide by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, fsum, lgamma, log, log1p, sqrt

FAILURE_GRID = (1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0)
"""Alternatives for failures, as multiples of the limit. Source: docs/decisions, rule PROCEED / HOLD / HALT."""
SILENCE_GRID = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 18.0)
"""Alternatives for silence, as multiples of the reference plus the limit. Source: the same."""

_LARGEST_ALTERNATIVE = 0.97
_Z_95 = 1.645
_LARGEST_EXPONENT = 700.0
_TINY = 1e-300
_FRACTION_STEPS_MAX = 100_000


def log_e_value(hits: int, trials: int, limit: float, grid: Sequence[float]) -> float:
    """Logarithm of the evidence that the rate of hits is above `limit`: a grid mixture of likelihood ratios.

    Read at any time and as often as one likes, it exceeds log(1 / alpha) with probability at most alpha while the rate
    keeps the limit (Ville's inequality). Trials whose outcome is pending count as good.

    Args:
        hits: 0 to `trials`.
        trials: How many.
        limit: The rate that is accepted, within (0, 1).
        grid: Alternatives as multiples of the limit; those of 97 % and more are dropped. Where none is left, the
            alternative is half way between the limit and one.

    Returns:
        Natural logarithm of the e-value; 0 means no evidence either way.
    """
    rates = [limit * factor for factor in grid if limit * factor < _LARGEST_ALTERNATIVE] or [(1.0 + limit) / 2.0]
    logs = [hits * log(rate / limit) + (trials - hits) * (log1p(-rate) - log1p(-limit)) for rate in rates]
    largest = max(logs)
    return largest + log(fsum(exp(value - largest) for value in logs) / len(logs))


def e_value(logarithm: float) -> float:
    """An e-value from its logarithm, cut where a float ends, so that it can be written as JSON."""
    return exp(min(logarithm, _LARGEST_EXPONENT))


def wilson_upper(hits: int, trials: int) -> float:
    """Upper end of Wilson's score interval, one-sided 95 %; 1 when there are no trials."""
    if trials <= 0:
        return 1.0
    rate, z2 = hits / trials, _Z_95**2
    spread = _Z_95 * sqrt(rate * (1.0 - rate) / trials + z2 / (4.0 * trials**2))
    return min(1.0, (rate + z2 / (2.0 * trials) + spread) / (1.0 + z2 / trials))


def beta_above(x: float, a: float, b: float) -> float:
    """Probability that a Beta(a, b) variable lies above `x`.

    Args:
        x: 0 to 1.
        a: Positive.
        b: Positive.
    """
    return _regularised(1.0 - x, x, b, a)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b): probability that a Beta(a, b) variable is at most `x`.

    By its continued fraction, evaluated on the side where that converges fast. Source: DLMF 8.17.22.
    """
    return _regularised(x, 1.0 - x, a, b)


def _regularised(x: float, y: float, a: float, b: float) -> float:
    """I_x(a, b) of `x` and `y` = 1 - x: the smaller of the two is exact, and the larger is made from it."""
    if x <= 0.0:
        return 0.0
    if y <= 0.0:
        return 1.0
    log_x, log_y = (log(x), log1p(-x)) if x < y else (log1p(-y), log(y))
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log_x + b * log_y)
    if x < (a + 1.0) / (a + b + 2.0):
        return min(1.0, front * _beta_fraction(x, a, b) / a)
    return max(0.0, 1.0 - front * _beta_fraction(y, b, a) / b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, by Lentz's method."""
    c = 1.0
    d = 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _FRACTION_STEPS_MAX):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        step = 1.0
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            step = c * d
            value *= step
        if abs(step - 1.0) < 1e-13:
            break
    # It takes about sqrt(max(a, b)) steps: the bound is out of reach of any fleet.
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
