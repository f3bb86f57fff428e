"""What was seen of an agent, in order: its calls with their answers, its downloads, and what was done to it.

Owns the record and waiting for it to grow. Judges read it; nothing here has an opinion. Times are machine time in
milliseconds, as `clock.machine_ms` gives them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agent_sim.clock import machine_ms

CHECK_IN = "CheckIn"
SUBMIT = "SubmitManifest"
AUTHORIZE = "AuthorizeInstall"
FETCH = "FetchMetadata"
RENEW = "RenewCertificate"
ENROLL = "Enroll"


@dataclass(slots=True)
class SeenCall:
    """One call of the agent."""

    method: str
    at_ms: float
    request: Any
    """The protobuf message."""
    boot: int
    """Which start of the agent, from 1."""
    certificate: bytes = b""
    """PEM that the agent proved itself with; empty on the enrolment port."""
    tls: str = ""
    """Version of TLS."""
    reply: Any = None
    """What the agent was answered; None: nothing, or an error."""
    status: str = ""
    """Name of the error it was answered; `LOST`: the answer never went out; empty: a reply."""
    ended_ms: float | None = None
    """When the answer went out."""

    @property
    def answered(self) -> bool:
        """Whether a reply went out."""
        return self.reply is not None and not self.status


@dataclass(slots=True)
class SeenDownload:
    """One request for an image."""

    name: str
    """`<sha256>.<name>`."""
    at_ms: float
    offset: int
    """First byte asked for."""
    boot: int
    sent: int = 0
    """Bytes that were sent."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done: `agent started`, `agent killed`, `server down`, ..."""

    what: str
    at_ms: float


Seen = SeenCall | SeenDownload | Mark


@dataclass
class Tape:
    """The record of one scenario."""

    seen: list[Seen] = field(default_factory=list)
    boot: int = 0
    """Starts of the agent so far."""
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, entry: Seen) -> None:
        """Record something new."""
        self.seen.append(entry)
        self.touch()

    def mark(self, what: str) -> None:
        """Record what was done."""
        self.add(Mark(what, machine_ms()))

    def touch(self) -> None:
        """Something in the record changed: wake those who wait."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def until(self, holds: Callable[[], bool], within_s: float) -> bool:
        """Wait until `holds`; False when it does not within so many seconds of machine time."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    await self._grown.wait()
        except TimeoutError:
            return holds()
        return True

    def calls(self, method: str = "") -> Iterator[SeenCall]:
        """Every call, or those of one method, in order."""
        return (entry for entry in self.seen if isinstance(entry, SeenCall) and method in ("", entry.method))

    def downloads(self) -> list[SeenDownload]:
        """Every request for an image."""
        return [entry for entry in self.seen if isinstance(entry, SeenDownload)]

    def events(self, kind: int | None = None, attempt_id: str = "") -> list[Any]:
        """Events as first told, each once, in order; what a fresh outbox tells again is no news."""
        numbered: set[tuple[str, int]] = set()
        found: dict[tuple[str, int, int, str], tuple[str, Any]] = {}
        again = 0
        for call in self.calls(CHECK_IN):
            box = call.request.outbox_id
            for event in call.request.events:
                if (box, event.number) in numbered:
                    continue
                numbered.add((box, event.number))
                what = (event.attempt_id, event.kind, event.event_time.ToMilliseconds(), event.failure_code)
                if what in found and found[what][0] == box:
                    again += 1
                    what = (*what[:3], f"{event.failure_code}/{again}")
                found.setdefault(what, (box, event))
        events = (event for _, event in found.values())
        return [e for e in events if kind in (None, e.kind) and attempt_id in ("", e.attempt_id)]
