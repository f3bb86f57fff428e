"""Conversion between the wire and the model: here and nowhere else. What does not fit is refused with the field's
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from google.protobuf import duration_pb2, timestamp_pb2
from outrider.v1 import attempt_pb2, case_pb2, fleet_pb2, release_pb2, rollout_pb2, vehicle_pb2

from orchestrator.engine.gates import Judgement
from orchestrator.engine.preview import Preview
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, Case, VehicleEvent
from orchestrator.model.decision import Grant, Refusal
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime, HardwareId, ReleaseVersion, RolloutId, split_attempt_id
from orchestrator.model.plan import Plan
from orchestrator.model.release import Image, Release
from orchestrator.model.rollout import RegionPhase, RolloutStatus, VerdictKind
from orchestrator.model.tally import Tally
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.service.errors import InvalidInputError, Violation
from orchestrator.service.permits import PermitAnswer
from orchestrator.service.rollouts import RolloutView, etag_of
from orchestrator.service.vehicles import CheckIn, CheckInReply, Held, Install, Withdraw

EVENTS = {
    vehicle_pb2.EVENT_KIND_DOWNLOAD_STARTED: AttemptEvent.DOWNLOAD_STARTED,
    vehicle_pb2.EVENT_KIND_DOWNLOAD_FINISHED: AttemptEvent.DOWNLOAD_FINISHED,
    vehicle_pb2.EVENT_KIND_DEFERRED: AttemptEvent.DEFERRED,
    vehicle_pb2.EVENT_KIND_INSTALL_STARTED: AttemptEvent.INSTALL_STARTED,
    vehicle_pb2.EVENT_KIND_REBOOT_STARTED: AttemptEvent.REBOOT_STARTED,
    vehicle_pb2.EVENT_KIND_VERIFY_STARTED: AttemptEvent.VERIFY_STARTED,
    vehicle_pb2.EVENT_KIND_FAILED: AttemptEvent.FAILED,
    vehicle_pb2.EVENT_KIND_ROLLED_BACK: AttemptEvent.ROLLED_BACK,
    vehicle_pb2.EVENT_KIND_REJECTED: AttemptEvent.REJECTED,
    vehicle_pb2.EVENT_KIND_WITHDRAWAL_OBEYED: AttemptEvent.WITHDRAWAL_OBEYED,
}
ATTEMPT_STATES = {state: attempt_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}
ROLLOUT_STATUSES = {state: rollout_pb2.RolloutStatus.Value(f"ROLLOUT_STATUS_{state.name}") for state in RolloutStatus}
REGION_PHASES = {phase: rollout_pb2.RegionPhase.Value(f"REGION_PHASE_{phase.name}") for phase in RegionPhase}
VERDICTS = {kind: rollout_pb2.VerdictKind.Value(f"VERDICT_KIND_{kind.name}") for kind in VerdictKind}

OUTBOX_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
FAILURE_CODE_PATTERN = re.compile(r"[a-z0-9_]{0,64}")
DIGEST_PATTERN = re.compile(r"([0-9a-f]{64})?")
DIAGNOSTICS_MAX = 32
NUMBER_MAX = 2**53 - 1
"""The largest event number that every implementation, Lua's included, represents exactly."""


def timestamp(at: int) -> timestamp_pb2.Timestamp:
    """Milliseconds since the epoch as a Timestamp."""
    return timestamp_pb2.Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000)


def duration(milliseconds: int) -> duration_pb2.Duration:
    """Milliseconds as a Duration."""
    return duration_pb2.Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def malformed(violations: Sequence[Violation]) -> InvalidInputError:
    """The error for a message that no correct agent sends."""
    return InvalidInputError(
        "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3]),
        reason="MALFORMED",
        remedy="docs and the .proto files describe the field",
        violations=violations,
    )


