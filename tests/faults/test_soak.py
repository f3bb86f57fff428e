"""The short form of `make soak`: the load is what it says, every series is measured, and a leak is told."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.rolling import TEST_TIMEOUT_S, a_fleet_on_the_road
from tests.faults.run_soak import FILES_LEAST, MEMORY_SHARE, table, trends
from tests.faults.slopes import slope, trend
from tests.faults.soak import Soak

SECONDS = 40.0


def noisy(rise_per_hour: float, *, spikes: bool = False) -> list[tuple[float, float]]:
    """An hour of a process of 100 MiB, with a warm-up and with noise."""
    rng = random.Random(1)
    points = []
    for at_s in range(0, 3600, 2):
        warm = min(1.0, at_s / 300) * 40 - 40
        spike = 60.0 if spikes and rng.random() < 0.05 else 0.0
        points.append((float(at_s), 100 + warm + rng.gauss(0, 2) + spike + rise_per_hour * at_s / 3600))
    return points


@pytest.mark.parametrize("spikes", [False, True])
def test_a_leak_is_told_and_noise_and_warm_up_are_not(spikes: bool) -> None:
    """Ten MiB an hour are a restart a week; what a single request needs for a moment is none."""
    assert trend("m", "MiB", noisy(0.0, spikes=spikes), allowed_share=MEMORY_SHARE).flat
    leak = trend("m", "MiB", noisy(10.0, spikes=spikes), allowed_share=MEMORY_SHARE)
    assert not leak.flat
    assert leak.per_hour == pytest.approx(10.0, abs=1.0)


def test_one_open_file_more_is_no_leak_and_one_a_minute_is() -> None:
    """A dozen of whole things rise by a twelfth or not at all."""
    step = [(float(at_s), 14.0 + (at_s > 2000)) for at_s in range(0, 3600, 2)]
    assert trend("f", "", step, allowed_share=0.05, allowed_least=FILES_LEAST).flat
    leak = [(float(at_s), 14.0 + at_s // 60) for at_s in range(0, 3600, 2)]
    assert not trend("f", "", leak, allowed_share=0.05, allowed_least=FILES_LEAST).flat


def test_a_slope_needs_two_points() -> None:
    """A run that ended at once says nothing, and must not fail on that."""
    assert slope([]) == slope([(1.0, 5.0)]) == 0.0
    assert slope([(0.0, 1.0), (2.0, 5.0)]) == 2.0


@pytest.mark.processes
@pytest.mark.timeout(TEST_TIMEOUT_S)
def test_load_is_mixed_and_every_series_is_measured(fleet: Path, tmp_path: Path) -> None:
    """Nothing is judged of forty seconds but that an hour would measure what it says."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        soak = Soak(road)
        with road.driving():
            soak.run(SECONDS)
        assert soak.rollouts
        assert soak.fleet_changes > 5
        assert soak.updates_watched > 5
        found = trends(soak.samples)
        assert all(each.middle > 0 for each in found)
        page = table(soak, found, minutes=SECONDS / 60)
        assert all(f"| {each.name} |" in page for each in found)
