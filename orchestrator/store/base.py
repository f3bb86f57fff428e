"""What the orchestrator asks of a store: Protocols; the values that cross them are in `values` and offered here too.

Two implementations pass one contract suite (tests/contracts): `memory.MemoryStore`, the reference model, and
`redis.RedisStore`. Every operation is one atomic step on one rollout's keys or on one vehicle's shard, never both; each
is idempotent by id; each may raise `StoreUnavailableError`, after which the outcome is unknown and the caller repeats
or gives up. Fleet time comes in as an argument; machine time is the store's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from orchestrator.model.attempt import Attempt, AttemptEvent, Case, Control, VehicleEvent
from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import Profile, Vehicle
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies
from orchestrator.model.vehicle import Contact, DirectorState, Exclusion, VehicleRecord
from orchestrator.store.errors import StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.values import (
    BANDWIDTH_AHEAD_MS,
    DARK_WAIT_MS,
    Applied,
    Attestation,
    BeyondMark,
    ChangeOutcome,
    ClockState,
    ContactRate,
    ImportOutcome,
    InventoryChange,
    JournalEntry,
    Json,
    PermitRequest,
    Permitted,
    Reserved,
    SlotRequest,
    Standing,
    Swept,
    Unsettled,
)

__all__ = [
    "BANDWIDTH_AHEAD_MS",
    "DARK_WAIT_MS",
    "DEAD_MAN_LIFE_MS",
    "Applied",
    "Attestation",
    "BeyondMark",
    "ChangeOutcome",
    "ClockState",
    "ContactRate",
    "FleetStore",
    "ImportOutcome",
    "InventoryChange",
    "JournalEntry",
    "Json",
    "PermitRequest",
    "Permitted",
    "Reserved",
    "RolloutStore",
    "SlotRequest",
    "Standing",
    "Store",
    "StoreError",
    "StoreRefusedError",
    "StoreUnavailableError",
    "Swept",
    "Unsettled",
    "VehicleStore",
]

DEAD_MAN_LIFE_MS = 10_000
"""Machine time that grants and permits go on without a finished tick; none when the clock is set back meanwhile."""


class RolloutStore(Protocol):
    """Rollouts: each on keys of its own."""

    async def rollouts(self) -> Sequence[Rollout]:
        """Every rollout, newest first."""

    async def create_rollout(self, rollout: Rollout, decision: JournalEntry) -> Rollout:
        """Write a new rollout with its journal entry, or return the one that stands (its request_id tells whose)."""

    async def transition(self, rollout: Rollout, *, expected_epoch: int, decision: JournalEntry) -> bool:
        """Replace the rollout and journal it if its epoch is `expected_epoch`; False: someone was faster."""

    async def renew(
        self, rollout_id: RolloutId, *, permit_ceiling: int, grant_ceiling: int, began_ms: int, epoch: int
    ) -> bool:
        """The evaluator's sign of life, last act of a finished tick: grants until DEAD_MAN_LIFE_MS after its begin,
        and permits up to `permit_ceiling` in all.

        Args:
            rollout_id: of the rollout that was judged.
            permit_ceiling: most permits in all.
            grant_ceiling: most slots without a permit at once.
            began_ms: machine time (`ClockState.machine_ms`) at the begin of the tick.
            epoch: of the rollout, after the tick's own transition.

        Returns:
            False, and nothing changes, when a tick that began later has renewed already, the rollout's epoch is
            another, or `began_ms` is still to come: an evaluator that slept must not speak for one that did not.
        """

    async def reserve(self, rollout_id: RolloutId, attempt_id: AttemptId, request: SlotRequest) -> Reserved | Refusal:
        """Take an in-flight slot, keyed by attempt.

        Refuses: ROLLOUT_NOT_STARTED/PAUSED/HELD/HALTED/OVER by status; PAUSED/HELD/HALTED by a brake on its region or
        stratum; STALE_EPOCH (not `epoch`), EVALUATOR_SILENT (dead-man), IN_FLIGHT_SPENT (region or total), QUOTA_SPENT
        (cell), BLAST_BUDGET_SPENT (grant ceiling), BANDWIDTH_SPENT (the region's links are full for more than
        BANDWIDTH_AHEAD_MS of fleet time).
        """

    async def authorize(
        self, rollout_id: RolloutId, attempt_id: AttemptId, request: PermitRequest
    ) -> Permitted | Refusal:
        """Permit an attempt, keyed by attempt: repeated while it is good (nor given later than now by all of its
        validity) it returns the same permit whatever happened since; else it asks anew but is not counted again. Who
        was suspended takes a slot again in the same step, who stood aside a place in the quota as well.

        An attempt without a permit that `stands_aside` gets none, but is refused as WATCHED if it would have got one;
        its slot and its place in the quota are free from then on.

        Refuses: status and brakes as `reserve`; FENCED (`attempt_epoch` below the fence of the rollout, its region or
        stratum); EVALUATOR_SILENT; ATTEMPT_OVER (never reserved, or released); IN_FLIGHT_SPENT; QUOTA_SPENT;
        STARTS_SPENT (region or total); BLAST_BUDGET_SPENT (permit ceiling); WATCHED.
        """

    async def suspend(self, rollout_id: RolloutId, deferred: Mapping[AttemptId, int]) -> None:
        """Give back the slots of attempts that wait for consent, conditions or a window, keyed by attempt.

        Args:
            rollout_id: theirs.
            deferred: machine time of the journal entry that says so; a slot taken later than that is another one, and
                stays. Where it is as old as that, clocks of two servers may differ: it stays too.
        """

    async def forfeit(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """Take back the permits of these, whose shard said ATTEMPT_OVER: no vehicle was told of them and none ever will
        be. Their place under the ceiling is free again; as starts they stay counted. Once each, whatever the
        repetition.
        """

    async def confirm(
        self, rollout_id: RolloutId, *, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]
    ) -> None:
        """The shards know these: they are no longer unsettled."""

    async def release(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """Return the slots of these, which are over, and their place in the quota if they never had a permit; once
        each, whatever the repetition.
        """

    async def unsettled(self, ids: Sequence[RolloutId], *, older_than_ms: int) -> Mapping[RolloutId, Unsettled]:
        """Of each rollout, reservations and permits unconfirmed for more than `older_than_ms` of machine time."""

    async def standing(self, rollout_id: RolloutId, *, now: FleetTime) -> Standing:
        """How far its limits are used; nothing used, and no sign of life, of a rollout that is not there."""


class VehicleStore(Protocol):
    """Vehicles, attempts, counters and journal: each vehicle's on one shard."""

    @property
    def shards(self) -> int:
        """How many shards there are, fixed at creation."""

    async def import_vehicles(self, vehicles: Sequence[Vehicle], *, now: FleetTime) -> ImportOutcome:
        """Add or replace inventory; keeps what is known of a vehicle that stands already. Profile counts follow in
        the same step. Vehicles of one shard are written in steps of some hundreds, each journalled.
        """

    async def vehicle(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """All that is hot about one vehicle; None when it is not in the inventory. Concurrent calls are coalesced."""

    async def vehicles(
        self, *, page_token: str, page_size: int, wanted: Callable[[Profile], bool] | None = None
    ) -> tuple[Sequence[VehicleRecord], str]:
        """About `page_size` records, of profiles that are `wanted`, and the next token; an empty one starts and ends.

        Raises:
            ValueError: the token is none of this store's.
        """

    async def attempts(self, vehicle_id: VehicleId) -> Sequence[Attempt]:
        """Every attempt of a vehicle, newest first."""

    async def put_token(self, vehicle_id: VehicleId, *, token_sha256: str, life_ms: int) -> None:
        """Keep an enrolment token's hash for `life_ms` of machine time; replaces an earlier one."""

    async def take_token(self, vehicle_id: VehicleId, *, token_sha256: str, request_sha256: str) -> bool:
        """Spend a token for one certificate request and mark the vehicle enrolled; True again for that one alone."""

    async def assign(
        self, attempt: Attempt, director: DirectorState, *, expected_timestamp_version: int
    ) -> Applied | Refusal:
        """Make `attempt` (OFFERED) the vehicle's latest, with its Director state in place of the one whose timestamp
        version is the expected one.

        Idempotent by attempt id. Refuses: ATTEMPT_LIVE (another one is live), TOMBSTONED (resolved as lost),
        UNKNOWN_ATTEMPT (no such vehicle), STALE_EPOCH (the Director state was replaced meanwhile).
        """

    async def resolve(self, attempt_id: AttemptId) -> bool:
        """Say whether an attempt holds its slot. True: it lives on the shard, confirm it. False: release the slot.

        False for an attempt that has ended, and for one that was never assigned: then a tombstone makes a late `assign`
        refuse, by raising the number of the vehicle's try past the lost one.
        """

    async def permit(
        self, attempt_id: AttemptId, *, permitted_at: FleetTime, offline_ms: int = 0, paired: bool = True
    ) -> Applied | Refusal:
        """Record the permit: PERMITTED, exposed, checkpoints due, by `offline_ms` later for an offline one. Idempotent.
        Refuses: UNKNOWN_ATTEMPT, ATTEMPT_OVER, WRONG_STATE (neither DOWNLOADED nor DEFERRED).
        """

    async def apply(
        self,
        vehicle_id: VehicleId,
        *,
        outbox_id: str,
        oldest_number: int,
        events: Sequence[VehicleEvent],
        now: FleetTime,
    ) -> Applied:
        """Acknowledge events: each once by (outbox id, number), in order; state, counters and journal in one step.

        A fresh outbox id restarts the numbering. A gap is recorded and skipped. An event that is not legal in its
        attempt's state is acknowledged, journalled as `event_ignored`, and changes nothing; one that is a correction
        (terminal to terminal) is journalled as `attempt_corrected`.

        Raises:
            KeyError: the vehicle is not in the inventory.
        """

    async def change(
        self, attempt_id: AttemptId, event: AttemptEvent, *, now: FleetTime, failure_code: str = ""
    ) -> Applied | None:
        """One orchestrator's own event (WITHDRAWN) on one attempt; None when there is no such attempt. Illegal ones
        change nothing.
        """

    async def attest(self, vehicle_id: VehicleId, attestation: Attestation, *, now: FleetTime) -> Applied | Refusal:
        """Record a verified manifest: digest, counter, installed release, profile counts; tells the attempt its event.

        Idempotent by digest. Refuses STALE_EPOCH when the counter is not higher than the held one (replay).

        Raises:
            KeyError: the vehicle is not in the inventory.
        """

    async def direct(self, vehicle_id: VehicleId, director: DirectorState, *, expected_timestamp_version: int) -> bool:
        """Replace the vehicle's Director state if the held timestamp version is the expected one. False: someone was
        faster.
        """

    async def touch(self, seen: Mapping[VehicleId, Contact]) -> None:
        """Write last contacts behind: when, and conditions and diagnoses, which stay where a contact told nothing; each
        vehicle's `Gaps` learn, its region's contacts are counted. One as old as the last is not counted, an older void.
        """

    async def contacts(self, regions: Sequence[str], *, now: FleetTime) -> Mapping[str, ContactRate]:
        """How many calls came from each region lately, and a day before."""

    async def enrol(self, control: Control) -> bool:
        """Watch a vehicle as a control, once for each rollout, vehicle and time. False: it is watched since then, or it
        is not in the inventory. At each age it is counted, and as silent unless heard HEARD_AFTER_MS or more after it.
        """

    async def change_vehicles(
        self, changes: Sequence[InventoryChange], *, actor: str, reason: str, now: FleetTime
    ) -> ChangeOutcome:
        """Replace inventory of vehicles that still are as they were read (compare-and-set, each by itself); each
        change is journalled with who and why. Profile counts follow in the same step.
        """

    async def remove_vehicle(self, vehicle_id: VehicleId, *, actor: str, reason: str, now: FleetTime) -> bool | Refusal:
        """Take a vehicle out of the inventory, profile counts and enrolment token with it. False when it is not there.

        Attempts, cases and counters stay. So does what must never start again from nothing: tries, outbox, manifest
        counter, Director versions and exclusions; an import of the same vehicle takes them up.
        Refuses: ATTEMPT_LIVE.
        """

    async def exclude(self, vehicle_id: VehicleId, exclusion: Exclusion, *, blamed: AttemptId | None = None) -> bool:
        """Keep a vehicle out of a scope, and open a case `repeated` of what is blamed. False: it was so already.

        Raises:
            KeyError: the vehicle is not in the inventory.
        """

    async def readmit(self, vehicle_id: VehicleId, scope: str, *, actor: str, reason: str, now: FleetTime) -> bool:
        """Take an exclusion back; a quarantine's sets `forgiven_at`. False: there was none.

        Raises:
            KeyError: the vehicle is not in the inventory.
        """

    async def diagnose(self, attempt_id: AttemptId, *, detail: str, now: FleetTime) -> bool:
        """Open a case `diagnosis` for an exposed attempt. False: it is not exposed, or has or had a case.

        Success of the attempt does not settle it: the diagnosis stands. Counted as `Tally.diagnosed` while the attempt
        is not FAILED or ROLLED_BACK.
        """

    async def close_case(self, attempt_id: AttemptId, *, actor: str, reason: str, now: FleetTime) -> Case | None:
        """A person settles an open case; a settled one stays as it is. None when there never was one.

        What is new opens it again: a failure or a reset after it. That its attempt runs out of time is not.
        """

    async def sweep(
        self,
        shards: Sequence[int],
        *,
        now: FleetTime,
        fences: Mapping[str, int],
        dark: Sequence[str] = (),
        batch: int = 256,
    ) -> Sequence[Swept]:
        """Handle what is due on each of these shards: deadlines become TIMED_OUT (WITHDRAWN when the attempt is fenced
        and has no permit), checkpoints of exposures, grants and controls are counted and silent vehicles get a case.

        Args:
            shards: which; each in a step of its own.
            now: fleet time.
            fences: by `rollout id`, `rollout id|region`, `rollout id|region/hardware`, else `rollout id|_other`.
            dark: regions whose network is down: their checkpoints are put off by DARK_WAIT_MS, their deadlines are not.
            batch: most items to handle on each.
        """

    async def tallies(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """Counters summed over the shards."""

    async def recount(self, rollout_ids: Sequence[RolloutId]) -> Mapping[RolloutId, CellTallies]:
        """The same from the attempts' records, by scan: must equal `tallies`."""

    async def profiles(self) -> Mapping[Profile, int]:
        """How many vehicles have each profile; another object where any has another one."""

    async def cases(self, *, rollout_id: RolloutId | None, settled: bool) -> Sequence[Case]:
        """Cases, newest first; without the settled ones unless asked."""

    async def case(self, attempt_id: AttemptId) -> Case | None:
        """The case of one attempt, open or settled; None when there never was one."""

    async def open_cases(self) -> Mapping[RolloutId, int]:
        """How many cases of each rollout are open, counted as they open and settle; a rollout without any is absent."""

    async def journal(self, stream: str, *, after: str, count: int) -> Sequence[JournalEntry]:
        """Entries of one stream after a position (empty: from the start), in order."""

    async def journals_beyond(self, marks: Mapping[str, str], *, count: int) -> Mapping[str, BeyondMark]:
        """Entries of each stream after its mark (empty: from the start), and whether the one at it still stands."""

    async def journal_streams(self) -> Sequence[str]:
        """Names of all streams."""

    async def journal_mark(self, stream: str) -> str:
        """The last position ever written to a stream, also when trimmed; empty when none."""

    async def trim_journal(self, stream: str, *, upto: str) -> None:
        """Forget entries up to and with a position: the ledger has them."""


class FleetStore(Protocol):
    """What concerns the whole fleet."""

    async def dataset_id(self) -> str:
        """Random id of this data set, made at its creation."""

    async def clock(self, *, origin: FleetTime, scale: float) -> ClockState:
        """The fleet clock; made from the arguments when there is none yet, otherwise as it stands."""

    async def releases(self) -> Sequence[Release]:
        """Every release, newest first."""

    async def create_release(self, release: Release, decision: JournalEntry) -> Release:
        """Write a release, or return the one of that version that stands already."""

    async def revoked(self) -> frozenset[VehicleId]:
        """Vehicles whose certificates are refused."""

    async def revoke(self, vehicle_id: VehicleId, decision: JournalEntry) -> None:
        """Refuse a vehicle's certificates from now on."""

    async def record(self, entry: JournalEntry) -> None:
        """Journal something that has no state of its own in the store, on stream `fleet`."""


class Store(RolloutStore, VehicleStore, FleetStore, Protocol):
    """All of it."""

    async def close(self) -> None:
        """Let go of connections; what was acknowledged stays."""
