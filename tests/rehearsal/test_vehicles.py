"""Vehicles drawn from a seed: the same for every rule, true to the laws that the model states."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.rehearsal import CallPattern, Delays, ReleaseModel, draw_vehicles
from orchestrator.rehearsal.fleets import FLEET_13, FLEETS, HABITS
from orchestrator.rehearsal.vehicles import HABITS as HABIT_NAMES
from orchestrator.rehearsal.vehicles import control_silence, first_calls, heard_after, next_calls
from tests.rehearsal.fleets import a_fleet, some_vehicles


def test_a_seed_draws_the_same_vehicles() -> None:
    """Rules are compared on the same vehicles, or chance is compared."""
    one, other = draw_vehicles(HABITS, 7), draw_vehicles(HABITS, 7)
    for name in ("draw", "gap_h", "fate", "word_h", "habit", "after_u"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert not np.array_equal(one.draw, draw_vehicles(HABITS, 8).draw)


def test_a_worse_release_fails_the_same_vehicles_and_more() -> None:
    """A dearer cell of the table differs by the release, not by luck."""
    vehicles = draw_vehicles(a_fleet(), 3)
    mild, bad = vehicles.under(ReleaseModel(0.02, 0.3)), vehicles.under(ReleaseModel(0.2, 0.3))
    assert np.all(bad.fails[mild.fails])
    assert 0.15 < bad.fails.mean() < 0.25
    assert np.all(bad.fails[bad.silent])


def test_fleet_of_the_reference_calls_as_described() -> None:
    """80 % call within a day, the others uniformly within two weeks: the figures of the reference depend on it."""
    vehicles = draw_vehicles(FLEET_13, 1)
    who = np.arange(FLEET_13.size)
    calls_h = first_calls(vehicles, who, 100.0, np.random.default_rng(1)) - 100.0
    assert (calls_h < 24).mean() == pytest.approx(0.8 + 0.2 / 14, abs=0.005)
    late = calls_h[vehicles.pattern == 1]
    assert stats.kstest(late[:5000] / (14 * 24), "uniform").pvalue > 0.001


def test_words_are_log_normal_but_for_garages_and_losses() -> None:
    """Median of an hour, one in twenty in a garage up to two weeks, one in a thousand never heard again."""
    vehicles = draw_vehicles(FLEET_13, 2)
    words = heard_after(vehicles, np.arange(FLEET_13.size), np.zeros(FLEET_13.size))
    assert np.median(words) == pytest.approx(1.1, abs=0.1)
    assert np.isinf(words).mean() == pytest.approx(0.001, abs=0.0005)
    assert (words > 24).mean() == pytest.approx(0.05 * 13 / 14 + 0.0017, abs=0.004)


def test_controls_fall_silent_like_healthy_exposures() -> None:
    """What is compared must be alike when the release is good."""
    for fleet in (FLEET_13, HABITS):
        vehicles = draw_vehicles(fleet, 4)
        who = np.arange(fleet.size)
        heard = heard_after(vehicles, who, np.zeros(fleet.size))
        control = control_silence(vehicles, who, np.zeros(fleet.size), np.random.default_rng(5))
        for age_h in (24.0, 72.0):
            assert (heard > age_h).mean() == pytest.approx((control > age_h).mean(), abs=0.005), (fleet.name, age_h)


def test_a_silent_failure_is_never_heard() -> None:
    """A brick that calls would be no brick."""
    vehicles = some_vehicles(release=ReleaseModel(0.5, 1.0))
    heard = heard_after(vehicles, np.arange(2_000), np.zeros(2_000))
    assert np.all(np.isinf(heard[vehicles.fails]))
    assert np.all(np.isfinite(heard[~vehicles.fails]))


def test_first_calls_are_those_of_a_renewal_process() -> None:
    """The wait until a call from any moment is the integrated tail of the gaps, however they scatter."""
    pattern = CallPattern("wide", share=1.0, gap_h=10.0, scatter=0.8, absence_share=0.02)
    fleet = a_fleet(40_000, patterns=(pattern,), delays=Delays(stays_in_touch=False))
    vehicles, who = some_vehicles(fleet), np.arange(40_000)
    rng = np.random.default_rng(2)
    gaps = next_calls(vehicles, who, np.zeros(40_000), rng.standard_normal(40_000), rng.random(40_000))
    waits = first_calls(vehicles, who, 0.0, rng)
    for hours in (5.0, 20.0, 100.0):
        expected = np.minimum(gaps, hours).mean() / gaps.mean()
        assert (waits < hours).mean() == pytest.approx(expected, abs=0.01), hours


def test_nobody_who_sleeps_calls_at_night() -> None:
    """Nights are where habit and silence are easily mistaken for each other."""
    pattern = CallPattern("sleeper", share=1.0, gap_h=3.0, scatter=0.4, sleeps=True)
    vehicles = some_vehicles(a_fleet(patterns=(pattern,)))
    calls_h = first_calls(vehicles, np.arange(2_000), 5.0, np.random.default_rng(1))
    of_day = (calls_h + 9) % 24
    assert np.all((of_day >= 6) & (of_day < 22))


def test_habits_are_learnt_from_past_gaps() -> None:
    """What the orchestrator knows is the mean of past gaps, not the pattern: classes blur, and some have none."""
    vehicles = draw_vehicles(HABITS, 1)
    names = [pattern.name for pattern in HABITS.patterns]
    often = vehicles.habit == HABIT_NAMES.index("often")
    assert often[vehicles.pattern == names.index("hourly")].mean() > 0.9
    assert 0.01 < often[vehicles.pattern == names.index("few-hourly")].mean() < 0.3
    assert not often[vehicles.pattern == names.index("weekly")].any()
    assert (vehicles.habit == HABIT_NAMES.index("unknown")).mean() == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)
def test_shares_of_a_fleet_are_whole(fleet: object) -> None:
    """A fleet whose parts do not make a whole would be another than the one described."""
    assert sum(pattern.share for pattern in fleet.patterns) == pytest.approx(1.0)  # type: ignore[attr-defined]
    assert sum(share for _, share in fleet.cells) == pytest.approx(1.0)  # type: ignore[attr-defined]
