"""What is hot about one vehicle: inventory, what it runs, how far it was heard, and its latest attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.attempt import Attempt, Try
from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId
from orchestrator.model.value import value


@value(frozen=True, slots=True)
class SignedSnapshot:
    """What is kept of a Director snapshot that was signed, so that its timestamp is renewed by one signature."""

    version: int
    """In the file; above the state's by the roots that were published since the first."""
    length_bytes: int
    sha256: str
    """Hex digest."""
    assignment: str
    """`signing.director.assignment_digest` of what its targets list."""


@value(frozen=True, slots=True)
class DirectorState:
    """What the vehicle's Director files are made from, deterministically: bytes follow from this and the key."""

    version: int = 0
    """Of targets and snapshot; `max(previous + 1, minutes since 2020-01-01)`; 0 means never issued."""
    issued_at: FleetTime = FleetTime(0)
    """When targets and snapshot were issued."""
    timestamp_version: int = 0
    timestamp_issued_at: FleetTime = FleetTime(0)
    release: ReleaseVersion = ReleaseVersion("")
    """Release that the targets assign; empty means no images."""
    snapshot: SignedSnapshot | None = None
    """None until files of this version were signed for a vehicle that asks for nothing else."""


class LinkType(StrEnum):
    """What a vehicle is connected by."""

    UNKNOWN = "unknown"
    CELLULAR = "cellular"
    WIFI = "wifi"
    WIRED = "wired"


class Severity(StrEnum):
    """How bad a diagnosis is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    """The vehicle is impaired."""


@value(frozen=True, slots=True)
class Conditions:
    """How a vehicle says it stands. Informative: not trusted for safety."""

    link: LinkType = LinkType.UNKNOWN
    signal_percent: int = 0
    """0 to 100; 0 when unknown."""
    metered: bool = False
    """Whether traffic on this link costs its owner money."""
    battery_percent: int = 0
    """0 to 100."""
    parked: bool = False
    storage_free_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One active diagnostic trouble code."""

    code: str
    """For example `U0100`."""
    ecu_serial: str
    severity: Severity
    first_seen_at: FleetTime
    """By the vehicle's clock."""


@value(frozen=True, slots=True)
class Contact:
    """The last time a vehicle was heard, and what it said of itself."""

    at: FleetTime
    conditions: Conditions | None = None
    """None when it told none."""
    diagnostics: tuple[Diagnostic, ...] = ()
    told: bool = True
    """Whether it said anything of itself, as by a poll; else what it said before stays."""


@value(frozen=True, slots=True)
class Gaps:
    """How long a vehicle usually stays away, learnt from its contacts (store `touch`)."""

    mean_ms: int = 0
    """Exponentially weighted mean of the gaps between contacts, weight 1/8 for the latest; fleet time."""
    heard: int = 0
    """How many gaps went into it; contacts within a quarter of an hour are one."""


EVERY_ROLLOUT = ""
"""Scope of a quarantine, where a denial has a rollout's id."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A vehicle kept out, by a person or after repeated failures: of every rollout (quarantine) or of one (deny)."""

    scope: str
    """EVERY_ROLLOUT or a rollout's id."""
    actor: str
    reason: str
    at: FleetTime


@value(frozen=True, slots=True)
class VehicleRecord:
    """All that is hot about one vehicle."""

    vehicle: Vehicle
    enrolled: bool
    installed: ReleaseVersion
    """Release that the last accepted manifest proves; empty when none."""
    manifest_sha256: str
    """Of the last accepted manifest; empty when none."""
    manifest_counter: int
    """Of the last accepted manifest; a later one must be higher."""
    outbox_id: str
    acknowledged_number: int
    director: DirectorState
    tries: Mapping[RolloutId, Try]
    """What became of it in each rollout that reached it."""
    attempt: Attempt | None
    """The latest attempt, live or over; None when there was none."""
    last_seen_at: FleetTime | None
    """Written behind, up to a second late."""
    conditions: Conditions | None = None
    """At the last contact; None when it told none."""
    diagnostics: tuple[Diagnostic, ...] = ()
    """Active at the last contact."""
    exclusions: tuple[Exclusion, ...] = ()
    """By scope."""
    gaps: Gaps = Gaps()
    forgiven_at: FleetTime = FleetTime(0)
    """When its quarantine was last lifted: failures before that count no more. 0: never."""
