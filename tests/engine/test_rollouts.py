"""Whole rollouts on virtual time: admission, gate, budget and walk together, against a modelled fleet.

The fleet is a plain model with a seed: who calls when, who breaks. No store, no network; permits are counted against
the ceiling as the store does it. A failing seed stands in the test's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from orchestrator.engine.admission import consider
from orchestrator.engine.attempts import advance
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.permits import Clear, may_install
from orchestrator.engine.progress import Illegal, Judged, start, step
from orchestrator.engine.reach import regions_of, waiting
from orchestrator.engine.selection import draw, in_holdout
from orchestrator.engine.targets import compile_target
from orchestrator.model.attempt import AttemptEvent, AttemptState, Try
from orchestrator.model.decision import Grant
from orchestrator.model.fleet import Cell, Profile, Vehicle
from orchestrator.model.ids import FleetTime, ReleaseVersion
from orchestrator.model.plan import Plan, Target, Wave
from orchestrator.model.rollout import RegionPhase, Rollout, RolloutStatus
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.model.vehicle import VehicleRecord
from tests.builders import (
    DAY_MS,
    DEADLINES_MS,
    HOUR_MS,
    NOW,
    THREE_WAVES,
    a_plan,
    a_record,
    a_release,
    a_vehicle,
    an_attempt,
)

E, S = AttemptEvent, AttemptState
TICK_MS = 4 * HOUR_MS
TICKS_A_DAY = DAY_MS // TICK_MS
DEADLINES = {**DEADLINES_MS, AttemptState.PERMITTED: DAY_MS}
RELEASE, ANYBODY = a_release(), compile_target(Target())
HEALTHY, FAILS, BRICKS = "healthy", "fails", "bricks"


@dataclass
class Car:
    """One vehicle of the model."""

    record: VehicleRecord
    calls_a_tick: float
    fate: str = HEALTHY


@dataclass
class World:
    """A rollout and the fleet it meets."""

    rollout: Rollout
    cars: list[Car]
    random: Random
    now: FleetTime = NOW
    permits: int = 0
    permitted: list[tuple[Vehicle, FleetTime]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def profiles(self) -> Counter[Profile]:
        return Counter(car.record.vehicle.profile(car.record.installed) for car in self.cars)

    def cells(self) -> dict:
        """Counters, computed from the attempts as a recount would."""
        before: dict = {}
        after: dict = {}
        groups: dict = {}
        for car in self.cars:
            attempt = car.record.attempt
            if attempt is None:
                continue
            counts = after if attempt.exposed else before
            counts.setdefault(attempt.cell, Counter())[attempt.state] += 1
            aged = groups.setdefault(attempt.cell, [[0, 0] for _ in attempt.checkpoints_ms])
            for index, (reached, silent) in enumerate(zip(attempt.aged, attempt.silent, strict=True)):
                aged[index][0] += reached
                aged[index][1] += silent
        return {
            cell: Tally(before.get(cell, {}), after.get(cell, {}), tuple(AgeGroup(*group) for group in groups[cell]))
            for cell in groups
        }

    def tick(self) -> None:
        """Four hours: vehicles call, attempts age, the evaluator looks."""
        self.now = FleetTime(self.now + TICK_MS)
        cells = self.cells()
        unreached = waiting(self.rollout.plan, self.profiles())
        judgement = judge_rollout(self.rollout, cells, unreached, self.now)
        event = Judged(judgement, cells, unreached)
        answer = step(self.rollout, event, self.now)
        assert not isinstance(answer, Illegal)
        self.kinds[answer.kind] += answer.changed
        self.rollout = answer.rollout
        for car in self.cars:
            self._age(car)
            bricked = car.fate is BRICKS and car.record.attempt is not None and car.record.attempt.exposed
            if not bricked and self.random.random() < car.calls_a_tick:
                self._call(car, judgement.permit_ceiling)

    def _call(self, car: Car, ceiling: int) -> None:
        attempt = car.record.attempt
        if attempt is not None and attempt.exposed and attempt.state in (S.PERMITTED, S.TIMED_OUT):
            # Back from the garage: the manifest settles it, late or not.
            self._settle(car)
        elif attempt is None or attempt.state.terminal:
            answer = consider(car.record, self.rollout, RELEASE, ANYBODY, self.now)
            if isinstance(answer, Grant) and (answer.quota is None or self.admitted(answer.cell) < answer.quota):
                car.record = replace(car.record, attempt=self._granted(car, answer))
                self._tell(car, E.DOWNLOAD_STARTED)
        elif attempt.state is S.DOWNLOADING:
            self._tell(car, E.DOWNLOAD_FINISHED)
        elif attempt.state is S.DOWNLOADED:
            stratum = attempt.cell.stratum
            fenced = attempt.epoch < self.rollout.fence_of(stratum) or self.rollout.brake_on(stratum) is not None
            may = isinstance(may_install(car.record, attempt, self.rollout, None, False, self.now), Clear)
            if may and self.rollout.status is RolloutStatus.RUNNING and not fenced and self.permits < ceiling:
                self.permits += 1
                self.permitted.append((car.record.vehicle, self.now))
                self._tell(car, E.PERMIT_ISSUED)
                # Most install in the session that asked; a few drive into a garage and are heard of later.
                if car.fate is not BRICKS and self.random.random() < 0.98:
                    self._settle(car)

    def _settle(self, car: Car) -> None:
        self._tell(car, E.FAILED if car.fate is FAILS else E.ATTESTED_RELEASE)

    def _granted(self, car: Car, grant: Grant):
        assert grant.epoch == self.rollout.epoch
        return an_attempt(
            vehicle_id=car.record.vehicle.vehicle_id,
            number=grant.number,
            cell=grant.cell,
            epoch=grant.epoch,
            granted_at=self.now,
            state_at=self.now,
            deadline_at=FleetTime(self.now + DAY_MS),
            deadlines_ms=self.rollout.plan.deadlines_ms,
            checkpoints_ms=self.rollout.plan.gate.checkpoints_ms,
        )

    def _tell(self, car: Car, event: AttemptEvent) -> None:
        assert car.record.attempt is not None
        changed = advance(car.record.attempt, event, now=self.now)
        assert changed is not None
        attempt = changed.attempt
        tries = {self.rollout.rollout_id: Try(attempt.number, attempt.state, attempt.state_at, attempt.exposed)}
        installed = self.rollout.plan.release if attempt.state is S.SUCCEEDED else car.record.installed
        car.record = replace(car.record, attempt=attempt, tries=tries, installed=installed)

    def _age(self, car: Car) -> None:
        attempt = car.record.attempt
        if attempt is None:
            return
        if attempt.permitted_at is not None:
            aged, silent = list(attempt.aged), list(attempt.silent)
            for index, age_ms in enumerate(attempt.checkpoints_ms):
                if not aged[index] and self.now >= attempt.permitted_at + age_ms:
                    aged[index] = True
                    silent[index] = attempt.state not in (S.SUCCEEDED, S.FAILED, S.ROLLED_BACK)
            attempt = replace(attempt, aged=tuple(aged), silent=tuple(silent))
            car.record = replace(car.record, attempt=attempt)
        if attempt.deadline_at is not None and self.now >= attempt.deadline_at:
            self._tell(car, E.DEADLINE_PASSED)

    def admitted(self, cell: Cell) -> int:
        """As the store counts them: live attempts and permits."""
        attempts = [car.record.attempt for car in self.cars if car.record.attempt is not None]
        return sum(each.cell == cell and (each.exposed or not each.state.terminal) for each in attempts)

    @property
    def exposed(self) -> int:
        return sum(car.record.attempt is not None and car.record.attempt.exposed for car in self.cars)

    def hurt(self, fate: str) -> int:
        return sum(
            car.fate is fate and car.record.attempt is not None and car.record.attempt.exposed for car in self.cars
        )

    def run(self, days: int, until: Callable[[World], bool] = lambda world: world.rollout.status.over) -> None:
        for _ in range(days * TICKS_A_DAY):
            if until(self):
                return
            self.tick()


def a_fleet(size: int, fate: Callable[[Vehicle, Random], str], random: Random) -> list[Car]:
    """Vehicles over 3 regions, 4 cohorts, 2 variants; most call every few hours, some every few days."""
    cars = []
    for number in range(size):
        vehicle = a_vehicle(
            f"v-{number}",
            region=("eu", "us", "cn")[number % 3],
            cohort=("internal", "canary", "early", "general", "general", "general", "general")[number % 7],
            hardware=("gen1", "gen2")[number % 2],
        )
        calls = 0.9 if random.random() < 0.85 else 0.15
        cars.append(Car(a_record(vehicle), calls, fate(vehicle, random)))
    return cars


def a_world(plan: Plan, size: int, seed: int, fate: Callable[[Vehicle, Random], str] = lambda *_: HEALTHY) -> World:
    """A started rollout over a fresh fleet."""
    random = Random(seed)
    cars = a_fleet(size, fate, random)
    profiles = Counter(car.record.vehicle.profile(car.record.installed) for car in cars)
    rules = {**regions_of(replace(plan, regions={}), profiles), **plan.regions}
    plan = replace(plan, regions=rules, deadlines_ms=DEADLINES)
    salt = random.randbytes(16)
    rollout = start("spring", plan, "", salt, plan.regions, "alice", "go", "r", NOW)
    return World(rollout, cars, random)


SHARES = tuple(Wave(f"w{index}", (), share, DAY_MS) for index, share in enumerate((0.001, 0.01, 0.1, 0.5, 1.0)))


@pytest.mark.parametrize(
    ("seed", "waves", "holdout"), [(0, THREE_WAVES, 0.01), (1, SHARES, 0.0), (2, SHARES, 0.1), (3, THREE_WAVES, 0.0)]
)
def test_good_release_reaches_everybody_by_itself(seed, waves, holdout):
    """A small fleet with slow vehicles, chance draws and a holdout: no region gets stuck, nobody is left out, and the
    gate never holds.
    """
    world = a_world(a_plan(waves=waves, holdout_share=holdout), 210, seed)
    world.run(90)
    assert world.rollout.status is RolloutStatus.COMPLETED, world.rollout.regions
    assert Counter(car.record.installed for car in world.cars) == {ReleaseVersion("1.1.0"): 210}
    assert all(progress.phase is RegionPhase.DONE for progress in world.rollout.regions.values())
    assert not world.kinds["rollout_held"]


@pytest.mark.parametrize("seed", range(2))
def test_release_that_fails_loudly_stops_after_a_few(seed):
    """Everybody reports the failure: the halt comes within the first handful."""
    world = a_world(a_plan(), 210, seed, lambda *_: FAILS)
    world.run(30, lambda world: world.rollout.status is RolloutStatus.HALTED)
    assert world.rollout.status is RolloutStatus.HALTED
    assert world.rollout.verdict is not None
    assert world.rollout.verdict.rule == "failures_evalue"
    assert world.exposed <= 20


@pytest.mark.parametrize("seed", range(3))
def test_silent_brick_of_one_variant_stops_within_the_budget(seed):
    """Half the fleet bricks without a word: at most the blast budget is ever exposed before anything has aged, and
    then silence stops it.
    """
    world = a_world(a_plan(), 210, seed, lambda vehicle, _: BRICKS if vehicle.hardware == "gen2" else HEALTHY)
    world.run(40, lambda world: world.rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED))
    assert world.rollout.verdict is not None
    assert world.rollout.verdict.rule.startswith("silence")
    assert world.hurt(BRICKS) <= world.rollout.plan.limits.blast_budget
    exposed = world.exposed
    world.run(30, lambda world: world.rollout.status is RolloutStatus.HALTED)
    # What is out there ages on: the hold becomes a halt, and nobody was added meanwhile.
    assert world.exposed == exposed


def test_two_bad_strata_halt_the_whole():
    """Then it is no matter of the part any more."""
    world = a_world(a_plan(), 210, 1, lambda vehicle, _: FAILS if vehicle.hardware == "gen2" else HEALTHY)
    world.run(40, lambda world: world.rollout.status is RolloutStatus.HALTED)
    assert world.rollout.status is RolloutStatus.HALTED
    assert world.hurt(FAILS) <= 20


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("waves", [THREE_WAVES, SHARES])
def test_fleet_of_a_few_gets_through_by_itself(size, seed, waves):
    """Of one, even: regions, strata and cohorts without anybody in them hold nobody up."""
    world = a_world(a_plan(waves=waves, holdout_share=0.01), size, seed)
    world.run(120)
    assert world.rollout.status is RolloutStatus.COMPLETED, world.rollout.regions
    assert {car.record.installed for car in world.cars} == {ReleaseVersion("1.1.0")}


def test_fleet_of_one_in_the_holdout_is_reached_after_patience():
    """Nobody can give evidence before it: it must not wait for evidence for ever."""
    seeds = [seed for seed in range(60) if in_the_holdout(a_world(a_plan(holdout_share=0.3), 1, seed))]
    assert seeds
    world = a_world(a_plan(holdout_share=0.3), 1, seeds[0])
    world.run(120)
    assert world.rollout.status is RolloutStatus.COMPLETED, world.rollout.regions
    assert world.cars[0].record.installed == "1.1.0"


def in_the_holdout(world) -> bool:
    """Whether its only vehicle is drawn into the holdout."""
    rollout, (car,) = world.rollout, world.cars
    return in_holdout(draw(rollout.salt, car.record.vehicle.vehicle_id), rollout.plan.holdout_share)


def test_fleet_of_none_is_complete_at_once():
    """Nobody to wait for; whoever comes later is another rollout's."""
    world = a_world(a_plan(), 0, 0)
    world.run(2)
    assert world.rollout.status is RolloutStatus.COMPLETED


