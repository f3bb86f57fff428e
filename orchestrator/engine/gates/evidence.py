"""Statistics of yes-or-no outcomes: what a gate asks of counts.

Owns the formulas, knows nothing of rollouts. Everything is computed in logarithms or bounded forms, so that counts from
none to ten million neither overflow nor divide by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import exp, fsum, inf, lgamma, log, log1p, sqrt

FAILURE_GRID = (1.5, 2.0, 3.0, 5.0, 10.0, 25.0, 60.0)
"""Alternatives for failures, as multiples of the limit. Source: the reference study (docs/decisions/0006)."""
SILENCE_GRID = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 18.0)
"""Alternatives for silence, as multiples of the reference plus the limit. Source: the same."""

_LARGEST_ALTERNATIVE = 0.9
"""Where a release breaks everything, this is what the evidence grows by."""
_Z_95 = 1.645
_LARGEST_EXPONENT = 700.0
_TINY = 1e-300
_FRACTION_STEPS_MAX = 100_000
_ENOUGH = 1e-13
_ROOT_WIDTH = 1e-10
_REMEMBERED = 1 << 9
"""Answers kept of each pure function: between two ticks the counts of few scopes change. One anew costs 5 to 30 us, so
what was said of counts long gone is not worth its memory."""


@dataclass(frozen=True, slots=True)
class Normal:
    """What is thought of the normal rate of hits before any control is seen."""

    rate: float
    """Fixed beforehand, within (0, 1): alternatives spread around it. A wrong one costs power only."""
    spread_weight: float
    """Controls' worth of their concentration."""
    trusted: float
    """The rate that is believed, within (0, 1)."""
    trust_weight: float
    """Controls' worth of that belief; 0 believes nothing."""


@lru_cache(maxsize=_REMEMBERED)
def log_e_value(hits: int, trials: int, limit: float, grid: Sequence[float]) -> float:
    """Logarithm of the evidence that the rate of hits is above `limit`: a grid mixture of likelihood ratios.

    Read at any time and as often as one likes, it exceeds log(1 / alpha) with probability at most alpha while the rate
    keeps the limit (Ville's inequality). Trials whose outcome is pending count as good.

    Args:
        hits: 0 to `trials`.
        trials: How many.
        limit: The rate that is accepted, within (0, 1).
        grid: Alternatives as multiples of the limit, see `alternatives`.

    Returns:
        Natural logarithm of the e-value; 0 means no evidence either way.
    """
    rates = alternatives(limit, grid)
    logs = [hits * log(rate / limit) + (trials - hits) * (log1p(-rate) - log1p(-limit)) for rate in rates]
    largest = max(logs)
    return largest + log(fsum(exp(value - largest) for value in logs) / len(logs))


def alternatives(limit: float, grid: Sequence[float]) -> tuple[float, ...]:
    """Rates above `limit` that evidence is mixed over: its multiples by the grid, and 90 % for all that exceed that.

    Where the limit is as large itself, the alternative is half way between it and one.
    """
    rates = dict.fromkeys(min(limit * factor, _LARGEST_ALTERNATIVE) for factor in grid)
    return tuple(rate for rate in rates if rate > limit) or ((1.0 + limit) / 2.0,)


