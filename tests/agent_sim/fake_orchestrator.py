"""A pure, tiny orchestrator for tests: acknowledges events by (outbox, number), directs, permits, keeps manifests.

It holds what an agent must never break as plain lists, so that a test can compare them with the vehicle's own truth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from agent_sim.actions import AuthorizeCall
from agent_sim.ecu import Ecu, WantedImage
from agent_sim.messages import (
    NO_PRECONDITIONS,
    Consent,
    Directive,
    Event,
    EventKind,
    InstallDirective,
    PermitReply,
    Poll,
    PollReply,
    Preconditions,
    WithdrawDirective,
)

HOUR_MS = 3_600_000
OVER = {EventKind.FAILED, EventKind.ROLLED_BACK, EventKind.REJECTED, EventKind.WITHDRAWAL_OBEYED}


def unsigned_manifest(ecus: tuple[Ecu, ...], counter: int, at: int, attack: str) -> bytes:
    """What an agent hands in where signatures do not matter."""
    running = {ecu.serial: ecu.running.sha256 for ecu in ecus}
    return json.dumps({"running": running, "counter": counter, "at": at, "attack": attack}).encode()


@dataclass
class FakeOrchestrator:
    """Serves one vehicle."""

    images: tuple[WantedImage, ...] = ()
    """What the Director assigns while there is an attempt."""
    attempt_id: str = ""
    """Offered in every reply until it is over; empty: nothing to do."""
    release: str = "1.1.0"
    withdrawn: str = ""
    """Attempt to withdraw instead."""
    permit: PermitReply | None = None
    """Answer to a question for a permit; None: a permit."""
    next_poll_after_ms: int = HOUR_MS
    applied: dict[str, list[Event]] = field(default_factory=dict)
    """By outbox: events in the order they were made durable, each once."""
    received: list[Event] = field(default_factory=list)
    """Every event of every call, repetitions too."""
    consent: Consent = Consent.NONE
    preconditions: Preconditions = NO_PRECONDITIONS
    polls: list[Poll] = field(default_factory=list)
    asked: list[AuthorizeCall] = field(default_factory=list)
    """Every question for a permit."""
    permits: list[str] = field(default_factory=list)
    manifests: list[Any] = field(default_factory=list)
    manifest_sha256: str = ""

    def check_in(self, poll: Poll) -> PollReply:
        """Answer a poll."""
        self.polls.append(poll)
        applied = self.applied.setdefault(poll.outbox_id, [])
        for event in poll.events:
            self.received.append(event)
            if event.number == len(applied) + 1:
                applied.append(event)
                if event.attempt_id == self.attempt_id and event.kind in OVER:
                    self.attempt_id = ""
        return PollReply(
            next_poll_after_ms=self.next_poll_after_ms,
            acknowledged_number=len(applied),
            manifest_wanted=not self.manifest_sha256 or poll.manifest_sha256 != self.manifest_sha256,
            directive=self._directive(),
        )

    def _directive(self) -> Directive:
        if self.withdrawn:
            return WithdrawDirective(self.withdrawn)
        if self.attempt_id:
            bases = ("https://mirror.test/targets",)
            return InstallDirective(
                self.attempt_id, "r1", self.release, bases, consent=self.consent, preconditions=self.preconditions
            )
        return None

    def authorize(self, asked: AuthorizeCall) -> PermitReply:
        """Answer at the point of no return."""
        self.asked.append(asked)
        if self.permit is not None:
            return self.permit
        attempt_id = asked.attempt_id
        self.permits.append(attempt_id)
        return PermitReply(permitted=True, attempt_id=attempt_id, valid_for_ms=900_000)

    def submit(self, content: bytes) -> None:
        """Keep a manifest as `unsigned_manifest` makes it."""
        manifest = json.loads(content)
        self.accept(content, manifest, manifest["running"])

    def accept(self, content: bytes, manifest: object, running: Mapping[str, str]) -> None:
        """Keep a manifest that proves `running`, digests by serial."""
        self.manifest_sha256 = sha256(content).hexdigest()
        self.manifests.append(manifest)
        wanted = {serial: image.sha256 for image in self.images for serial in image.ecu_serials}
        if wanted and wanted.items() <= running.items():
            self.attempt_id = ""

    @property
    def kinds(self) -> list[EventKind]:
        """Kinds of all durable events, outbox after outbox."""
        return [event.kind for events in self.applied.values() for event in events]
