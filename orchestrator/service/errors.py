"""What a use case can refuse with. One leaf for each distinct reaction of the caller; `rpc.errors` maps them to gRPC
status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One fault in what was given."""

    field: str
    """Where: `line:column` of a file, or the name of a field."""
    description: str
    """What is wrong and how to mend it."""


class ServiceError(Exception):
    """Base of all refusals.

    Attributes:
        reason: machine-readable cause, UPPER_SNAKE_CASE.
        remedy: what the caller can do, for people.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.remedy = remedy


class InvalidInputError(ServiceError):
    """What was given is wrong and will stay wrong: correct it.

    Attributes:
        violations: every fault found.
    """

    def __init__(
        self, message: str, *, reason: str = "INVALID_INPUT", remedy: str = "", violations: Sequence[Violation] = ()
    ) -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.violations = tuple(violations)


class NotFoundError(ServiceError):
    """There is no such thing."""


class ForbiddenError(ServiceError):
    """This identity may not do that."""


class StateError(ServiceError):
    """Not in this state: something else must happen first."""


class ConflictError(ServiceError):
    """Someone was faster: read again and repeat."""


class TryLaterError(ServiceError):
    """A part is out of reach; nothing is known to have changed, the same call may be repeated.

    Attributes:
        retry_after_s: least wait, machine seconds.
    """

    def __init__(self, message: str, *, reason: str, remedy: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, reason=reason, remedy=remedy)
        self.retry_after_s = retry_after_s


class TooManyCallsError(TryLaterError):
    """This caller alone asks too often."""
