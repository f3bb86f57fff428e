"""Clocks: fleet time follows the store's time at its scale and never goes back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.clock import FleetClock, MachineClock

ORIGIN = 1_700_000_000_000
STARTED = 1_800_000_000_000


@dataclass
class Ticks:
    """A monotonic source that a test moves by hand."""

    ns: int = 5_000_000_000

    def __call__(self) -> int:
        return self.ns

    def pass_ms(self, ms: int) -> None:
        self.ns += ms * 1_000_000


def a_fleet_clock(ticks: Ticks, *, scale: float = 1.0, machine_ms: int = STARTED) -> FleetClock:
    return FleetClock(
        origin=ORIGIN,
        started_ms=STARTED,
        scale=scale,
        machine_ms=machine_ms,
        machine=MachineClock(monotonic_ns=ticks, wall_ns=lambda: 0),
    )


@pytest.mark.parametrize("scale", [0.5, 1.0, 600.0])
def test_fleet_time_runs_at_its_scale(scale: float):
    """A simulated day must pass in the number of minutes that its author asked for."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks, scale=scale)
    assert clock.now() == ORIGIN
    ticks.pass_ms(2_000)
    assert clock.now() == ORIGIN + round(2_000 * scale)


def test_fleet_time_goes_on_where_the_store_is_after_a_restart():
    """A process that starts later must agree with the one that died: the store's time counts, not our own start."""
    assert a_fleet_clock(Ticks(ns=0), scale=10.0, machine_ms=STARTED + 7_000).now() == ORIGIN + 70_000


def test_synchronise_takes_over_the_stores_time():
    """Our crystal drifts against the store's; asking it again puts every worker on the same time."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks, scale=2.0)
    ticks.pass_ms(1_000)
    clock.synchronise(STARTED + 1_500)
    assert clock.now() == ORIGIN + 3_000
    ticks.pass_ms(100)
    assert clock.now() == ORIGIN + 3_200


def test_fleet_time_goes_on_at_half_its_pace_when_the_stores_date_is_set_back():
    """A step back would reopen what has passed; if it stood still, nothing would lapse or fall due for as long."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks)
    ticks.pass_ms(10_000)
    before = clock.now()
    clock.synchronise(STARTED + 4_000)
    assert (clock.now(), clock.ahead_ms()) == (before, 6_000)
    ticks.pass_ms(6_000)
    assert (clock.now(), clock.ahead_ms()) == (before + 3_000, 3_000)
    ticks.pass_ms(6_000)
    assert (clock.now(), clock.ahead_ms()) == (before + 6_000, 0)
    ticks.pass_ms(1_000)
    assert (clock.now(), clock.ahead_ms()) == (before + 7_000, 0)


@pytest.mark.parametrize("scale", [0.5, 1.0, 600.0])
def test_fleet_time_catches_up_as_soon_however_often_the_date_is_read(scale: float):
    """Every process reads it twice a second; what is lost at each read would make of a day a week."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks, scale=scale)
    clock.synchronise(STARTED + 600_000)
    before = clock.now()
    clock.synchronise(STARTED)
    for read in range(1, 1001):
        ticks.pass_ms(501)
        clock.synchronise(STARTED + 501 * read)
    assert clock.now() - before == pytest.approx(501_000 * scale / 2, abs=2 * scale)
    assert clock.ahead_ms() == pytest.approx(600_000 - 501_000 / 2, abs=5)


def test_fleet_time_is_never_before_its_origin():
    """A store whose date was set back before the first read must not put vehicles before the start."""
    assert a_fleet_clock(Ticks(), machine_ms=STARTED - 60_000).now() == ORIGIN


@given(
    scale=st.floats(min_value=0.01, max_value=3600),
    steps=st.lists(st.tuples(st.integers(0, 10**7), st.none() | st.integers(-(10**7), 10**7)), max_size=30),
)
def test_fleet_time_never_goes_back_whatever_the_store_says(scale: float, steps: list[tuple[int, int | None]]):
    """No sequence of waits and synchronisations may lower it."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks, scale=scale)
    last = clock.now()
    for pause_ms, store_offset in steps:
        ticks.pass_ms(pause_ms)
        if store_offset is not None:
            clock.synchronise(STARTED + store_offset)
        assert clock.now() >= last
        last = clock.now()


def test_machine_seconds_until_is_the_wait_that_brings_fleet_time_there():
    """The evaluator sleeps this long: too short would spin, too long would be late."""
    ticks = Ticks()
    clock = a_fleet_clock(ticks, scale=60.0)
    assert clock.machine_seconds_until(ORIGIN + 90_000) == pytest.approx(1.5)
    ticks.pass_ms(1_500)
    assert clock.now() == ORIGIN + 90_000
    assert clock.machine_seconds_until(ORIGIN + 90_000) == 0
    assert clock.machine_seconds_until(ORIGIN) == 0


def test_to_fleet_converts_a_span():
    """A wait in machine time is shown to vehicles in fleet time."""
    assert a_fleet_clock(Ticks(), scale=60.0).to_fleet(1.5) == 90_000


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_clock_that_would_not_move_is_refused(scale: float):
    """With a scale of 0 no soak would ever end, and nothing would say why."""
    with pytest.raises(ValueError, match="must be above 0"):
        a_fleet_clock(Ticks(), scale=scale)


def test_machine_clock_converts_to_milliseconds():
    """Two units in one program are where waits of a million seconds come from."""
    clock = MachineClock(monotonic_ns=lambda: 1_999_999, wall_ns=lambda: 1_800_000_000_123_999_999)
    assert clock.monotonic_ms() == 1
    assert clock.wall_ms() == 1_800_000_000_123


async def test_sleeping_a_negative_time_still_lets_others_run():
    """A deadline that has passed must not raise, nor starve the loop."""
    ran = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_set(ran))
        await MachineClock().sleep(-1.0)
        assert ran.is_set()


async def _set(event: asyncio.Event) -> None:
    event.set()
