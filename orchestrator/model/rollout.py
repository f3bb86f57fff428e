"""A rollout: its state as one value, changed only by compare-and-set on the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan


class RolloutStatus(StrEnum):
    """Where a rollout stands."""

    RUNNING = "running"
    PAUSED = "paused"
    HELD = "held"
    HALTED = "halted"
    COMPLETED = "completed"
    ABORTED = "aborted"

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self in (RolloutStatus.COMPLETED, RolloutStatus.ABORTED)


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
class RegionProgress:
    """A region's own wave pointer."""

    phase: RegionPhase
    wave: int
    """Index into the plan's waves; only rises."""
    wave_started_at: FleetTime
    waiting_for: str = ""
    """What it waits for, for people."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person let a wave begin."""

    wave: str
    """Its name."""
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
