"""One shard's keys in memory: attempts, counters, due set; the inventory and the cases are in modules of their own.

Says in Python what the functions of `store/redis/functions` say in Lua; the differential test holds them together.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.engine.attempts import advance
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Case, Try, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, attempt_id
from orchestrator.model.vehicle import DirectorState
from orchestrator.store.base import DARK_WAIT_MS, Applied, Attestation, Json
from orchestrator.store.counters import aged_field, silent_field, state_field
from orchestrator.store.memory.cases import Cases, about
from orchestrator.store.memory.inventory import Inventory
from orchestrator.store.memory.journal import Journal
from orchestrator.store.refusals import refusal
from orchestrator.store.silence import OWN_WORD

NEVER_TRIED = Try(number=0, state=AttemptState.WITHDRAWN, state_at=FleetTime(0), exposed=False)


class Shard(Inventory):
    """What stands under one shard's tag.

    Args:
        journal: its stream.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self.attempts: dict[AttemptId, Attempt] = {}
        self.cases = Cases(journal)
        self.counters: dict[RolloutId, dict[str, int]] = {}
        self._due: dict[str, int] = {}
        self._due_heap: list[tuple[int, str]] = []
        """Entries that differ from `_due` are void."""

    def diagnose(self, attempt_id: AttemptId, detail: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        return attempt is not None and attempt.exposed and self.cases.diagnosed(attempt, detail, now)

    def close_case(self, attempt_id: AttemptId, *, actor: str, reason: str, now: FleetTime) -> Case | None:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        return self.cases.close(attempt, actor=actor, reason=reason, now=now) if attempt else None

    def attempts_of(self, vehicle_id: VehicleId) -> Sequence[Attempt]:
        """Every attempt of a vehicle, newest first."""
        record = self.records.get(vehicle_id)
        ids = [
            attempt_id(rollout_id, vehicle_id, number)
            for rollout_id, last in (record.tries.items() if record else ())
            for number in range(1, last.number + 1)
        ]
        found = [self.attempts[one] for one in ids if one in self.attempts]
        return sorted(found, key=lambda attempt: (attempt.granted_at, attempt.number), reverse=True)

    def assign(self, attempt: Attempt, director: DirectorState, expected_version: int) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        record = self.present(attempt.vehicle_id)
        if record is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt.attempt_id})
        if attempt.attempt_id in self.attempts:
            return Applied(record)
        last = record.tries.get(attempt.rollout_id)
        if last is not None and attempt.number <= last.number:
            return refusal(RefusalReason.TOMBSTONED, {"attempt_id": attempt.attempt_id})
        if record.attempt is not None and not record.attempt.state.terminal:
            facts = {"attempt_id": attempt.attempt_id, "live": record.attempt.attempt_id}
            return refusal(RefusalReason.ATTEMPT_LIVE, facts)
        standing = record.director.timestamp_version
        if standing != expected_version:
            numbers = {"expected": str(expected_version), "standing": str(standing)}
            return refusal(RefusalReason.STALE_EPOCH, numbers)
        self._count(attempt.rollout_id, state_field(attempt), 1)
        self.records[attempt.vehicle_id] = replace(record, director=director, attempt=attempt)
        self._keep(attempt)
        data = {**about(attempt), "epoch": attempt.epoch, "director_version": director.version}
        self.journal.append("attempt_granted", attempt.granted_at, data)
        return Applied(self.records[attempt.vehicle_id])

    def resolve(self, attempt_id: AttemptId, rollout_id: RolloutId, vehicle_id: VehicleId, number: int) -> bool:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is not None:
            return not attempt.state.terminal
        record = self.records.get(vehicle_id)
        if record is None:
            return False
        last = record.tries.get(rollout_id, NEVER_TRIED)
        if number > last.number:
            lost = replace(last, number=number, state=AttemptState.WITHDRAWN, exposed=False)
            self.records[vehicle_id] = replace(record, tries={**record.tries, rollout_id: lost})
        return False

    def permit(self, attempt_id: AttemptId, permitted_at: FleetTime) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt_id})
        if not attempt.exposed:
            facts = {"attempt_id": attempt_id, "state": attempt.state.value}
            if attempt.state.terminal:
                return refusal(RefusalReason.ATTEMPT_OVER, facts)
            if not self._advance(attempt, AttemptEvent.PERMIT_ISSUED, permitted_at):
                return refusal(RefusalReason.WRONG_STATE, facts)
        return Applied(self.records[attempt.vehicle_id])

    def apply(
        self, vehicle_id: VehicleId, outbox_id: str, oldest_number: int, events: Sequence[VehicleEvent], now: FleetTime
    ) -> Applied:
        """See `base.VehicleStore`."""
        record = self.present_or_key_error(vehicle_id)
        acknowledged = record.acknowledged_number if record.outbox_id == outbox_id else 0
        about: dict[str, Json] = {"vehicle_id": vehicle_id, "outbox_id": outbox_id}
        if oldest_number > acknowledged + 1:
            self.journal.append("events_gap", now, {**about, "first": acknowledged + 1, "last": oldest_number - 1})
            acknowledged = oldest_number - 1
        for event in events:
            if event.number <= acknowledged:
                continue
            if event.number > acknowledged + 1:
                self.journal.append("events_gap", now, {**about, "first": acknowledged + 1, "last": event.number - 1})
            self._apply_event(about, vehicle_id, event, now)
            acknowledged = event.number
        record = replace(self.records[vehicle_id], outbox_id=outbox_id, acknowledged_number=acknowledged)
        self.records[vehicle_id] = record
        return Applied(record)

    def _apply_event(
        self, about: Mapping[str, Json], vehicle_id: VehicleId, event: VehicleEvent, now: FleetTime
    ) -> None:
        attempt = self.attempts.get(event.attempt_id)
        why = "unknown_attempt"
        if attempt is not None and attempt.vehicle_id == vehicle_id:
            if self._advance(attempt, event.event, now, event.failure_code):
                return
            why = attempt.state.value
        data = {
            **about,
            "attempt_id": event.attempt_id,
            "number": event.number,
            "event": event.event.value,
            "failure_code": event.failure_code,
            "why": why,
        }
        self.journal.append("event_ignored", now, data)

    def change(self, attempt_id: AttemptId, event: AttemptEvent, now: FleetTime, failure_code: str) -> Applied | None:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            return None
        self._advance(attempt, event, now, failure_code)
        return Applied(self.records[attempt.vehicle_id])

    def attest(self, vehicle_id: VehicleId, attestation: Attestation, now: FleetTime) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        record = self.present_or_key_error(vehicle_id)
        if record.manifest_sha256 == attestation.sha256:
            return Applied(record)
        if attestation.counter <= record.manifest_counter:
            facts = {"counter": str(attestation.counter), "held": str(record.manifest_counter)}
            return refusal(RefusalReason.STALE_EPOCH, facts)
        if attestation.installed != record.installed:
            self.count_profile(record.vehicle.profile(record.installed), -1)
            self.count_profile(record.vehicle.profile(attestation.installed), 1)
        self.records[vehicle_id] = replace(
            record,
            manifest_sha256=attestation.sha256,
            manifest_counter=attestation.counter,
            installed=attestation.installed,
        )
        data: dict[str, Json] = {
            "vehicle_id": vehicle_id,
            "sha256": attestation.sha256,
            "counter": attestation.counter,
            "installed": attestation.installed,
        }
        attempt = self.attempts.get(attestation.attempt_id) if attestation.attempt_id else None
        known = attempt is not None and attempt.vehicle_id == vehicle_id
        if attempt is not None and known:
            data |= {"rollout_id": attempt.rollout_id, "attempt_id": attempt.attempt_id}
        self.journal.append("manifest_accepted", now, data, attestation.content)
        if attempt is not None and known and attestation.event is not None:
            self._advance(attempt, attestation.event, now)
        return Applied(self.records[vehicle_id])

    def sweep(self, now: FleetTime, fences: Mapping[str, int], dark: frozenset[str], batch: int) -> int:
        """See `base.VehicleStore`; the number of due items handled."""
        due = self._take_due(now, batch)
        for member in due:
            what, _, name = member.partition("|")
            attempt = self.attempts[AttemptId(name)]
            if what == "d":
                self._expire(attempt, _fence_of(fences, attempt), now)
            elif attempt.cell.region in dark:
                self._schedule(member, now + DARK_WAIT_MS)
            else:
                self._age(attempt, int(what[1:]), now)
        return len(due)

    def _take_due(self, now: FleetTime, batch: int) -> list[str]:
        due: list[str] = []
        while self._due_heap and self._due_heap[0][0] <= now and len(due) < batch:
            at, member = heapq.heappop(self._due_heap)
            if self._due.get(member) == at:
                del self._due[member]
                due.append(member)
        return due

    def _expire(self, attempt: Attempt, fence: int, now: FleetTime) -> None:
        if attempt.epoch < fence and not attempt.exposed:
            self._advance(attempt, AttemptEvent.WITHDRAWN, now, "fenced")
        else:
            self._advance(attempt, AttemptEvent.DEADLINE_PASSED, now)

    def _age(self, attempt: Attempt, checkpoint: int, now: FleetTime) -> None:
        silent = attempt.state not in OWN_WORD
        self._count(attempt.rollout_id, aged_field(attempt.cell, checkpoint), 1)
        aged = replace(
            attempt,
            aged=_with(attempt.aged, checkpoint, True),
            silent=_with(attempt.silent, checkpoint, silent),
        )
        if silent:
            self._count(attempt.rollout_id, silent_field(attempt.cell, checkpoint), 1)
        self._store_attempt(aged)
        self.journal.append("exposure_aged", now, {**about(aged), "checkpoint": checkpoint, "silent": silent})
        if silent:
            self.cases.fell_silent(aged, checkpoint, now)

    def _advance(self, attempt: Attempt, event: AttemptEvent, now: FleetTime, failure_code: str = "") -> bool:
        """Take an attempt through one event: record, counters, due set, case, journal, try. False: it was illegal."""
        step = advance(attempt, event, now=now, failure_code=failure_code)
        if step is None:
            return False
        changed = step.attempt
        if event is AttemptEvent.PERMIT_ISSUED:
            changed = self._expose(changed, now)
        self._count(attempt.rollout_id, state_field(attempt), -1)
        self._count(attempt.rollout_id, state_field(changed), 1)
        self._keep(changed)
        data = {
            **about(changed),
            "from": attempt.state.value,
            "to": changed.state.value,
            "event": event.value,
            "failure_code": failure_code,
        }
        self.journal.append("attempt_corrected" if step.transition.correction else "attempt_changed", now, data)
        self.cases.follow(changed, attempt.state, now)
        return True

    def _expose(self, attempt: Attempt, now: FleetTime) -> Attempt:
        for index, age_ms in enumerate(attempt.checkpoints_ms):
            self._schedule(f"c{index}|{attempt.attempt_id}", now + age_ms)
            # Adding nothing makes the counter: a cell with exposures has all its age groups.
            self._count(attempt.rollout_id, aged_field(attempt.cell, index), 0)
        nothing = (False,) * len(attempt.checkpoints_ms)
        return replace(attempt, aged=nothing, silent=nothing)

    def _keep(self, attempt: Attempt) -> None:
        """Store an attempt with its deadline and the vehicle's try."""
        self._schedule(f"d|{attempt.attempt_id}", attempt.deadline_at)
        self._store_attempt(attempt)
        record = self.records[attempt.vehicle_id]
        last = record.tries.get(attempt.rollout_id)
        if last is None or attempt.number >= last.number:
            latest = Try(number=attempt.number, state=attempt.state, state_at=attempt.state_at, exposed=attempt.exposed)
            self.records[attempt.vehicle_id] = replace(record, tries={**record.tries, attempt.rollout_id: latest})

    def _store_attempt(self, attempt: Attempt) -> None:
        self.attempts[attempt.attempt_id] = attempt
        record = self.records[attempt.vehicle_id]
        if record.attempt is not None and record.attempt.attempt_id == attempt.attempt_id:
            self.records[attempt.vehicle_id] = replace(record, attempt=attempt)

    def _schedule(self, member: str, at: int | None) -> None:
        if at is None:
            self._due.pop(member, None)
        else:
            self._due[member] = at
            heapq.heappush(self._due_heap, (at, member))

    def _count(self, rollout_id: RolloutId, field: str, amount: int) -> None:
        counters = self.counters.setdefault(rollout_id, {})
        counters[field] = counters.get(field, 0) + amount


def _with(flags: Sequence[bool], index: int, value: bool) -> tuple[bool, ...]:
    return (*flags[:index], value, *flags[index + 1 :])


def _fence_of(fences: Mapping[str, int], attempt: Attempt) -> int:
    """The highest fence of an attempt's rollout, of its region there and of its stratum."""
    name, stratum = attempt.rollout_id, attempt.cell.stratum
    return max(fences.get(scope, 0) for scope in (name, f"{name}|{stratum.region}", f"{name}|{stratum}"))
