"""A modelled rollout and the service side by side: what the model lets happen is done to the service, look by look.

Owns the diary of a modelled run (who called when, what was counted and said at each look), and the driver that repeats
its calls on the memory store, through the desks and the evaluator. What is compared, and what may differ, is the matter
of the tests.

The service sweeps and writes last contacts once a second; here it does both before each call, which is the same on
virtual time. Habits stay as they were learnt before the rollout: the model leaves out the calls that would keep them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import numpy as np

from orchestrator.engine.admission import choose
from orchestrator.engine.controls import aside_coin, trial_coin
from orchestrator.engine.gates import Judgement, judge_rollout
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.reach import waiting
from orchestrator.engine.selection import DRAW_RANGE
from orchestrator.evaluator import fences_of
from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.decision import Grant, RefusalReason
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId, attempt_id
from orchestrator.model.rollout import Rollout, Verdict
from orchestrator.model.tally import Tally
from orchestrator.model.vehicle import Contact
from orchestrator.rehearsal import Decision, FleetModel, Outcome, ReleaseModel, Vehicles, Witness, draw_vehicles, run
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.engine_rule import EngineRule
from orchestrator.rehearsal.inventory import Inventory, read_inventory
from orchestrator.rehearsal.rehearse import filled
from orchestrator.rehearsal.vehicles import HABITS, Floats, Ints
from orchestrator.service.permits import PermitAnswer
from orchestrator.service.rollouts import RolloutDesk
from orchestrator.service.vehicles import CheckIn, CheckInReply, Held, Install
from tests.builders import HOUR_MS
from tests.service.world import Car, World

ROLLOUT = RolloutId("spring")
GAPS_H: Mapping[str, int] = {"often": 1, "daily": 24, "seldom": 120}
"""Past gaps that teach a habit."""
BEACONS = 60
"""Vehicles of each region that the plan is not for, and that call every hour: the model leaves out the calls that keep
a region from going dark.
"""
NOTHING_NEW = Held(root=1 << 30, timestamp=1 << 30, snapshot=1 << 30, targets=1 << 30)
"""A vehicle that holds whatever metadata there is: signing is no subject here."""


class What(IntEnum):
    """What a vehicle does; in this order where several fall on one moment."""

    WORD = 0
    """It tells the outcome."""
    HEARD = 1
    """It was a control, and calls."""
    WATCHED = 2
    """It calls, could have its permit, and stands aside: it takes no room from those of the same moment."""
    ASKS = 3
    """It calls, and has its permit."""
    FULL = 4
    """It might begin, and finds no room."""


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """What one vehicle does."""

    at_h: float
    what: What
    vehicle: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one side knows and says at a look."""

    cells: Mapping[Cell, Tally]
    verdicts: Sequence[Verdict]
    permit_ceiling: int
    rollout: Rollout


class Diary(Witness):
    """What vehicles of a modelled run do, by the look before it."""

    def __init__(self) -> None:
        self.acts: defaultdict[int, list[Act]] = defaultdict(list)

    def exposed(self, who: Ints, at_h: Floats, heard_h: Floats) -> None:
        self._note(What.ASKS, who, at_h)
        self._note(What.WORD, who, at_h + heard_h)

    def enrolled(self, who: Ints, at_h: Floats, heard_h: Floats) -> None:
        self._note(What.WATCHED, who, at_h)
        self._note(What.HEARD, who, at_h + heard_h)

    def refused(self, who: Ints, at_h: Floats) -> None:
        self._note(What.FULL, who, at_h)

    def _note(self, what: What, who: Ints, at_h: Floats) -> None:
        for vehicle, at in zip(who.tolist(), at_h.tolist(), strict=True):
            if np.isfinite(at):
                self.acts[int(at)].append(Act(at, what, vehicle))


class Recorded(EngineRule):
    """The engine as a rule, with what it knew and said at each look."""

    looks: list[Look]

    def decide(self, counts: Counts, now_h: float) -> Decision:
        decision = super().decide(counts, now_h)
        ceiling = int(self.verdicts[0].inputs["permit_ceiling"])
        self.looks.append(Look(self.tallies(counts), self.verdicts, ceiling, self.rollout))
        return decision


