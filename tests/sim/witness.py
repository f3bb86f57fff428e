"""Who watches: told of each operation on the store in the very step in which it is done, and holds it against promises.

Owns a picture of its own, made from what was asked, what was answered and what the journal says: limits are counted
here by other means than the store counts them. A broken promise raises at once, in the run that broke it. Leaves
decisions to `replay`, and what vehicles truly did to `driving`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from orchestrator.engine.gates import AGED_MIN
from orchestrator.model.attempt import Attempt, AttemptState, VehicleEvent
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, split_attempt_id
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.store.base import DEAD_MAN_LIFE_MS, Applied, JournalEntry, Permitted, Reserved
from orchestrator.store.memory import MemoryStore
from orchestrator.store.shards import shard_of
from orchestrator.store.streams import shard_stream
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


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What the reference store answers: nothing in it waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the reference store waited")


def asked_for(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[RolloutId, AttemptId, Mapping[str, Any]]:
    """What `reserve` and `authorize` were asked: rollout, attempt, and the rest by name."""
    rollout_id, attempt_id, *request = args
    return rollout_id, attempt_id, dict(fields_of(request[0])) if request else kwargs


def fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a value, one level deep."""
    return ((field.name, getattr(value, field.name)) for field in fields(value))


@dataclass(slots=True)
class Seen:
    """An attempt as the journal tells it."""

    rollout_id: RolloutId
    vehicle_id: VehicleId
    region: str
    state: AttemptState
    exposed: bool


@dataclass(slots=True)
class Watched:
    """A rollout, and what was taken of its limits."""

    rollout: Rollout
    slots: dict[AttemptId, str] = field(default_factory=dict)
    """Reserved and not returned, with their region."""
    permits: dict[AttemptId, tuple[FleetTime, FleetTime]] = field(default_factory=dict)
    """First and latest."""
    starts: list[FleetTime] = field(default_factory=list)
    ceiling: int = 0
    alive_from_ms: int = -(10**12)
    """Store time at which the last tick began that came to its last act."""