def check_in(request: vehicle_pb2.CheckInRequest, *, events_max: int) -> CheckIn:
    """The poll as the service takes it.

    Raises:
        InvalidInputError: a field does not fit.
    """
    faults = []
    if not OUTBOX_PATTERN.fullmatch(request.outbox_id):
        faults.append(Violation("outbox_id", "needs 1 to 64 of A-Z a-z 0-9 _ -"))
    if len(request.events) > events_max:
        faults.append(Violation("events", f"{len(request.events)} events, at most {events_max} a call"))
    if len(request.diagnostics) > DIAGNOSTICS_MAX:
        faults.append(Violation("diagnostics", f"{len(request.diagnostics)} given, at most {DIAGNOSTICS_MAX}"))
    if not DIGEST_PATTERN.fullmatch(request.manifest_sha256):
        faults.append(Violation("manifest_sha256", "needs 64 hex digits, or nothing"))
    if not 0 <= request.oldest_number <= NUMBER_MAX:
        faults.append(Violation("oldest_number", "out of range"))
    previous = 0
    for index, event in enumerate(request.events[:events_max]):
        faults += event_faults(event, previous, f"events[{index}]")
        previous = event.number
    if faults:
        raise malformed(faults)
    return CheckIn(
        outbox_id=request.outbox_id,
        events=[vehicle_event(event) for event in request.events],
        oldest_number=request.oldest_number,
        manifest_sha256=request.manifest_sha256,
        director=held(request.director_versions),
        image=held(request.image_versions),
    )


def event_faults(event: vehicle_pb2.Event, previous: int, where: str) -> list[Violation]:
    """What is wrong with one event."""
    faults = []
    if event.kind not in EVENTS:
        faults.append(Violation(f"{where}.kind", f"{event.kind} is no event kind"))
    if not previous < event.number <= NUMBER_MAX:
        faults.append(Violation(f"{where}.number", f"{event.number} does not follow {previous}"))
    if split_attempt_id(event.attempt_id) is None:
        faults.append(Violation(f"{where}.attempt_id", "is no attempt id"))
    if not FAILURE_CODE_PATTERN.fullmatch(event.failure_code):
        faults.append(Violation(f"{where}.failure_code", "needs at most 64 of a-z 0-9 _"))
    return faults


def vehicle_event(event: vehicle_pb2.Event) -> VehicleEvent:
    """A checked event."""
    return VehicleEvent(
        number=event.number,
        attempt_id=event.attempt_id,  # type: ignore[arg-type]  # checked by event_faults
        event=EVENTS[event.kind],
        failure_code=event.failure_code,
    )


def held(versions: vehicle_pb2.MetadataVersions) -> Held:
    """Metadata versions that a vehicle holds."""
    return Held(root=versions.root, timestamp=versions.timestamp, snapshot=versions.snapshot, targets=versions.targets)


def check_in_response(reply: CheckInReply, *, image_base_urls: Sequence[str]) -> vehicle_pb2.CheckInResponse:
    """The answer to a poll as the wire has it."""
    return vehicle_pb2.CheckInResponse(
        fleet_time=timestamp(reply.now),
        next_poll_after=duration(reply.next_poll_ms),
        acknowledged_number=reply.acknowledged_number,
        manifest_wanted=reply.manifest_wanted,
        directive=directive(reply.directive, image_base_urls),
        metadata=[
            *metadata_files(vehicle_pb2.REPOSITORY_DIRECTOR, reply.director_files),
            *metadata_files(vehicle_pb2.REPOSITORY_IMAGE, reply.image_files),
        ],
    )


def directive(wanted: Install | Withdraw | None, image_base_urls: Sequence[str]) -> vehicle_pb2.Directive:
    """What to do."""
    match wanted:
        case None:
            return vehicle_pb2.Directive(none=vehicle_pb2.NoDirective())
        case Withdraw(attempt_id=attempt_id, reason=reason):
            return vehicle_pb2.Directive(withdraw=vehicle_pb2.WithdrawDirective(attempt_id=attempt_id, reason=reason))
        case Install(attempt=attempt):
            return vehicle_pb2.Directive(
                install=vehicle_pb2.InstallDirective(
                    attempt_id=attempt.attempt_id,
                    rollout_id=attempt.rollout_id,
                    release=attempt.release,
                    state=ATTEMPT_STATES[attempt.state],
                    image_base_urls=image_base_urls,
                )
            )


