"""Words of the wire, for verdicts."""

from __future__ import annotations

from typing import Any

from outrider.v1 import vehicle_pb2 as pb


def kind_name(kind: Any) -> str:
    """The word for an event."""
    return pb.EventKind.Name(kind).removeprefix("EVENT_KIND_")