def test_cohort_that_nobody_is_in_holds_nobody_up():
    """A plan written for a fleet that looked different."""
    waves = (Wave("ghosts", ("nobody",), 1.0, DAY_MS), Wave("half", (), 0.5, DAY_MS), Wave("all", (), 1.0, DAY_MS))
    world = a_world(a_plan(waves=waves), 60, 3)
    world.run(90)
    assert world.rollout.status is RolloutStatus.COMPLETED


def test_clock_that_jumps_ahead_skips_no_wave():
    """A month in one tick ends soaks and patience; every region still takes one step at a tick, and the quota of each
    wave is counted before anybody of it is admitted.
    """
    world = a_world(a_plan(waves=SHARES), 210, 4)
    world.run(2)
    world.now = FleetTime(world.now + 40 * DAY_MS)
    before = {name: progress.wave for name, progress in world.rollout.regions.items()}
    world.tick()
    for name, progress in world.rollout.regions.items():
        assert progress.wave <= before[name] + 1
        counted = {key: opening.quota for key, opening in progress.openings.items()}
        admitted = Counter(
            f"{car.record.attempt.cell.hardware}/{car.record.attempt.cell.cohort}"
            for car in world.cars
            if car.record.attempt is not None and car.record.attempt.cell.region == name
        )
        assert all(admitted[key] <= counted[key] for key in admitted)


