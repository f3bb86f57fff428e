"""One table from our errors to gRPC status with google.rpc details; used by the edge, never by a servicer."""

from __future__ import annotations

import math

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from orchestrator.service.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    ServiceError,
    StateError,
    TooManyCallsError,
    TryLaterError,
)
from orchestrator.store.base import StoreError
from signing.errors import SignerUnavailableError

DOMAIN = "outrider"


class OverloadedError(TryLaterError):
    """Too many calls at once.

    Args:
        retry_after_s: when there will be a place, machine seconds.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(
            "too many calls at once",
            reason="OVERLOADED",
            remedy="wait and call again",
            retry_after_s=retry_after_s,
        )


CODES: tuple[tuple[type[Exception], int], ...] = (
    (OverloadedError, code_pb2.RESOURCE_EXHAUSTED),
    (InvalidInputError, code_pb2.INVALID_ARGUMENT),
    (NotFoundError, code_pb2.NOT_FOUND),
    (ForbiddenError, code_pb2.PERMISSION_DENIED),
    (StateError, code_pb2.FAILED_PRECONDITION),
    (ConflictError, code_pb2.ABORTED),
    (TooManyCallsError, code_pb2.RESOURCE_EXHAUSTED),
    (TryLaterError, code_pb2.UNAVAILABLE),
    (StoreError, code_pb2.UNAVAILABLE),
    (SignerUnavailableError, code_pb2.UNAVAILABLE),
)


def status_of(error: Exception) -> status_pb2.Status | None:
    """The status that an error of ours means; None when it is not one of ours, which is a defect to be logged."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), None)
    if code is None:
        return None
    if not isinstance(error, ServiceError):
        part = "store" if isinstance(error, StoreError) else "signer"
        error = TryLaterError(
            f"the {part} is out of reach; nothing is known to have changed",
            reason=f"{part.upper()}_UNAVAILABLE",
            remedy="call again",
        )
    return status_pb2.Status(code=code, message=str(error), details=list(map(packed, details_of(error))))


def internal() -> status_pb2.Status:
    """The status of a defect of ours: says nothing of what went wrong, that is in the log."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN)
    message = "internal error; the server's log says more"
    return status_pb2.Status(code=code_pb2.INTERNAL, message=message, details=[packed(info)])


def details_of(error: ServiceError) -> list[Message]:
    """google.rpc details of a refusal."""
    metadata = {"remedy": error.remedy} if error.remedy else {}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, InvalidInputError) and error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.description
                    )
                    for violation in error.violations
                ]
            )
        )
    if isinstance(error, TryLaterError):
        details.append(retry_info(error.retry_after_s))
    return details


def retry_info(seconds: float) -> error_details_pb2.RetryInfo:
    """How long to wait before the next try."""
    fraction, whole = math.modf(seconds)
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=int(whole), nanos=int(fraction * 1e9)))


def packed(message: Message) -> any_pb2.Any:
    """The message as google.protobuf.Any."""
    wrapped = any_pb2.Any()
    wrapped.Pack(message)
    return wrapped
