"""Opens the fleet clock that the store keeps, making it at the first start of a data set."""

from __future__ import annotations

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.model.ids import FleetTime
from orchestrator.settings import Settings
from orchestrator.store.base import FleetStore


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
