"""What goes wrong in a run while it is stormy, and how it ends.

Owns when which part of the world misbehaves. What people do meanwhile is in `people`; the chances are the scenario's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tests.sim.people import People
from tests.sim.scenario import CALM, Hazards

if TYPE_CHECKING:
    from tests.sim.world import World

SHIFT_MAX_MS = 8_000
"""How far the store's date is set at most: further, and fleet time would be slow for the rest of the run."""


class Storm:
    """The weather over one world.

    Args:
        world: which.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._people = People(world)

    def begin(self) -> None:
        """Let everything loose that the scenario has."""
        hazards = self._world.scenario.hazards
        self._let(hazards)
        nuisances: tuple[tuple[float, Callable[[], Awaitable[None]]], ...] = (
            (hazards.store_away_every_s, self._store_away),
            (hazards.cut_off_every_s, self._cut_off),
            (hazards.ledger_away_every_s, self._ledger_away),
            (hazards.clock_steps_every_s, self._step_clock),
            (hazards.partition_every_s, self._part),
            *self._people.habits(hazards),
        )
        for every_s, nuisance in nuisances:
            if every_s:
                self._world.spawn(self._now_and_then(every_s, nuisance))
        self._people.launch()
        if hazards.second_evaluator:
            self._world.spawn(self._world.evaluate())

    def end(self) -> None:
        """From here on nothing goes wrong that is not under way."""
        world = self._world
        self._people.go_home()
        self._let(CALM)
        for weather in world.ground.weather.values():
            weather.store_away = False
        for worker in world.workers:
            worker.process.cut_off = False
        world.record.away = False
        world.network.apart.clear()

    def _let(self, hazards: Hazards) -> None:
        world = self._world
        world.ground.hazards = world.network.hazards = hazards
        for kind, weather in world.ground.weather.items():
            weather.pause = hazards.pause
            weather.fail_before = weather.fail_after = hazards.fail / 2
            weather.stall = hazards.stall
            weather.die = hazards.evaluator_dies if kind == "evaluator" else hazards.worker_dies
        for vehicle in world.vehicles:
            vehicle.hazards = hazards

    async def _now_and_then(self, every_s: float, nuisance: Callable[[], Awaitable[None]]) -> None:
        while self._world.ground.hazards is not CALM:
            await asyncio.sleep(self._rng.expovariate(1 / every_s))
            if self._world.ground.hazards is not CALM:
                await nuisance()

    async def _store_away(self) -> None:
        for weather in self._world.ground.weather.values():
            weather.store_away = True
        await asyncio.sleep(self._rng.choice((1.0, 8.0, 30.0)))
        for weather in self._world.ground.weather.values():
            weather.store_away = False

    async def _cut_off(self) -> None:
        worker = self._rng.choice(self._world.workers)
        worker.process.cut_off = True
        await asyncio.sleep(self._rng.uniform(5.0, 40.0))
        worker.process.cut_off = False

    async def _ledger_away(self) -> None:
        self._world.record.away = True
        await asyncio.sleep(self._rng.uniform(2.0, 30.0))
        self._world.record.away = False

    async def _step_clock(self) -> None:
        self._world.set_date(self._rng.randint(-SHIFT_MAX_MS, SHIFT_MAX_MS))

    async def _part(self) -> None:
        """A region reaches nobody."""
        specs = [vehicle.spec for vehicle in self._world.vehicles]
        region = self._rng.choice(sorted({spec.region for spec in specs}))
        apart = {spec.vehicle_id for spec in specs if spec.region == region}
        self._world.network.apart |= apart
        await asyncio.sleep(self._rng.uniform(5.0, 90.0))
        self._world.network.apart -= apart
