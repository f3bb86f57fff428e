"""Opens the fleet clock that the store keeps, making it at the first start of a data set; says when it is ahead."""

from __future__ import annotations

import structlog

from orchestrator.clock import AHEAD_MAX_MS, FleetClock, MachineClock
from orchestrator.model.ids import FleetTime
from orchestrator.settings import Settings
from orchestrator.store.base import FleetStore
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

LOOK_S = 5.0


def machine_origin(settings: Settings, machine: MachineClock) -> FleetTime:
    """Fleet time at the first start: as set, else the machine's date."""
    origin = settings.fleet_origin_ms
    return FleetTime(machine.wall_ms() if origin is None else origin)


async def open_clock(store: FleetStore, settings: Settings, machine: MachineClock) -> FleetClock:
    """The fleet clock; settings count at the first start only, afterwards the store's numbers stand.

    Raises:
        StoreError: the store did not answer.
    """
    state = await store.clock(origin=machine_origin(settings, machine), scale=settings.scale)
    return FleetClock(
        origin=state.origin,
        started_ms=state.started_ms,
        scale=state.scale,
        machine_ms=state.machine_ms,
        machine=machine,
    )


async def show_clock(clock: FleetClock, metrics: Metrics, machine: MachineClock, *, process: str) -> None:
    """Show for ever how far fleet time is ahead of the store's date, and say when that begins and ends."""
    ahead = False
    while True:
        ahead_ms = clock.ahead_ms()
        metrics.fleet_time_ahead.labels(process=process).set(ahead_ms / 1000)
        if ahead != (ahead_ms > AHEAD_MAX_MS):
            ahead = not ahead
            if ahead:
                remedy = "see to the date of the store's machine; docs/runbooks/fleet-time-ahead.md"
                log.error("fleet_time_ahead", ahead_s=ahead_ms // 1000, remedy=remedy)
            else:
                log.info("fleet_time_caught_up")
        await machine.sleep(LOOK_S)
