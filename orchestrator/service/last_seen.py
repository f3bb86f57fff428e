"""Last contact of each vehicle with its conditions and diagnoses, written behind: gathered in memory, flushed once a
second.

What a dead worker had not flushed is lost; nothing that decides depends on it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Protocol

import structlog

from orchestrator.model.ids import VehicleId
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import StoreError, VehicleStore

log = structlog.get_logger()

FLUSH_S = 1.0
PENDING_MAX = 100_000
UNWRITABLE = (TypeError, ValueError, OverflowError)
"""What packing raises for a value that has no form in the store."""


class LastSeenStore(VehicleStore, Protocol):
    """The part of the store that takes last contacts."""


class LastSeen:
    """Gathers and flushes."""

    def __init__(self, store: LastSeenStore) -> None:
        self._store = store
        self._pending: dict[VehicleId, Contact] = {}

    def saw(self, vehicle_id: VehicleId, contact: Contact) -> None:
        """Note a contact. Beyond PENDING_MAX, new ones are dropped until the store takes them again."""
        before = self._pending.get(vehicle_id)
        if before is not None and not contact.told:
            contact = replace(before, at=contact.at)
        if before is not None or len(self._pending) < PENDING_MAX:
            self._pending[vehicle_id] = contact

    async def flush(self) -> None:
        """Write what is pending. It stays pending when the store does not answer for all of it: what was done and not
        confirmed is told again, which changes nothing. A contact that cannot be written is dropped, and logged.
        """
        pending, self._pending = self._pending, {}
        if pending:
            await self._write(pending)

    async def _write(self, contacts: dict[VehicleId, Contact]) -> None:
        try:
            await self._store.touch(contacts)
        except StoreError as error:
            later, self._pending = self._pending, contacts
            for vehicle_id, contact in later.items():
                self.saw(vehicle_id, contact)
            log.warning("last_seen_pending", vehicles=len(self._pending), error=str(error))
        except UNWRITABLE:
            # A defect of ours, by what one vehicle told: neither the others nor the worker shall suffer from it.
            if len(contacts) == 1:
                log.exception("contact_dropped", vehicle_id=next(iter(contacts)))
                return
            each = list(contacts.items())
            await self._write(dict(each[: len(each) // 2]))
            await self._write(dict(each[len(each) // 2 :]))

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()
