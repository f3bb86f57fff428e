"""What is said of a fleet clock that is ahead of the store's date."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from orchestrator.app.doctor import CHECKS, Level, Patient, examine
from orchestrator.app.fleet_time import LOOK_S, show_clock
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.telemetry import Metrics
from tests.builders import NOW

MINUTES_10_MS = 600_000


class Looks(MachineClock):
    """Machine time that goes by in waits alone, of which there are so many."""

    def __init__(self, count: int) -> None:
        self.ms = 0
        self.left = count
        super().__init__(monotonic_ns=lambda: self.ms * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        """The wait is over at once, until there are no more."""
        self.ms += round(seconds * 1000)
        self.left -= 1
        if not self.left:
            raise asyncio.CancelledError


async def test_clock_that_is_ahead_is_said_once_and_once_when_it_has_caught_up() -> None:
    """A line each five seconds for two days would hide every other one."""
    machine = Looks(count=round(2 * MINUTES_10_MS / 1000 / LOOK_S) + 10)
    clock = FleetClock(origin=NOW, started_ms=NOW, scale=1.0, machine_ms=NOW + MINUTES_10_MS, machine=machine)
    clock.now()
    clock.synchronise(NOW)
    metrics = Metrics(CollectorRegistry())
    with capture_logs() as said, pytest.raises(asyncio.CancelledError):
        await show_clock(clock, metrics, machine, process="worker")
    assert [line["event"] for line in said] == ["fleet_time_ahead", "fleet_time_caught_up"]
    assert said[0]["ahead_s"] == MINUTES_10_MS // 1000
    assert metrics.registry.get_sample_value("outrider_fleet_time_ahead_seconds", {"process": "worker"}) == 0


@pytest.mark.parametrize(("ahead_s", "level"), [(0.0, Level.OK), (59.0, Level.OK), (61.0, Level.ERROR)])
def test_doctor_finds_it_in_whichever_process_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float, level: Level
) -> None:
    """A worker alone may have seen the wrong date; what it tells vehicles is an hour that nobody has."""
    told = [({"process": "supervisor"}, 0.0), ({"process": "worker"}, ahead_s)]
    monkeypatch.setattr(Patient, "samples", {"outrider_fleet_time_ahead_seconds": told})
    wanted = [each for each in CHECKS if each.name == "fleet time"]
    [finding] = examine(Patient(tmp_path, machine=MachineClock()), checks=wanted)
    assert finding.level is level
