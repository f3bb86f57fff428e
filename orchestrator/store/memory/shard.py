"""One shard's keys in memory: attempts, counters, due set; the inventory and the cases are in modules of their own.

Says in Python what the functions of `store/redis/functions` say in Lua; the differential test holds them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orchestrator.engine.attempts import advance
from orchestrator.engine.habits import learn
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Case, Control, Try, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import OTHER, HabitAge
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, attempt_id, split_attempt_id
from orchestrator.model.vehicle import Contact, DirectorState
from orchestrator.store.base import DARK_WAIT_MS, Applied, Attestation, Json
from orchestrator.store.counters import (
    AGED,
    SILENT,
    aged_counts,
    checkpoint_field,
    grant_field,
    habit_field,
    standing_fields,
)
from orchestrator.store.memory.cases import Cases, about
from orchestrator.store.memory.controls import Controls, with_flag
from orchestrator.store.memory.counts import ContactCounts, RolloutCounts
from orchestrator.store.memory.due import DueSet
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
        self.counts = RolloutCounts()
        self.contacts = ContactCounts()
        self._due = DueSet()
        self.controls = Controls(journal, self._due, self.counts, self._heard_from)

    def touch(self, vehicle_id: VehicleId, contact: Contact) -> None:
        """See `base.VehicleStore`."""
        record = self.records.get(vehicle_id)
        last = record.last_seen_at if record else None
        if record is None or (last is not None and contact.at < last):
            return
        if contact.at != last:
            self.contacts.add(record.vehicle.region, contact.at)
        self.records[vehicle_id] = replace(
            record,
            last_seen_at=contact.at,
            conditions=contact.conditions if contact.told else record.conditions,
            diagnostics=contact.diagnostics if contact.told else record.diagnostics,
            gaps=record.gaps if last is None else learn(record.gaps, contact.at - last),
        )

    def _heard_from(self, vehicle_id: VehicleId, at: FleetTime) -> bool | None:
        """Whether a vehicle called at a time or later; None when it is not in the inventory."""
        record = self.present(vehicle_id)
        if record is None:
            return None
        return record.last_seen_at is not None and record.last_seen_at >= at

    def enrol(self, control: Control) -> bool:
        """See `base.VehicleStore`."""
        return self.present(control.vehicle_id) is not None and self.controls.enrol(control)

    def diagnose(self, attempt_id: AttemptId, detail: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None or not attempt.exposed:
            return False
        if not attempt.diagnosed:
            told = replace(attempt, diagnosed=True)
            self._recount(attempt, told)
            self._store_attempt(told)
        return self.cases.diagnosed(attempt, detail, now)

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
        return sorted(found, key=lambda attempt: (attempt.granted_at, attempt.number, attempt.attempt_id), reverse=True)

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
        self._recount(None, attempt)
        if attempt.checkpoints_ms:
            self._due.schedule(f"g|{attempt.attempt_id}", attempt.granted_at + attempt.checkpoints_ms[0])
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
            lost = replace(last, number=number, state=AttemptState.WITHDRAWN, exposed=False, failure_code="")
            self.records[vehicle_id] = replace(record, tries={**record.tries, rollout_id: lost})
        return False

    def permit(
        self, attempt_id: AttemptId, permitted_at: FleetTime, offline_ms: int, paired: bool
    ) -> Applied | Refusal:
        """See `base.VehicleStore`."""
        attempt = self.attempts.get(attempt_id)
        if attempt is None:
            return refusal(RefusalReason.UNKNOWN_ATTEMPT, {"attempt_id": attempt_id})
        if not attempt.exposed:
            facts = {"attempt_id": attempt_id, "state": attempt.state.value}
            if attempt.state.terminal:
                return refusal(RefusalReason.ATTEMPT_OVER, facts)
            permitted = replace(attempt, offline_ms=offline_ms, paired=paired)
            if not self._advance(permitted, AttemptEvent.PERMIT_ISSUED, permitted_at):
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
        data: dict[str, Json] = {
            **about,
            "attempt_id": event.attempt_id,
            "number": event.number,
            "event": event.event.value,
            "failure_code": event.failure_code,
            "why": why,
        }
        if parts := split_attempt_id(event.attempt_id):
            data["rollout_id"] = parts[0]
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
        due = self._due.take(now, batch)
        for member in due:
            what, _, name = member.partition("|")
            kind, index = what[0], int(what[1:] or 0)
            if kind in "kl":
                control = self.controls.records[name].control
                if control.cell.region in dark:
                    self._due.schedule(member, now + DARK_WAIT_MS)
                else:
                    self.controls.age(kind, index, name, now)
                continue
            attempt = self.attempts[AttemptId(name)]
            if kind == "d":
                self._expire(attempt, _fence_of(fences, attempt), now)
            elif attempt.cell.region in dark:
                self._due.schedule(member, now + DARK_WAIT_MS)
            else:
                {"c": self._age, "h": self._age_by_habit, "g": self._age_grant}[kind](attempt, index, now)
        return len(due)

    def _expire(self, attempt: Attempt, fence: int, now: FleetTime) -> None:
        if attempt.epoch < fence and not attempt.exposed:
            self._advance(attempt, AttemptEvent.WITHDRAWN, now, "fenced")
        else:
            self._advance(attempt, AttemptEvent.DEADLINE_PASSED, now)

    def _age(self, attempt: Attempt, checkpoint: int, now: FleetTime) -> None:
        silent = attempt.state not in OWN_WORD
        aged = replace(
            attempt,
            aged=with_flag(attempt.aged, checkpoint, True),
            silent=with_flag(attempt.silent, checkpoint, silent),
        )
        for what, amount in aged_counts(attempt, silent):
            self.counts.add(attempt.rollout_id, checkpoint_field(attempt.cell, what, checkpoint), amount)
        self._store_attempt(aged)
        self.journal.append("exposure_aged", now, {**about(aged), "checkpoint": checkpoint, "silent": silent})
        if silent:
            self.cases.fell_silent(aged, checkpoint, now)

    def _age_by_habit(self, attempt: Attempt, index: int, now: FleetTime) -> None:
        silent = attempt.state not in OWN_WORD
        early = HabitAge(attempt.habit, attempt.habit_ages_ms[index])
        for what, amount in aged_counts(attempt, silent):
            self.counts.add(attempt.rollout_id, habit_field(attempt.cell, what, early), amount)
        self._store_attempt(
            replace(
                attempt,
                habit_aged=with_flag(attempt.habit_aged, index, True),
                habit_silent=with_flag(attempt.habit_silent, index, silent),
            )
        )
        data = {**about(attempt), "habit": early.habit.value, "age_ms": early.age_ms, "silent": silent}
        self.journal.append("habit_aged", now, data)

    def _age_grant(self, attempt: Attempt, _: int, now: FleetTime) -> None:
        # Who was taken out of the inventory meanwhile has called all the same, or has not.
        record = self.records.get(attempt.vehicle_id)
        heard_at = record.last_seen_at if record is not None else None
        # Who waits has asked for its permit since: whatever it does now, the payload did not hurt it on the way.
        asked = attempt.exposed or attempt.state is AttemptState.DEFERRED
        silent = not asked and (heard_at is None or heard_at <= attempt.granted_at)
        for what, amount in ((AGED, 1), (SILENT, int(silent))):
            self.counts.add(attempt.rollout_id, grant_field(attempt.cell, what), amount)
        self._store_attempt(replace(attempt, grant_aged=True, grant_silent=silent))
        if silent:
            self.journal.append("grant_silent", now, {**about(attempt), "state": attempt.state.value})

    def _advance(self, attempt: Attempt, event: AttemptEvent, now: FleetTime, failure_code: str = "") -> bool:
        """Take an attempt through one event: record, counters, due set, case, journal, try. False: it was illegal."""
        step = advance(attempt, event, now=now, failure_code=failure_code)
        if step is None:
            return False
        changed = step.attempt
        if event is AttemptEvent.PERMIT_ISSUED:
            changed = self._expose(changed, now)
        elif attempt.state is AttemptState.PERMITTED and event is not AttemptEvent.DEADLINE_PASSED:
            self._hasten(changed, now)
        self._recount(attempt, changed)
        self._keep(changed)
        data = {
            **about(changed),
            "from": attempt.state.value,
            "to": changed.state.value,
            "event": event.value,
            "failure_code": failure_code,
        }
        if event is AttemptEvent.PERMIT_ISSUED and changed.offline_ms:
            data["offline_ms"] = changed.offline_ms
        self.journal.append("attempt_corrected" if step.transition.correction else "attempt_changed", now, data)
        self.cases.follow(changed, attempt.state, now)
        return True

    def _expose(self, attempt: Attempt, now: FleetTime) -> Attempt:
        for member, age_ms in _ages(attempt):
            # Out of reach it may not have begun before its permit lapses, and cannot say that it has.
            self._due.schedule(member, now + attempt.offline_ms + age_ms)
        for index in range(len(attempt.checkpoints_ms)):
            # Adding nothing makes the counter: a cell with exposures has all its age groups.
            self.counts.add(attempt.rollout_id, checkpoint_field(attempt.cell, AGED, index), 0)
        nothing, early = (False,) * len(attempt.checkpoints_ms), (False,) * len(attempt.habit_ages_ms)
        return replace(attempt, aged=nothing, silent=nothing, habit_aged=early, habit_silent=early)

    def _hasten(self, attempt: Attempt, now: FleetTime) -> None:
        """Heard after an offline permit: whatever it did there is done, and the ages count from here at the latest."""
        for member, age_ms in _ages(attempt) if attempt.offline_ms else ():
            self._due.hasten(member, now + age_ms)

    def _keep(self, attempt: Attempt) -> None:
        """Store an attempt with its deadline and the vehicle's try."""
        self._due.schedule(f"d|{attempt.attempt_id}", attempt.deadline_at)
        self._store_attempt(attempt)
        record = self.records[attempt.vehicle_id]
        last = record.tries.get(attempt.rollout_id)
        if last is None or attempt.number >= last.number:
            latest = Try(
                number=attempt.number,
                state=attempt.state,
                state_at=attempt.state_at,
                exposed=attempt.exposed,
                failure_code=attempt.failure_code,
            )
            self.records[attempt.vehicle_id] = replace(record, tries={**record.tries, attempt.rollout_id: latest})

    def _store_attempt(self, attempt: Attempt) -> None:
        self.attempts[attempt.attempt_id] = attempt
        record = self.records[attempt.vehicle_id]
        if record.attempt is not None and record.attempt.attempt_id == attempt.attempt_id:
            self.records[attempt.vehicle_id] = replace(record, attempt=attempt)

    def _recount(self, before: Attempt | None, after: Attempt) -> None:
        """An attempt is counted as it is now, no longer as it was."""
        for field in standing_fields(before) if before else ():
            self.counts.add(after.rollout_id, field, -1)
        for field in standing_fields(after):
            self.counts.add(after.rollout_id, field, 1)


def _fence_of(fences: Mapping[str, int], attempt: Attempt) -> int:
    """The highest fence of an attempt's rollout, of its region there and of its stratum, or else of the others."""
    name, stratum = attempt.rollout_id, attempt.cell.stratum
    own = fences.get(f"{name}|{stratum}", fences.get(f"{name}|{OTHER}", 0))
    return max(fences.get(name, 0), fences.get(f"{name}|{stratum.region}", 0), own)


def _ages(attempt: Attempt) -> Iterator[tuple[str, int]]:
    """What falls due at each age of an exposure, and the age."""
    for kind, ages_ms in (("c", attempt.checkpoints_ms), ("h", attempt.habit_ages_ms)):
        for index, age_ms in enumerate(ages_ms):
            yield f"{kind}{index}|{attempt.attempt_id}", age_ms
