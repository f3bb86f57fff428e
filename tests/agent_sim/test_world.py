"""Faults, links and clocks: decided by the seed and by time, never by chance or order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_sim.clock import FleetClock
from agent_sim.connectivity import Connectivity, LinkModel
from agent_sim.faults import Fault, FaultKind, draw, fault_book

HOUR_MS = 3_600_000


def test_faults_hit_the_declared_share_and_the_same_vehicles_each_time() -> None:
    """A seed is a world: the order of events does not change who is hurt."""
    fault = Fault(FaultKind.SILENT_BRICK, probability=0.2)
    names = [f"v{number}" for number in range(2000)]

    def hit(name: str, seed: int) -> bool:
        book = fault_book(seed, name, [fault], hardware="gen1", region="eu")
        return book.hit(FaultKind.SILENT_BRICK, release="1.2.0") is not None

    hurt = {name for name in names if hit(name, 1)}
    assert hurt == {name for name in reversed(names) if hit(name, 1)}
    assert 330 < len(hurt) < 470
    assert hurt != {name for name in names if hit(name, 2)}


@pytest.mark.parametrize(
    ("hardware", "region", "release", "expected"),
    [
        ("gen2", "eu", "1.2.0", True),
        ("gen1", "eu", "1.2.0", False),
        ("gen2", "us", "1.2.0", False),
        ("gen2", "eu", "1.1.0", False),
    ],
)
def test_fault_selects_by_hardware_region_and_release(hardware: str, region: str, release: str, expected: bool) -> None:
    """A bad release hurts the variant it is bad for, and nobody else."""
    fault = Fault(FaultKind.FAIL, releases=("1.2.0",), hardware=("gen2",), regions=("eu",))
    book = fault_book(1, "v1", [fault], hardware=hardware, region=region)
    assert (book.hit(FaultKind.FAIL, release=release) is not None) is expected


@given(st.integers(2, 10**9), st.text(max_size=5))
def test_download_breaks_inside_the_image(length: int, sha256: str) -> None:
    """A break at byte 0 or at the end would be no break."""
    book = fault_book(1, "v1", [Fault(FaultKind.LINK_BREAK)], hardware="gen1", region="eu")
    at = book.break_at(release="1.1.0", sha256=sha256, length=length)
    assert at is not None
    assert 0 < at < length


@given(st.lists(st.text(max_size=3), max_size=3))
def test_draw_lies_below_one(parts: list[str]) -> None:
    """Probability 1 always hits, probability 0 never."""
    assert 0 <= draw(*parts) < 1


@given(st.integers(0, 10**13), st.integers(0, 24 * HOUR_MS - 1))
def test_vehicle_comes_back_and_within_a_period(now: int, phase_ms: int) -> None:
    """Out of reach is never for ever."""
    link = Connectivity(LinkModel.GARAGE, 24 * HOUR_MS, 10 * HOUR_MS, phase_ms)
    online = link.online_from(now)
    assert now <= online <= now + 14 * HOUR_MS
    assert link.online_from(online) == online


def test_vehicle_is_offline_for_the_rest_of_its_period() -> None:
    """Ten hours on, fourteen off."""
    link = Connectivity(LinkModel.GARAGE, 24 * HOUR_MS, 10 * HOUR_MS, 0)
    assert link.online_from(9 * HOUR_MS) == 9 * HOUR_MS
    assert link.online_from(10 * HOUR_MS) == 24 * HOUR_MS


class Machine:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ms = 5_000.0

    def __call__(self) -> float:
        return self.ms


def test_fleet_time_runs_by_scale_from_the_last_reply() -> None:
    """Between replies a vehicle's clock goes on by itself."""
    machine = Machine()
    clock = FleetClock(100.0, machine=machine)
    clock.observe(1_000_000)
    machine.ms += 10
    assert clock.now() == 1_001_000
    assert clock.machine_seconds_until(1_002_000) == pytest.approx(0.01)


def test_scale_is_told_from_two_replies_a_second_apart() -> None:
    """Closer replies would make it a guess."""
    machine = Machine()
    clock = FleetClock(machine=machine)
    clock.observe(1_000_000)
    machine.ms += 500
    clock.observe(1_030_000)
    assert not clock.known
    machine.ms += 500
    clock.observe(1_060_000)
    assert clock.known
    assert clock.scale == pytest.approx(60)


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(-10_000, 10_000)), max_size=20))
def test_fleet_time_never_goes_back(steps: list[tuple[int, int]]) -> None:
    """Slow or odd replies correct the estimate, but no event is told with an earlier time than the one before."""
    machine = Machine()
    clock = FleetClock(10.0, machine=machine)
    clock.observe(1_000_000)
    latest = clock.now()
    for elapsed_ms, error_ms in steps:
        machine.ms += elapsed_ms
        clock.observe(round(1_000_000 + (machine.ms - 5_000) * 10) + error_ms)
        assert clock.now() >= latest
        latest = clock.now()


def test_fleet_time_is_not_guessed_before_a_reply() -> None:
    """A wrong time in an event would be evidence of nothing."""
    with pytest.raises(RuntimeError, match="not known before a reply"):
        FleetClock(1.0).now()


@pytest.mark.parametrize(
    ("into_min", "leaving"), [(0, False), (569, False), (570, True), (599, True), (600, False), (900, False)]
)
def test_vehicle_knows_half_an_hour_before_that_it_leaves_reach(into_min: int, leaving: bool) -> None:
    """Long enough to ask for what nobody can be asked there; a vehicle that is always connected never leaves."""
    link = Connectivity(LinkModel.GARAGE, 24 * HOUR_MS, 10 * HOUR_MS)
    assert link.leaves_reach(into_min * 60_000) is leaving
    assert not Connectivity().leaves_reach(into_min * 60_000)
