"""Vehicles, attempts, tokens and manifests on Redis: each vehicle on the keys of its shard's tag."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.model.attempt import Attempt, AttemptEvent, Case, Control, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, VehicleId, split_attempt_id
from orchestrator.model.vehicle import Contact, DirectorState, Exclusion, VehicleRecord
from orchestrator.store.base import (
    Applied,
    Attestation,
    ChangeOutcome,
    ImportOutcome,
    InventoryChange,
    Swept,
)
from orchestrator.store.inventory import change_data
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, applied, applied_or_refused, number, refused, unknown, yes
from orchestrator.store.redis.contact import encode_told
from orchestrator.store.redis.control_records import encode_watched
from orchestrator.store.redis.inventory import encode_shape, encode_units
from orchestrator.store.redis.keys import shard_tag
from orchestrator.store.redis.packing import pack
from orchestrator.store.redis.pipeline import Argument
from orchestrator.store.redis.search import Listing, Wanted
from orchestrator.store.refusals import refusal
from orchestrator.store.shards import shard_of, vehicle_of
from orchestrator.store.watched import begun

TOUCH_BATCH = 500
"""Contacts of one shard written in one step, for the same reason as below."""
IMPORT_BATCH = 250
"""Vehicles of one shard written in one step: a step holds up the server for some milliseconds."""
IMPORT_AHEAD = 2
"""Steps on their way at once: while the server writes one, the next is packed. More would hold up everybody else."""


class RedisVehicles:
    """The part of `base.VehicleStore` that concerns single vehicles and shards.

    Args:
        calls: carries the calls.
        shards: how many there are.
    """

    def __init__(self, calls: Calls, shards: int) -> None:
        self._calls = calls
        self._shards = shards
        self._tags = [shard_tag(shard) for shard in range(shards)]
        self._listing = Listing(calls, shards)

    @property
    def shards(self) -> int:
        """See `base.VehicleStore`."""
        return self._shards

    def _tag(self, vehicle_id: VehicleId) -> str:
        return self._tags[shard_of(vehicle_id, self._shards)]

    async def import_vehicles(self, vehicles: Sequence[Vehicle], *, now: FleetTime) -> ImportOutcome:
        """See `base.VehicleStore`."""
        by_tag: dict[str, list[Vehicle]] = {}
        for vehicle in vehicles:
            by_tag.setdefault(self._tag(vehicle.vehicle_id), []).append(vehicle)
        steps = (
            (tag, group[start : start + IMPORT_BATCH])
            for tag, group in sorted(by_tag.items())
            for start in range(0, len(group), IMPORT_BATCH)
        )
        replies: list[list[Any]] = []

        async def work() -> None:
            for tag, group in steps:
                arguments: list[Argument] = [now]
                for vehicle in group:
                    arguments += [vehicle.vehicle_id, encode_shape(vehicle), encode_units(vehicle)]
                replies.append(await self._calls.function("import", tag, *arguments))

        await asyncio.gather(*(work() for _ in range(IMPORT_AHEAD)))
        added, changed, unchanged = (sum(number(reply, place) for reply in replies) for place in (1, 2, 3))
        return ImportOutcome(added=added, changed=changed, unchanged=unchanged)

    async def change_vehicles(
        self, changes: Sequence[InventoryChange], *, actor: str, reason: str, now: FleetTime
    ) -> ChangeOutcome:
        """See `base.VehicleStore`."""
        real = [change for change in changes if change.before != change.after]
        by_tag: dict[str, list[InventoryChange]] = {}
        for change in real:
            by_tag.setdefault(self._tag(change.before.vehicle_id), []).append(change)
        overtaken: list[VehicleId] = []
        for tag, group in sorted(by_tag.items()):
            for start in range(0, len(group), IMPORT_BATCH):
                arguments: list[Argument] = [now]
                for change in group[start : start + IMPORT_BATCH]:
                    data = codec.encode_map(change_data(change, actor=actor, reason=reason))
                    arguments.append(change.before.vehicle_id)
                    for vehicle in (change.before, change.after):
                        arguments += [encode_shape(vehicle), encode_units(vehicle)]
                    arguments.append(data)
                reply = await self._calls.function("change_vehicles", tag, *arguments)
                overtaken += [VehicleId(each.decode()) for each in reply[1:]]
        return ChangeOutcome(
            changed=len(real) - len(overtaken),
            unchanged=len(changes) - len(real),
            overtaken=tuple(sorted(overtaken)),
        )

    async def remove_vehicle(self, vehicle_id: VehicleId, *, actor: str, reason: str, now: FleetTime) -> bool | Refusal:
        """See `base.VehicleStore`."""
        tag = self._tag(vehicle_id)
        reply = await self._calls.function("remove_vehicle", tag, vehicle_id, actor, reason, now)
        return refused(reply) or yes(reply)

    async def exclude(self, vehicle_id: VehicleId, exclusion: Exclusion, *, blamed: AttemptId | None = None) -> bool:
        """See `base.VehicleStore`."""
        reply = await self._calls.function(
            "exclude",
            self._tag(vehicle_id),
            vehicle_id,
            exclusion.scope,
            exclusion.actor,
            exclusion.reason,
            exclusion.at,
            blamed or "",
        )
        if unknown(reply):
            raise KeyError(vehicle_id)
        return yes(reply)

    async def readmit(self, vehicle_id: VehicleId, scope: str, *, actor: str, reason: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        reply = await self._calls.function("readmit", self._tag(vehicle_id), vehicle_id, scope, actor, reason, now)
        if unknown(reply):
            raise KeyError(vehicle_id)
        return yes(reply)

    async def diagnose(self, attempt_id: AttemptId, *, detail: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return False
        return yes(await self._calls.function("diagnose", self._tag(vehicle_id), attempt_id, detail, now))

    async def close_case(self, attempt_id: AttemptId, *, actor: str, reason: str, now: FleetTime) -> Case | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return None
        reply = await self._calls.function("close_case", self._tag(vehicle_id), attempt_id, actor, reason, now)
        return None if unknown(reply) else codec.decode_case(reply[1])

    async def case(self, attempt_id: AttemptId) -> Case | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return None
        reply = await self._calls.function("case", self._tag(vehicle_id), attempt_id)
        return None if unknown(reply) else codec.decode_case(reply[1])

    async def vehicle(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """See `base.VehicleStore`."""
        reply = await self._calls.function("vehicle", self._tag(vehicle_id), vehicle_id)
        return None if unknown(reply) else applied(reply).record

    async def vehicles(
        self, *, page_token: str, page_size: int, wanted: Wanted | None = None
    ) -> tuple[Sequence[VehicleRecord], str]:
        """See `base.VehicleStore`."""
        return await self._listing.page(page_token, page_size, wanted)

    async def attempts(self, vehicle_id: VehicleId) -> Sequence[Attempt]:
        """See `base.VehicleStore`."""
        reply = await self._calls.function("attempts", self._tag(vehicle_id), vehicle_id)
        found = [codec.decode_attempt(packed) for packed in reply[1:]]
        return sorted(found, key=lambda attempt: (attempt.granted_at, attempt.number, attempt.attempt_id), reverse=True)

    async def put_token(self, vehicle_id: VehicleId, *, token_sha256: str, life_ms: int) -> None:
        """See `base.VehicleStore`."""
        await self._calls.function("put_token", self._tag(vehicle_id), vehicle_id, token_sha256, life_ms)

    async def take_token(self, vehicle_id: VehicleId, *, token_sha256: str, request_sha256: str) -> bool:
        """See `base.VehicleStore`."""
        tag = self._tag(vehicle_id)
        return yes(await self._calls.function("take_token", tag, vehicle_id, token_sha256, request_sha256))

    async def assign(
        self, attempt: Attempt, director: DirectorState, *, expected_timestamp_version: int
    ) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        reply = await self._calls.function(
            "assign",
            self._tag(attempt.vehicle_id),
            codec.encode_attempt(attempt),
            pack(codec.director_fields(director)),
            expected_timestamp_version,
        )
        return applied_or_refused(reply)

    async def resolve(self, attempt_id: AttemptId) -> bool:
        """See `base.VehicleStore`."""
        parts = split_attempt_id(attempt_id)
        if parts is None:
            return False
        rollout_id, vehicle_id, attempt_number = parts
        tag = self._tag(vehicle_id)
        return yes(await self._calls.function("resolve", tag, attempt_id, rollout_id, vehicle_id, attempt_number))

    async def permit(
        self, attempt_id: AttemptId, *, permitted_at: FleetTime, offline_ms: int = 0, paired: bool = True
    ) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt_id})
        tag = self._tag(vehicle_id)
        reply = await self._calls.function("permit", tag, attempt_id, permitted_at, offline_ms, int(paired))
        return applied_or_refused(reply)

    async def apply(
        self,
        vehicle_id: VehicleId,
        *,
        outbox_id: str,
        oldest_number: int,
        events: Sequence[VehicleEvent],
        now: FleetTime,
    ) -> Applied:
        """See `base.VehicleStore`."""
        reply = await self._calls.function(
            "apply", self._tag(vehicle_id), vehicle_id, outbox_id, oldest_number, now, codec.encode_events(events)
        )
        if unknown(reply):
            raise KeyError(vehicle_id)
        return applied(reply)

    async def change(
        self, attempt_id: AttemptId, event: AttemptEvent, *, now: FleetTime, failure_code: str = ""
    ) -> Applied | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return None
        reply = await self._calls.function("change", self._tag(vehicle_id), attempt_id, event.value, now, failure_code)
        return None if unknown(reply) else applied(reply)

    async def attest(self, vehicle_id: VehicleId, attestation: Attestation, *, now: FleetTime) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        reply = await self._calls.function(
            "attest",
            self._tag(vehicle_id),
            vehicle_id,
            attestation.sha256,
            attestation.counter,
            attestation.installed,
            attestation.attempt_id or "",
            attestation.event.value if attestation.event else "",
            now,
            attestation.content,
        )
        if unknown(reply):
            raise KeyError(vehicle_id)
        return applied_or_refused(reply)

    async def direct(self, vehicle_id: VehicleId, director: DirectorState, *, expected_timestamp_version: int) -> bool:
        """See `base.VehicleStore`."""
        packed = pack(codec.director_fields(director))
        tag = self._tag(vehicle_id)
        return yes(await self._calls.function("direct", tag, vehicle_id, packed, expected_timestamp_version))

    async def touch(self, seen: Mapping[VehicleId, Contact]) -> None:
        """See `base.VehicleStore`."""
        by_tag: dict[str, list[Argument]] = {}
        for vehicle_id, contact in seen.items():
            by_tag.setdefault(self._tag(vehicle_id), []).extend((vehicle_id, contact.at, encode_told(contact)))
        calls = (
            self._calls.function("touch", tag, *cells[start : start + 3 * TOUCH_BATCH])
            for tag, cells in by_tag.items()
            for start in range(0, len(cells), 3 * TOUCH_BATCH)
        )
        await asyncio.gather(*calls)

    async def enrol(self, control: Control) -> bool:
        """See `base.VehicleStore`."""
        packed = encode_watched(begun(control))
        return yes(await self._calls.function("enrol", self._tag(control.vehicle_id), packed))

    async def sweep(
        self,
        shards: Sequence[int],
        *,
        now: FleetTime,
        fences: Mapping[str, int],
        dark: Sequence[str] = (),
        batch: int = 256,
    ) -> Sequence[Swept]:
        """See `base.VehicleStore`."""
        told: tuple[Argument, ...] = (now, batch, codec.encode_map(fences), *dark)
        replies = await self._calls.functions("sweep", [(shard_tag(shard), *told) for shard in shards])
        return [Swept(handled=number(reply)) for reply in replies]
