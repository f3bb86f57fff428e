"""Attempts: states, what can happen to them, and their record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.value import value


class AttemptState(StrEnum):
    """Where one try of one vehicle at one rollout stands."""

    OFFERED = "offered"
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    PERMITTED = "permitted"
    INSTALLING = "installing"
    REBOOTING = "rebooting"
    VERIFYING = "verifying"
    DEFERRED = "deferred"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    WITHDRAWN = "withdrawn"

    @property
    def terminal(self) -> bool:
        """Whether the attempt is over."""
        return self in TERMINAL_STATES


TERMINAL_STATES = frozenset(
    {
        AttemptState.SUCCEEDED,
        AttemptState.FAILED,
        AttemptState.ROLLED_BACK,
        AttemptState.REJECTED,
        AttemptState.TIMED_OUT,
        AttemptState.WITHDRAWN,
    }
)
LIVE_STATES = frozenset(AttemptState) - TERMINAL_STATES
"""All that are not over; each but DEFERRED holds an in-flight slot."""
BEFORE_PERMIT_STATES = frozenset(
    {AttemptState.OFFERED, AttemptState.DOWNLOADING, AttemptState.DOWNLOADED, AttemptState.DEFERRED}
)
"""Live states in which nothing irreversible has begun."""


class AttemptEvent(StrEnum):
    """What can happen to an attempt. The first block is told by the vehicle, the second decided by the orchestrator."""

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

    PERMIT_ISSUED = "permit_issued"
    DEADLINE_PASSED = "deadline_passed"
    WITHDRAWN = "withdrawn"
    ATTESTED_RELEASE = "attested_release"
    """A signed manifest shows the attempt's release on every ECU it is for."""
    ATTESTED_OTHER = "attested_other"
    """A signed manifest shows something else."""


VEHICLE_EVENTS = frozenset(
    {
        AttemptEvent.DOWNLOAD_STARTED,
        AttemptEvent.DOWNLOAD_FINISHED,
        AttemptEvent.DEFERRED,
        AttemptEvent.INSTALL_STARTED,
        AttemptEvent.REBOOT_STARTED,
        AttemptEvent.VERIFY_STARTED,
        AttemptEvent.FAILED,
        AttemptEvent.ROLLED_BACK,
        AttemptEvent.REJECTED,
        AttemptEvent.WITHDRAWAL_OBEYED,
    }
)


@value(frozen=True, slots=True)
class VehicleEvent:
    """One numbered event out of a vehicle's outbox."""

    number: int
    """From 1, up by one within an outbox."""
    attempt_id: AttemptId
    """What it is about."""
    event: AttemptEvent
    """One of VEHICLE_EVENTS."""
    failure_code: str = ""
    """`[a-z0-9_]{0,64}`."""


@value(frozen=True, slots=True)
class Attempt:
    """The record of one attempt."""

    attempt_id: AttemptId
    rollout_id: RolloutId
    vehicle_id: VehicleId
    number: int
    """Which try, from 1."""
    release: ReleaseVersion
    cell: Cell
    """Where it is counted, fixed at the grant."""
    epoch: int
    """The rollout's epoch at the grant; below the fence it is dead unless permitted."""
    state: AttemptState
    state_at: FleetTime
    """When it entered the state."""
    deadline_at: FleetTime | None
    """When the state times out; None in a terminal state."""
    granted_at: FleetTime
    permitted_at: FleetTime | None
    """When exposure began; None when it never did."""
    failure_code: str
    """Empty when nothing went wrong."""
    deadlines_ms: Mapping[AttemptState, int]
    """How long each live state may last, from the plan."""
    checkpoints_ms: tuple[int, ...]
    """Ages at which silence is judged, ascending, from the plan."""
    aged: tuple[bool, ...] = ()
    """By checkpoint: whether it was reached."""
    silent: tuple[bool, ...] = ()
    """By checkpoint: whether the vehicle had not settled by then; frozen."""
    habit: Habit = Habit.UNKNOWN
    """Of the vehicle at the grant."""
    habit_ages_ms: tuple[int, ...] = ()
    """Ages, below the first checkpoint, at which silence is judged among vehicles of its habit; ascending."""
    habit_aged: tuple[bool, ...] = ()
    """By age of its habit: whether it was reached after the permit."""
    habit_silent: tuple[bool, ...] = ()
    """By age of its habit: as `silent`."""
    grant_aged: bool = False
    """Whether the first checkpoint after the grant was reached."""
    grant_silent: bool = False
    """Whether the vehicle had no permit by then and was not heard since the grant; frozen."""
    diagnosed: bool = False
    """Whether the vehicle told a critical diagnosis after the permit; stays."""
    safety: bool = False
    """Whether it reported a failure of the safety class after the permit; stays, whatever is attested later."""
    paired: bool = True
    """Whether its silence is compared with that of controls, or with what the plan says where it asks for none; fixed
    at the permit by a coin, see `engine.controls`.
    """
    offline_ms: int = 0
    """How long its first permit was good for, where that was an offline one: so much later its deadline and the ages at
    which silence is judged begin to count. 0: an ordinary permit, or none.
    """

    @property
    def exposed(self) -> bool:
        """Whether a permit was issued."""
        return self.permitted_at is not None


@dataclass(frozen=True, slots=True)
class Control:
    """A vehicle that would have got its permit and waits by a coin, watched beside the exposures: normal silence."""

    rollout_id: RolloutId
    vehicle_id: VehicleId
    cell: Cell
    habit: Habit
    enrolled_at: FleetTime
    """When it asked; silent at an age is who was not heard since, but for the contact at which it asked."""
    checkpoints_ms: tuple[int, ...]
    """The plan's."""
    habit_ages_ms: tuple[int, ...] = ()
    """As an attempt's."""


@value(frozen=True, slots=True)
class Try:
    """What a vehicle's record keeps of its latest attempt at one rollout."""

    number: int
    """How many attempts there were."""
    state: AttemptState
    """State of the latest."""
    state_at: FleetTime
    """When it entered that state."""
    exposed: bool
    """Whether the latest had a permit."""
    failure_code: str = ""
    """What went wrong in the latest; empty when nothing did."""


@dataclass(frozen=True, slots=True)
class Case:
    """A vehicle that an update hurt, or may have. At most one an attempt."""

    attempt_id: AttemptId
    rollout_id: RolloutId
    vehicle_id: VehicleId
    cell: Cell
    cause: str
    """`failed`, `rolled_back`, `timed_out`, `silent`, `diagnosis` or `repeated`."""
    detail: str
    """Failure code or checkpoint, for people."""
    opened_at: FleetTime
    settled_at: FleetTime | None
    """When a later report, or a person, settled it; None while open."""
    attempt_state: AttemptState
    """State of the attempt now."""
    closed_by: str = ""
    """Who closed it; empty when a later report did, or nobody."""
    close_reason: str = ""
    """Why, by whoever closed it."""
