"""A rollout: its state as one value, changed only by compare-and-set on the epoch."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.model.fleet import OTHER, Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan


class RolloutStatus(StrEnum):
    """Where a rollout stands."""

    DRAFT = "draft"
    """Written down, admits nobody; waits for approvals, or for its start."""
    APPROVED = "approved"
    """A draft that has all its approvals."""
    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    HALTED = "halted"
    COMPLETED = "completed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    """Another rollout took its place."""

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self in (RolloutStatus.COMPLETED, RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED)

    @property
    def begun(self) -> bool:
        """Whether it was ever started."""
        return self not in (RolloutStatus.DRAFT, RolloutStatus.APPROVED)


class RegionPhase(StrEnum):
    """Where a region stands in its walk over the waves."""

    PENDING = "pending"
    """Not begun: waits for an approval, or for the region that it follows. Admits nobody."""
    ROLLING = "rolling"
    """Admits vehicles of its wave."""
    AGING = "aging"
    """All waves opened and promoted; waits for the last checkpoint of what is exposed, then admits the holdout."""
    HOLDOUT = "holdout"
    """Admits the holdout."""
    DONE = "done"
    """Through."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How far the present wave is open to one hardware variant and cohort of a region."""

    quota: int
    """Vehicles that may have been admitted in all, in this wave and those before: exact, taken by the store."""
    share: float
    """Draws below it may take a place, 0 to 1: wider than the quota needs, as many do not call. Only rises."""


@dataclass(frozen=True, slots=True)
class RegionProgress:
    """A region's own wave pointer."""

    phase: RegionPhase
    wave: int
    """Index into the plan's waves; only rises."""
    wave_started_at: FleetTime
    waiting_for: str = ""
    """What it waits for, for people."""
    openings: Mapping[str, Opening] = field(default_factory=dict)
    """By `hardware/cohort`, of those that the present wave opens in part; others are open to all whom a wave is for."""
    trial: float = 0.0
    """Share of the attempts that ask in the present wave whose silence is compared with controls, and of which controls
    are made. Others are in no trial.
    """
    closed: bool = False
    """Whether it waits for nobody any more: most are through, and the patience with the last wave or the holdout ended.
    """
    dark_since: FleetTime | None = None
    """Since when the region's network seems to be down: fewer contacts than a day before by far. None: it is up."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person let a wave begin."""

    wave: str
    """Its name; empty: the rollout itself, before its start."""
    region: str
    """Empty means every region."""
    actor: str
    reason: str
    at: FleetTime


class VerdictKind(StrEnum):
    """What a gate can answer, from best to worst."""

    PROCEED = "proceed"
    HOLD = "hold"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's answer about one scope, with every number that led to it."""

    kind: VerdictKind
    rule: str
    """Name of the rule that decided, for example `failures_evalue`."""
    scope: Stratum | None
    """None means over all strata."""
    message: str
    """For people, with the numbers."""
    inputs: Mapping[str, float]
    """Everything needed to judge again."""


class BrakeKind(StrEnum):
    """How a part of a rollout stands still; as the statuses of the same names."""

    PAUSED = "paused"
    """Its region is dark, or a person paused it; clears by itself in the first case."""
    HELD = "held"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Brake:
    """One region, or one stratum, stands still while the rest of the rollout goes on."""

    scope: str
    """`region` or `region/hardware`."""
    kind: BrakeKind
    since: FleetTime
    actor: str
    reason: str
    verdict: Verdict | None = None
    """What the gate said; None when it was not the gate."""
    final: bool = False
    """Whether a hold has lasted too long to clear by itself: it needs a person."""

    @property
    def needs_person(self) -> bool:
        """Whether nothing but a person lets it go, though no person put it there."""
        return self.kind is BrakeKind.HALTED or self.final


MEASURED_AHEAD_MS = 5 * 60_000
"""How far ahead of fleet time a measurement may be: clocks differ."""


