"""Faults: what goes wrong, for whom, decided by the seed alone and never by the order in which things happen. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

from agent_sim.messages import Severity


class FaultKind(StrEnum):
    """What goes wrong."""

    SILENT_BRICK = "silent_brick"
    """After the restart into the release the vehicle never speaks again."""
    FAIL = "fail"
    """Writing the slots fails; the vehicle says so."""
    BOOT_FAILURE = "boot_failure"
    """The new slots do not come up; the vehicle goes back to the old ones."""
    POWER_LOSS = "power_loss"
    """Power goes in the middle of writing, once an attempt; the vehicle recovers."""
    OFFLINE = "offline"
    """The link goes for a while when the download begins, once an attempt."""
    LINK_BREAK = "link_break"
    """The connection of a download breaks on the way, once an image."""
    LOST_REPLIES = "lost_replies"
    """A call is done but its reply is lost."""
    LOST_METADATA = "lost_metadata"
    """The answer to a poll arrives, each metadata file in it may not."""
    TROUBLE_CODE = "trouble_code"
    """A control unit reports a diagnosis some time after an installation, and as long as that release runs."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One declared fault; an empty selection means everything."""

    kind: FaultKind
    probability: float = 1.0
    """Of hitting what it is drawn for: a vehicle and release, an attempt, an image, or a call."""
    releases: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    duration_ms: int = 0
    """Of OFFLINE, fleet time."""
    failure_code: str = "flash_write_failed"
    """Of FAIL."""
    trouble_code: str = ""
    """Of TROUBLE_CODE, for example `U0100`."""
    severity: Severity = Severity.WARNING
    """Of TROUBLE_CODE."""
    after_ms: int = 0
    """Of TROUBLE_CODE: fleet time after the installation."""
    ecu: str = ""
    """Of TROUBLE_CODE: hardware id of the unit that raises it; empty means the Primary."""


def draw(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


@dataclass(frozen=True, slots=True)
class FaultBook:
    """The faults of one vehicle."""

    seed: int
    vehicle_id: str
    faults: tuple[Fault, ...]
    """Those whose hardware and region fit the vehicle."""

    def hit(self, kind: FaultKind, *, release: str, occasion: str = "") -> Fault | None:
        """The first fault of `kind` that hits.

        Args:
            kind: what could go wrong.
            release: version the vehicle is about to run; empty when it does not matter.
            occasion: what is drawn for besides the vehicle and the release; equal occasions give equal answers.
        """
        return next(iter(self.hits(kind, release=release, occasion=occasion)), None)

    def hits(self, kind: FaultKind, *, release: str, occasion: str = "") -> list[Fault]:
        """Every fault of `kind` that hits; arguments as of `hit`."""
        return [
            fault
            for index, fault in enumerate(self.faults)
            if fault.kind is kind
            and (not fault.releases or release in fault.releases)
            and draw(self.seed, index, kind, self.vehicle_id, release, occasion) < fault.probability
        ]

    def break_at(self, *, release: str, sha256: str, length: int) -> int | None:
        """The byte at which the first download of an image breaks, at least one short of the end; None: it does not."""
        if length < 2 or self.hit(FaultKind.LINK_BREAK, release=release, occasion=sha256) is None:
            return None
        return 1 + int(draw(self.seed, "break_at", self.vehicle_id, sha256) * (length - 1))


def fault_book(seed: int, vehicle_id: str, faults: Sequence[Fault], *, hardware: str, region: str) -> FaultBook:
    """The faults that can hit one vehicle."""
    fitting = (
        fault
        for fault in faults
        if (not fault.hardware or hardware in fault.hardware) and (not fault.regions or region in fault.regions)
    )
    return FaultBook(seed, vehicle_id, tuple(fitting))
