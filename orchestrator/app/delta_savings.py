"""Tells Prometheus what deltas save, as the Image repository lists them: what a release costs the fleet in bytes."""

from __future__ import annotations

import asyncio

import structlog

from orchestrator.app.installation import Installation
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.model.ids import FleetTime
from orchestrator.service.director import to_datetime
from orchestrator.service.release_deltas import savings
from orchestrator.telemetry import Metrics
from signing.errors import SigningError
from signing.image_repo import ImageRepository

log = structlog.get_logger()

LOOK_S = 60.0
"""Machine time between two looks; a release is published every few weeks."""


async def show_savings(installation: Installation, metrics: Metrics, clock: FleetClock, machine: MachineClock) -> None:
    """Look for ever; while the repository does not verify, what was shown last stands."""
    repository = ImageRepository(installation.image_repository)
    while True:
        try:
            now = to_datetime(FleetTime(clock.now()))
            metrics.show_savings(await asyncio.to_thread(savings, repository, now))
        except (SigningError, OSError) as error:
            log.warning("delta_savings_unknown", error=str(error))
        await machine.sleep(LOOK_S)