def test_clock_that_goes_back_takes_nothing_back():
    """No wave ends earlier than it began, and nothing is counted twice: it only lasts longer."""
    world = a_world(a_plan(waves=SHARES), 210, 5)
    world.run(4)
    waves = {name: progress.wave for name, progress in world.rollout.regions.items()}
    world.now = FleetTime(world.now - 3 * DAY_MS)
    world.tick()
    assert {name: progress.wave for name, progress in world.rollout.regions.items()} == waves
    world.run(90)
    assert world.rollout.status is RolloutStatus.COMPLETED


@pytest.mark.parametrize("seed", range(2))
def test_vehicles_that_come_late_are_taken_in(seed):
    """Cars delivered while a rollout runs fall where their draw puts them, and it ends with them."""
    world = a_world(a_plan(), 120, seed)
    world.run(4)
    world.cars.extend(a_fleet(150, lambda *_: HEALTHY, world.random)[120:])
    world.run(90)
    assert world.rollout.status is RolloutStatus.COMPLETED
    assert {car.record.installed for car in world.cars} == {ReleaseVersion("1.1.0")}


def test_vehicle_that_never_calls_ends_with_patience():
    """One scrapped car must not keep a rollout open for ever."""
    world = a_world(a_plan(), 120, 1)
    world.cars[5].calls_a_tick = 0.0
    world.run(60)
    assert world.rollout.status is RolloutStatus.COMPLETED
    assert sum(car.record.installed == "1.1.0" for car in world.cars) == 119
