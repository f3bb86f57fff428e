"""The service does what was rehearsed: the same vehicles, the same draws, the same waves at the same hours.

A plan of two regions and two cohorts is rehearsed on 60 vehicles. Then the same plan runs on the memory store, through
the desks and the evaluator, and every vehicle calls and proves its installation when the model said it would. What the
model admits, the service grants; what the model keeps out, it refuses; and each region walks as rehearsed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orchestrator.engine.plan.file import read_plan
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import RegionPhase, RolloutStatus
from orchestrator.rehearsal import Decision, Ending, Outcome, Witness, draw_vehicles, run
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.inventory import Inventory, read_inventory
from orchestrator.rehearsal.rehearse import filled
from orchestrator.rehearsal.story_rule import People, StoryRule
from orchestrator.rehearsal.vehicles import Floats, Ints
from orchestrator.service.vehicles import Install
from tests.builders import HOUR_MS
from tests.rehearsal.fleets import GOOD, a_fleet
from tests.service.world import Car, World

PLAN = """\
release: 1.1.0
holdout: 10%
waves:
  - {name: canary, cohorts: [canary], soak: 6h}
  - {name: early, cohorts: [general], share: 40%, soak: 6h}
  - {name: all, soak: 6h}
regions: {eu: {}, us: {follow: eu}}
gate: {checkpoints: [6h, 12h], silence_reference: [20%, 10%], habit_ages: none, sample: 2, stratum_sample: 2}
limits: {in_flight: 100, starts_per_minute: 100, blast_budget: 100}
deadlines: {permitted: 24h, installing: 2h, rebooting: 1h}
"""
VEHICLES = 60
REFUSED_EVERY_H = 7
"""How often those that wait call and are refused."""
Where = dict[str, tuple[RegionPhase, int]]


@dataclass
class Rehearsed:
    """What the model said."""

    outcome: Outcome
    walk: list[Where] = field(default_factory=list)
    """By look: where each region stood after it."""
    opened: list[Ints] = field(default_factory=list)
    """By look: how many of each cell, in the order of their draws, might begin."""
    asks: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """By look: when who had its permit before the next one."""
    words: dict[int, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """By look: when who was heard."""


class Watched(StoryRule):
    """The rule of a rehearsal, with what it said at every look."""

    def watch(self, kept: Rehearsed) -> None:
        self._kept = kept

    def decide(self, counts: Counts, now_h: float) -> Decision:
        decision = super().decide(counts, now_h)
        self._kept.walk.append(where(self.rollout.regions))
        self._kept.opened.append(decision.opened)
        return decision


class Told(Witness):
    """Keeps when vehicles had their permits, and when they were heard."""

    def __init__(self, kept: Rehearsed) -> None:
        self._kept = kept

    def exposed(self, who: Ints, at_h: Floats, heard_h: Floats) -> None:
        for vehicle, at, heard in zip(who.tolist(), at_h.tolist(), heard_h.tolist(), strict=True):
            self._kept.asks[int(at)].append((at, vehicle))
            self._kept.words[int(at + heard)].append((at + heard, vehicle))


def where(regions: object) -> Where:
    return {name: (stands.phase, stands.wave) for name, stands in regions.items()}  # type: ignore[attr-defined]


def an_inventory() -> tuple[Inventory, list[Car]]:
    """Vehicles as a fleet file names them, and the same as cars."""
    lines = ["vehicle_id,model,hardware,region,cohort,tags"]
    cars = []
    for number in range(VEHICLES):
        region, cohort = ("eu", "us")[number % 2], "canary" if number % 5 == 0 else "general"
        car = Car(f"v-{number:03}", region=region, cohort=cohort)
        lines.append(f"{car.vehicle_id},{car.vehicle.model},{car.vehicle.hardware},{region},{cohort},")
        cars.append(car)
    return read_inventory(lines, read_plan(PLAN)), cars


def rehearse(inventory: Inventory, salt: bytes, start: FleetTime) -> tuple[Rehearsed, Watched]:
    plan = filled(read_plan(PLAN), inventory.size)
    model = a_fleet(inventory.size, cells=tuple((cell, 1.0) for cell in inventory.cells))
    vehicles = draw_vehicles(model, 5, cell=inventory.cell, draw=inventory.draws(salt)).under(GOOD)
    rule = Watched(vehicles, plan, step_h=1.0, started_at=start, people=People(), dark=lambda _: frozenset())
    kept = Rehearsed(Outcome(Ending.STALLED, 0.0, 0, 0, (), None, ()))
    rule.watch(kept)

    kept.outcome = run(vehicles, rule, seed=5, witness=Told(kept))
    return kept, rule


def kept_out(inventory: Inventory, draws: Floats, opened: Ints) -> list[int]:
    """Vehicles whose turn has not come, by draw."""
    out = []
    for cell in range(len(inventory.cells)):
        members = np.flatnonzero(inventory.cell == cell)
        out += members[np.argsort(draws[members])][int(opened[cell]) :].tolist()
    return out


async def test_the_service_walks_as_rehearsed(tmp_path: Path, template: Path) -> None:
    """Otherwise a rehearsal would be of some other product."""
    world = World(tmp_path, template, dead_man_life_ms=2 * HOUR_MS)
    await world.evaluator.recover()
    release = await world.release()
    inventory, cars = an_inventory()
    await world.add(*cars)
    rollout = await world.rollouts.create(PLAN, rollout_id="spring", request_id="", actor="alice", reason="test")
    draws = inventory.draws(rollout.salt)
    assert draws is not None
    rehearsed, rule = rehearse(inventory, rollout.salt, world.now)
    assert rehearsed.outcome.ending is Ending.COMPLETED
    start_ms = world.hand.now_ms
    for look, expected in enumerate(rehearsed.walk):
        world.hand.now_ms = start_ms + look * HOUR_MS
        await look_at(world)
        assert where((await world.rollout()).regions) == expected, f"at hour {look}"
        if look % REFUSED_EVERY_H == 0:
            await refused(world, [cars[number] for number in kept_out(inventory, draws, rehearsed.opened[look])])
        happens = [(at, number, True) for at, number in rehearsed.asks[look]]
        happens += [(at, number, False) for at, number in rehearsed.words[look]]
        for at, number, asks in sorted(happens):
            world.hand.now_ms = start_ms + round(at * HOUR_MS)
            if asks:
                await world.permitted(cars[number])
            else:
                await world.manifests.submit(cars[number].vehicle_id, cars[number].manifest(world.now, release))
    assert (await world.rollout()).status is RolloutStatus.COMPLETED
    assert (await world.counted()).succeeded == VEHICLES == rehearsed.outcome.exposed
    assert rule.rollout.epoch == (await world.rollout()).epoch
    await world.ledger.close()


async def look_at(world: World) -> None:
    """Tick until nothing moves: the service takes a step a second, the model all of them at its look."""
    await world.last_seen.flush()
    epoch = -1
    while epoch != (rollout := await world.rollout()).epoch:
        epoch = rollout.epoch
        await world.tick()


async def refused(world: World, cars: list[Car]) -> None:
    """Every one of these calls and is told to wait."""
    for car in cars:
        reply = await world.check_in(car)
        assert not isinstance(reply.directive, Install), car.vehicle_id


def test_the_comparison_sees_another_order() -> None:
    """With other draws other vehicles go first: agreement above is no accident."""
    inventory, _ = an_inventory()
    first, _ = rehearse(inventory, b"a" * 16, FleetTime(1_800_000_000_000))
    second, _ = rehearse(inventory, b"b" * 16, FleetTime(1_800_000_000_000))
    early = [{number for look in kept.asks for _, number in kept.asks[look] if look < 30} for kept in (first, second)]
    assert early[0] != early[1]
