"""What concerns the whole fleet, on the keys of the fleet's tag."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.model.release import Release
from orchestrator.store.base import ClockState, JournalEntry, StoreRefusedError
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, number
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.rollouts import journalled


class RedisFleet:
    """`base.FleetStore` on Redis.

    Args:
        calls: carries the calls.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._decoded_releases: dict[bytes, Release] = {}
        """By document, of the last listing: releases never change."""

    async def dataset_id(self) -> str:
        """See `base.FleetStore`."""
        found: bytes | None = await self._calls.command("HGET", key(FLEET_TAG, "meta"), "dataset_id")
        if found is None:
            raise StoreRefusedError("the store has lost its data set: restore a backup")
        return found.decode()

    async def clock(self, *, origin: FleetTime, scale: float) -> ClockState:
        """See `base.FleetStore`."""
        reply = await self._calls.function("clock", FLEET_TAG, origin, repr(scale))
        return ClockState(
            origin=FleetTime(number(reply, 1)),
            started_ms=number(reply, 2),
            scale=float(reply[3]),
            machine_ms=number(reply, 4),
        )

    async def releases(self) -> Sequence[Release]:
        """See `base.FleetStore`."""
        documents = await self._calls.command("HVALS", key(FLEET_TAG, "releases"))
        known = self._decoded_releases
        self._decoded_releases = {
            document: known.get(document) or codec.decode_release(document) for document in documents
        }
        return sorted(
            self._decoded_releases.values(), key=lambda release: (release.created_at, release.version), reverse=True
        )

    async def create_release(self, release: Release, decision: JournalEntry) -> Release:
        """See `base.FleetStore`."""
        reply = await self._calls.function(
            "create_release", FLEET_TAG, release.version, codec.encode_release(release), *journalled(decision)
        )
        return codec.decode_release(reply[1])

    async def revoked(self) -> frozenset[VehicleId]:
        """See `base.FleetStore`."""
        members = await self._calls.command("SMEMBERS", key(FLEET_TAG, "revoked"))
        return frozenset(VehicleId(member.decode()) for member in members)

    async def revoke(self, vehicle_id: VehicleId, decision: JournalEntry) -> None:
        """See `base.FleetStore`."""
        await self._calls.function("revoke", FLEET_TAG, vehicle_id, *journalled(decision))

    async def record(self, entry: JournalEntry) -> None:
        """See `base.FleetStore`."""
        kind, at, data = journalled(entry)
        blob = ("b", entry.blob) if entry.blob else ()
        await self._calls.command("XADD", key(FLEET_TAG, "fleet_log"), "*", "k", kind, "t", at, "d", data, *blob)
