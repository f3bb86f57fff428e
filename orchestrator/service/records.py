"""Reads the record of a vehicle that calls, or refuses one that the inventory does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.model.ids import VehicleId
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.errors import NotFoundError
from orchestrator.store.base import VehicleStore


async def record_of(store: VehicleStore, vehicle_id: VehicleId) -> VehicleRecord:
    """All that is hot about one vehicle.

    Raises:
        NotFoundError: it is not in the inventory.
        StoreUnavailableError: the store did not answer.
    """
    record = await store.vehicle(vehicle_id)
    if record is None:
        raise unknown(vehicle_id)
    return record


@contextmanager
def still_known(vehicle_id: VehicleId) -> Iterator[None]:
    """Around an operation on a vehicle whose record was read: it may have been taken out of the inventory since.

    Raises:
        NotFoundError: it was.
    """
    try:
        yield
    except KeyError as gone:
        if gone.args != (vehicle_id,):
            raise
        raise unknown(vehicle_id) from gone


def unknown(vehicle_id: VehicleId) -> NotFoundError:
    """The refusal of a vehicle that the inventory does not know."""
    return NotFoundError(
        f"vehicle {vehicle_id} is not in the inventory",
        reason="VEHICLE_UNKNOWN",
        remedy="import it with `outrider fleet import`; `outrider fleet list` shows those that are there",
    )
