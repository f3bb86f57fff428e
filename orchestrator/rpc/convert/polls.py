"""What vehicles say and are told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from outrider.v1 import vehicle_pb2

from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.ids import split_attempt_id
from orchestrator.rpc.convert.attempts import ATTEMPT_STATES
from orchestrator.rpc.convert.conditions import (
    CONSENT_POLICIES,
    condition_faults,
    conditions,
    diagnostic,
    diagnostic_faults,
    preconditions_out,
)
from orchestrator.rpc.convert.wire import duration, malformed, timestamp, write_ms
from orchestrator.service.errors import Violation
from orchestrator.service.permits import PermitAnswer
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

OUTBOX_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")

FAILURE_CODE_PATTERN = re.compile(r"[a-z0-9_]{0,64}")

DIGEST_PATTERN = re.compile(r"([0-9a-f]{64})?")

NO_DIRECTIVE = vehicle_pb2.Directive(none=vehicle_pb2.NoDirective())
"""Copied into nearly every answer, and never changed."""

EVENTS_MAX = 64
"""Of one call, by the contract with agents."""

NUMBER_MAX = 2**53 - 1
"""The largest event number that every implementation, Lua's included, represents exactly."""


def check_in(request: vehicle_pb2.CheckInRequest, *, events_max: int) -> CheckIn:
    """The poll as the service takes it.

    Args:
        request: as it came.
        events_max: how many events are taken. Those beyond are no fault, because no agent can know of it: they are not
            acknowledged, so they come again.

    Raises:
        InvalidInputError: a field does not fit.
    """
    # Each look at a field of a message makes a value anew: once is enough.
    outbox_id, events, oldest_number = request.outbox_id, request.events, request.oldest_number
    manifest_sha256, diagnostics = request.manifest_sha256, request.diagnostics
    faults = []
    if not OUTBOX_PATTERN.fullmatch(outbox_id):
        faults.append(Violation("outbox_id", "needs 1 to 64 of A-Z a-z 0-9 _ -"))
    if len(events) > EVENTS_MAX:
        faults.append(Violation("events", f"{len(events)} events, at most {EVENTS_MAX} a call"))
    told = conditions(request)
    faults += condition_faults(told)
    faults += diagnostic_faults(diagnostics)
    if not DIGEST_PATTERN.fullmatch(manifest_sha256):
        faults.append(Violation("manifest_sha256", "needs 64 hex digits, or nothing"))
    if not 0 <= oldest_number <= NUMBER_MAX:
        faults.append(Violation("oldest_number", "out of range"))
    previous = 0
    for index, event in enumerate(events[:EVENTS_MAX]):
        faults += event_faults(event, previous, f"events[{index}]")
        previous = event.number
    if faults:
        raise malformed(faults)
    return CheckIn(
        outbox_id=outbox_id,
        events=[vehicle_event(event) for event in events[:events_max]],
        oldest_number=oldest_number,
        manifest_sha256=manifest_sha256,
        director=held(request.director_versions),
        image=held(request.image_versions),
        conditions=told,
        diagnostics=tuple([diagnostic(each) for each in diagnostics]),
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
    response = vehicle_pb2.CheckInResponse(
        acknowledged_number=reply.acknowledged_number,
        manifest_wanted=reply.manifest_wanted,
        directive=directive(reply.directive, image_base_urls),
    )
    write_ms(response.fleet_time, reply.now)
    write_ms(response.next_poll_after, reply.next_poll_ms)
    if reply.director_files or reply.image_files:
        response.metadata.extend(metadata_files(vehicle_pb2.REPOSITORY_DIRECTOR, reply.director_files))
        response.metadata.extend(metadata_files(vehicle_pb2.REPOSITORY_IMAGE, reply.image_files))
    return response


def directive(wanted: Install | Withdraw | None, image_base_urls: Sequence[str]) -> vehicle_pb2.Directive:
    """What to do."""
    match wanted:
        case None:
            return NO_DIRECTIVE
        case Withdraw(attempt_id=attempt_id, reason=reason):
            return vehicle_pb2.Directive(withdraw=vehicle_pb2.WithdrawDirective(attempt_id=attempt_id, reason=reason))
        case Install(attempt=attempt, consent=consent, preconditions=preconditions, notes=notes):
            offline_ms = wanted.offline_permit_ms
            return vehicle_pb2.Directive(
                install=vehicle_pb2.InstallDirective(
                    attempt_id=attempt.attempt_id,
                    rollout_id=attempt.rollout_id,
                    release=attempt.release,
                    state=ATTEMPT_STATES[attempt.state],
                    image_base_urls=image_base_urls,
                    consent=CONSENT_POLICIES[consent],
                    preconditions=preconditions_out(preconditions),
                    notes=notes,
                    notes_by_language=wanted.notes_by_language,
                    offline_permit=duration(offline_ms) if offline_ms else None,
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
