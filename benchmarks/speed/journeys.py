"""Vehicles on their way through whole rollouts, by the steps of the store alone: what is left of it is measured."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.engine.plan.file import read_plan
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId, VehicleId, attempt_id
from orchestrator.model.vehicle import Conditions, Contact, DirectorState, LinkType, SignedSnapshot, VehicleRecord
from orchestrator.store.base import Applied, Attestation
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.keys import key, shard_tag
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.store.shards import shard_of

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
_AT_ONCE = 256
_BOX = "0123456789abcdef" * 2


class Journeys:
    """Some vehicles of a store.

    Args:
        store: theirs.
        bare: its server.
        names: of the vehicles.
        rng: of the times at which things happen.
        now: fleet time; moves on with each rollout.
    """

    def __init__(
        self, store: RedisStore, bare: Pipeline, names: Sequence[VehicleId], rng: random.Random, now: FleetTime
    ) -> None:
        self._store = store
        self._bare = bare
        self._names = names
        self._rng = rng
        self._now = now
        self._gate = read_plan("release: 1.1.0\n").gate
        self._manifests = 0

    async def acquaint(self) -> None:
        """Each has enrolled, called, attested what it runs, and got its Director files."""
        await self._each(self._acquaint)

    async def _acquaint(self, name: VehicleId) -> None:
        contact = Contact(at=self._now, conditions=Conditions(LinkType.WIFI, 80, False, 90, True, 10**10))
        await self._store.put_token(name, token_sha256="ab" * 32, life_ms=60_000)
        assert await self._store.take_token(name, token_sha256="ab" * 32, request_sha256="cd" * 32)
        # Enrolment is long ago: a token lives for some days.
        tag = shard_tag(shard_of(name, self._store.shards))
        assert await self._bare.call("DEL", key(tag, "token", name))
        await self._store.apply(name, outbox_id=_BOX, oldest_number=0, events=[], now=self._now)
        await self._store.touch({name: contact})
        await self._attest(name, None, "1.0.0", self._now)
        assert await self._store.direct(name, self._director(1, self._now, "1.0.0"), expected_timestamp_version=0)

    async def roll_out(self, number: int) -> None:
        """A rollout to all of them, to its end, and until every age was reached."""
        self._now = FleetTime(self._now + 30 * DAY_MS)
        await self._each(lambda name: self._go(name, number))
        until = FleetTime(self._now + 20 * DAY_MS)
        while any(swept.handled for swept in await self._store.sweep(range(self._store.shards), now=until, fences={})):
            pass
        # Else something else was measured.
        for name in self._names:
            record = await self._store.vehicle(name)
            assert record is not None
            assert len(record.tries) == number + 1
            assert record.attempt is not None
            assert (record.attempt.state, all(record.attempt.aged)) == (AttemptState.SUCCEEDED, True)

    async def _go(self, name: VehicleId, number: int) -> None:
        record = await self._store.vehicle(name)
        assert record is not None
        at = FleetTime(self._now + self._rng.randrange(3 * DAY_MS))
        attempt = self._attempt(record, number, at)
        held = record.director.timestamp_version
        state = self._director(held + 1, at, attempt.release)
        await self._store.assign(attempt, state, expected_timestamp_version=held)
        first = record.acknowledged_number + 1
        await self._tell(attempt, first, at, AttemptEvent.DOWNLOAD_STARTED, AttemptEvent.DOWNLOAD_FINISHED)
        permitted_at = FleetTime(at + self._rng.randrange(HOUR_MS))
        assert isinstance(await self._store.permit(attempt.attempt_id, permitted_at=permitted_at), Applied)
        done = FleetTime(permitted_at + self._rng.randrange(HOUR_MS))
        await self._tell(attempt, first + 2, done, AttemptEvent.INSTALL_STARTED, AttemptEvent.REBOOT_STARTED)
        await self._attest(name, attempt, attempt.release, done)

    def _attempt(self, record: VehicleRecord, number: int, at: FleetTime) -> Attempt:
        vehicle, rollout_id = record.vehicle, RolloutId(f"rollout-{number:04d}")
        flags = tuple(False for _ in self._gate.checkpoints_ms)
        return Attempt(
            attempt_id=attempt_id(rollout_id, vehicle.vehicle_id, 1),
            rollout_id=rollout_id,
            vehicle_id=vehicle.vehicle_id,
            number=1,
            release=ReleaseVersion(f"1.{number + 1}.0"),
            cell=Cell(vehicle.region, vehicle.hardware, vehicle.cohort),
            epoch=self._rng.randrange(1, 200),
            state=AttemptState.OFFERED,
            state_at=at,
            deadline_at=FleetTime(at + DAY_MS),
            granted_at=at,
            permitted_at=None,
            failure_code="",
            deadlines_ms=dict.fromkeys(AttemptState, DAY_MS),
            checkpoints_ms=self._gate.checkpoints_ms,
            aged=flags,
            silent=flags,
            habit=Habit.OFTEN,
            habit_ages_ms=(HOUR_MS, 6 * HOUR_MS),
        )

    async def _tell(self, attempt: Attempt, first: int, at: FleetTime, *events: AttemptEvent) -> None:
        sent = [VehicleEvent(first + place, attempt.attempt_id, event) for place, event in enumerate(events)]
        await self._store.apply(attempt.vehicle_id, outbox_id=_BOX, oldest_number=first, events=sent, now=at)

    async def _attest(self, name: VehicleId, attempt: Attempt | None, release: str, at: FleetTime) -> None:
        self._manifests += 1
        attestation = Attestation(
            sha256=f"{self._manifests:064x}",
            counter=self._manifests,
            content=b"",
            installed=ReleaseVersion(release),
            attempt_id=attempt.attempt_id if attempt else None,
            event=AttemptEvent.ATTESTED_RELEASE if attempt else None,
        )
        assert isinstance(await self._store.attest(name, attestation, now=at), Applied)

    def _director(self, version: int, at: FleetTime, release: str) -> DirectorState:
        snapshot = SignedSnapshot(version=version, length_bytes=431, sha256="ab" * 32, assignment="cd" * 8)
        return DirectorState(
            version=version,
            issued_at=at,
            timestamp_version=version,
            timestamp_issued_at=at,
            release=ReleaseVersion(release),
            snapshot=snapshot,
        )

    async def _each(self, go: Callable[[VehicleId], Awaitable[None]]) -> None:
        for low in range(0, len(self._names), _AT_ONCE):
            await asyncio.gather(*(go(name) for name in self._names[low : low + _AT_ONCE]))
