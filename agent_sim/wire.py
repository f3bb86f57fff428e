"""Between the agent's values and `outrider.v1`: the only place in the simulator that knows protobuf messages."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.actions import AuthorizeCall
from agent_sim.messages import (
    Conditions,
    Consent,
    DiagnoseDirective,
    Diagnostic,
    Directive,
    Event,
    EventKind,
    InstallDirective,
    Link,
    MetadataFile,
    MetadataVersions,
    PermitReply,
    Poll,
    PollReply,
    Preconditions,
    Repository,
    Severity,
    WithdrawDirective,
)

_KINDS = {kind: pb.EventKind.Value(f"EVENT_KIND_{kind.name}") for kind in EventKind}
_LINKS = {link: pb.LinkType.Value(f"LINK_TYPE_{link.name}") for link in Link}
_LINK_NAMES = {number: link.value for link, number in _LINKS.items()}
_SEVERITIES = {severity: pb.Severity.Value(f"SEVERITY_{severity.name}") for severity in Severity}
_CONSENTS = {pb.ConsentPolicy.Value(f"CONSENT_POLICY_{consent.name}"): consent for consent in Consent}
_REPOSITORIES = {pb.REPOSITORY_DIRECTOR: Repository.DIRECTOR, pb.REPOSITORY_IMAGE: Repository.IMAGE}


def to_timestamp(at: int) -> Timestamp:
    """Milliseconds since the epoch as a Timestamp."""
    return Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000)


def from_timestamp(timestamp: Timestamp) -> int:
    """A Timestamp as milliseconds since the epoch."""
    return timestamp.seconds * 1000 + timestamp.nanos // 1_000_000


def from_duration(duration: Duration) -> int:
    """A Duration as milliseconds."""
    return duration.seconds * 1000 + duration.nanos // 1_000_000


def check_in_request(poll: Poll) -> pb.CheckInRequest:
    """A poll as it is sent."""
    return pb.CheckInRequest(
        outbox_id=poll.outbox_id,
        events=[_event(event) for event in poll.events],
        oldest_number=poll.oldest_number,
        manifest_sha256=poll.manifest_sha256,
        conditions=_conditions(poll.conditions),
        diagnostics=[_diagnostic(diagnostic) for diagnostic in poll.diagnostics],
        director_versions=_versions(poll.director),
        image_versions=_versions(poll.image),
    )


def authorize_request(call: AuthorizeCall) -> pb.AuthorizeInstallRequest:
    """A question for a permit as it is sent."""
    return pb.AuthorizeInstallRequest(
        attempt_id=call.attempt_id,
        conditions=_conditions(call.conditions),
        consented=call.consented,
        offline=call.offline,
    )


def _conditions(conditions: Conditions) -> pb.Conditions:
    return pb.Conditions(
        link_type=_LINKS[conditions.link],
        signal_percent=conditions.signal_percent,
        metered=conditions.metered,
        battery_percent=conditions.battery_percent,
        parked=conditions.parked,
        storage_free_bytes=conditions.storage_free_bytes,
    )


def _diagnostic(diagnostic: Diagnostic) -> pb.Diagnostic:
    return pb.Diagnostic(
        code=diagnostic.code,
        ecu_serial=diagnostic.ecu_serial,
        severity=_SEVERITIES[diagnostic.severity],
        first_seen_time=to_timestamp(diagnostic.first_seen_at),
    )


def _event(event: Event) -> pb.Event:
    return pb.Event(
        number=event.number,
        attempt_id=event.attempt_id,
        kind=_KINDS[event.kind],
        event_time=to_timestamp(event.at),
        failure_code=event.failure_code,
    )


def _versions(versions: MetadataVersions) -> pb.MetadataVersions:
    return pb.MetadataVersions(
        root=versions.root, timestamp=versions.timestamp, snapshot=versions.snapshot, targets=versions.targets
    )


def poll_reply(response: pb.CheckInResponse) -> PollReply:
    """The answer to a poll; files of an unknown repository are left out."""
    return PollReply(
        next_poll_after_ms=from_duration(response.next_poll_after),
        acknowledged_number=response.acknowledged_number,
        manifest_wanted=response.manifest_wanted,
        directive=_directive(response.directive),
        metadata=tuple(
            MetadataFile(_REPOSITORIES[file.repository], file.name, file.content)
            for file in response.metadata
            if file.repository in _REPOSITORIES
        ),
    )


def _directive(directive: pb.Directive) -> Directive:
    match directive.WhichOneof("kind"):
        case "install":
            install = directive.install
            return InstallDirective(
                install.attempt_id,
                install.rollout_id,
                install.release,
                tuple(install.image_base_urls),
                consent=_consent(install.consent),
                preconditions=_preconditions(install.preconditions),
                notes=install.notes,
                offline_permit_ms=from_duration(install.offline_permit),
            )
        case "withdraw":
            return WithdrawDirective(directive.withdraw.attempt_id)
        case "diagnose":
            return DiagnoseDirective(tuple(directive.diagnose.ecu_serials))
        case _:
            return None


def _preconditions(wanted: pb.Preconditions) -> Preconditions:
    return Preconditions(
        unmetered=wanted.unmetered,
        parked=wanted.parked,
        battery_percent_min=wanted.battery_percent_min,
        storage_free_bytes_min=wanted.storage_free_bytes_min,
        # One that is not known must not be left out: an empty list would ask for nothing.
        links=tuple(_LINK_NAMES.get(number, str(number)) for number in wanted.link_types),
    )


def _consent(policy: pb.ConsentPolicy.ValueType) -> Consent:
    """A policy of a later orchestrator is taken for the strictest that is known."""
    if policy == pb.CONSENT_POLICY_UNSPECIFIED:
        return Consent.NONE
    return _CONSENTS.get(policy, Consent.REQUIRED)


def permit_reply(response: pb.AuthorizeInstallResponse) -> PermitReply:
    """The answer at the point of no return; an empty one is a refusal to ask again after a minute."""
    match response.WhichOneof("answer"):
        case "permit":
            permit = response.permit
            return PermitReply(True, permit.attempt_id, valid_for_ms=from_duration(permit.valid_for))
        case "refusal":
            refusal = response.refusal
            later = from_duration(refusal.retry_after) if refusal.HasField("retry_after") else None
            return PermitReply(False, "", reason=refusal.reason, retry_after_ms=later)
        case _:
            return PermitReply(False, "", reason="empty_answer", retry_after_ms=60_000)
