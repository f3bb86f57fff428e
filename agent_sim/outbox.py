"""The outbox: events numbered from 1, kept until the orchestrator says they are durable.

A value, so that a change exists only once it was persisted: the agent persists the new outbox before anything in it is
sent. Leaves when to send to the agent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from agent_sim.messages import EVENTS_PER_CALL_MAX, Event, EventKind


@dataclass(frozen=True, slots=True)
class Outbox:
    """Pending events of one vehicle."""

    outbox_id: str
    """Fresh after every loss of state: it restarts the numbering."""
    next_number: int = 1
    events: tuple[Event, ...] = ()
    """Not yet acknowledged, by ascending number without a gap."""

    def add(self, attempt_id: str, kind: EventKind, *, at: int, failure_code: str = "") -> Outbox:
        """The outbox with one more event."""
        event = Event(self.next_number, attempt_id, kind, at, failure_code)
        return replace(self, next_number=self.next_number + 1, events=(*self.events, event))

    def acknowledge(self, number: int) -> Outbox:
        """The outbox without the events up to `number`; late and repeated acknowledgements change nothing.

        A number that was never given means that the orchestrator knows a later memory of this vehicle, as after a
        restored backup: what it took for known of what is pending here cannot be told, so all of it is told anew.
        """
        if number >= self.next_number:
            return self._afresh(number)
        if not self.events or number < self.events[0].number:
            return self
        return replace(self, events=tuple(event for event in self.events if event.number > number))

    def _afresh(self, number: int) -> Outbox:
        """Another outbox with the same events, numbered from 1; its name follows from a random one, and is as rare."""
        events = tuple(replace(event, number=at) for at, event in enumerate(self.events, start=1))
        outbox_id = sha256(f"{self.outbox_id}/{number}".encode()).hexdigest()[:32]
        return Outbox(outbox_id, next_number=len(events) + 1, events=events)

    @property
    def batch(self) -> tuple[Event, ...]:
        """What the next call carries: the oldest events, as many as a call may."""
        return self.events[:EVENTS_PER_CALL_MAX]

    @property
    def oldest_number(self) -> int:
        """Oldest number kept; 0 when empty."""
        return self.events[0].number if self.events else 0
