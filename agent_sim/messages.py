"""The values a vehicle agent speaks in: the wire's words without the wire.

Owns no behaviour. `wire` converts these to and from protobuf; the agent knows nothing of gRPC.
Times are fleet time in milliseconds since the epoch; durations are milliseconds of fleet time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EVENTS_PER_CALL_MAX = 64
DIAGNOSTICS_PER_CALL_MAX = 32


class EventKind(StrEnum):
    """What a vehicle tells of an attempt."""

    DOWNLOAD_STARTED = "download_started"
    DOWNLOAD_FINISHED = "download_finished"
    DEFERRED = "deferred"
    INSTALL_STARTED = "install_started"
    REBOOT_STARTED = "reboot_started"
    VERIFY_STARTED = "verify_started"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    WITHDRAWAL_OBEYED = "withdrawal_obeyed"


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered event."""

    number: int
    """From 1, up by one within an outbox."""
    attempt_id: str
    kind: EventKind
    at: int
    """Fleet time by the vehicle's clock."""
    failure_code: str = ""
    """`[a-z0-9_]{0,64}`."""


class Repository(StrEnum):
    """Uptane's two repositories, by the names that `signing.verify` uses."""

    DIRECTOR = "director"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class MetadataVersions:
    """Versions of one repository's metadata that the vehicle holds; 0 means none."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """One metadata file, byte for byte."""

    repository: Repository
    name: str
    content: bytes


class Link(StrEnum):
    """What a vehicle is connected by."""

    CELLULAR = "cellular"
    WIFI = "wifi"
    WIRED = "wired"


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the vehicle stands when it polls."""

    link: Link = Link.CELLULAR
    signal_percent: int = 70
    metered: bool = False
    battery_percent: int = 80
    parked: bool = True
    storage_free_bytes: int = 4 << 30


class Severity(StrEnum):
    """How bad a diagnosis is."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Place in a list, the worst first."""
        return list(Severity)[::-1].index(self)


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One active trouble code."""

    code: str
    """For example `U0100`."""
    ecu_serial: str
    """The unit that raised it."""
    severity: Severity
    first_seen_at: int
    """Fleet time by the vehicle's clock."""


class Consent(StrEnum):
    """What the owner has to say about an installation."""

    NONE = "none"
    NOTICE = "notice"
    """Is told; no answer is needed."""
    REQUIRED = "required"
    """Is asked, and nothing is installed before a yes."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold before a permit is asked for."""

    unmetered: bool = False
    """Before the download as well."""
    parked: bool = False
    battery_percent_min: int = 0
    storage_free_bytes_min: int = 0
    links: tuple[str, ...] = ()
    """Links that will do, by name; empty: any. Before the download as well. A name that is no `Link` is a kind that
    this agent does not know, so it never is on one.
    """


NO_PRECONDITIONS = Preconditions()


@dataclass(frozen=True, slots=True)
class Poll:
    """A check-in as the agent asks for it."""

    outbox_id: str
    events: tuple[Event, ...]
    """By ascending number, at most EVENTS_PER_CALL_MAX."""
    oldest_number: int
    """Oldest number still kept; 0 when the outbox is empty."""
    manifest_sha256: str
    """Of the last manifest signed; empty when none."""
    director: MetadataVersions
    image: MetadataVersions
    conditions: Conditions
    diagnostics: tuple[Diagnostic, ...]
    """Active ones, at most DIAGNOSTICS_PER_CALL_MAX."""


@dataclass(frozen=True, slots=True)
class InstallDirective:
    """Install what the Director's targets say."""

    attempt_id: str
    rollout_id: str
    release: str
    image_base_urls: tuple[str, ...]
    consent: Consent = Consent.NONE
    preconditions: Preconditions = NO_PRECONDITIONS
    notes: str = ""
    """For the owner who is told or asked."""
    offline_permit_ms: int = 0
    """Longest permit to install out of reach; 0: none is given."""


@dataclass(frozen=True, slots=True)
class WithdrawDirective:
    """Drop an attempt before its permit."""

    attempt_id: str


@dataclass(frozen=True, slots=True)
class DiagnoseDirective:
    """Send diagnostics with the next poll."""

    ecu_serials: tuple[str, ...] = ()
    """Units to ask first; empty means all."""


Directive = InstallDirective | WithdrawDirective | DiagnoseDirective | None


@dataclass(frozen=True, slots=True)
class PollReply:
    """The answer to a check-in."""

    next_poll_after_ms: int
    acknowledged_number: int
    manifest_wanted: bool
    directive: Directive = None
    metadata: tuple[MetadataFile, ...] = ()


@dataclass(frozen=True, slots=True)
class PermitReply:
    """The answer at the point of no return: a permit, or a refusal."""

    permitted: bool
    attempt_id: str
    """Of the permit; empty in a refusal."""
    valid_for_ms: int = 0
    """How long a permit may be begun to be used."""
    reason: str = ""
    """Of a refusal."""
    retry_after_ms: int | None = None
    """Of a refusal: ask again after this; None: the attempt is over."""
