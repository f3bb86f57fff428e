"""Reads the record of a vehicle that calls, or refuses one that the inventory does not know."""

from __future__ import annotations

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
        raise NotFoundError(
            f"vehicle {vehicle_id} is not in the inventory",
            reason="VEHICLE_UNKNOWN",
            remedy="import it with `outrider fleet import`; `outrider fleet list` shows those that are there",
        )
    return record
