"""Says in metrics how the ground below the service is: the disk of the data folder, and the store's server.

Owns what is looked at every few seconds whoever calls; certificates and metadata, which move by days, are the matter
of `expiries`.
"""

from __future__ import annotations

import asyncio
import shutil

import structlog

from orchestrator.app.installation import Installation
from orchestrator.clock import MachineClock
from orchestrator.store.base import StoreError
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.admission import Durability
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

LOOK_S = 5.0


async def show_vitals(
    installation: Installation, store: RedisStore, durability: Durability, metrics: Metrics, machine: MachineClock
) -> None:
    """Look for ever."""
    while True:
        try:
            await asyncio.to_thread(show_disk, installation, metrics)
            await show_store(store, durability, metrics)
        except (StoreError, OSError) as error:
            # Whether the store answers at all is shown by `outrider_store_up`.
            log.debug("vitals_unknown", error=str(error))
        await machine.sleep(LOOK_S)


def show_disk(installation: Installation, metrics: Metrics) -> None:
    """Space where the data folder lies: store, ledger and images all write there.

    Raises:
        OSError: it cannot be asked.
    """
    usage = shutil.disk_usage(installation.data)
    metrics.disk_size.labels(folder="data").set(usage.total)
    metrics.disk_free.labels(folder="data").set(usage.free)


async def show_store(store: RedisStore, durability: Durability, metrics: Metrics) -> None:
    """What the store's server says. One that a provider answers for is not asked whether it syncs: few of them say.

    Raises:
        StoreError: it did not answer.
    """
    if durability == "provider":
        metrics.store_durable.labels(by="provider").set(1)
        return
    vitals = await store.vitals()
    metrics.store_durable.labels(by="server").set(vitals.durable)
    metrics.store_memory.set(vitals.memory_bytes)
    metrics.store_file.set(vitals.file_bytes)