@dataclass(slots=True)
class _Tick:
    began_ms: int = 0
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
        self.rollouts: dict[RolloutId, Watched] = {}
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

    def saw(self, process: Process, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        """An operation was done.

        Raises:
            BrokenPromiseError: it must not have been.
        """
        self.operations[name] += 1
        self._follow_tick(process, name, answer)
        entries = self._written(name, args, kwargs)
        for entry in entries:
            self._read(entry)
        look = getattr(self, f"_saw_{name}", None)
        if look is not None:
            look(args, kwargs, answer, entries)

    # The evaluator's tick

    def _follow_tick(self, process: Process, name: str, answer: Any) -> None:
        tick = self._ticks.get(process.name)
        if name == "clock":
            # What the evaluator does first; workers do it as well, and nobody looks at theirs.
            self._ticks[process.name] = _Tick(began_ms=answer.machine_ms)
        elif tick is not None and name == "renew":
            tick.renewed = True
        elif tick is not None and tick.renewed:
            raise BrokenPromiseError(
                f"{process.name} did {name} after its sign of life, which must be the last act of a tick"
            )

    def _saw_renew(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any, _: object) -> None:
        watched = self.rollouts[args[0]]
        if not answer:
            return
        if kwargs["epoch"] != watched.rollout.epoch:
            raise BrokenPromiseError(f"renewed at epoch {kwargs['epoch']}, the rollout is at {watched.rollout.epoch}")
        watched.ceiling = kwargs["permit_ceiling"]
        watched.alive_from_ms = kwargs["began_ms"]
        self._check_budget(args[0], watched)

    def _check_budget(self, rollout_id: RolloutId, watched: Watched) -> None:
        """While nothing is known yet, no more may be at risk than the budget says."""
        aged = sum(
            t.age_groups[0].exposed for t in now(self._store.tallies([rollout_id]))[rollout_id].values() if t.age_groups
        )
        budget = watched.rollout.plan.limits.blast_budget
        if aged < AGED_MIN and watched.ceiling > max(len(watched.permits), aged + budget):
            raise BrokenPromiseError(f"ceiling {watched.ceiling} with {aged} aged and a blast budget of {budget}")

    def _check_alive(self, watched: Watched, what: str) -> None:
        silent_ms = self._machine_ms() - watched.alive_from_ms
        if silent_ms >= DEAD_MAN_LIFE_MS:
            raise BrokenPromiseError(f"{what} {silent_ms} ms after the last finished tick began")

    # The rollout's own keys

    def _saw_create_rollout(self, _: object, __: object, answer: Rollout, ___: object) -> None:
        self.rollouts.setdefault(answer.rollout_id, Watched(answer))

    def _saw_transition(self, args: tuple[Any, ...], _: object, answer: Any, __: object) -> None:
        after: Rollout = args[0]
        watched = self.rollouts[after.rollout_id]
        before = watched.rollout
        if not answer:
            return
        if after.epoch != before.epoch + 1:
            raise BrokenPromiseError(f"epoch {before.epoch} -> {after.epoch}")
        if after.fence < before.fence:
            raise BrokenPromiseError(f"fence {before.fence} -> {after.fence}")
        if before.status.over:
            raise BrokenPromiseError(f"{before.rollout_id} was {before.status} and is {after.status}")
        stops = after.status in (RolloutStatus.HALTED, RolloutStatus.ABORTED)
        if stops and before.status is not after.status and after.fence <= before.epoch:
            raise BrokenPromiseError(
                f"{after.status} at epoch {before.epoch} with fence {after.fence}: earlier grants live on"
            )
        for name, progress in after.regions.items():
            if progress.wave < before.regions[name].wave:
                raise BrokenPromiseError(
                    f"region {name} went back from wave {before.regions[name].wave} to {progress.wave}"
                )
        watched.rollout = after

    def _saw_reserve(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any, _: object) -> None:
        rollout_id, attempt_id, asked = asked_for(args, kwargs)
        watched = self.rollouts[rollout_id]
        if not isinstance(answer, Reserved) or attempt_id in watched.slots:
            return
        rollout = watched.rollout
        if rollout.status is not RolloutStatus.RUNNING:
            raise BrokenPromiseError(f"{attempt_id} granted while {rollout_id} is {rollout.status}")
        self._check_alive(watched, f"{attempt_id} granted")
        watched.slots[attempt_id] = region = asked["region"] if "region" in asked else asked["cell"].region
        here = sum(held == region for held in watched.slots.values())
        if here > rollout.plan.regions[region].in_flight_max or len(watched.slots) > rollout.plan.limits.in_flight_max:
            raise BrokenPromiseError(f"{here} in flight in {region} and {len(watched.slots)} in all")

    def _saw_release(self, args: tuple[Any, ...], _: object, __: object, ___: object) -> None:
        for attempt_id in args[1]:
            seen = self.attempts.get(attempt_id)
            if seen is not None and not seen.state.terminal:
                raise BrokenPromiseError(f"slot of {attempt_id} returned, which is {seen.state}")
            self.rollouts[args[0]].slots.pop(attempt_id, None)

    def _saw_authorize(self, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any, _: object) -> None:
        rollout_id, attempt_id, asked = asked_for(args, kwargs)
        watched = self.rollouts[rollout_id]
        if not isinstance(answer, Permitted):
            return
        at, plan, known = answer.permitted_at, watched.rollout.plan, watched.permits.get(attempt_id)
        if known is not None and at == known[1]:
            if asked["now"] - at >= plan.limits.permit_valid_ms:
                raise BrokenPromiseError(f"{attempt_id} told of a permit that has lapsed")
            return
        if watched.rollout.status is not RolloutStatus.RUNNING:
            raise BrokenPromiseError(f"{attempt_id} permitted while {rollout_id} is {watched.rollout.status}")
        if asked["attempt_epoch"] < watched.rollout.fence:
            raise BrokenPromiseError(f"{attempt_id} permitted below the fence {watched.rollout.fence}")
        self._check_alive(watched, f"{attempt_id} permitted")
        watched.permits[attempt_id] = (known[0] if known else at, at)
        if known is None:
            self._check_starts(watched, attempt_id, at)

    def _check_starts(self, watched: Watched, attempt_id: AttemptId, at: FleetTime) -> None:
        watched.starts.append(at)
        recent = sum(at - MINUTE_MS < other <= at for other in watched.starts)
        if recent > watched.rollout.plan.limits.starts_per_minute_max:
            raise BrokenPromiseError(f"{recent} starts within a minute with {attempt_id}")
        if len(watched.permits) > watched.ceiling:
            raise BrokenPromiseError(f"{len(watched.permits)} permits with {attempt_id}, ceiling {watched.ceiling}")

    def _saw_forfeit(self, args: tuple[Any, ...], _: object, __: object, ___: object) -> None:
        for attempt_id in args[1]:
            seen = self.attempts[attempt_id]
            if seen.exposed or not seen.state.terminal:
                raise BrokenPromiseError(
                    f"permit of {attempt_id} taken back, which is {seen.state}, exposed: {seen.exposed}"
                )
            self.rollouts[args[0]].permits.pop(attempt_id, None)

    # The vehicles' shards, as their journals tell

    def _written(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[JournalEntry]:
        """What an operation left in the journal of the shard it was done on."""
        shard = self._shard(name, args)
        if shard is None:
            return ()
        stream = shard_stream(shard)
        entries: Sequence[JournalEntry] = now(
            self._store.journal(stream, after=self._marks.get(stream, ""), count=10_000)
        )
        if entries:
            self._marks[stream] = entries[-1].entry_id
        return entries

    def _shard(self, name: str, args: tuple[Any, ...]) -> int | None:
        if name == "sweep":
            return int(args[0])
        if name in ("apply", "attest"):
            return shard_of(args[0], self._store.shards)
        if name == "assign":
            attempt: Attempt = args[0]
            return shard_of(attempt.vehicle_id, self._store.shards)
        if name in ("permit", "change", "close_case", "diagnose"):
            parts = split_attempt_id(args[0])
            return None if parts is None else shard_of(parts[1], self._store.shards)
        return None

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
        live = [one for one in self.attempts.values() if one.rollout_id == rollout_id and not one.state.terminal]
        plan = self.rollouts[rollout_id].rollout.plan
        here = sum(one.region == data["region"] for one in live)
        if here > plan.regions[data["region"]].in_flight_max or len(live) > plan.limits.in_flight_max:
            raise BrokenPromiseError(
                f"{here} live attempts in {data['region']} and {len(live)} in all with {attempt_id}"
            )

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
        good_ms = self.rollouts[seen.rollout_id].rollout.plan.limits.permit_valid_ms + self.clocks_differ_ms
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
        if told != stand:
            raise BrokenPromiseError(f"the journal tells of {told}, the records of {stand}")
