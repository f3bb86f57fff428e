"""Evidence beside controls: honest though the normal rate is only estimated, and checked against SciPy."""

from __future__ import annotations

from itertools import product
from math import exp, inf, isfinite, log, log1p
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from orchestrator.engine.gates.evidence import (
    FAILURE_GRID,
    SILENCE_GRID,
    Normal,
    alternatives,
    beta_above,
    incomplete_beta,
    log_e_beside,
    log_e_value,
    wilson_upper,
)
from orchestrator.engine.gates.habits import POOLED_BELIEF, Told
from orchestrator.engine.gates.rules import HABIT_NORMAL, HABIT_RATES, reference_weight
from orchestrator.model.tally import AgeGroup

MARGIN, REFERENCE = 0.01, 0.05
RATES = alternatives(REFERENCE + MARGIN, SILENCE_GRID)
DISTRUSTED = Normal(rate=REFERENCE, spread_weight=100.0, trusted=REFERENCE, trust_weight=0.0)
TRUSTED = Normal(rate=REFERENCE, spread_weight=100.0, trusted=REFERENCE, trust_weight=100.0)


def beside(hits: int, trials: int, normal_hits: int, normal_trials: int, normal: Normal = DISTRUSTED) -> float:
    """The evidence at the plan's usual numbers."""
    return log_e_beside(hits, trials, normal_hits, normal_trials, margin=MARGIN, normal=normal, rates=RATES)


@given(
    x=st.floats(0.0, 1.0),
    a=st.floats(0.05, 1e5),
    b=st.floats(0.05, 1e5),
)
def test_incomplete_beta_is_scipys(x, a, b):
    """SciPy computes the same function by other means."""
    assert incomplete_beta(x, a, b) == pytest.approx(float(special.betainc(a, b, x)), rel=1e-8, abs=1e-12)
    assert beta_above(x, a, b) == pytest.approx(float(special.betaincc(a, b, x)), rel=1e-8, abs=1e-11)


@given(trials=st.integers(1, 10**6), data=st.data())
def test_wilson_upper_is_where_the_score_test_turns(trials, data):
    """Its definition: the largest rate whose distance from what was seen is not yet 1.645 standard errors."""
    hits = data.draw(st.integers(0, trials))
    upper = wilson_upper(hits, trials)
    if upper < 1.0:
        error = (upper * (1.0 - upper) / trials) ** 0.5
        assert upper - hits / trials == pytest.approx(1.645 * error, rel=1e-6, abs=1e-7)


