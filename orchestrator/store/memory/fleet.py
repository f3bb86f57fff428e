"""What concerns the whole fleet, in memory: the clock, releases, revocations, and the fleet's journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.model.release import Release
from orchestrator.store.base import ClockState, JournalEntry
from orchestrator.store.memory.journal import Journal
from orchestrator.store.streams import FLEET_STREAM


class MemoryFleet:
    """`base.FleetStore` in dictionaries.

    Args:
        machine_ms: machine time, milliseconds since the epoch.
        dataset_id: of the data set.
    """

    def __init__(self, machine_ms: Callable[[], int], dataset_id: str) -> None:
        self._machine_ms = machine_ms
        self._dataset_id = dataset_id
        self._fleet_journal = Journal(FLEET_STREAM, machine_ms)
        self._releases: dict[str, Release] = {}
        self._revoked: set[VehicleId] = set()
        self._clock: ClockState | None = None

    async def dataset_id(self) -> str:
        """See `base.FleetStore`."""
        return self._dataset_id

    async def clock(self, *, origin: FleetTime, scale: float) -> ClockState:
        """See `base.FleetStore`."""
        now = self._machine_ms()
        if self._clock is None:
            self._clock = ClockState(origin=origin, started_ms=now, scale=scale, machine_ms=now)
        return replace(self._clock, machine_ms=now)

    async def releases(self) -> Sequence[Release]:
        """See `base.FleetStore`."""
        return sorted(self._releases.values(), key=lambda release: (release.created_at, release.version), reverse=True)

    async def create_release(self, release: Release, decision: JournalEntry) -> Release:
        """See `base.FleetStore`."""
        if release.version not in self._releases:
            self._releases[release.version] = release
            await self.record(decision)
        return self._releases[release.version]

    async def revoked(self) -> frozenset[VehicleId]:
        """See `base.FleetStore`."""
        return frozenset(self._revoked)

    async def revoke(self, vehicle_id: VehicleId, decision: JournalEntry) -> None:
        """See `base.FleetStore`."""
        if vehicle_id not in self._revoked:
            self._revoked.add(vehicle_id)
            await self.record(decision)

    async def record(self, entry: JournalEntry) -> None:
        """See `base.FleetStore`."""
        self._fleet_journal.append(entry.kind, entry.at, entry.data, entry.blob)
