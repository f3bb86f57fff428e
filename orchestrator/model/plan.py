"""The plan of a rollout, after its file was read and checked: every field is set, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.vehicle import LinkType


@dataclass(frozen=True, slots=True)
class Target:
    """Field matches over inventory. An empty tuple matches anything; all fields must match."""

    model: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    cohort: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    """Every one must be present."""
    tags_none: tuple[str, ...] = ()
    """None may be present."""
    installed: str = ""
    """Comma-separated comparisons of semantic versions, for example `>=1.0.0,<1.1.0`; empty matches anything."""


@dataclass(frozen=True, slots=True)
class Wave:
    """One step of a rollout."""

    name: str
    cohorts: tuple[str, ...]
    """Cohorts it admits; empty means every cohort."""
    share: float
    """Part of these, 0 < share <= 1, chosen by hash. Later waves add to earlier ones."""
    soak_ms: int
    """Least time in this wave, fleet time."""
    approvals: int = 0
    """People, other than who created the rollout, that must approve before the wave begins."""


class Purpose(StrEnum):
    """What a release is for; a plan may ask owners differently by it."""

    FEATURE = "feature"
    QUALITY = "quality"
    SECURITY = "security"
    SAFETY = "safety"


class OnHalt(StrEnum):
    """What a halt of the gate leads to, beside standing still."""

    STOP = "stop"
    """Nothing: a person decides."""
    PROPOSE_REVERT = "propose_revert"
    """A draft of the rollout that undoes it is written at once; a person starts it."""


class Consent(StrEnum):
    """What the owner has to say about an installation."""

    NONE = "none"
    """Install without a word."""
    NOTICE = "notice"
    """Tell the owner; no answer is needed."""
    REQUIRED = "required"
    """Install only after the owner agreed."""


@dataclass(frozen=True, slots=True)
class Window:
    """When installations may begin, by the clock on the vehicle's dashboard."""

    weekdays: tuple[int, ...]
    """Days on which it begins, 0 is Monday; ascending."""
    start_minute: int
    """Minute of the local day at which it begins, 0 to 1439."""
    end_minute: int
    """Minute at which it ends, 1 to 1440; at or before the start: on the next day."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """Local days on which no installation begins."""

    first: date
    last: date
    """The last day of it, not before the first."""


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold when an installation begins."""

    unmetered: bool = False
    """The link costs its owner nothing."""
    parked: bool = False
    battery_percent_min: int = 0
    """0 to 100; 0 asks for nothing."""
    storage_free_bytes_min: int = 0
    """0 asks for nothing."""
    links: tuple[LinkType, ...] = ()
    """Links that will do; empty: any."""


@dataclass(frozen=True, slots=True)
class RegionRules:
    """What one region may do."""

    in_flight_max: int
    """Attempts that hold a slot at once; counted exactly. 0 in a plan that leaves it to the start, which makes it as
    many as all regions have together.
    """
    zone: str = "UTC"
    """IANA time zone of vehicles that have none of their own."""
    windows: tuple[Window, ...] = ()
    """When installations may begin; empty means at any time."""
    freezes: tuple[Freeze, ...] = ()
    """When none may, whatever the windows say."""
    follow: str = ""
    """The region that must be through with a wave before it begins here; empty when none."""
    consent: Consent = Consent.NONE
    """For the plan's purpose."""
    starts_per_minute_max: int = 0
    """Permits a minute of fleet time in this region; 0: as many as the plan's limit over all regions."""
    bandwidth_bytes_per_s: int = 0
    """What grants may ask of the links and mirrors of this region, in bytes a second of fleet time; 0: no limit."""
    offline_permit_ms: int = 0
    """Longest permit of a vehicle that installs out of reach; 0: none is given. At most 24 h."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """When to hold and when to halt. Source: docs/decisions/0018."""

    failure_ratio_max: float
    """The limit L; 0 < L < 1."""
    sample_min: int
    """Exposures below which a wave is not promoted, where it has that many vehicles."""
    checkpoints_ms: tuple[int, ...]
    """Ages at which silence is judged, ascending; default 24 h and 72 h."""
    silence_reference: tuple[float, ...]
    """Expected share silent at each checkpoint; default 5 % and 4.3 %."""
    alpha: float
    """Chance accepted of halting a good release; default 0.05."""
    habit_ages_ms: Mapping[Habit, tuple[int, ...]] = field(default_factory=dict)
    """Ages, below the first checkpoint, at which silence is judged among vehicles of a habit; ascending."""
    stratum_sample_min: int = 0
    """m: vehicles of each stratum that the first wave admits at least, where there are so many; default 5."""
    hold_final_ms: int = 7 * 24 * 3_600_000
    """A hold that lasts so long needs a person; default 7 d."""
    controls_per_exposure: int | None = 0
    """Controls for each exposure that is compared with them; 0: silence is held against `silence_reference` alone. None
    in a plan that leaves it to the start, which makes it 3 for fleets of at least 100 targeted vehicles.
    """
    safety_critical: bool = False
    """Whether a failure can hurt people: a quarter of the blast budget, and the last checkpoint before each of the
    first two promotions.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits over all regions."""

    in_flight_max: int
    """Attempts that hold a slot at once; 0 in a plan that leaves it to the start, which makes it max(1000, 10 % of the
    targeted vehicles), but no more than permits in a day.
    """
    starts_per_minute_max: int
    """Permits a minute of fleet time."""
    blast_budget: int
    """B: vehicles that may be hurt at worst by exposures not yet aged; 0 in a plan that leaves it to the start, which
    makes it max(20, 0.2 % of the targeted vehicles).
    """
    attempts_max: int
    """Tries a vehicle has at this rollout."""
    retry_backoff_ms: int
    """Wait before the second try; doubles with each further one."""
    permit_valid_ms: int
    """How long a permit is good for."""
    patience_ms: int
    """How long the last wave waits for targeted vehicles that do not call; default 14 d."""


@dataclass(frozen=True, slots=True)
class Retries:
    """Which attempts are followed by another one. After a permit none is."""

    never: tuple[str, ...] = ()
    """Failure codes after which a vehicle is not tried again; a `*` at the end stands for any ending."""
    longest_ms: int = 7 * 24 * 3_600_000
    """Longest wait between two tries; default 7 d."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One release on its way to one target set."""

    release: ReleaseVersion
    target: Target
    waves: tuple[Wave, ...]
    """At least one."""
    regions: Mapping[str, RegionRules]
    """By region, every region of the plan."""
    gate: GateLimits
    limits: Limits
    deadlines_ms: Mapping[AttemptState, int]
    """How long each live state may last."""
    holdout_share: float
    """Part of the target that stays out until the last wave has aged; default 0.01."""
    name: str = ""
    """Optional, becomes the rollout's id."""
    region_defaults: RegionRules = RegionRules(in_flight_max=1000)
    """Rules of a region that the plan does not name."""
    preconditions: Preconditions = Preconditions()
    """What must hold when an installation begins."""
    purpose: Purpose = Purpose.QUALITY
    priority: int = 0
    """Which of several rollouts a vehicle is granted that could be granted more than one: the highest, then the oldest.
    """
    approvals: int = 0
    """People, other than who created the rollout, that must approve it before it starts."""
    supersedes: str = ""
    """Id of the rollout whose place it takes when it starts; empty when none."""
    requires: str = ""
    """Comparisons as in `Target.installed`: what must be installed before, the required intermediate release. Who does
    not match waits.
    """
    on_halt: OnHalt = OnHalt.STOP
    retries: Retries = Retries()