@lru_cache(maxsize=_REMEMBERED)
def log_e_beside(
    hits: int,
    trials: int,
    normal_hits: int,
    normal_trials: int,
    *,
    margin: float,
    normal: Normal,
    rates: tuple[float, ...],
) -> float:
    """Logarithm of the evidence that hits are more frequent than among controls, by more than `margin`.

    The likelihood of everything seen, mixed over alternatives that were fixed beforehand, over the largest likelihood
    that any normal rate q allows when the rate is at most q + margin. As the largest is never below the true one, this
    never exceeds a test martingale, in whatever order trials and controls were seen: however often one looks, it
    exceeds log(1 / alpha) with probability at most alpha, though q is only estimated. No distribution of q is assumed.
    Source: Wasserman, Ramdas, Balakrishnan, Universal inference (2020), its running form.

    What is believed of q enters as `normal.trust_weight` controls that were never seen: the largest likelihood pays for
    leaving `normal.trusted`. If the true q is another, the bound on the error grows by at most
    exp(trust_weight x KL(trusted, q)), however many trials there are. What controls alone say against that belief says
    nothing about the trials, and is taken off again.

    Args:
        hits: 0 to `trials`.
        trials: Whose outcome is known.
        normal_hits: 0 to `normal_trials`.
        normal_trials: Controls whose outcome is known.
        margin: What is accepted above the normal rate, within (0, 1).
        normal: What is known of q beforehand.
        rates: Alternatives for the rate of hits, within (0, 1).

    Returns:
        Natural logarithm of the e-value.
    """
    logs = [hits * log(rate) + (trials - hits) * log1p(-rate) for rate in rates]
    largest = max(logs)
    mixed = largest + log(fsum(exp(value - largest) for value in logs) / len(logs))
    spread = _spread(normal_hits, normal_trials, normal)
    null = _largest_null(hits, trials, normal_hits, normal_trials, margin=margin, normal=normal)
    unbelieved = spread - _largest_null(0, 0, normal_hits, normal_trials, margin=margin, normal=normal)
    return mixed + spread - null - max(0.0, unbelieved)


def _spread(normal_hits: int, normal_trials: int, normal: Normal) -> float:
    """Logarithm of the likelihood of the controls, mixed over the rates that are expected of them."""
    a, b = normal.spread_weight * normal.rate, normal.spread_weight * (1.0 - normal.rate)
    return _log_beta(a + normal_hits, b + normal_trials - normal_hits) - _log_beta(a, b)


def _largest_null(
    hits: int, trials: int, normal_hits: int, normal_trials: int, *, margin: float, normal: Normal
) -> float:
    """Logarithm of the largest likelihood with rate <= q + margin, less what is paid for leaving the trusted rate."""
    weight, trusted = normal.trust_weight, normal.trusted
    good, bad = weight * (1.0 - trusted) + normal_trials - normal_hits, weight * trusted + normal_hits
    paid = weight * (trusted * log(trusted) + (1.0 - trusted) * log1p(-trusted))
    rate = hits / trials if trials else 0.0
    q = bad / (good + bad) if good + bad > 0.0 else 1.0
    if rate > q + margin:
        # Both parts rise up to the best q of the controls and both fall beyond rate - margin: the top lies between.
        q = _top(bad, good, hits, trials - hits, margin=margin, low=q, high=rate - margin)
        rate = q + margin
    return _log_likelihood(q, bad, good) + _log_likelihood(rate, hits, trials - hits) - paid


def _top(bad: float, good: float, hits: int, misses: int, *, margin: float, low: float, high: float) -> float:
    """Where the sum of two log-likelihoods, at q and at q + margin, is largest: its slope falls, so halve."""
    # The top is flat: what is left of the width costs its square.
    while high - low > _ROOT_WIDTH:
        q = (low + high) / 2.0
        slope = bad / q - good / (1.0 - q) + hits / (q + margin) - misses / max(1.0 - q - margin, _TINY)
        low, high = (q, high) if slope > 0.0 else (low, q)
    return low


def _log_likelihood(rate: float, hits: float, misses: float) -> float:
    """Logarithm of rate^hits x (1 - rate)^misses, where nothing times log(0) is nothing."""
    likely = hits * (log(rate) if rate > 0.0 else -inf) if hits else 0.0
    return likely + (misses * (log1p(-rate) if rate < 1.0 else -inf) if misses else 0.0)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


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


@lru_cache(maxsize=_REMEMBERED)
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
    d = value = 1.0 / (1.0 - (a + b) * x / (a + 1.0) or _TINY)
    # It takes about sqrt(max(a, b)) steps: the bound is out of reach of any fleet.
    for m in range(1, _FRACTION_STEPS_MAX):
        at = a + 2 * m
        even = m * (b - m) * x / ((at - 1.0) * at)
        d = 1.0 / (1.0 + even * d or _TINY)
        c = 1.0 + even / c or _TINY
        value *= c * d
        odd = -(a + m) * (a + b + m) * x / (at * (at + 1.0))
        d = 1.0 / (1.0 + odd * d or _TINY)
        c = 1.0 + odd / c or _TINY
        step = c * d
        value *= step
        if -_ENOUGH < step - 1.0 < _ENOUGH:
            break
    return value
