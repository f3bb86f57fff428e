"""What could be done about a case, for the person who opens it at 3 a.m.: pure words from what is known.

Owns the advice and its order: first whatever makes the rest unnecessary, then what costs least. It only says what
follows from the record: cause, state, last contact, conditions, diagnoses, the rollout, and how many cases are like it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import Attempt, AttemptState, Case
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.vehicle import EVERY_ROLLOUT, Diagnostic, Severity, VehicleRecord

ALIKE_MIN = 3
"""Open cases with the same cause and detail from which on the release is suspected before the vehicle."""
BATTERY_LOW_PERCENT = 20
STORAGE_LOW_BYTES = 200_000_000
GIVEN_UP = (RolloutStatus.HALTED, RolloutStatus.ABORTED)
"""Rollouts whose release is not to be trusted in a workshop either."""
NO_WORD = ("silent", "timed_out")
"""Causes that say nothing but that nothing was heard."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """All that is known about a case."""

    case: Case
    record: VehicleRecord | None
    """None when the vehicle left the inventory."""
    attempt: Attempt | None
    """None when it is not known any more."""
    rollout: Rollout | None
    alike: int
    """Open cases of the rollout with the same cause and detail, this one included."""
    now: FleetTime

    @property
    def heard_after(self) -> bool:
        """Whether the vehicle called after the case opened."""
        seen = self.record.last_seen_at if self.record else None
        return seen is not None and seen > self.case.opened_at

    @property
    def critical(self) -> Sequence[Diagnostic]:
        """Critical diagnoses at the last contact."""
        found = self.record.diagnostics if self.record else ()
        return [each for each in found if each.severity is Severity.CRITICAL]


def advice(file: CaseFile) -> Sequence[str]:
    """What could be done, most promising first; never empty."""
    case = file.case
    if case.settled_at is not None:
        return [_settled(file)]
    found = [*_about_the_rollout(file)]
    if file.record is None:
        found.append("The vehicle left the inventory: nothing can reach it from here.")
    elif case.cause in NO_WORD:
        found += _silence(file, file.record)
    elif case.cause == "diagnosis":
        found += _diagnosis(file, file.record)
    elif case.cause == "repeated":
        found += _repeated(file, file.record)
    else:
        found += _failure(file, file.record)
    found.append(f'When it is dealt with: `outrider case close {case.attempt_id} --reason "what was found and done"`.')
    return found


def _settled(file: CaseFile) -> str:
    case = file.case
    when = instant(case.settled_at) if case.settled_at is not None else ""
    if case.closed_by:
        return f"Nothing: {case.closed_by} closed it at {when}: {case.close_reason}"
    return f"Nothing: the vehicle's own word settled it at {when}; the attempt is {case.attempt_state.value}."


def _about_the_rollout(file: CaseFile) -> Iterator[str]:
    rollout, case = file.rollout, file.case
    if rollout is None:
        return
    if file.alike >= ALIKE_MIN:
        yield (
            f"{file.alike} open cases of this rollout are alike ({case.cause}: {case.detail}): suspect the release "
            f"before the vehicle; `outrider case list --rollout {case.rollout_id}`."
        )
    if file.alike >= ALIKE_MIN and rollout.status is RolloutStatus.RUNNING:
        yield (
            f"The rollout still runs: `outrider rollout pause {case.rollout_id}` stops new installations at once and "
            "can be taken back."
        )
    if rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED):
        yield (
            f"The rollout is {rollout.status.value} ({rollout.reason}): no other vehicle begins; decide about it "
            f"first: `outrider rollout status {case.rollout_id}`."
        )
    if rollout.status in GIVEN_UP:
        yield f"Vehicles that run the release can be brought back: `outrider rollout revert {case.rollout_id}`."


def _silence(file: CaseFile, record: VehicleRecord) -> Iterator[str]:
    if file.heard_after:
        yield (
            f"It calls again (last {_ago(file, record.last_seen_at)}) and the attempt is "
            f"{file.case.attempt_state.value}: wait for its manifest, which settles the case by itself."
        )
        yield from _hindrances(file, record)
        return
    yield (
        f"Silent since {_moment(record.last_seen_at)} ({_ago(file, record.last_seen_at)}): wait for contact, it may "
        "stand in a garage or a tunnel; its manifest settles the case by itself."
    )
    yield from _hindrances(file, record)
    yield "Call the owner: does it start, does the screen come up, where does it stand?"
    yield f"Send a technician with {_parts(file, record)}."


def _failure(file: CaseFile, record: VehicleRecord) -> Iterator[str]:
    runs = record.installed or "software that no release here explains"
    if record.installed or record.manifest_counter:
        yield f"Its last manifest proves {runs}; last heard {_ago(file, record.last_seen_at)}."
    if file.case.attempt_state is AttemptState.ROLLED_BACK:
        yield "It went back by itself and runs what it ran before: it can be driven, nothing is urgent."
    else:
        yield f"It reported `{file.case.detail}`: look the code up with whoever built the release."
    yield from _hindrances(file, record)
    yield (
        "This rollout does not try it again: it was exposed. A rollout of a mended release reaches it; "
        f"`outrider fleet quarantine {file.case.vehicle_id}` keeps it out of all until it was looked at."
    )
    yield f"If it does not drive: call the owner, and send a technician with {_parts(file, record)}."


def _repeated(file: CaseFile, record: VehicleRecord) -> Iterator[str]:
    vehicle_id = file.case.vehicle_id
    if any(each.scope == EVERY_ROLLOUT for each in record.exclusions):
        yield (
            f"It is in quarantine, as it {file.case.detail}. Others took these releases well: suspect the vehicle; "
            f"`outrider ledger show --vehicle {vehicle_id}` tells how each one ended."
        )
    yield from _hindrances(file, record)
    yield f"Send a technician with {_parts(file, record)}."
    if any(each.scope == EVERY_ROLLOUT for each in record.exclusions):
        yield (
            f'Once it is repaired: `outrider fleet quarantine {vehicle_id} --lift --reason "what was mended"` lets it '
            "in again and forgives what failed before."
        )


def _diagnosis(file: CaseFile, record: VehicleRecord) -> Iterator[str]:
    if not file.critical and file.heard_after:
        yield (
            f"At its last contact ({_ago(file, record.last_seen_at)}) it told no critical diagnosis any more: close "
            "the case, or watch it for a day."
        )
        return
    for each in file.critical:
        yield (
            f"{each.code} of {each.ecu_serial or 'the vehicle'} is active since {instant(each.first_seen_at)}: look it "
            "up in the workshop manual; call the owner if it must not be driven."
        )
    before = file.attempt.permitted_at if file.attempt else None
    if before is not None and any(each.first_seen_at < before for each in file.critical):
        yield f"It was there before the installation began ({instant(before)}): perhaps not the update's doing."
    yield f"Send a technician with {_parts(file, record)}."


def _hindrances(file: CaseFile, record: VehicleRecord) -> Iterator[str]:
    """What its last conditions and diagnoses make likely."""
    conditions = record.conditions
    if conditions is not None and 0 < conditions.battery_percent < BATTERY_LOW_PERCENT:
        yield f"Its battery was at {conditions.battery_percent} %: it may have run empty; ask for it to be charged."
    if conditions is not None and 0 < conditions.storage_free_bytes < STORAGE_LOW_BYTES:
        yield f"It had {conditions.storage_free_bytes // 1_000_000} MB free: little room for images."
    if file.critical:
        codes = ", ".join(f"{each.code} ({each.ecu_serial or 'vehicle'})" for each in file.critical)
        yield f"At its last contact it told critical diagnoses: {codes}."


def _parts(file: CaseFile, record: VehicleRecord) -> str:
    """What a technician needs with them."""
    units = ", ".join(sorted({ecu.hardware_id for ecu in record.vehicle.ecus}))
    rollout, attempt = file.rollout, file.attempt
    if file.alike >= ALIKE_MIN or (rollout is not None and rollout.status in GIVEN_UP):
        # Whoever flashes by hand must not bring back what is suspected.
        suspect = attempt.release if attempt else "what this rollout brought"
        return f"a diagnostic tool and the software for {units} that it ran before, not {suspect}"
    return f"a diagnostic tool and {attempt.release if attempt else 'the release'} for {units}"


def _moment(at: FleetTime | None) -> str:
    return instant(at) if at is not None else "ever"


def _ago(file: CaseFile, at: FleetTime | None) -> str:
    return f"{duration(file.now - at)} ago" if at is not None else "never"
