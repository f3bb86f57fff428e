"""The reference model of a store. Owns the routing to shards, and tokens; leaves rollouts to `rollouts` and what
concerns the whole fleet to `fleet`.

Nothing here awaits, so every method is one atomic step of its event loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.model.attempt import Attempt, AttemptEvent, Case, Control, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Profile, Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, split_attempt_id
from orchestrator.model.tally import CellTallies
from orchestrator.model.vehicle import Contact, DirectorState, Exclusion, VehicleRecord
from orchestrator.store import counters
from orchestrator.store.base import (
    DEAD_MAN_LIFE_MS,
    Applied,
    Attestation,
    BeyondMark,
    ChangeOutcome,
    ContactRate,
    ImportOutcome,
    InventoryChange,
    JournalEntry,
    Swept,
)
from orchestrator.store.contacts import compared
from orchestrator.store.memory.counts import Sums
from orchestrator.store.memory.fleet import MemoryFleet
from orchestrator.store.memory.journal import Journal
from orchestrator.store.memory.rollouts import MemoryRollouts
from orchestrator.store.memory.shard import Shard
from orchestrator.store.refusals import refusal
from orchestrator.store.shards import check_shards, shard_of, vehicle_of
from orchestrator.store.streams import FLEET_STREAM, rollout_stream, shard_stream, stream_parts


@dataclass(slots=True)
class _Token:
    sha256: str
    ends_ms: int
    request_sha256: str = ""


class MemoryStore(MemoryRollouts, MemoryFleet):
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
        MemoryFleet.__init__(self, machine_ms, dataset_id)
        MemoryRollouts.__init__(self, machine_ms, dead_man_life_ms)
        self._shards = [Shard(Journal(shard_stream(shard), machine_ms)) for shard in range(shards)]
        self._tokens: dict[VehicleId, _Token] = {}
        self._sums = Sums()

    @property
    def shards(self) -> int:
        """See `base.VehicleStore`."""
        return len(self._shards)

    def _shard(self, vehicle_id: VehicleId) -> Shard:
        return self._shards[shard_of(vehicle_id, len(self._shards))]

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
        return self._shard(vehicle_id).present(vehicle_id)

    async def vehicles(
        self, *, page_token: str, page_size: int, wanted: Callable[[Profile], bool] | None = None
    ) -> tuple[Sequence[VehicleRecord], str]:
        """See `base.VehicleStore`."""
        records = [
            record
            for shard in self._shards
            for name, record in shard.records.items()
            if name not in shard.removed and (wanted is None or wanted(record.vehicle.profile(record.installed)))
        ]
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
        shard = self._shard(vehicle_id)
        record = shard.present(vehicle_id)
        if token is None or record is None:
            return False
        if token.sha256 != token_sha256 or self._machine_ms() >= token.ends_ms:
            return False
        if token.request_sha256:
            return token.request_sha256 == request_sha256
        token.request_sha256 = request_sha256
        shard.records[vehicle_id] = replace(record, enrolled=True)
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

    async def permit(
        self, attempt_id: AttemptId, *, permitted_at: FleetTime, offline_ms: int = 0, paired: bool = True
    ) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt_id})
        return self._shard(vehicle_id).permit(attempt_id, permitted_at, offline_ms, paired)

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
        shard = self._shard(vehicle_id)
        record = shard.present(vehicle_id)
        if record is None or record.director.timestamp_version != expected_timestamp_version:
            return False
        shard.records[vehicle_id] = replace(record, director=director)
        return True

    async def touch(self, seen: Mapping[VehicleId, Contact]) -> None:
        """See `base.VehicleStore`."""
        for vehicle_id, contact in seen.items():
            self._shard(vehicle_id).touch(vehicle_id, contact)

    async def contacts(self, regions: Sequence[str], *, now: FleetTime) -> Mapping[str, ContactRate]:
        """See `base.VehicleStore`."""
        last, day_before = compared(now)
        return {
            region: ContactRate(
                recent=sum(shard.contacts.of(region, last) for shard in self._shards),
                day_before=sum(shard.contacts.of(region, day_before) for shard in self._shards),
            )
            for region in regions
        }

    async def enrol(self, control: Control) -> bool:
        """See `base.VehicleStore`."""
        return self._shard(control.vehicle_id).enrol(control)

    async def change_vehicles(
        self, changes: Sequence[InventoryChange], *, actor: str, reason: str, now: FleetTime
    ) -> ChangeOutcome:
        """See `base.VehicleStore`."""
        real = [change for change in changes if change.before != change.after]
        overtaken = [
            change.before.vehicle_id
            for change in real
            if not self._shard(change.before.vehicle_id).change_vehicle(change, actor=actor, reason=reason, now=now)
        ]
        return ChangeOutcome(
            changed=len(real) - len(overtaken),
            unchanged=len(changes) - len(real),
            overtaken=tuple(sorted(overtaken)),
        )

    async def remove_vehicle(self, vehicle_id: VehicleId, *, actor: str, reason: str, now: FleetTime) -> bool | Refusal:
        """See `base.VehicleStore`."""
        answer = self._shard(vehicle_id).remove_vehicle(vehicle_id, actor=actor, reason=reason, now=now)
        if answer is True:
            self._tokens.pop(vehicle_id, None)
        return answer

    async def exclude(self, vehicle_id: VehicleId, exclusion: Exclusion, *, blamed: AttemptId | None = None) -> bool:
        """See `base.VehicleStore`."""
        shard = self._shard(vehicle_id)
        excluded = shard.exclude(vehicle_id, exclusion)
        attempt = shard.attempts.get(blamed) if excluded and blamed else None
        if attempt is not None:
            shard.cases.repeated(attempt, exclusion.reason, exclusion.at)
        return excluded

    async def readmit(self, vehicle_id: VehicleId, scope: str, *, actor: str, reason: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        return self._shard(vehicle_id).readmit(vehicle_id, scope, actor=actor, reason=reason, now=now)

    async def diagnose(self, attempt_id: AttemptId, *, detail: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        return vehicle_id is not None and self._shard(vehicle_id).diagnose(attempt_id, detail, now)

    async def close_case(self, attempt_id: AttemptId, *, actor: str, reason: str, now: FleetTime) -> Case | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        if vehicle_id is None:
            return None
        return self._shard(vehicle_id).close_case(attempt_id, actor=actor, reason=reason, now=now)

    async def case(self, attempt_id: AttemptId) -> Case | None:
        """See `base.VehicleStore`."""
        vehicle_id = vehicle_of(attempt_id)
        return self._shard(vehicle_id).cases.of(attempt_id) if vehicle_id else None

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
        return [Swept(handled=self._shards[shard].sweep(now, fences, frozenset(dark), batch)) for shard in shards]

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        parts = [shard.counts for shard in self._shards]
        return {rollout_id: self._sums.of(rollout_id, parts) for rollout_id in rollout_ids}

    async def recount(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """See `base.VehicleStore`."""
        attempts = [attempt for shard in self._shards for attempt in shard.attempts.values()]
        watched = [each for shard in self._shards for each in shard.controls.records.values()]
        return {
            rollout_id: counters.tallies(
                counters.count_records(
                    (each for each in attempts if each.rollout_id == rollout_id),
                    (each for each in watched if each.control.rollout_id == rollout_id),
                )
            )
            for rollout_id in rollout_ids
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
            for case in (*shard.cases.open, *(shard.cases.settled if settled else ()))
            if rollout_id is None or case.rollout_id == rollout_id
        ]
        return sorted(found, key=lambda case: (case.opened_at, case.attempt_id), reverse=True)

    async def open_cases(self) -> Mapping[RolloutId, int]:
        """See `base.VehicleStore`."""
        return Counter(case.rollout_id for shard in self._shards for case in shard.cases.open)

    async def journal(self, stream: str, *, after: str, count: int) -> Sequence[JournalEntry]:
        """See `base.VehicleStore`."""
        journal = self._journal(stream)
        return journal.read(after=after, count=count) if journal else []

    async def journals_beyond(self, marks: Mapping[str, str], *, count: int) -> Mapping[str, BeyondMark]:
        """See `base.VehicleStore`."""
        found = {}
        for stream, mark in marks.items():
            journal = self._journal(stream)
            found[stream] = journal.beyond(mark=mark, count=count) if journal else BeyondMark(not mark, [])
        return found

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

    async def close(self) -> None:
        """See `base.Store`."""