def metadata_files(
    repository: vehicle_pb2.Repository.ValueType, files: Mapping[str, bytes]
) -> list[vehicle_pb2.MetadataFile]:
    """Files of one repository."""
    return [
        vehicle_pb2.MetadataFile(repository=repository, name=name, content=content) for name, content in files.items()
    ]


def authorize_response(answer: PermitAnswer) -> vehicle_pb2.AuthorizeInstallResponse:
    """A permit or a refusal."""
    response = vehicle_pb2.AuthorizeInstallResponse(fleet_time=timestamp(answer.now))
    if answer.refusal is None:
        response.permit.CopyFrom(vehicle_pb2.Permit(attempt_id=answer.attempt_id, valid_for=duration(answer.valid_ms)))
        return response
    response.refusal.reason = answer.refusal.reason.value
    response.refusal.message = answer.refusal.message
    if answer.retry_after_ms is not None:
        response.refusal.retry_after.CopyFrom(duration(answer.retry_after_ms))
    return response


def attempt(value: Attempt) -> attempt_pb2.Attempt:
    """An attempt."""
    return attempt_pb2.Attempt(
        attempt_id=value.attempt_id,
        rollout_id=value.rollout_id,
        vehicle_id=value.vehicle_id,
        release=value.release,
        state=ATTEMPT_STATES[value.state],
        state_time=timestamp(value.state_at),
        deadline_time=None if value.deadline_at is None else timestamp(value.deadline_at),
        grant_time=timestamp(value.granted_at),
        permit_time=None if value.permitted_at is None else timestamp(value.permitted_at),
        failure_code=value.failure_code,
        number=value.number,
    )


def vehicle(record: VehicleRecord, *, revoked: bool, attempts: Sequence[Attempt] = ()) -> fleet_pb2.Vehicle:
    """A vehicle as operators see it."""
    value = record.vehicle
    return fleet_pb2.Vehicle(
        name=f"vehicles/{value.vehicle_id}",
        vehicle_id=value.vehicle_id,
        model=value.model,
        hardware=value.hardware,
        region=value.region,
        cohort=value.cohort,
        tags=value.tags,
        ecus=[
            fleet_pb2.Ecu(
                serial=ecu.serial, hardware_id=ecu.hardware_id, public_key=ecu.public_key, primary=ecu.primary
            )
            for ecu in value.ecus
        ],
        installed_release=record.installed,
        last_seen_time=None if record.last_seen_at is None else timestamp(record.last_seen_at),
        attempts=[attempt(item) for item in attempts],
        revoked=revoked,
        enrolled=record.enrolled,
    )


def explanation(rollout_id: RolloutId, answer: Grant | Refusal) -> fleet_pb2.Explanation:
    """Why, for one rollout."""
    reason = "grant" if isinstance(answer, Grant) else answer.reason.value
    return fleet_pb2.Explanation(
        rollout=f"rollouts/{rollout_id}", reason=reason, message=answer.message, facts=answer.facts
    )


def release_in(message: release_pb2.Release) -> Release:
    """A release to be registered; output fields are ignored."""
    return Release(
        version=ReleaseVersion(message.version),
        images=tuple(
            Image(
                path=image.path,
                hardware_id=HardwareId(image.hardware_id),
                length_bytes=image.length_bytes,
                sha256=image.sha256,
                release_counter=image.release_counter,
            )
            for image in sorted(message.images, key=lambda image: image.hardware_id)
        ),
        notes=message.notes,
        created_at=FleetTime(0),
        targets_version=0,
    )


def release(value: Release) -> release_pb2.Release:
    """A release as operators see it."""
    return release_pb2.Release(
        name=f"releases/{value.version}",
        version=value.version,
        images=[
            release_pb2.Image(
                path=image.path,
                hardware_id=image.hardware_id,
                length_bytes=image.length_bytes,
                sha256=image.sha256,
                release_counter=image.release_counter,
            )
            for image in value.images
        ],
        notes=value.notes,
        create_time=timestamp(value.created_at),
        targets_version=value.targets_version,
    )


