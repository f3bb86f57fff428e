"""Keeps a vehicle that failed again and again out of every rollout, and opens its case.

Owns that this happens before the vehicle is considered again. Leaves what counts to `engine.repeats`, and the way back
to people: `readmit` of a quarantine forgives what failed before.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from orchestrator.engine.repeats import repeated
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion, VehicleRecord
from orchestrator.service.records import record_of, still_known
from orchestrator.store.base import Store
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

SERVICE = "service"
"""Actor of a quarantine that nobody asked for."""


async def keep_out(
    store: Store,
    metrics: Metrics,
    record: VehicleRecord,
    rollouts: Mapping[RolloutId, Rollout],
    now: FleetTime,
    *,
    repeats_max: int,
) -> VehicleRecord:
    """The record of a vehicle, in quarantine if it failed once too often.

    Args:
        store: committed to, in one step: exclusion, case and journal.
        metrics: counted into.
        record: of a vehicle without a live attempt.
        rollouts: all that are known.
        now: fleet time.
        repeats_max: rollouts in a row that it may fail in; 0: however many.

    Raises:
        NotFoundError: the vehicle left the inventory meanwhile.
    """
    found = repeated(record, rollouts, repeats_max=repeats_max)
    if found is None:
        return record
    vehicle_id = record.vehicle.vehicle_id
    exclusion = Exclusion(scope=EVERY_ROLLOUT, actor=SERVICE, reason=found.reason, at=now)
    with still_known(vehicle_id):
        fresh = await store.exclude(vehicle_id, exclusion, blamed=found.attempt_id)
    if fresh:
        metrics.quarantines.labels(region=record.vehicle.region).inc()
        log.warning("vehicle_quarantined", attempt_id=found.attempt_id, reason=found.reason)
    return await record_of(store, vehicle_id)
