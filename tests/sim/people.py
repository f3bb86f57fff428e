"""What people do while a run is stormy: they launch rollouts, stop and resume them, and look after vehicles.

Owns what is asked and how often; everything goes through the desks of the service, over a store that may be away, and
no is an answer. Leaves the weather to `storm`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    PauseRequested,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
)
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.model.rollout import Rollout, Signal, SignalKind
from orchestrator.service.errors import ServiceError
from orchestrator.service.fleet_care import Amendment
from orchestrator.store.base import StoreError
from tests.builders import MINUTE_MS
from tests.sim.house import a_care_desk, a_rollout_desk, a_window
from tests.sim.process import Died
from tests.sim.scenario import Hazards, Launch

if TYPE_CHECKING:
    from tests.sim.world import World

OPERATORS_EVERY_S = 40.0
OTHERS_EVERY_S = 15.0
CARE_EVERY_S = 10.0
AGAIN_EVERY_S = (1.0, 8.0)
"""Machine time after which a person repeats what did not work."""
REGIONS = ("eu", "us", "cn")
COHORTS = ("internal", "canary", "general")
WHO = ("bob", "carol")
WHY = "because"

Habit = tuple[float, Callable[[], Awaitable[None]]]
"""How often, in seconds of machine time, something is done; 0: never."""


class People:
    """The people of one world.

    Args:
        world: whose.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self._gone = False
        self._everybody = [VehicleId(vehicle.spec.vehicle_id) for vehicle in world.vehicles]

    def habits(self, hazards: Hazards) -> Iterator[Habit]:
        """What they do now and then."""
        yield OPERATORS_EVERY_S if hazards.operators else 0.0, self._operate
        yield OTHERS_EVERY_S if hazards.brakes else 0.0, self._brake
        yield OTHERS_EVERY_S if hazards.signals else 0.0, self._signal
        yield CARE_EVERY_S if hazards.care else 0.0, self._care

    def launch(self) -> None:
        """Begin the rollouts that do not begin with the run, and start those that are drafts."""
        for number, launch in enumerate(self._world.scenario.launches, start=1):
            if launch.after_ms or launch.draft:
                self._world.spawn(self._launch(RolloutId(f"r{number}"), launch))

    def go_home(self) -> None:
        """From here on nobody does anything that was not asked before."""
        self._gone = True

    # Rollouts as a whole

    async def _launch(self, rollout_id: RolloutId, launch: Launch) -> None:
        await self._pass_ms(launch.after_ms)
        await self._insist(
            lambda: begin(self._world, rollout_id, launch), lambda: rollout_id in self._world.witness.rollouts
        )
        if launch.draft:
            await self._pass_ms(self._rng.randint(2, 20) * MINUTE_MS)
            await self._insist(
                lambda: ask(self._world, rollout_id, StartRequested("bob", WHY)),
                lambda: self._rollout(rollout_id).status.begun,
            )

    async def _insist(self, act: Callable[[], Awaitable[None]], done: Callable[[], bool]) -> None:
        while not done() and not self._gone:
            await act()
            await asyncio.sleep(self._rng.uniform(*AGAIN_EVERY_S))

    async def _operate(self) -> None:
        rollout = self._some_rollout()
        actor = self._rng.choice(WHO)
        wishes = [
            PauseRequested(actor, WHY),
            *[ResumeRequested(actor, WHY)] * 3,
            ApproveRequested(actor, rollout.plan.waves[-1].name, "", WHY),
        ]
        if self._rng.random() < 0.2:
            wishes.append(AbortRequested(actor, WHY))
        await ask(self._world, rollout.rollout_id, self._rng.choice(wishes))

    # Parts of rollouts

    async def _brake(self) -> None:
        rollout = self._some_rollout()
        actor = self._rng.choice(WHO)
        if rollout.brakes and self._rng.random() < 0.6:
            wish: Any = ResumeRequested(actor, WHY, self._rng.choice(rollout.brakes).scope)
        else:
            wish = PauseRequested(actor, WHY, self._some_part(rollout))
        await ask(self._world, rollout.rollout_id, wish)

    async def _signal(self) -> None:
        rollout = self._some_rollout()
        actor = self._rng.choice(WHO)
        if rollout.signals and self._rng.random() < 0.6:
            standing = self._rng.choice(rollout.signals)
            await ask(self._world, rollout.rollout_id, SignalCleared(standing.name, standing.scope, actor, WHY))
            return
        signal = Signal(
            name=self._rng.choice(("tow_rate", "trouble_codes", "calls")),
            kind=SignalKind.SAFETY if self._rng.random() < 0.15 else SignalKind.WARNING,
            scope=self._rng.choice(("", self._some_part(rollout))),
            value=self._rng.choice((0.5, 1.0, 3.0)),
            limit=1.0,
            actor=actor,
            reason=WHY,
            at=FleetTime(0),
            measured_at=self._world.fleet_ms(),
            good_for_ms=self._rng.choice((0, 15 * MINUTE_MS)),
        )
        await ask(self._world, rollout.rollout_id, SignalPosted(signal))

    # Vehicles

    async def _care(self) -> None:
        vehicle_id = self._rng.choice(
            self._rng.choice((list(self._world.witness.live), self._everybody)) or self._everybody
        )
        desk: Any = a_care_desk(self._world.ground)
        said = {"actor": self._rng.choice(WHO), "reason": WHY}
        scope = self._rng.choice((None, self._some_rollout().rollout_id))
        doings = (
            lambda: desk.amend([vehicle_id], Amendment(region=self._rng.choice(REGIONS)), **said),
            lambda: desk.amend([vehicle_id], Amendment(cohort=self._rng.choice(COHORTS)), **said),
            lambda: desk.exclude([vehicle_id], scope, **said),
            lambda: self._readmit(desk, said),
            lambda: self._remove(desk, vehicle_id, said),
        )
        await patiently(self._world, self._rng.choice(doings)())

    async def _readmit(self, desk: Any, said: dict[str, str]) -> None:
        """Whoever is kept out of something, if anybody is."""
        for vehicle in self._world.vehicles:
            record = self._world.record_of(vehicle)
            if record is not None and record.exclusions:
                scope = record.exclusions[0].scope
                await desk.readmit([record.vehicle.vehicle_id], RolloutId(scope) if scope else None, **said)
                return

    async def _remove(self, desk: Any, vehicle_id: VehicleId, said: dict[str, str]) -> None:
        """Most of those that are taken out come back as the factory made them."""
        await desk.remove([vehicle_id], **said)
        if self._rng.random() < 0.8:
            self._world.spawn(self._bring_back(vehicle_id))

    async def _bring_back(self, vehicle_id: VehicleId) -> None:
        await self._pass_ms(self._rng.randint(5, 40) * MINUTE_MS)
        world = self._world
        made = next(one for one in world.inventory if one.vehicle_id == vehicle_id)
        await patiently(world, a_window(world.ground).import_vehicles([made], now=world.fleet_ms()))

    # Choices

    def _some_rollout(self) -> Rollout:
        return self._rollout(self._rng.choice(sorted(self._world.witness.rollouts)))

    def _rollout(self, rollout_id: RolloutId) -> Rollout:
        return self._world.witness.rollouts[rollout_id].rollout

    def _some_part(self, rollout: Rollout) -> str:
        region = self._rng.choice(sorted(rollout.regions))
        variants = sorted({made.hardware for made in self._world.inventory})
        return self._rng.choice((region, f"{region}/{self._rng.choice(variants)}"))

    async def _pass_ms(self, fleet_ms: int) -> None:
        await asyncio.sleep(fleet_ms / self._world.scenario.scale / 1000)


async def begin(world: World, rollout_id: RolloutId, launch: Launch) -> None:
    """Create a rollout, once, however often it is asked. That the service refuses it is a fault of the scenario."""
    desk = a_rollout_desk(world.ground)
    await patiently(
        world,
        desk.create(
            launch.plan,
            rollout_id=rollout_id,
            request_id=f"begin {rollout_id}",
            actor="alice",
            reason="test",
            draft=launch.draft,
        ),
        refused=(),
    )


async def ask(world: World, rollout_id: RolloutId, request: Any) -> None:
    """A person asks for something, and takes no for an answer."""
    desk = a_rollout_desk(world.ground)
    await patiently(world, desk.request(rollout_id, request, etag="", request_id=f"request-{world.ground.names}"))


async def patiently(
    world: World, asked: Awaitable[Any], *, refused: tuple[type[Exception], ...] = (ServiceError,)
) -> None:
    """Wait for what was asked; that it is `refused`, or that nobody answers, is no surprise."""
    world.asking += 1
    try:
        await asked
    except (*refused, StoreError, Died):
        return
    finally:
        world.asking -= 1