@given(limit=st.floats(0.001, 0.4), trials=st.integers(0, 5000), data=st.data())
def test_e_value_is_the_mean_of_scipys_likelihood_ratios(limit, trials, data):
    """The likelihood of each alternative over that of the limit, averaged: nothing else."""
    hits = data.draw(st.integers(0, trials))
    at_limit = stats.binom.logpmf(hits, trials, limit)
    ratios = [stats.binom.logpmf(hits, trials, rate) - at_limit for rate in alternatives(limit, FAILURE_GRID)]
    expected = special.logsumexp(ratios) - log(len(ratios))
    assert log_e_value(hits, trials, limit, FAILURE_GRID) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(
    data=st.data(),
    trials=st.integers(0, 400),
    controls=st.integers(0, 400),
    margin=st.floats(0.001, 0.3),
    reference=st.floats(0.01, 0.4),
    weight=st.sampled_from([0.0, 1.0, 100.0]),
)
def test_evidence_beside_controls_is_what_scipy_finds(data, trials, controls, margin, reference, weight):
    """Numerator by SciPy's beta-binomial, the largest null likelihood by a blind search of both rates."""
    hits, normal_hits = data.draw(st.integers(0, trials)), data.draw(st.integers(0, controls))
    normal = Normal(rate=reference, spread_weight=50.0, trusted=reference, trust_weight=weight)
    rates = alternatives(reference + margin, SILENCE_GRID)
    found = log_e_beside(hits, trials, normal_hits, controls, margin=margin, normal=normal, rates=rates)

    def ways(rate: float, good: float, bad: float) -> float:
        return (good * log(rate) if good else 0.0) + (bad * log1p(-rate) if bad else 0.0)

    def null(hits: int, trials: int) -> float:
        def likely(q: float) -> float:
            allowed = min(q + margin, 1 - 1e-12, max(hits / trials if trials else 0.0, 1e-12))
            paid = weight * (reference * log(q / reference) + (1 - reference) * log((1 - q) / (1 - reference)))
            return ways(q, normal_hits, controls - normal_hits) + ways(allowed, hits, trials - hits) + paid

        best = optimize.minimize_scalar(lambda q: -likely(q), bounds=(1e-12, 1 - 1e-12), method="bounded")
        middle = normal_hits / controls if 0 < normal_hits < controls else 0.5
        return max(-best.fun, likely(1e-9), likely(1 - 1e-9), likely(middle))

    prior = stats.betabinom(controls, 50.0 * reference, 50.0 * (1 - reference))
    spread = prior.logpmf(normal_hits) - _log_choose(controls, normal_hits) if controls else 0.0
    mixed = special.logsumexp([ways(rate, hits, trials - hits) for rate in rates]) - log(len(rates))
    expected = mixed + spread - null(hits, trials) - max(0.0, spread - null(0, 0))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-3)
    # The largest likelihood was found: a blind search finds none larger.
    assert found <= expected + 2e-3


def _log_choose(n: int, k: int) -> float:
    return float(-special.betaln(n - k + 1, k + 1) - log(n + 1))


@pytest.mark.parametrize("q", [0.0, 0.01, 0.05, 0.2, 0.6, 0.95])
@pytest.mark.parametrize(("trials", "controls"), [(12, 0), (12, 6), (10, 20), (25, 12)])
def test_evidence_expects_nothing_whatever_the_normal_rate(q, trials, controls):
    """Summed over every outcome at the edge of what is accepted: at most one, for a q that nobody told the gate."""
    rate = min(1.0, q + MARGIN)
    mean = sum(
        stats.binom.pmf(hits, trials, rate)
        * stats.binom.pmf(normal, controls, q)
        * exp(beside(hits, trials, normal, controls))
        for hits, normal in product(range(trials + 1), range(controls + 1))
    )
    assert mean <= 1.0 + 1e-9


@pytest.mark.parametrize("q", [0.02, 0.05, 0.08, 0.12])
def test_trust_in_a_wrong_reference_costs_no_more_than_stated(q):
    """A plan says 5 %; where the truth is another, the error grows by at most exp(weight x KL), and not with trials."""
    trials, controls = 30, 12
    divergence = REFERENCE * log(REFERENCE / q) + (1 - REFERENCE) * log((1 - REFERENCE) / (1 - q))
    mean = sum(
        stats.binom.pmf(hits, trials, q + MARGIN)
        * stats.binom.pmf(normal, controls, q)
        * exp(beside(hits, trials, normal, controls, TRUSTED))
        for hits, normal in product(range(trials + 1), range(controls + 1))
    )
    assert mean <= exp(100.0 * divergence)
    if q == REFERENCE:
        assert mean <= 1.0


@given(controls=st.integers(0, 400), data=st.data(), weight=st.floats(0.0, 200.0), trusted=st.floats(0.001, 0.5))
def test_controls_alone_are_no_evidence(controls, data, weight, trusted):
    """Where far more of them are silent than was thought, that was wrong; no release has done anything yet."""
    normal = Normal(rate=REFERENCE, spread_weight=100.0, trusted=trusted, trust_weight=weight)
    assert beside(0, 0, data.draw(st.integers(0, controls)), controls, normal) <= 1e-9