@dataclass(frozen=True, slots=True)
class Modelled:
    """A run of the model."""

    vehicles: Vehicles
    outcome: Outcome
    looks: Sequence[Look]
    acts: Mapping[int, Sequence[Act]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What both sides meet."""

    plan: str
    fleet: FleetModel
    release: ReleaseModel
    deadline_h: float
    """Until an exposure that is not heard of loses its slot, by the plan's deadline of the permit."""
    seed: int = 1
    horizon_h: float = 30 * 24.0

    def inventory(self) -> Inventory:
        """The vehicles, as a fleet file names them, spread over the fleet's cells by number."""
        lines = ["vehicle_id,model,hardware,region,cohort,tags"]
        for number in range(self.fleet.size):
            cell = self.fleet.cells[_place(self.fleet, number)][0]
            lines.append(f"{name_of(number)},S,{cell.hardware},{cell.region},{cell.cohort},")
        return read_inventory(lines, read_plan(self.plan))


def name_of(number: int) -> str:
    """The id of a vehicle."""
    return f"v-{number:04}"


def _place(fleet: FleetModel, number: int) -> int:
    """In which cell a vehicle is: by low discrepancy, so that shares are kept in any order."""
    at, passed = (number * 0.6180339887) % 1.0, 0.0
    for index, (_, share) in enumerate(fleet.cells):
        passed += share
        if at < passed:
            return index
    return len(fleet.cells) - 1


def modelled(scenario: Scenario, rollout: Rollout, start: FleetTime) -> Modelled:
    """Run the model, with the coins that the service tosses."""
    inventory = scenario.inventory()
    shares = tuple((cell, count / inventory.size) for cell, count in inventory.counts().items())
    fleet = replace(scenario.fleet, cells=shares)
    trial = np.array([trial_coin(rollout, VehicleId(name)) for name in inventory.ids]) / float(DRAW_RANGE)
    draws = inventory.draws(rollout.salt)
    drawn = draw_vehicles(fleet, scenario.seed, cell=inventory.cell, draw=draws, coin=trial)
    vehicles = drawn.under(scenario.release)
    rule = Recorded(vehicles, filled(read_plan(scenario.plan), inventory.size), step_h=1.0, started_at=start)
    rule.looks = []
    diary = Diary()

    def tossed(who: Ints, at_h: Floats) -> Floats:
        asked = zip(who.tolist(), at_h.tolist(), strict=True)
        coins = [aside_coin(rollout, _attempt(vehicle), _fleet_time(start, hour)) for vehicle, hour in asked]
        return np.array(coins, dtype=np.float64) / float(DRAW_RANGE)

    outcome = run(
        vehicles,
        rule,
        seed=scenario.seed,
        horizon_h=scenario.horizon_h,
        deadline_h=scenario.deadline_h,
        witness=diary,
        coins=tossed,
    )
    return Modelled(vehicles, outcome, rule.looks, diary.acts)


def _attempt(vehicle: int) -> AttemptId:
    return attempt_id(ROLLOUT, VehicleId(name_of(vehicle)), 1)


def _fleet_time(start: FleetTime, hour: float) -> FleetTime:
    return FleetTime(start + round(hour * HOUR_MS))


class Twin:
    """The service under the calls of a modelled run.

    Args:
        folder: Of the test.
        template: A data folder with release 1.1.0.
        scenario: What it meets.
    """

    def __init__(self, folder: Path, template: Path, scenario: Scenario) -> None:
        self.world = World(folder, template, dead_man_life_ms=2 * HOUR_MS)
        self.scenario = scenario
        salt = bytes([scenario.seed % 256]) * 16
        self.world.rollouts = RolloutDesk(
            store=self.world.store,
            clock=self.world.clock,
            machine=self.world.hand.machine,
            random_bytes=lambda size: salt[:size],
        )
        self.cars: list[Car] = []
        self._beacons: list[Car] = []

    async def start(self) -> Modelled:
        """Put the vehicles into the inventory with their habits, start the rollout, and run the model beside it."""
        world = self.world
        await world.evaluator.recover()
        self.release = await world.release()
        inventory = self.scenario.inventory()
        for number, name in enumerate(inventory.ids):
            cell = inventory.cells[inventory.cell[number]]
            self.cars.append(Car(name, hardware=cell.hardware, region=cell.region, cohort=cell.cohort))
        for region in inventory.regions:
            self._beacons += [Car(f"beacon-{region}-{number}", region=region, model="X") for number in range(BEACONS)]
        await world.add(*self.cars, *self._beacons)
        rollout = await world.rollouts.create(
            self.scenario.plan, rollout_id=ROLLOUT, request_id="", actor="alice", reason="test"
        )
        self._start_ms = world.hand.now_ms
        run_of_it = modelled(self.scenario, rollout, world.now)
        self._vehicles = run_of_it.vehicles
        await self._teach()
        return run_of_it

    async def _teach(self) -> None:
        """Let the store learn each vehicle's habit from calls that ended three days before."""
        until = self.world.now - 72 * HOUR_MS
        for habit, gap_h in GAPS_H.items():
            theirs = np.flatnonzero(self._vehicles.habit == HABITS.index(habit)).tolist()
            for back in range(9, -1, -1):
                contact = Contact(at=FleetTime(until - back * gap_h * HOUR_MS), conditions=None, diagnostics=())
                await self.world.store.touch({self.cars[number].vehicle_id: contact for number in theirs})

    async def look(self, hour: int) -> Look:
        """Let the evaluator look until nothing moves: it takes a step a second, the model all of them at its look."""
        await self.until(hour - 0.25)
        for car in self._beacons:
            await self._touch(car)
        await self.until(float(hour))
        epoch = -1
        while epoch != (rollout := await self.world.rollout()).epoch:
            epoch = rollout.epoch
            await self.world.tick()
        judgement = await self._judgement(rollout)
        standing = await self.world.store.standing(ROLLOUT, now=self.world.now)
        cells = (await self.world.store.tallies([ROLLOUT]))[ROLLOUT]
        return Look(cells, judgement.verdicts, standing.permit_ceiling, rollout)

    async def _judgement(self, rollout: Rollout) -> Judgement:
        store = self.world.store
        cells = (await store.tallies([ROLLOUT]))[ROLLOUT]
        unreached = waiting(rollout.plan, await store.profiles(), await store.releases())
        return judge_rollout(rollout, cells, unreached, self.world.now)

    async def act(self, act: Act) -> None:
        """Let a vehicle do what the model says."""
        await self.until(act.at_h)
        car = self.cars[act.vehicle]
        if act.what is What.WORD:
            await self._word(car, fails=bool(self._vehicles.fails[act.vehicle]))
        elif act.what is What.ASKS:
            await self._asks(car)
        elif act.what is What.WATCHED:
            await self._watched(car)
        elif act.what is What.HEARD:
            await self._touch(car)
        else:
            assert await self._full(car), (act, car.vehicle_id)

    async def calls(self, vehicle: int) -> CheckInReply:
        """Let a vehicle, by number, call now, whatever the model says."""
        return await self._check_in(self.cars[vehicle])

    async def touch(self, vehicle: int) -> None:
        """Let a vehicle be heard now that has nothing to do."""
        await self._touch(self.cars[vehicle])

    async def permit(self, vehicle: int) -> PermitAnswer:
        """Let a vehicle ask for its permit now."""
        car = self.cars[vehicle]
        return await self.world.permits.authorize(car.vehicle_id, (await self.world.attempt(car)).attempt_id)

    async def says(self, vehicle: int) -> None:
        """Let a vehicle say what became of its installation."""
        await self._word(self.cars[vehicle], fails=bool(self._vehicles.fails[vehicle]))

    async def _full(self, car: Car) -> bool:
        """Whether who calls gets no permit; a first asking is only thought of: a grant would take a place."""
        await self._touch(car)
        snapshot, record = self.world.snapshots.current, await self.world.record(car)
        if record.attempt is not None and not record.attempt.state.terminal:
            if snapshot.rollouts[ROLLOUT].regions[record.vehicle.region].closed:
                # Who stood aside before may have its permit there; the model lets nobody in any more.
                return True
            said = await self.world.permits.authorize(car.vehicle_id, record.attempt.attempt_id)
            assert said.refusal is not None, (car.vehicle_id, said)
            return said.refusal.reason is not RefusalReason.WATCHED
        answer = choose(record, snapshot.candidates, self.world.now)
        if not isinstance(answer, Grant):
            return True
        standing = await self.world.store.standing(ROLLOUT, now=self.world.now)
        limits, places = snapshot.rollouts[ROLLOUT].plan.limits, answer.quota
        return (
            standing.permits >= standing.permit_ceiling
            or sum(standing.in_flight.values()) >= limits.in_flight_max
            or (places is not None and standing.admitted.get(answer.cell, 0) >= places)
        )

    async def _watched(self, car: Car) -> None:
        reply = await self._check_in(car)
        assert isinstance(reply.directive, Install), car.vehicle_id
        answer = await self.world.permits.authorize(car.vehicle_id, reply.directive.attempt.attempt_id)
        assert answer.refusal is not None, car.vehicle_id
        assert answer.refusal.reason is RefusalReason.WATCHED, (car.vehicle_id, answer)

    async def _touch(self, car: Car) -> None:
        contact = Contact(at=self.world.now, conditions=None, diagnostics=())
        await self.world.store.touch({car.vehicle_id: contact})

    async def _asks(self, car: Car) -> None:
        reply = await self._check_in(car)
        assert isinstance(reply.directive, Install), car.vehicle_id
        answer = await self.world.permits.authorize(car.vehicle_id, reply.directive.attempt.attempt_id)
        assert answer.refusal is None, (car.vehicle_id, answer)

    async def _word(self, car: Car, *, fails: bool) -> None:
        if not fails:
            await self.world.manifests.submit(car.vehicle_id, car.manifest(self.world.now, self.release))
            return
        attempt = await self.world.attempt(car)
        await self._check_in(car, VehicleEvent(1, attempt.attempt_id, AttemptEvent.FAILED))

    async def _check_in(self, car: Car, *events: VehicleEvent) -> CheckInReply:
        poll = CheckIn(
            outbox_id="box",
            events=events,
            oldest_number=1 if events else 0,
            manifest_sha256="",
            director=NOTHING_NEW,
            image=NOTHING_NEW,
        )
        return await self.world.desk.check_in(car.vehicle_id, poll)

    async def until(self, hour: float) -> None:
        """Let time go by: last contacts are written and what is due is handled, as in every second."""
        world = self.world
        world.hand.now_ms = self._start_ms + round(hour * HOUR_MS)
        await world.last_seen.flush()
        fences = fences_of([await world.rollout()])
        shards = range(world.store.shards)
        while any(swept.handled for swept in await world.store.sweep(shards, now=world.now, fences=fences)):
            pass

    async def close(self) -> None:
        """End what is open."""
        await self.world.ledger.close()
