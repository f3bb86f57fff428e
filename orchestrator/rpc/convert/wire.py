"""What every conversion shares: times on the wire, and the refusal of a field that does not fit."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import duration_pb2, timestamp_pb2

from orchestrator.service.errors import InvalidInputError, Violation

TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
"""Years 1 to 9999. Source: google/protobuf/timestamp.proto, `seconds`."""
DURATION_SECONDS_MAX = 315_576_000_000
"""Some 10,000 years. Source: google/protobuf/duration.proto, `seconds`."""
NANOS = range(1_000_000_000)


def is_time(value: timestamp_pb2.Timestamp) -> bool:
    """Whether it is a time at all: the wire carries any numbers, of which many are none."""
    return value.seconds in TIMESTAMP_SECONDS and value.nanos in NANOS


def is_length(value: duration_pb2.Duration) -> bool:
    """Whether it is a length of time that is not negative."""
    return 0 <= value.seconds <= DURATION_SECONDS_MAX and value.nanos in NANOS


def timestamp(at: int) -> timestamp_pb2.Timestamp:
    """Milliseconds since the epoch as a Timestamp."""
    return timestamp_pb2.Timestamp(seconds=at // 1000, nanos=at % 1000 * 1_000_000)


def duration(milliseconds: int) -> duration_pb2.Duration:
    """Milliseconds as a Duration."""
    return duration_pb2.Duration(seconds=milliseconds // 1000, nanos=milliseconds % 1000 * 1_000_000)


def write_ms(field: timestamp_pb2.Timestamp | duration_pb2.Duration, milliseconds: int) -> None:
    """Milliseconds into a field of a message, which takes a third of the time of a message that is copied into it."""
    field.seconds, rest = divmod(milliseconds, 1000)
    field.nanos = rest * 1_000_000


def malformed(violations: Sequence[Violation]) -> InvalidInputError:
    """The error for a message that no correct agent sends."""
    return InvalidInputError(
        "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3]),
        reason="MALFORMED",
        remedy="docs and the .proto files describe the field",
        violations=violations,
    )