def rollout(view: RolloutView) -> rollout_pb2.Rollout:
    """A rollout with its counts."""
    value = view.rollout
    return rollout_pb2.Rollout(
        name=f"rollouts/{value.rollout_id}",
        release=value.plan.release,
        status=ROLLOUT_STATUSES[value.status],
        epoch=value.epoch,
        etag=etag_of(value),
        plan=value.plan_text,
        create_time=timestamp(value.created_at),
        update_time=timestamp(value.updated_at),
        last_actor=value.actor,
        last_reason=value.reason,
        regions=[
            rollout_pb2.RegionProgress(
                region=name,
                phase=REGION_PHASES[region.phase],
                wave=region.wave,
                wave_start_time=timestamp(region.wave_started_at),
                waiting_for=view.waiting_for.get(name, ""),
            )
            for name, region in sorted(value.regions.items())
        ],
        cells=[
            cell_counts(cell, view.cells.get(cell, Tally()), view.waiting.get(cell, 0), value.plan)
            for cell in sorted(view.cells.keys() | view.waiting.keys())
        ],
        gate=gate_report(view.judgement, view),
        waves=[wave.name for wave in value.plan.waves],
        fleet_time=timestamp(view.now),
    )


def cell_counts(cell: Cell, tally: Tally, waiting: int, plan: Plan) -> rollout_pb2.CellCounts:
    """Counts of one (region, hardware, cohort)."""
    groups = zip(plan.gate.checkpoints_ms, tally.age_groups, strict=False)
    return rollout_pb2.CellCounts(
        region=cell.region,
        hardware=cell.hardware,
        cohort=cell.cohort,
        targeted=waiting + tally.succeeded_in_all,
        states={state.value: tally.state(state) for state in AttemptState if tally.state(state)},
        exposed=tally.exposed,
        failed=tally.failed,
        age_groups=[
            rollout_pb2.AgeGroup(age=duration(age), exposed=group.exposed, silent=group.silent) for age, group in groups
        ],
    )


def gate_report(judgement: Judgement, view: RolloutView) -> rollout_pb2.GateReport:
    """What the gate says now; while stopped, what it said when it stopped the rollout."""
    stopped = view.rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED)
    verdict = view.rollout.verdict if stopped and view.rollout.verdict else judgement.worst
    return rollout_pb2.GateReport(
        verdict=VERDICTS[verdict.kind],
        rule=verdict.rule,
        scope=str(verdict.scope) if verdict.scope else "all",
        message=verdict.message,
        inputs=verdict.inputs,
        judge_time=timestamp(view.rollout.updated_at if verdict is view.rollout.verdict else view.now),
        permit_allowance=max(0, judgement.permit_ceiling - sum(tally.exposed for tally in view.cells.values())),
    )


def preview(plan: Plan, value: Preview, effective: str) -> rollout_pb2.PreviewRolloutResponse:
    """What a plan would do."""
    return rollout_pb2.PreviewRolloutResponse(
        release=plan.release,
        registered=value.registered,
        targeted=value.targeted,
        cells=[
            rollout_pb2.CellCounts(region=cell.region, hardware=cell.hardware, cohort=cell.cohort, targeted=count)
            for cell, count in sorted(value.cells.items())
        ],
        waves=[rollout_pb2.WavePreview(wave=name, added=added) for name, added in value.waves],
        excluded=value.excluded,
        warnings=value.warnings,
        effective_plan=effective,
        shortest_duration=duration(value.shortest_ms),
    )


def case(value: Case) -> case_pb2.Case:
    """A case."""
    return case_pb2.Case(
        name=f"cases/{value.attempt_id}",
        vehicle_id=value.vehicle_id,
        rollout_id=value.rollout_id,
        attempt_id=value.attempt_id,
        cause=value.cause,
        detail=value.detail,
        open_time=timestamp(value.opened_at),
        settle_time=None if value.settled_at is None else timestamp(value.settled_at),
        attempt_state=ATTEMPT_STATES[value.attempt_state],
        region=value.cell.region,
        hardware=value.cell.hardware,
        cohort=value.cell.cohort,
    )
