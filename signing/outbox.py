"""The numbered outbox of a vehicle: what it tells about its attempts, kept until it is acknowledged.

Lives in a dictionary of the agent's own memory, so that an event is saved in one step with the change that it tells
of; saving, before anything is sent, is the agent's business. Source: docs/agent-protocol.md, Numbering and the outbox.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from outrider.v1 import vehicle_pb2

EVENTS_MAX = 64
"""Most events of one poll."""


class Outbox:
    """Events by number.

    Args:
        memory: Where they live, in a form that JSON can hold; an empty one becomes a fresh outbox.
        fleet_ms: Fleet time now, milliseconds since 1970.
    """

    def __init__(self, memory: dict[str, Any], fleet_ms: Callable[[], int]) -> None:
        self._memory = memory
        self._fleet_ms = fleet_ms
        if not memory:
            self._begin([])

    def __len__(self) -> int:
        return len(self._memory["events"])

    def told(self) -> dict[str, Any]:
        """What the next poll has to tell, as its fields: the oldest first, without a hole."""
        oldest = self._memory["events"][:EVENTS_MAX]
        return {
            "outbox_id": self._memory["id"],
            "events": [vehicle_pb2.Event(**event) for event in oldest],
            "oldest_number": oldest[0]["number"] if oldest else 0,
        }

    def tell(self, attempt_id: str, kind: str, code: str = "") -> None:
        """Add an event that happens now.

        Args:
            attempt_id: Which attempt it is about.
            kind: Name of its kind, without `EVENT_KIND_`.
            code: Failure code, or empty.
        """
        event = {"number": self._memory["next"], "attempt_id": attempt_id, "kind": f"EVENT_KIND_{kind}"}
        self._memory["events"].append(
            event | {"failure_code": code, "event_time": {"seconds": self._fleet_ms() // 1000}}
        )
        self._memory["next"] += 1

    def acknowledge(self, number: int) -> None:
        """Forget what has arrived, up to `number`.

        A number that was never given says that this memory is older than what was told once, as after a restored
        backup: what is kept goes along in a fresh outbox, numbered anew.
        """
        if number >= self._memory["next"]:
            self._begin(self._memory["events"])
        else:
            self._memory["events"] = [event for event in self._memory["events"] if event["number"] > number]

    def _begin(self, events: list[dict[str, Any]]) -> None:
        numbered = [event | {"number": number} for number, event in enumerate(events, start=1)]
        self._memory |= {"id": uuid.uuid4().hex, "next": len(numbered) + 1, "events": numbered}
