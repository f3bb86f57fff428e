"""The driver: one heap, bounded hands, every errand answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from agent_sim.actions import Call, Input, Verify
from agent_sim.car import Car, Download
from agent_sim.car_state import CarState
from agent_sim.clock import FleetClock
from agent_sim.driver import Driver, InFlight
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, Road, a_car
from tests.agent_sim.fake_orchestrator import FakeOrchestrator

SCALE = 5_000.0


@dataclass
class PureErrands:
    """Errands done by the pure world, each after a turn of the event loop; counts how many are done at once."""

    roads: dict[int, Road]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when every vehicle is updated and at rest."""
    at_once: dict[str, int] = field(default_factory=dict)
    at_once_max: dict[str, int] = field(default_factory=dict)

    def save(self, car: Car, state: CarState) -> None:
        self.roads[id(car)].saved = state
        if all(road.car.settled and road.car.state.installs for road in self.roads.values()):
            self.stop.set()

    def discard(self, car: Car) -> None:
        self.roads[id(car)].received.clear()

    async def _do(self, kind: str, car: Car, errand: Call | Download | Verify) -> Input:
        self.at_once[kind] = self.at_once.get(kind, 0) + 1
        self.at_once_max[kind] = max(self.at_once_max.get(kind, 0), self.at_once[kind])
        await asyncio.sleep(0)
        self.at_once[kind] -= 1
        answer = self.roads[id(car)].answer(errand)
        assert answer is not None
        return answer

    async def call(self, car: Car, call: Call) -> Input:
        return await self._do("call", car, call)

    async def download(self, car: Car, download: Download) -> Input:
        return await self._do("download", car, download)

    async def verify(self, car: Car, verify: Verify, now: int) -> Input:
        return await self._do("verify", car, verify)


async def test_hundred_cars_are_updated_within_bounds() -> None:
    """No task per vehicle: work in flight stays bounded whatever the fleet wants at once."""
    cars = [a_car(seed=seed) for seed in range(100)]
    roads = {
        id(car): Road(car, FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id=f"a{seed}"))
        for seed, car in enumerate(cars)
    }
    errands = PureErrands(roads)
    clock = FleetClock(SCALE)
    clock.observe(START)
    driver = Driver(cars, errands, clock, InFlight(calls=5, downloads=3, verifications=2))
    async with asyncio.timeout(60):
        await driver.run(errands.stop)
    assert errands.at_once_max == {"call": 5, "download": 3, "verify": 2}
    for seed, road in enumerate(roads.values()):
        assert road.car.state.installs == (f"a{seed}",)
        assert set(road.orchestrator.permits) == {f"a{seed}"}
    assert driver.waiting == 0


@dataclass
class Interrupted(PureErrands):
    """While the first image comes, the attempt is taken back and another one is directed that wants the same image."""

    log: list[str] = field(default_factory=list)
    verified_again: asyncio.Event = field(default_factory=asyncio.Event)

    def discard(self, car: Car) -> None:
        self.log.append("discard")
        super().discard(car)

    async def download(self, car: Car, download: Download) -> Input:
        self.log.append("begin")
        if len(self.log) == 1:
            self.roads[id(car)].orchestrator.attempt_id = "a2"
            await self.verified_again.wait()
            # Time enough for what must not happen: the car wants the second attempt's image now.
            await asyncio.sleep(0.05)
        self.log.append("end")
        return await super().download(car, download)

    async def verify(self, car: Car, verify: Verify, now: int) -> Input:
        if self.log:
            self.verified_again.set()
        return await super().verify(car, verify, now)


@pytest.mark.parametrize("hands", [1, 3])
async def test_files_of_a_withdrawn_attempt_are_left_alone_while_one_is_written(hands: int) -> None:
    """They go when that has ended, and the next attempt's download begins after: never two at one file."""
    car = a_car()
    orchestrator = FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="a1", next_poll_after_ms=60_000)
    errands = Interrupted({id(car): Road(car, orchestrator)})
    clock = FleetClock(SCALE)
    clock.observe(START)
    driver = Driver([car], errands, clock, InFlight(downloads=hands))
    async with asyncio.timeout(60):
        await driver.run(errands.stop)
    assert errands.log == ["begin", "end", "discard", "begin", "end", "begin", "end", "discard"]
    assert car.state.installs == ("a2",)
    assert driver.waiting == 0
