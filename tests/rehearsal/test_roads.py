"""When modelled vehicles can be reached: windows as the engine has them, outages as the scenario has them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from orchestrator.engine import windows
from orchestrator.engine.plan.file import read_plan
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import RegionRules
from orchestrator.rehearsal.roads import ALWAYS, HOUR_MS, Outage, Roads, Spans, openings, spans_of

START = FleetTime(round(datetime(2027, 3, 26, 9, tzinfo=UTC).timestamp() * 1000))
"""Two days before summer time begins in Europe."""
NIGHTS = 'windows: [{days: [mon, tue, wed, thu, fri, sat, sun], from: "22:00", to: "05:00"}]\n'


def rules(text: str) -> RegionRules:
    return read_plan(f"release: 1.1.0\n{text}regions: {{eu: {{zone: Europe/Berlin}}}}\n").regions["eu"]


def some_roads(
    *, open: Spans = ALWAYS, outages: tuple[Outage, ...] = (), vehicles: int = 4, regions: tuple[str, ...] = ("eu",)
) -> Roads:
    return Roads(
        regions=regions,
        region=np.arange(len(regions)),
        cell=np.arange(vehicles) % len(regions),
        open=[open],
        place=np.zeros(vehicles, dtype=np.int64),
        outages=outages,
        seed=1,
    )


@pytest.mark.parametrize("zone", ["", "America/New_York"])
def test_a_vehicle_may_install_exactly_when_the_engine_says_so(zone: str) -> None:
    """A rehearsal whose nights are an hour off is worth nothing; the clock changes in between."""
    eu = rules(NIGHTS + "freeze: [2027-03-29]\n")
    road = some_roads(open=openings(eu, zone, START, 24.0 * 10), vehicles=1)
    where = windows.zone_among(zone, eu)
    for quarter in range(4 * 24 * 7):
        asked_h = quarter / 4 + 0.01
        may_h = float(road.may_install(np.zeros(1, dtype=np.int64), np.array([asked_h]))[0])
        answer = windows.at(eu, where, FleetTime(START + round(asked_h * HOUR_MS)))
        assert (may_h == asked_h) == isinstance(answer, windows.Open)
        assert isinstance(windows.at(eu, where, FleetTime(START + round(may_h * HOUR_MS))), windows.Open)
        if isinstance(answer, windows.Closed) and answer.opens_at is not None:
            opens_h = (answer.opens_at - START) / HOUR_MS
            assert opens_h <= may_h <= opens_h + 0.5


def test_without_windows_nobody_waits() -> None:
    """The common plan pays nothing for what it does not ask."""
    assert openings(rules(""), "", START, 1000.0) is ALWAYS
    asked = np.array([0.0, 3.5, 900.0, 2.0])
    assert some_roads().may_install(np.arange(4), asked).tolist() == asked.tolist()


def test_behind_the_last_opening_nobody_ever_installs() -> None:
    """A window that never opens again must not look like an open one."""
    road = some_roads(open=Spans(np.array([1.0]), np.array([2.0])), vehicles=2)
    may = road.may_install(np.arange(2), np.array([1.5, 2.5]))
    assert may.tolist() == [1.5, np.inf]


def test_calls_and_words_of_an_outage_come_after_it() -> None:
    """Nothing is lost by an outage; it is only late."""
    road = some_roads(outages=(Outage("eu", 10.0, 22.0),), vehicles=4)
    heard = road.heard(np.arange(4), np.array([9.9, 10.0, 21.9, 22.0]))
    assert heard[[0, 3]].tolist() == [9.9, 22.0]
    assert ((heard[1:3] >= 22.0) & (heard[1:3] <= 22.5)).all()


def test_an_outage_is_that_of_its_region_alone() -> None:
    """The other half of the fleet goes on."""
    road = some_roads(outages=(Outage("us", 10.0, 22.0),), vehicles=4, regions=("eu", "us"))
    heard = road.heard(np.arange(4), np.full(4, 12.0))
    assert heard[[0, 2]].tolist() == [12.0, 12.0]
    assert (heard[[1, 3]] >= 22.0).all()


def test_who_is_never_heard_stays_silent_through_an_outage() -> None:
    """Infinity must not become a number."""
    road = some_roads(outages=(Outage("eu", 10.0, 22.0),), vehicles=1)
    assert road.heard(np.zeros(1, dtype=np.int64), np.array([np.inf])).tolist() == [np.inf]


def test_outages_that_touch_are_one() -> None:
    """Otherwise somebody would be heard in the moment between."""
    found = spans_of([Outage("eu", 5.0, 9.0), Outage("eu", 1.0, 5.0), Outage("us", 2.0, 3.0)], "eu")
    assert (found.starts.tolist(), found.ends.tolist()) == ([1.0], [9.0])


def test_a_dark_region_is_known_late_and_its_checkpoints_wait() -> None:
    """Silence in an outage says nothing about the release, so nothing is frozen meanwhile."""
    road = some_roads(outages=(Outage("us", 10.0, 22.0),), regions=("eu", "us"))
    assert road.dark(10.5) == frozenset()
    assert road.dark(12.0) == {"us"}
    assert road.dark(23.5) == frozenset()
    due = road.checkpoint(np.array([0, 1, 1]), np.array([15.0, 15.0, 9.0]))
    assert due.tolist() == [15.0, 23.0, 9.0]
