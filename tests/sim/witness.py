"""Who watches: told of each operation on the store in the very step in which it is done, and holds it against promises.

Owns a picture of its own, made from what was asked, what was answered and what the journal says. A broken promise
raises at once, in the run that broke it. Leaves limits to `limits`, decisions to `replay`, and what vehicles truly did
to `driving`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.model.attempt import Attempt, AttemptState, Control, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, split_attempt_id
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.store.base import Applied, JournalEntry, Permitted, Reserved
from orchestrator.store.memory import MemoryStore
from orchestrator.store.shards import shard_of
from orchestrator.store.streams import shard_stream
from tests.sim.kinds import kinds
from tests.sim.limits import BrokenPromiseError, Limits, asked_for
from tests.sim.process import Process

S = AttemptState
MINUTE_MS = 60_000
CHANGES = frozenset({"attempt_changed", "attempt_corrected", "event_ignored"})
"""What an event of a vehicle leaves in the journal: exactly one of these."""
_RANK = {
    state: rank
    for rank, state in enumerate(
        (S.OFFERED, S.DOWNLOADING, S.DOWNLOADED, S.PERMITTED, S.INSTALLING, S.REBOOTING, S.VERIFYING)
    )
}


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What the reference store answers: nothing in it waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the reference store waited")


@dataclass(slots=True)
class Seen:
    """An attempt as the journal tells it."""

    rollout_id: RolloutId
    vehicle_id: VehicleId
    region: str
    state: AttemptState
    exposed: bool


@dataclass(slots=True)
class _Tick:
    began_at: int = 0
    """How many operations were done before."""
    renewed: bool = False


class Witness:
    """Watches one run.

    Args:
        store: the reference store itself; only read, and only by its public operations.
        machine_ms: store time.
    """

    def __init__(self, store: MemoryStore, *, machine_ms: Callable[[], int]) -> None:
        self._store = store
        self._machine_ms = machine_ms
        self.rollouts: dict[RolloutId, Limits] = {}
        self.attempts: dict[AttemptId, Seen] = {}
        self.live: dict[VehicleId, AttemptId] = {}
        self.acknowledged: dict[VehicleId, tuple[str, int]] = {}
        """Outbox that was heard last, and up to which number."""
        self._held: dict[str, int] = {}
        """Highest number ever acknowledged, by outbox."""
        self.resets: set[VehicleId] = set()
        """Vehicles that lost their memory: only of these may events be missing."""
        self.operations: Counter[str] = Counter()
        self.clocks_differ_ms = 0
        """How far the store's fleet time may be from what vehicles go by, where its date was set."""
        self._marks: dict[str, str] = {}
        self._ticks: dict[str, _Tick] = {}
        self.happened: Counter[str] = Counter()
        """Operations by their kind, see `kinds`."""
        self._heirs: dict[RolloutId, dict[RolloutId, int]] = {}
        """By rollout: who has taken its place, and at which operation."""

    def saw(self, process: Process, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        """An operation was done.

        Raises:
            BrokenPromiseError: it must not have been.
        """
        self.operations[name] += 1
        self.happened.update(kinds(self, name, args, kwargs, answer))
        self._follow_tick(process, name, args, answer)
        entries = self._written(name, args, kwargs)
        for entry in entries:
            self._read(entry)
        look = getattr(self, f"_saw_{name}", None)
        if look is not None:
            look(args, kwargs, answer, entries)

    # The evaluator's tick

    def _follow_tick(self, process: Process, name: str, args: tuple[Any, ...], answer: Any) -> None:
        tick = self._ticks.get(process.name)
        if name == "clock":
            # What the evaluator does first; workers do it as well, and nobody looks at theirs.
            self._ticks[process.name] = _Tick(began_at=self.operations.total())
        elif tick is not None and name == "renew":
            tick.renewed = True
            if answer:
                self._check_place(args[0], tick)
        elif tick is not None and tick.renewed:
            raise BrokenPromiseError(
                f"{process.name} did {name} after its sign of life, which must be the last act of a tick"
            )

    def _check_place(self, rollout_id: RolloutId, tick: _Tick) -> None:
        """A whole tick that saw another rollout in a rollout's place lets that one go on no more."""
        heirs = [heir for heir, since in self._heirs.get(rollout_id, {}).items() if since < tick.began_at]
        if heirs and not self.rollouts[rollout_id].rollout.status.over:
            raise BrokenPromiseError(f"{rollout_id} goes on, though {heirs[0]} has taken its place")

    # The rollout's own keys

    def _saw_create_rollout(self, _: object, __: object, answer: Rollout, ___: object) -> None:
        self.rollouts.setdefault(answer.rollout_id, Limits(answer))
        self._follow_heir(answer)

    def _follow_heir(self, heir: Rollout) -> None:
        """Keep who has taken whose place: from its start on, until it is aborted itself or loses its own."""
        if not heir.plan.supersedes or not heir.status.begun:
            return
        taken = self._heirs.setdefault(RolloutId(heir.plan.supersedes), {})
        if heir.status in (RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED):
            taken.pop(heir.rollout_id, None)
        else:
            taken.setdefault(heir.rollout_id, self.operations.total())

    def _saw_renew(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any, _: object) -> None:
        if answer:
            cells = now(self._store.tallies([args[0]]))[args[0]]
            self.rollouts[args[0]].renewed(kwargs, cells.values())

    def _saw_transition(self, args: tuple[Any, ...], _: object, answer: Any, __: object) -> None:
        if answer:
            self.rollouts[args[0].rollout_id].moved(args[0])
            self._follow_heir(args[0])

    def _saw_reserve(self, args: tuple[Any, ...], _: object, answer: Any, __: object) -> None:
        rollout_id, attempt_id, asked = asked_for(args)
        if isinstance(answer, Reserved):
            self.rollouts[rollout_id].reserved(attempt_id, asked, self._machine_ms())

    def _saw_authorize(self, args: tuple[Any, ...], _: object, answer: Any, __: object) -> None:
        rollout_id, attempt_id, asked = asked_for(args)
        if isinstance(answer, Permitted):
            self.rollouts[rollout_id].authorized(attempt_id, asked, answer, self._machine_ms())
        elif isinstance(answer, Refusal) and answer.reason is RefusalReason.WATCHED:
            standing = now(self._store.standing(rollout_id, now=asked["now"]))
            self.rollouts[rollout_id].stood_aside(attempt_id, asked, self._machine_ms(), standing)

    def _saw_enrol(self, args: tuple[Any, ...], _: object, answer: bool, __: object) -> None:
        control: Control = args[0]
        if answer:
            self.rollouts[control.rollout_id].watched(control)

    def _saw_suspend(self, args: tuple[Any, ...], _: object, __: object, ___: object) -> None:
        self.rollouts[args[0]].given_back(args[1])

    def _saw_release(self, args: tuple[Any, ...], _: object, __: object, ___: object) -> None:
        for attempt_id in args[1]:
            seen = self.attempts.get(attempt_id)
            if seen is not None and not seen.state.terminal:
                raise BrokenPromiseError(f"slot of {attempt_id} returned, which is {seen.state}")
            self.rollouts[args[0]].released(attempt_id)

    def _saw_forfeit(self, args: tuple[Any, ...], _: object, __: object, ___: object) -> None:
        for attempt_id in args[1]:
            seen = self.attempts[attempt_id]
            if seen.exposed or not seen.state.terminal:
                raise BrokenPromiseError(f"permit of {attempt_id} taken back, which is {seen.state}")
            self.rollouts[args[0]].forfeited(attempt_id)

    # The vehicles' shards, as their journals tell

    def _written(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[JournalEntry]:
        """What an operation left in the journals of the shards it was done on."""
        written: list[JournalEntry] = []
        for shard in self._shards(name, args):
            stream = shard_stream(shard)
            entries: Sequence[JournalEntry] = now(
                self._store.journal(stream, after=self._marks.get(stream, ""), count=10_000)
            )
            if entries:
                self._marks[stream] = entries[-1].entry_id
            written += entries
        return written

    def _shards(self, name: str, args: tuple[Any, ...]) -> Sequence[int]:
        if name == "sweep":
            shards: Sequence[int] = args[0]
            return shards
        if name in ("apply", "attest"):
            return [shard_of(args[0], self._store.shards)]
        if name == "assign":
            attempt: Attempt = args[0]
            return [shard_of(attempt.vehicle_id, self._store.shards)]
        if name in ("permit", "change", "close_case", "diagnose"):
            parts = split_attempt_id(args[0])
            return [] if parts is None else [shard_of(parts[1], self._store.shards)]
        return []

    def _read(self, entry: JournalEntry) -> None:
        match entry.kind:
            case "attempt_granted":
                self._granted(entry)
            case "attempt_changed" | "attempt_corrected":
                self._moved(entry)
            case "events_gap":
                if entry.data["vehicle_id"] not in self.resets:
                    raise BrokenPromiseError(f"events are missing: {entry.data}")

    def _granted(self, entry: JournalEntry) -> None:
        data: Mapping[str, Any] = entry.data
        attempt_id, vehicle_id = AttemptId(data["attempt_id"]), VehicleId(data["vehicle_id"])
        rollout_id = RolloutId(data["rollout_id"])
        if attempt_id in self.attempts:
            raise BrokenPromiseError(f"{attempt_id} granted twice")
        if vehicle_id in self.live:
            raise BrokenPromiseError(f"{vehicle_id} has two live attempts: {self.live[vehicle_id]} and {attempt_id}")
        if attempt_id not in self.rollouts[rollout_id].slots:
            raise BrokenPromiseError(f"{attempt_id} granted without a slot")
        self.live[vehicle_id] = attempt_id
        self.attempts[attempt_id] = Seen(rollout_id, vehicle_id, data["region"], S.OFFERED, exposed=False)

    def _moved(self, entry: JournalEntry) -> None:
        data: Mapping[str, Any] = entry.data
        attempt_id = AttemptId(data["attempt_id"])
        seen = self.attempts[attempt_id]
        before, after = S(data["from"]), S(data["to"])
        if before is not seen.state:
            raise BrokenPromiseError(f"{attempt_id} went from {before}, but it was {seen.state}")
        if seen.exposed and not data["exposed"]:
            raise BrokenPromiseError(f"{attempt_id} was exposed and is no more")
        if data["exposed"] and attempt_id not in self.rollouts[seen.rollout_id].permits:
            raise BrokenPromiseError(f"{attempt_id} is exposed without a permit")
        if before.terminal and not after.terminal:
            raise BrokenPromiseError(f"{attempt_id} came back to life: {before} -> {after}")
        if before.terminal != (entry.kind == "attempt_corrected"):
            raise BrokenPromiseError(f"{entry.kind} of {attempt_id}: {before} -> {after}")
        if before in _RANK and after in _RANK and _RANK[after] <= _RANK[before]:
            raise BrokenPromiseError(f"{attempt_id} went back: {before} -> {after}")
        self.attempts[attempt_id] = replace(seen, state=after, exposed=bool(data["exposed"]))
        if after.terminal and self.live.get(seen.vehicle_id) == attempt_id:
            del self.live[seen.vehicle_id]

    def _saw_apply(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Applied, entries: Sequence[JournalEntry]
    ) -> None:
        vehicle_id, outbox_id = args[0], kwargs["outbox_id"]
        events: Sequence[VehicleEvent] = kwargs["events"]
        box, number = self.acknowledged.get(vehicle_id, ("", 0))
        known = number if box == outbox_id else 0
        fresh = [event.number for event in events if event.number > known]
        told = sum(entry.kind in CHANGES for entry in entries)
        if told != len(fresh):
            raise BrokenPromiseError(f"{vehicle_id}: {len(fresh)} new events of {outbox_id} made {told} entries")
        if answer.record.acknowledged_number < max([known, *fresh]):
            raise BrokenPromiseError(
                f"{vehicle_id}: {max(fresh)} was told, {answer.record.acknowledged_number} acknowledged"
            )
        self.acknowledged[vehicle_id] = (outbox_id, answer.record.acknowledged_number)
        self._held[outbox_id] = max(self._held.get(outbox_id, 0), answer.record.acknowledged_number)

    # What vehicles say of themselves

    def installs(self, attempt_id: str, at: int) -> None:
        """A vehicle passes the point of no return.

        Raises:
            BrokenPromiseError: it has no permit, or none that is still good.
        """
        seen = self.attempts.get(AttemptId(attempt_id))
        permit = self.rollouts[seen.rollout_id].permits.get(AttemptId(attempt_id)) if seen else None
        if seen is None or permit is None:
            raise BrokenPromiseError(f"{attempt_id} installs without a permit")
        good_ms = self.rollouts[seen.rollout_id].good_ms[AttemptId(attempt_id)] + self.clocks_differ_ms
        if at - permit[1] > good_ms:
            raise BrokenPromiseError(f"{attempt_id} installs {at - permit[1]} ms after a permit for {good_ms} ms")

    def has(self, outbox_id: str, number: int) -> bool:
        """Whether an event was acknowledged; no two vehicles share an outbox."""
        return number <= self._held.get(outbox_id, 0)

    def taken(self, rollout_id: RolloutId) -> tuple[int, int]:
        """How many slots were granted ever, and how many permits are given."""
        granted = sum(seen.rollout_id == rollout_id for seen in self.attempts.values())
        return granted, len(self.rollouts[rollout_id].permits)

    # At leisure

    def still_out(self, at: FleetTime) -> None:
        """As many permits may still be used as were given, have not lapsed, and whose attempts are not over.

        Raises:
            BrokenPromiseError: the rollout's keys count otherwise.
        """
        for rollout_id, limits in self.rollouts.items():
            counted, true = now(self._store.standing(rollout_id, now=at)).outstanding, limits.outstanding(at)
            if counted != true:
                raise BrokenPromiseError(f"{counted} permits of {rollout_id} are said to be out, {true} are")

    def recount(self) -> None:
        """Counters, records, cases and the journal tell the same.

        Raises:
            BrokenPromiseError: they do not.
        """
        names = list(self.rollouts)
        counted, true = now(self._store.tallies(names)), now(self._store.recount(names))
        if counted != true:
            raise BrokenPromiseError(f"counters {counted} are not what a recount finds, {true}")
        told = Counter((seen.rollout_id, seen.state, seen.exposed) for seen in self.attempts.values())
        stand: Counter[tuple[RolloutId, AttemptState, bool]] = Counter()
        for rollout_id, cells in true.items():
            for tally in cells.values():
                stand.update({(rollout_id, state, False): count for state, count in tally.before_permit.items()})
                stand.update({(rollout_id, state, True): count for state, count in tally.after_permit.items()})
            self.rollouts[rollout_id].compared(list(cells.values()))
        if told != stand:
            raise BrokenPromiseError(f"the journal tells of {told}, the records of {stand}")
