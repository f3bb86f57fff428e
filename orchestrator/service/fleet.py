"""Use cases of the inventory: import, tokens, lists, explanations, revocation."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.model.attempt import Attempt
from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.errors import InvalidInputError
from orchestrator.service.fleet_care import VEHICLES_MAX
from orchestrator.service.fleet_csv import read_fleet_csv
from orchestrator.service.fleet_filter import FleetFilter, parse_filter
from orchestrator.service.records import record_of
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.store.base import ImportOutcome, JournalEntry, Store

TOKEN_BYTES = 24
PAGE_DEFAULT = 100
"""Things in a page of any list, where none is asked for."""
PAGE_MAX = 1000
AT_ONCE = 256
"""Vehicles of one call that the store is asked about together: one after the other, each would wait for a round trip of
its own, and a fleet for minutes; all of a fleet at once would leave vehicles that call no room.
"""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A single-use enrolment token, shown once."""

    vehicle_id: VehicleId
    token: str
    expires_ms: int
    """Machine time."""


class FleetDesk:
    """Serves operators in what concerns the inventory.

    Args:
        store: committed to.
        snapshots: rollouts and revocations.
        clock: fleet time.
        machine: token lives.
        token_life_ms: machine time an enrolment token is good for.
    """

    def __init__(
        self,
        *,
        store: Store,
        snapshots: SnapshotKeeper,
        clock: FleetClock,
        machine: MachineClock,
        token_life_ms: int,
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._clock = clock
        self._machine = machine
        self._token_life_ms = token_life_ms

    async def import_csv(self, content: bytes, *, validate_only: bool, actor: str, reason: str) -> ImportOutcome:
        """Add or replace the vehicles of a CSV; all rows are checked before the first is written.

        Raises:
            InvalidInputError: names every bad row; nothing was imported.
        """
        # Of three megabytes it takes half a second, in which vehicles are to be answered.
        vehicles = await asyncio.to_thread(read_fleet_csv, content)
        if validate_only:
            return ImportOutcome(added=0, changed=0, unchanged=0)
        outcome = await self._store.import_vehicles(vehicles, now=self._now())
        counts = {"added": outcome.added, "changed": outcome.changed, "unchanged": outcome.unchanged}
        await self._record("vehicles_imported", {"actor": actor, "reason": reason, **counts})
        return outcome

    async def create_tokens(
        self, vehicle_ids: Sequence[VehicleId], *, actor: str, reason: str
    ) -> Sequence[IssuedToken]:
        """One token a vehicle; for every vehicle not enrolled yet when none is named. Only hashes are kept.

        Raises:
            InvalidInputError: they are more than VEHICLES_MAX; no token was made.
            NotFoundError: a vehicle is not in the inventory; no token was made.
        """
        wanted = list(dict.fromkeys(vehicle_ids)) or await self._unenrolled()
        # A call that ends before its answer has made tokens that nobody has, in the place of others.
        if len(wanted) > VEHICLES_MAX:
            raise InvalidInputError(
                f"these are more than {VEHICLES_MAX} vehicles; no token was made",
                reason="VEHICLES_COUNT",
                remedy=f"name at most {VEHICLES_MAX} in a call, as `outrider fleet tokens` does",
            )
        expires_ms = self._machine.wall_ms() + self._token_life_ms

        async def make(vehicle_id: VehicleId) -> IssuedToken:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            digest = hashlib.sha256(token.encode()).hexdigest()
            await self._store.put_token(vehicle_id, token_sha256=digest, life_ms=self._token_life_ms)
            return IssuedToken(vehicle_id=vehicle_id, token=token, expires_ms=expires_ms)

        await _for_each(vehicle_ids, self.vehicle)
        tokens = await _for_each(wanted, make)
        await self._record("tokens_created", {"actor": actor, "reason": reason, "count": len(tokens)})
        return tokens

    async def _unenrolled(self) -> Sequence[VehicleId]:
        """Vehicles that have not enrolled; no more are looked for where they are more than VEHICLES_MAX."""
        found: dict[VehicleId, None] = {}
        page_token = ""
        while len(found) <= VEHICLES_MAX:
            page, page_token = await self._store.vehicles(page_token=page_token, page_size=PAGE_MAX)
            found |= dict.fromkeys(record.vehicle.vehicle_id for record in page if not record.enrolled)
            if not page_token:
                break
        return list(found)

    async def vehicle(self, vehicle_id: VehicleId) -> VehicleRecord:
        """One vehicle.

        Raises:
            NotFoundError: it is not in the inventory.
        """
        return await record_of(self._store, vehicle_id)

    async def attempts(self, vehicle_id: VehicleId) -> Sequence[Attempt]:
        """Every attempt of a vehicle, newest first."""
        return await self._store.attempts(vehicle_id)

    async def page(
        self, *, page_token: str, page_size: int, region: str, cohort: str, filter_text: str
    ) -> tuple[Sequence[VehicleRecord], str]:
        """Vehicles that match, and the next page's token; a page may hold fewer than asked, none even.

        Raises:
            InvalidInputError: the page size, the token or the filter is none.
        """
        if not 0 <= page_size <= PAGE_MAX:
            raise InvalidInputError(f"page_size {page_size} is not within 0 and {PAGE_MAX}")
        wanted = parse_filter(filter_text).narrowed(region=region, cohort=cohort)
        records, following = await self._some(wanted, page_token, page_size or PAGE_DEFAULT)
        return sorted(filter(wanted.matches, records), key=lambda record: record.vehicle.vehicle_id), following

    async def _some(self, wanted: FleetFilter, page_token: str, page_size: int) -> tuple[Sequence[VehicleRecord], str]:
        """Some records and the next token: of the vehicles that are named, else of the profiles that can fit."""
        if wanted.named is not None:
            records = await asyncio.gather(*(self._store.vehicle(vehicle_id) for vehicle_id in wanted.named))
            return [record for record in records if record is not None], ""
        try:
            return await self._store.vehicles(page_token=page_token, page_size=page_size, wanted=wanted.by_profile)
        except ValueError as error:
            raise InvalidInputError("page_token is not one that this server gave") from error

    async def registered(self) -> int:
        """How many vehicles there are."""
        return sum((await self._store.profiles()).values())

    async def revoke(self, vehicle_id: VehicleId, *, actor: str, reason: str) -> VehicleRecord:
        """Refuse a vehicle's certificates from now on.

        Raises:
            NotFoundError: it is not in the inventory.
        """
        record = await self.vehicle(vehicle_id)
        await self._store.revoke(
            vehicle_id, self._entry("vehicle_revoked", {"actor": actor, "reason": reason, "vehicle_id": vehicle_id})
        )
        return record

    def revoked(self, vehicle_id: VehicleId) -> bool:
        """Whether a vehicle's certificates are refused."""
        return vehicle_id in self._snapshots.current.revoked

    async def _record(self, kind: str, data: dict[str, str | int]) -> None:
        await self._store.record(self._entry(kind, data))

    def _entry(self, kind: str, data: dict[str, str | int]) -> JournalEntry:
        return JournalEntry(stream="fleet", entry_id="", kind=kind, at=self._now(), data=dict(data))

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


async def _for_each(vehicle_ids: Sequence[VehicleId], do: Callable[[VehicleId], Awaitable[T]]) -> list[T]:
    """What comes of doing it for each vehicle, AT_ONCE at a time, in their order."""
    done: list[T] = []
    for start in range(0, len(vehicle_ids), AT_ONCE):
        done += await asyncio.gather(*map(do, vehicle_ids[start : start + AT_ONCE]))
    return done