def ever_crosses(random: Random, *, q: float, rate: float, ahead: int, trials: int, bound: float, habit: bool) -> bool:
    """Whether a gate that looks after every tenth vehicle ever sees evidence `bound`, one control for each exposure."""
    hits = normal_hits = 0
    for _ in range(ahead):
        normal_hits += random.random() < q
    for trial in range(1, trials + 1):
        hits += random.random() < rate
        normal_hits += random.random() < q
        if trial % 10:
            continue
        controls = ahead + trial
        if habit:
            normal, rates = HABIT_NORMAL, HABIT_RATES
        else:
            weight = reference_weight(Told(AgeGroup(controls=controls), POOLED_BELIEF))
            normal, rates = Normal(REFERENCE, POOLED_BELIEF, REFERENCE, weight), RATES
        found = log_e_beside(hits, trial, normal_hits, controls, margin=MARGIN, normal=normal, rates=rates)
        if found >= bound:
            return True
    return False


@pytest.mark.parametrize("habit", [False, True])
@pytest.mark.parametrize("q", [0.03, 0.05, 0.08])
def test_alpha_holds_though_the_normal_rate_is_estimated(q, habit):
    """Looked at 100 times over 1,000 exposures that just keep the limit, with 60 controls ahead: a bound of 1 / alpha
    is ever crossed in less than alpha of the runs, also where the plan's reference is wrong.
    """
    random, runs, alpha = Random(f"alpha {q} {habit}"), 300, 0.05
    crossed = sum(
        ever_crosses(random, q=q, rate=q + MARGIN, ahead=60, trials=1000, bound=log(1 / alpha), habit=habit)
        for _ in range(runs)
    )
    assert crossed / runs <= alpha


def test_a_reference_taken_for_known_would_not_be_honest():
    """What the estimate is for: by the plan's 5 % alone, a fleet of which 8 % are silent is halted in most runs."""
    random, crossed = Random("known"), 0
    for _ in range(50):
        hits = 0
        for trial in range(1, 2001):
            hits += random.random() < 0.08
            if trial % 20 == 0 and log_e_value(hits, trial, REFERENCE + MARGIN, SILENCE_GRID) >= log(20):
                crossed += 1
                break
    assert crossed >= 35


def test_evidence_grows_when_exposures_fall_silent_and_controls_do_not():
    """Half of a hundred silent, beside two hundred of whom one in twenty is: beyond any doubt within a day."""
    assert beside(50, 100, 10, 200) > log(10_000)
    assert beside(20, 100, 40, 200) < log(1)
    assert beside(5, 5, 10, 200) > log(100)


@given(trials=st.integers(0, 10**7), controls=st.integers(0, 10**7), data=st.data(), margin=st.floats(0.0001, 0.4))
def test_evidence_beside_controls_is_finite(trials, controls, data, margin):
    """A gate that crashes on a large fleet does not stop a bad release."""
    hits, normal_hits = data.draw(st.integers(0, trials)), data.draw(st.integers(0, controls))
    for normal in (DISTRUSTED, TRUSTED, HABIT_NORMAL):
        found = log_e_beside(hits, trials, normal_hits, controls, margin=margin, normal=normal, rates=RATES)
        assert isfinite(found)
        assert found < inf


@given(trials=st.integers(1, 300), controls=st.integers(0, 300), data=st.data())
def test_one_more_silent_exposure_is_never_less_evidence(trials, controls, data):
    """Where there is some, and no more than anybody asks for: between two alternatives both are beyond any doubt. Where
    more than a fifth of the controls are silent, alternatives that lie so far from each other are no measure.
    """
    hits = data.draw(st.integers(0, trials - 1))
    normal_hits = data.draw(st.integers(0, controls // 5))
    more, less = (beside(each, trials, normal_hits, controls, TRUSTED) for each in (hits + 1, hits))
    assert more >= less - 1e-6 or max(more, less) <= 0.0 or min(more, less) > log(100_000)
