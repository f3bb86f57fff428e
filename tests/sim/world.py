"""One seeded run of everything: vehicles, the way between, workers, evaluators, people, and the store below.

Real: the agents and their cars (`agent_sim`), the conversion to and from the wire, the servicer of the vehicle port,
all desks, the snapshot, the evaluator, the ledger's feed, the engine, and the memory store, which passes the contract
suite of the real one. Left out, each with tests of its own: gRPC and TLS (`network` carries messages), signatures
(`papers`), SQLite (`ledger`), metrics, and the loops that wake a worker's snapshot and last-seen (here they are old by
chance instead).

A run: a storm for some hours of fleet time; then everything heals, people abort what stands, and all must settle and
agree with what the vehicles truly are; then those messages still arrive that are on their way for up to 30 days.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from random import Random
from typing import Any

from agent_sim.actions import Call, CallFailed, Input
from agent_sim.faults import fault_book
from orchestrator.engine.progress import AbortRequested
from orchestrator.model.fleet import Ecu as InventoryEcu
from orchestrator.model.fleet import Vehicle as InventoryVehicle
from orchestrator.model.ids import EcuSerial, FleetTime, HardwareId, RolloutId, VehicleId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.store.base import JournalEntry
from orchestrator.store.memory import MemoryStore
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, NOW
from tests.sim.driving import Clockwork, Vehicle
from tests.sim.house import EvaluatorProcess, Ground, Worker
from tests.sim.kinds import late_kinds
from tests.sim.ledger import Record
from tests.sim.limits import BrokenPromiseError
from tests.sim.network import Network
from tests.sim.papers import a_signed_release
from tests.sim.people import ask, begin
from tests.sim.process import Died
from tests.sim.scenario import RELEASES, Scenario
from tests.sim.settled import check_decisions, check_settled, quiet
from tests.sim.storm import Storm
from tests.sim.witness import Witness, now

SHARDS = 2
SETTLES_MS = 54 * HOUR_MS
"""Fleet time within which everything has settled once nothing goes wrong any more: each of a good release's three waves
may wait for its last vehicles as long as the plan's patience says, and the holdout after them.
"""
LOOK_EVERY_MS = HOUR_MS // 4
PATIENT_MS = HOUR_MS
"""Fleet time after which people end what stands, and after twice that what still runs."""
SETTLED_AFTER_S = 6
"""Machine time, a little more than the evaluator gives those that are on the way."""
STALL_MAX_S = 240
RECOUNT_EVERY_S = 15.0
CALM_TICK_S = 4.0
"""Machine time between ticks once nothing goes wrong any more: as seldom as any scenario ticks in its storm."""
CALM_RECOUNT_S = 60.0
SELDOM_MS = 12 * HOUR_MS
"""Fleet time between ticks, and between recounts, while nothing comes but late messages."""
WORKERS = 2


Script = Callable[["World"], Awaitable[None]]


class World:
    """A run.

    Args:
        scenario: what it is.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.loop = asyncio.get_running_loop()
        self.rng = Random(f"run {scenario.seed}")
        self._step_ms = 0
        self.store = MemoryStore(SHARDS, machine_ms=self.store_ms)
        self.witness = Witness(self.store, machine_ms=self.store_ms)
        self.record = Record()
        self.ground = Ground(
            store=self.store,
            record=self.record,
            saw=self._saw,
            rng=self.rng,
            scale=scenario.scale,
            dates_off_ms=scenario.hazards.dates_off_ms,
            store_ms=self.store_ms,
        )
        self.workers: list[Worker] = []
        self.evaluators: list[EvaluatorProcess] = []
        self.network = Network(
            self._serve,
            self.rng,
            self.spawn,
            scale=scenario.scale,
            arrived_late=lambda late_ms: self.witness.happened.update(late_kinds(late_ms)),
        )
        self.tasks: set[asyncio.Task[Any]] = set()
        self.asking = 0
        """People who wait for an answer."""
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        self._ends = False
        clockwork = Clockwork(self.fleet_ms, scenario.scale)
        skew_ms = scenario.hazards.skew_ms
        self.vehicles = [
            Vehicle(
                spec,
                fault_book(scenario.seed, spec.vehicle_id, scenario.faults, hardware=spec.hardware, region=spec.region),
                network=self.network,
                witness=self.witness,
                clockwork=clockwork,
                skew_ms=round(self.rng.uniform(-1, 1) * skew_ms),
                rng=self.rng,
            )
            for spec in scenario.vehicles
        ]
        self.inventory = [_inventory(spec) for spec in scenario.vehicles]
        """As it was imported first."""
        self._tick_s, self._recount_s = scenario.tick_s, RECOUNT_EVERY_S

    def record_of(self, vehicle: Vehicle) -> VehicleRecord | None:
        """What the store knows of a vehicle; None when it was taken out of the inventory."""
        found: VehicleRecord | None = now(self.store.vehicle(VehicleId(vehicle.spec.vehicle_id)))
        return found

    # Time

    def store_ms(self) -> int:
        """The store's date: machine time, but for whoever set it."""
        return NOW + round(self.loop.time() * 1000) + self._step_ms

    def fleet_ms(self) -> FleetTime:
        """Fleet time, as it is when nobody sets a date."""
        return FleetTime(NOW + round(self.loop.time() * 1000 * self.scenario.scale))

    def set_date(self, step_ms: int) -> None:
        """Somebody sets the store's date."""
        self._step_ms += step_ms
        self.witness.clocks_differ_ms += round(abs(step_ms) * self.scenario.scale)

    async def wait_ms(self, fleet_ms: int) -> None:
        """Let fleet time go by, unless something breaks.

        Raises:
            BaseException: what broke, anywhere in the run.
        """
        seconds = fleet_ms / self.scenario.scale / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.failed.wait()
        if self.failure is not None:
            raise self.failure

    # What runs

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside the rest; what it raises ends the run."""
        task = self.loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if task.cancelled() or task.exception() is None or isinstance(task.exception(), Died):
            return
        self.fail(task.exception())

    def _saw(self, *happened: Any) -> None:
        """Show the witness what was done. What it says ends the run, also where an evaluator would go on."""
        try:
            self.witness.saw(*happened)
        except BrokenPromiseError as broken:
            self.fail(broken)
            raise

    def fail(self, error: BaseException | None) -> None:
        """The run is over."""
        if self.failure is None:
            self.failure = error
            self.failed.set()

    async def prepare(self) -> None:
        """Inventory, releases, processes and plans."""
        await self.store.import_vehicles(self.inventory, now=FleetTime(NOW))
        for number, version in enumerate(RELEASES, start=1):
            release = a_signed_release(version, number)
            await self.store.create_release(
                release, JournalEntry("fleet", "", "release_created", release.created_at, {})
            )
        self.workers = [Worker(self.ground) for _ in range(WORKERS)]
        self.spawn(self.evaluate())
        for vehicle in self.vehicles:
            vehicle.switch_on()
        await self.wait_ms(MINUTE_MS)
        for number, launch in enumerate(self.scenario.launches, start=1):
            if not launch.after_ms:
                await begin(self, RolloutId(f"r{number}"), launch)

    async def evaluate(self) -> None:
        """An evaluator, and another one whenever it is gone."""
        while not self._ends:
            evaluator = EvaluatorProcess(self.ground, tick_s=self._tick_s)
            self.evaluators.append(evaluator)
            await evaluator.live()
            self.evaluators.remove(evaluator)
            await asyncio.sleep(self.rng.uniform(1.0, 20.0))

    async def _serve(self, vehicle_id: str, call: Call) -> Input | None:
        worker = self.rng.choice(self.workers)
        if not worker.process.alive:
            return CallFailed(call.token)
        answer = await worker.serve(vehicle_id, call)
        if not worker.process.alive and worker in self.workers:
            self.workers[self.workers.index(worker)] = Worker(self.ground)
        return answer

    async def _recount(self) -> None:
        while True:
            self.witness.recount()
            self.witness.still_out(self.fleet_ms())
            await asyncio.sleep(self._recount_s)

    # A run

    async def run(self, script: Script | None = None) -> None:
        """All of it.

        Args:
            script: What happens before all heals; None: the scenario's storm.

        Raises:
            BrokenPromiseError: a promise was not kept.
        """
        try:
            await self.prepare()
            self.spawn(self._recount())
            await (script or stormy)(self)
            await self.heal()
            await self.late_mail()
        finally:
            self._ends = True
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def heal(self) -> None:
        """Nothing goes wrong any more: everything settles, and what is counted is what the vehicles truly are."""
        self._look_every(CALM_TICK_S, CALM_RECOUNT_S)
        waited = 0
        while waited < SETTLES_MS:
            if quiet(self):
                await self._ticks(3 + round(SETTLED_AFTER_S / self._tick_s))
                # Somebody who was brought back meanwhile may have something to tell.
                if quiet(self):
                    break
            if waited >= PATIENT_MS:
                await self._end_what_stands(everything=waited >= 3 * PATIENT_MS)
            await self.wait_ms(LOOK_EVERY_MS)
            waited += LOOK_EVERY_MS
        check_settled(self)
        check_decisions(self)

    async def _ticks(self, wanted: int) -> None:
        """Let an evaluator tick so often: the last words have to come through the journal, and what a crash left has to
        be old enough to be looked into. One may stand still, or be gone, when the storm ends.
        """
        ticks = {id(evaluator): evaluator.ticks for evaluator in self.evaluators}
        for _ in range(STALL_MAX_S):
            if any(evaluator.ticks >= ticks.get(id(evaluator), 0) + wanted for evaluator in self.evaluators):
                return
            await self.wait_ms(round(1000 * self.scenario.scale))
        raise BrokenPromiseError(f"no evaluator ticked {wanted} times within {STALL_MAX_S} s")

    def _look_every(self, tick_s: float, recount_s: float) -> None:
        """Tick and recount less often: where little happens, little is overlooked."""
        self._tick_s, self._recount_s = tick_s, recount_s
        for evaluator in self.evaluators:
            evaluator.tick_s = tick_s

    async def _end_what_stands(self, *, everything: bool) -> None:
        for rollout_id, watched in self.witness.rollouts.items():
            status = watched.rollout.status
            stands = status in (RolloutStatus.PAUSED, RolloutStatus.HELD, RolloutStatus.HALTED)
            if not status.over and (stands or (everything and not self.scenario.good)):
                await ask(self, rollout_id, AbortRequested("carol", "the test is over"))

    async def late_mail(self) -> None:
        """Vehicles are off, and what they said weeks ago arrives, in any order."""
        for vehicle in self.vehicles:
            vehicle.switch_off()
        if not self.network.underway:
            return
        seldom_s = SELDOM_MS / self.scenario.scale / 1000
        self._look_every(seldom_s, seldom_s)
        while self.network.underway:
            await self.wait_ms(DAY_MS)
        await self.wait_ms(DAY_MS)
        self.witness.recount()


async def stormy(world: World) -> None:
    """The scenario's storm, as long as it lasts."""
    storm = Storm(world)
    storm.begin()
    await world.wait_ms(world.scenario.stormy_ms)
    storm.end()


def _inventory(spec: Any) -> InventoryVehicle:
    """A vehicle as it is imported."""
    return InventoryVehicle(
        vehicle_id=VehicleId(spec.vehicle_id),
        model=spec.model,
        hardware=spec.hardware,
        region=spec.region,
        cohort=spec.cohort,
        tags=spec.tags,
        ecus=tuple(
            sorted(
                (
                    InventoryEcu(EcuSerial(unit.serial), HardwareId(unit.hardware_id), "key", unit.primary)
                    for unit in spec.ecus
                ),
                key=lambda unit: unit.serial,
            )
        ),
    )
