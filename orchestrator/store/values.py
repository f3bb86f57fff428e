"""The values that cross the store's Protocols (`base.py`): answers of its operations, and what is journalled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.fleet import Cell, Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, VehicleId
from orchestrator.model.value import value
from orchestrator.model.vehicle import VehicleRecord

BANDWIDTH_AHEAD_MS = 60_000
"""Fleet time for which grants may fill the links of a region in advance."""
DARK_WAIT_MS = 900_000
"""Fleet time by which checkpoints of a dark region are put off."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class ClockState:
    """Fleet time = origin + scale x (machine time - started)."""

    origin: FleetTime
    started_ms: int
    """Machine time (store TIME) at the start, milliseconds since the epoch."""
    scale: float
    machine_ms: int
    """Store TIME now."""


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """What a grant asks of its rollout's keys."""

    cell: Cell
    """Where the attempt is counted."""
    epoch: int
    """Of the rollout it was considered under."""
    region_max: int
    """Slots of the region."""
    total_max: int
    """Slots in all regions."""
    quota: int | None
    """Vehicles of the cell that may be admitted in all: live attempts and permits; None: as many as there are."""
    transfer_ms: int
    """Fleet time for which the bytes of the attempt fill the bandwidth of the region; 0: no budget."""
    now: FleetTime


@dataclass(frozen=True, slots=True)
class PermitRequest:
    """What a vehicle at the point of no return asks of its rollout's keys."""

    cell: Cell
    """Where the attempt is counted."""
    attempt_epoch: int
    """Of its grant."""
    region_max: int
    """Slots of the region, for an attempt that gave its slot back while it was deferred."""
    total_max: int
    """Slots in all regions, likewise."""
    starts_per_minute_max: int
    """Permits a minute of fleet time, in all regions."""
    region_starts_per_minute_max: int
    """The same in its region."""
    valid_ms: int
    """How long an ordinary permit is good for: within it a repetition is told the first one."""
    now: FleetTime
    offline_ms: int = 0
    """How long the offline permit that is asked for would be good for; 0: an ordinary one is asked for."""
    quota: int | None = None
    """Places of its cell in the present wave, for an attempt that stood aside; None: as many as come."""
    stands_aside: bool = False
    """Whether a coin makes a control of it, should nothing speak against a permit: it gives back what it holds."""
    paired: bool = True
    """What its attempt is to be, see `Attempt.paired`; a permit once given keeps it."""
    repeats: bool = True
    """Whether a permit that it has is told again. Not by who cannot tell how old it is: it is asked for anew."""


@dataclass(frozen=True, slots=True)
class ContactRate:
    """How many calls came from a region in half an hour of fleet time."""

    recent: int
    """In the last whole half hour."""
    day_before: int
    """In the same half hour a day before; 0 also when nobody counted then."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A slot is held for the attempt (anew or already)."""


@dataclass(frozen=True, slots=True)
class Permitted:
    """The attempt may install."""

    permitted_at: FleetTime
    """Fleet time of the permit; a repetition within its validity returns the first."""
    offline_ms: int = 0
    """How long it is good for, if it is an offline permit; 0: it is an ordinary one."""
    paired: bool = True
    """See `Attempt.paired`; as at the first permit."""


@value(frozen=True, slots=True)
class Applied:
    """What a step on a vehicle's shard left behind."""

    record: VehicleRecord


@dataclass(frozen=True, slots=True)
class Attestation:
    """A manifest that was verified, about to be recorded."""

    sha256: str
    counter: int
    content: bytes
    """Rides the journal in the same step."""
    installed: ReleaseVersion
    """Release it proves; empty when it matches none."""
    attempt_id: AttemptId | None
    """The latest attempt as read before; None when there was none."""
    event: AttemptEvent | None
    """ATTESTED_RELEASE when every ECU that the attempt's release has an image for reports that image, else
    ATTESTED_OTHER.
    """


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep of one shard did."""

    handled: int
    """Due items handled; when it equals the batch, more may be due."""


@dataclass(frozen=True, slots=True)
class BeyondMark:
    """What a journal holds behind a position, and whether it still holds that one."""

    stands: bool
    """Whether the entry at the position is there, so that nothing before it can be missing."""
    entries: Sequence[JournalEntry]
    """What follows, in order."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Reservations and permits of a rollout that the shards have not yet been seen to know."""

    reservations: Sequence[AttemptId]
    permits: Mapping[AttemptId, Permitted]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One record on its way to the ledger."""

    stream: str
    """Where it stands: `shard/<n>`, `rollout/<id>` or `fleet`; not looked at when it is written."""
    entry_id: str
    """Position in the stream, `<ms>-<n>`; rises. Empty before it is written."""
    kind: str
    """Past tense, for example `attempt_granted`, `attempt_changed`, `attempt_corrected`, `exposure_aged`,
    `case_opened`, `case_settled`,
    `manifest_accepted`, `manifest_refused`, `events_gap`, `rollout_created`, `rollout_changed`, `vehicles_imported`,
    `release_created`."""
    at: FleetTime
    data: Mapping[str, Json]
    """What happened; includes `rollout_id`, `vehicle_id`, `attempt_id` where they apply."""
    blob: bytes = b""
    """Manifest bytes, where it carries a manifest."""


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What writing vehicles did."""

    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a rollout's limits are used, as `reserve` and `authorize` would count them now."""

    in_flight: Mapping[str, int]
    """Slots held, by region; regions without any are absent."""
    permits: int
    """Permits so far."""
    permit_ceiling: int
    """Most permits in all, as the evaluator last said."""
    starts: int
    """Permits in the last minute of fleet time."""
    evaluator_alive: bool
    """Whether the last sign of life still counts."""
    at_risk: int = 0
    """Slots held without a permit."""
    grant_ceiling: int = 0
    """Most of these at once, as the evaluator last said."""
    admitted: Mapping[Cell, int] = field(default_factory=dict)
    """Vehicles admitted, by cell: live attempts and permits; cells without any are absent."""
    outstanding: int = 0
    """Permits that have not lapsed and whose attempts are not over: nothing takes them back."""
    outstanding_until: FleetTime = FleetTime(0)
    """When the last of them lapses; 0 when there are none."""

    @property
    def in_flight_total(self) -> int:
        """Slots held in all regions."""
        return sum(self.in_flight.values())


@dataclass(frozen=True, slots=True)
class InventoryChange:
    """One vehicle's inventory, as it was read and as it shall be."""

    before: Vehicle
    after: Vehicle


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """What changing vehicles did."""

    changed: int
    unchanged: int
    """Those whose `after` is their `before`."""
    overtaken: tuple[VehicleId, ...]
    """Those that are no longer as they were read, or are gone: untouched; read them again."""