class SignalKind(StrEnum):
    """What somebody outside says about the vehicles of a rollout."""

    WARNING = "warning"
    """A measure is out of its range: holds while it stands."""
    SAFETY = "safety"
    """Somebody may be hurt: one holds, two halt."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A health signal from outside: trouble codes, tows, calls, complaints."""

    name: str
    """`[a-z0-9_]{1,64}`, for example `tow_rate`; one of a name and scope stands at a time."""
    kind: SignalKind
    scope: str
    """`all`, `region` or `region/hardware`."""
    value: float
    limit: float
    """What the value should not exceed."""
    actor: str
    """Who posted it."""
    reason: str
    at: FleetTime
    """When it was posted."""
    measured_at: FleetTime = FleetTime(0)
    """When the value was measured."""
    good_for_ms: int = 0
    """How long after that it is good: then it is overdue, a missing input. 0: for ever, as reports of safety are."""

    def overdue(self, now: FleetTime) -> bool:
        """Whether the value is good no more, or not yet as the clock went back: nobody knows how the vehicles fare."""
        good = self.measured_at - MEASURED_AHEAD_MS <= now < self.measured_at + self.good_for_ms
        return self.good_for_ms > 0 and not good


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release on its way to one target set under one plan."""

    rollout_id: RolloutId
    plan: Plan
    plan_text: str
    """The file as it was given."""
    salt: bytes
    """16 random bytes: makes the selection of this rollout its own."""
    status: RolloutStatus
    epoch: int
    """Raised by every transition; compare-and-set compares it."""
    fence: int
    """Attempts granted at a lower epoch, and without a permit, are dead. Raised by abort and halt."""
    regions: Mapping[str, RegionProgress]
    created_at: FleetTime
    updated_at: FleetTime
    """When the last transition happened."""
    actor: str
    """Who or what made the last transition: an operator's name, or `gate`, `evaluator`, `recovery`."""
    reason: str
    """Why."""
    request_id: str = ""
    """Of the creation, for safe repetition."""
    recent_requests: tuple[str, ...] = ()
    """Ids of the latest changes that people asked for: a repetition of one changes nothing."""
    waived: tuple[str, ...] = ()
    """Rules (`rule@scope`) that a person waived by resuming from a hold or a halt; not judged again. Logged."""
    verdict: Verdict | None = None
    """What the gate last said when it made a transition; None before the first."""
    creator: str = ""
    """Who created it: may not approve its waves."""
    approvals: tuple[Approval, ...] = ()
    """In the order in which they were given."""
    reverts: str = ""
    """Id of the rollout that this one undoes; empty for others."""
    brakes: tuple[Brake, ...] = ()
    """By scope, one each: parts that stand still while the rest goes on."""
    fences: Mapping[str, int] = field(default_factory=dict)
    """As `fence`, by scope: raised when the gate halts a region or stratum alone; only rise."""
    signals: tuple[Signal, ...] = ()
    """That stand, by name and scope."""
    held_since: FleetTime | None = None
    """Since when the gate holds it as a whole; None when it does not."""
    hold_final: bool = False
    """Whether a hold has lasted too long to clear by itself: it needs a person."""
    release_sha256: str = ""
    """Digest of the release as it was when the rollout was created (engine/pins): another one is refused."""

    apart: tuple[str, ...] = ()
    """Strata that are judged each on its own, where there are too many for all: the others are judged together, as
    `OTHER` (engine/strata). Empty: each is judged on its own.
    """

    def brake_on(self, stratum: Stratum) -> Brake | None:
        """The worst brake on a stratum, those of its region and of what it is judged with included; None: none."""
        # Asked for each vehicle that calls, of rollouts of which mostly nothing stands still.
        scopes = self._scopes_of(stratum) if self.brakes else ()
        found = [brake for scope in dict.fromkeys(scopes) for brake in self.brakes if brake.scope == scope]
        return max(found, key=lambda brake: list(BrakeKind).index(brake.kind), default=None)

    def fence_of(self, stratum: Stratum) -> int:
        """The epoch below which attempts of a stratum without a permit are dead."""
        scopes = self._scopes_of(stratum) if self.fences else ()
        return max((self.fence, *(self.fences.get(scope, 0) for scope in scopes)))

    def _scopes_of(self, stratum: Stratum) -> tuple[str, str, str]:
        return stratum.region, str(stratum), str(part_of(stratum, self.apart))


def place_key(hardware: str, cohort: str) -> str:
    """Under which a cell stands in the openings of its region's progress."""
    return f"{hardware}/{cohort}"


def part_of(stratum: Stratum, apart: Container[str]) -> Stratum:
    """What a stratum is judged as: itself, or `OTHER`.

    Args:
        stratum: One.
        apart: Strata that are judged each on its own; empty: each is.
    """
    return stratum if not apart or str(stratum) in apart else OTHER
