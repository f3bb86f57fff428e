"""The reference model of a store. Owns the routing to shards and rollouts, tokens, and what concerns the whole fleet.

Nothing here awaits, so every method is one atomic step of its event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.model.attempt import Attempt, AttemptEvent, Case, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Profile, Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, split_attempt_id
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies
from orchestrator.model.vehicle import DirectorState, VehicleRecord
from orchestrator.store import counters
from orchestrator.store.base import (
    DEAD_MAN_LIFE_MS,
    Applied,
    Attestation,
    ClockState,
    ImportOutcome,
    JournalEntry,
    Permitted,
    Reserved,
    Swept,
    Unsettled,
)
from orchestrator.store.memory.journal import Journal
from orchestrator.store.memory.rollout import RolloutKeys
from orchestrator.store.memory.shard import Shard
from orchestrator.store.refusals import refusal
from orchestrator.store.shards import check_shards, shard_of, vehicle_of
from orchestrator.store.streams import FLEET_STREAM, rollout_stream, shard_stream, stream_parts


@dataclass(slots=True)
class _Token:
    sha256: str
    ends_ms: int
    request_sha256: str = ""


class MemoryStore:
    """`base.Store` in dictionaries.

    Args:
        shards: how many; as in the real store they split journals and sweeps.
        machine_ms: machine time, milliseconds since the epoch.
        dataset_id: of the data set.
        dead_man_life_ms: machine time that a sign of life of the evaluator lasts.
    """

    def __init__(
        self,
        shards: int = 16,
        *,
        machine_ms: Callable[[], int],
        dataset_id: str = "memory",
        dead_man_life_ms: int = DEAD_MAN_LIFE_MS,
    ) -> None:
        check_shards(shards)
        self._machine_ms = machine_ms
        self._dataset_id = dataset_id
        self._dead_man_life_ms = dead_man_life_ms
        self._shards = [Shard(Journal(shard_stream(shard), machine_ms)) for shard in range(shards)]
        self._rollouts: dict[RolloutId, RolloutKeys] = {}
        self._fleet_journal = Journal(FLEET_STREAM, machine_ms)
        self._tokens: dict[VehicleId, _Token] = {}
        self._releases: dict[str, Release] = {}
        self._revoked: set[VehicleId] = set()
        self._clock: ClockState | None = None

    @property
    def shards(self) -> int:
        """See `base.VehicleStore`."""
        return len(self._shards)

    def _shard(self, vehicle_id: VehicleId) -> Shard:
        return self._shards[shard_of(vehicle_id, len(self._shards))]

    async def rollouts(self) -> Sequence[Rollout]:
        """See `base.RolloutStore`."""
        found = [keys.rollout for keys in self._rollouts.values()]
        return sorted(found, key=lambda rollout: (rollout.created_at, rollout.rollout_id), reverse=True)

    async def create_rollout(self, rollout: Rollout, decision: JournalEntry) -> Rollout:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout.rollout_id)
        if keys is None:
            log = Journal(rollout_stream(rollout.rollout_id), self._machine_ms)
            log.append(decision.kind, decision.at, decision.data)
            keys = RolloutKeys(rollout, log, self._machine_ms, self._dead_man_life_ms)
            self._rollouts[rollout.rollout_id] = keys
        return keys.rollout

    async def transition(self, rollout: Rollout, *, expected_epoch: int, decision: JournalEntry) -> bool:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout.rollout_id)
        if keys is None or keys.rollout.epoch != expected_epoch:
            return False
        keys.rollout = rollout
        keys.log.append(decision.kind, decision.at, decision.data)
        return True

    async def renew(self, rollout_id: RolloutId, *, permit_ceiling: int, began_ms: int, epoch: int) -> bool:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        return keys is not None and keys.renew(permit_ceiling, began_ms, epoch)

    async def reserve(
        self, rollout_id: RolloutId, attempt_id: AttemptId, *, region: str, region_max: int, total_max: int, epoch: int
    ) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        if keys is None:
            return _no_rollout(rollout_id)
        return keys.reserve(attempt_id, region=region, region_max=region_max, total_max=total_max, epoch=epoch)

    async def authorize(
        self,
        rollout_id: RolloutId,
        attempt_id: AttemptId,
        *,
        attempt_epoch: int,
        starts_per_minute_max: int,
        valid_ms: int,
        now: FleetTime,
    ) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        if keys is None:
            return _no_rollout(rollout_id)
        return keys.authorize(
            attempt_id,
            attempt_epoch=attempt_epoch,
            starts_per_minute_max=starts_per_minute_max,
            valid_ms=valid_ms,
            now=now,
        )

    async def forfeit(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].forfeit(attempt_ids)

    async def confirm(
        self, rollout_id: RolloutId, *, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]
    ) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].confirm(reservations, permits)

    async def release(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].release(attempt_ids)

    async def unsettled(self, rollout_id: RolloutId, *, older_than_ms: int) -> Unsettled:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        return keys.unsettled(older_than_ms) if keys else Unsettled(reservations=[], permits={})

    async def import_vehicles(self, vehicles: Sequence[Vehicle], *, now: FleetTime) -> ImportOutcome:
        """See `base.VehicleStore`."""
        counts = {"added": 0, "changed": 0, "unchanged": 0}
        by_shard: dict[int, list[Vehicle]] = {}
        for vehicle in vehicles:
            by_shard.setdefault(shard_of(vehicle.vehicle_id, len(self._shards)), []).append(vehicle)
        for number, group in sorted(by_shard.items()):
            outcomes = [self._shards[number].import_vehicle(vehicle) for vehicle in group]
            for outcome in outcomes:
                counts[outcome] += 1
            added, changed = outcomes.count("added"), outcomes.count("changed")
            if added + changed:
                data = {"added": added, "changed": changed}
                self._shards[number].journal.append("vehicles_imported", now, data)
        return ImportOutcome(**counts)

    async def vehicle(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """See `base.VehicleStore`."""
        return self._shard(vehicle_id).records.get(vehicle_id)

    async def vehicles(self, *, page_token: str, page_size: int) -> tuple[Sequence[VehicleRecord], str]:
        """See `base.VehicleStore`."""
        records = [record for shard in self._shards for record in shard.records.values()]
        if page_token and not (page_token.isascii() and page_token.isdigit()):
            raise ValueError(f"not a page token: {page_token!r}")
        start = int(page_token or 0)
        following = start + page_size
        return records[start:following], str(following) if following < len(records) else ""

    async def attempts(self, vehicle_id: VehicleId) -> Sequence[Attempt]:
        """See `base.VehicleStore`."""
        return self._shard(vehicle_id).attempts_of(vehicle_id)

    async def put_token(self, vehicle_id: VehicleId, *, token_sha256: str, life_ms: int) -> None:
        """See `base.VehicleStore`."""
        self._tokens[vehicle_id] = _Token(sha256=token_sha256, ends_ms=self._machine_ms() + life_ms)

    async def take_token(self, vehicle_id: VehicleId, *, token_sha256: str, request_sha256: str) -> bool:
        """See `base.VehicleStore`."""
        token = self._tokens.get(vehicle_id)
        records = self._shard(vehicle_id).records
        if token is None or vehicle_id not in records:
            return False
        if token.sha256 != token_sha256 or self._machine_ms() >= token.ends_ms:
            return False
        if token.request_sha256:
            return token.request_sha256 == request_sha256
        token.request_sha256 = request_sha256
        records[vehicle_id] = replace(records[vehicle_id], enrolled=True)
        return True

    async def assign(
        self, attempt: Attempt, director: DirectorState, *, expected_timestamp_version: int
    ) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        return self._shard(attempt.vehicle_id).assign(attempt, director, expected_timestamp_version)

    async def resolve(self, attempt_id: AttemptId) -> bool:
        """See `base.VehicleStore`."""
        parts = split_attempt_id(attempt_id)
        return parts is not None and self._shard(parts[1]).resolve(attempt_id, *parts)

    async def permit(self, attempt_id: AttemptId, *, permitted_at: FleetTime) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt_id})
        return self._shard(vehicle_id).permit(attempt_id, permitted_at)

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
        return self._shard(vehicle_id).apply(vehicle_id, outbox_id, oldest_number, events, now)

    async def change(
        self, attempt_id: AttemptId, event: AttemptEvent, *, now: FleetTime, failure_code: str = ""
    ) -> Applied | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        return self._shard(vehicle_id).change(attempt_id, event, now, failure_code) if vehicle_id else None

    async def attest(self, vehicle_id: VehicleId, attestation: Attestation, *, now: FleetTime) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        return self._shard(vehicle_id).attest(vehicle_id, attestation, now)

    async def direct(self, vehicle_id: VehicleId, director: DirectorState, *, expected_timestamp_version: int) -> bool:
        """See `base.VehicleStore`."""
        records = self._shard(vehicle_id).records
        record = records.get(vehicle_id)
        if record is None or record.director.timestamp_version != expected_timestamp_version:
            return False
        records[vehicle_id] = replace(record, director=director)
        return True

    async def touch(self, seen: Mapping[VehicleId, FleetTime]) -> None:
        """See `base.VehicleStore`."""
        for vehicle_id, at in seen.items():
            records = self._shard(vehicle_id).records
            if vehicle_id in records:
                records[vehicle_id] = replace(records[vehicle_id], last_seen_at=at)

    async def sweep(self, shard: int, *, now: FleetTime, fences: Mapping[RolloutId, int], batch: int = 256) -> Swept:
        """See `base.VehicleStore`."""
        return Swept(handled=self._shards[shard].sweep(now, fences, batch))

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        return {
            rollout_id: counters.tallies(counters.add(shard.counters.get(rollout_id, {}) for shard in self._shards))
            for rollout_id in rollout_ids
        }

    async def recount(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        found: dict[RolloutId, list[Attempt]] = {rollout_id: [] for rollout_id in rollout_ids}
        for shard in self._shards:
            for attempt in shard.attempts.values():
                if attempt.rollout_id in found:
                    found[attempt.rollout_id].append(attempt)
        return {
            rollout_id: counters.tallies(counters.count_attempts(attempts)) for rollout_id, attempts in found.items()
        }

    async def profiles(self) -> Mapping[Profile, int]:
        """See `base.VehicleStore`."""
        summed: dict[Profile, int] = {}
        for shard in self._shards:
            for profile, count in shard.profiles.items():
                summed[profile] = summed.get(profile, 0) + count
        return summed

    async def cases(self, *, rollout_id: RolloutId | None, settled: bool) -> Sequence[Case]:
        """See `base.VehicleStore`."""
        found = [
            case
            for shard in self._shards
            for case in (*shard.cases.values(), *(shard.settled_cases.values() if settled else ()))
            if rollout_id is None or case.rollout_id == rollout_id
        ]
        return sorted(found, key=lambda case: (case.opened_at, case.attempt_id), reverse=True)

    async def open_cases(self) -> Mapping[RolloutId, int]:
        """See `base.VehicleStore`."""
        return Counter(case.rollout_id for shard in self._shards for case in shard.cases.values())

    async def journal(self, stream: str, *, after: str, count: int) -> Sequence[JournalEntry]:
        """See `base.VehicleStore`."""
        journal = self._journal(stream)
        return journal.read(after=after, count=count) if journal else []

    async def journal_streams(self) -> Sequence[str]:
        """See `base.VehicleStore`."""
        shards = [shard_stream(shard) for shard in range(len(self._shards))]
        return [*shards, *(rollout_stream(rollout_id) for rollout_id in sorted(self._rollouts)), FLEET_STREAM]

    async def journal_mark(self, stream: str) -> str:
        """See `base.VehicleStore`."""
        journal = self._journal(stream)
        return journal.mark if journal else ""

    async def trim_journal(self, stream: str, *, upto: str) -> None:
        """See `base.VehicleStore`."""
        journal = self._journal(stream)
        if journal:
            journal.trim(upto=upto)

    def _journal(self, stream: str) -> Journal | None:
        shard, rollout_id = stream_parts(stream)
        if shard is not None:
            return self._shards[shard].journal if shard < len(self._shards) else None
        if rollout_id is not None:
            return self._rollouts[rollout_id].log if rollout_id in self._rollouts else None
        return self._fleet_journal

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

    async def close(self) -> None:
        """See `base.Store`."""


def _no_rollout(rollout_id: RolloutId) -> Refusal:
    return refusal(RefusalReason.ROLLOUT_OVER, {"rollout_id": rollout_id, "status": "not known"})
