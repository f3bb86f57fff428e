"""Turns the server's refusals (gRPC status with google.rpc details) into errors with cause and remedy.

Owns which status ends in which exit code. Leaves repetition to `client`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from orchestrator.cli.errors import (
    BadInputError,
    CliError,
    ForbiddenError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)

PLACE = re.compile(r"\d+(:\w+)?")
"""Field of a violation that is a place in a file: `line`, `line:column`, or `line:name of the column`."""

KINDS: Mapping[grpc.StatusCode, type[CliError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: BadInputError,
    grpc.StatusCode.OUT_OF_RANGE: BadInputError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: RefusedError,
    grpc.StatusCode.ALREADY_EXISTS: RefusedError,
    grpc.StatusCode.ABORTED: RefusedError,
    grpc.StatusCode.UNAVAILABLE: UnreachableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: UnreachableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: UnreachableError,
    grpc.StatusCode.PERMISSION_DENIED: ForbiddenError,
    grpc.StatusCode.UNAUTHENTICATED: ForbiddenError,
}

REMEDIES: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.ABORTED: "someone was faster; look again and repeat",
    grpc.StatusCode.DEADLINE_EXCEEDED: "look whether it happened, then repeat with a higher --timeout",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "the server is busy; repeat later",
    grpc.StatusCode.PERMISSION_DENIED: "use an identity with a higher role: --as NAME, "
    "made by `outrider ca issue-operator NAME --role ROLE`",
    grpc.StatusCode.UNAUTHENTICATED: "use an identity that this server's authority issued: --as NAME or --identity DIR",
    grpc.StatusCode.UNIMPLEMENTED: "the server is older than this command line; use the same version",
    grpc.StatusCode.INTERNAL: "this is a defect of the server; its log has the details",
    grpc.StatusCode.UNKNOWN: "this is a defect of the server; its log has the details",
}


@dataclass(frozen=True, slots=True)
class Details:
    """What came with a refusal."""

    violations: tuple[tuple[str, str], ...] = ()
    """Field and description of each fault of the request."""
    preconditions: tuple[str, ...] = ()
    """What would have to be true first."""
    remedy: str = ""
    """What the server says to do."""
    retry_after_s: float | None = None
    """Least wait before a repetition; None when it did not ask for one."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Facts of the refusal."""


def to_error(call: grpc.Call, *, address: str, file_name: str = "") -> CliError:
    """The error to show for a call that failed.

    Args:
        call: the call that failed, which is what a stub raises.
        address: of the server, for the message.
        file_name: of the file that was sent, to name the places of its faults; empty when none was.
    """
    code = call.code()
    message = (call.details() or "").strip()
    details = details_of(call)
    kind = KINDS.get(code, CliError)
    if code is grpc.StatusCode.UNAVAILABLE and not details.remedy:
        return unreachable(address, message)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = f"no answer from {address} in time"
    lines = [violation_line(place, words, file_name) for place, words in details.violations]
    return kind(
        one_line(message) or f"the server answered {code.name}",
        remedy=one_line(details.remedy or REMEDIES.get(code, "")),
        details=[*lines, *map(one_line, details.preconditions)],
    )


def unreachable(address: str, message: str) -> CliError:
    """The error for a server that could not be talked to, told apart by what TLS said."""
    lowered = message.lower()
    if "certificate_verify_failed" in lowered or "hostname" in lowered:
        return UnreachableError(
            f"the server at {address} did not prove who it is",
            remedy="use the identity folder that belongs to this server: --data DIR, or --identity DIR",
        )
    if "handshake" in lowered or "ssl" in lowered or "tls" in lowered or "certificate" in lowered:
        return ForbiddenError(
            f"the server at {address} does not accept this identity",
            remedy=REMEDIES[grpc.StatusCode.UNAUTHENTICATED],
        )
    if "socket closed" in lowered or "connection reset" in lowered:
        # TLS 1.3 tells a client that its certificate was refused only by closing the connection.
        return UnreachableError(
            f"the server at {address} closed the connection at once",
            remedy="see that this server's authority issued the identity (--as, --identity); repeat if it restarts",
        )
    return UnreachableError(
        f"cannot reach the orchestrator at {address}", remedy="start it with `outrider serve`, or name another --server"
    )


def details_of(call: grpc.Call) -> Details:
    """The google.rpc details of a refusal; empty when it has none or they cannot be read."""
    try:
        status = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        return Details()
    return read_details(status) if status is not None else Details()


def read_details(status: status_pb2.Status) -> Details:
    """Unpack every detail that is understood."""
    bad_request = error_details_pb2.BadRequest()
    precondition = error_details_pb2.PreconditionFailure()
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    help_links = error_details_pb2.Help()
    retry_after_s = None
    for packed in status.details:
        packed.Unpack(bad_request)
        packed.Unpack(precondition)
        packed.Unpack(info)
        packed.Unpack(help_links)
        if packed.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    remedies = [info.metadata.get("remedy", ""), *(link.description for link in help_links.links)]
    return Details(
        violations=tuple((item.field, item.description) for item in bad_request.field_violations),
        preconditions=tuple(item.description for item in precondition.violations),
        remedy=next(filter(None, remedies), ""),
        retry_after_s=retry_after_s,
        metadata=dict(info.metadata),
    )


def violation_line(place: str, description: str, file_name: str) -> str:
    """One fault on one line: `file:line:column: description` where it has a place, `field: description` otherwise."""
    if file_name and PLACE.fullmatch(place):
        place = f"{file_name}:{place}"
    elif file_name:
        place = f"{file_name}: {place}" if place else file_name
    return one_line(f"{place}: {description}" if place else description)


def one_line(text: str) -> str:
    """Text without line breaks."""
    return " ".join(text.split())
