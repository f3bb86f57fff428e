"""The way between vehicles and workers: messages are lost, doubled, late, out of order, or cannot pass at all.

Owns what becomes of a message on its way. Who answers it is the house's matter; what was asked, the vehicle's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from agent_sim.actions import Call, CallFailed, Input
from tests.sim.scenario import CALM, Hazards

CALL_TIMEOUT_S = 10.0
_USUAL_S = (0.02, 0.4)
_SLOW_S = (1.0, 120.0)

Serve = Callable[[str, Call], Awaitable[Input | None]]
"""Answers a call of a vehicle; None: whoever took it is gone."""
Take = Callable[[Input], None]


@dataclass(frozen=True, slots=True)
class Late:
    """A message that arrives when everything is long over."""

    vehicle_id: str
    call: Call


class Network:
    """Carries calls and answers.

    Args:
        serve: whoever answers.
        rng: of the run.
        spawn: starts what answers a call.
    """

    def __init__(self, serve: Serve, rng: Random, spawn: Callable[[Awaitable[None]], None]) -> None:
        self._serve = serve
        self._rng = rng
        self._spawn = spawn
        self.hazards: Hazards = CALM
        self.apart: set[str] = set()
        """Vehicles that reach nobody."""
        self.late: list[Late] = []

    def send(self, vehicle_id: str, call: Call, take: Take) -> None:
        """Carry a call; `take` gets whatever comes back, as often as it does, and at last that time is up."""
        loop = asyncio.get_running_loop()
        loop.call_later(CALL_TIMEOUT_S, take, CallFailed(call.token))
        for _ in range(2 if self._rng.random() < self.hazards.doubled else 1):
            if vehicle_id in self.apart or self._rng.random() < self.hazards.lost:
                continue
            if self._rng.random() < self.hazards.late:
                self.late.append(Late(vehicle_id, call))
                continue
            self._spawn(self._carry(vehicle_id, call, take))

    async def _carry(self, vehicle_id: str, call: Call, take: Take) -> None:
        await asyncio.sleep(self._takes_s())
        answer = await self._serve(vehicle_id, call)
        if answer is None or vehicle_id in self.apart or self._rng.random() < self.hazards.lost:
            return
        await asyncio.sleep(self._takes_s())
        take(answer)

    def _takes_s(self) -> float:
        if self._rng.random() >= self.hazards.slow:
            return self._rng.uniform(*_USUAL_S)
        # As often from one to ten seconds as from ten to a hundred: some must come just before the call is given up.
        return math.exp(self._rng.uniform(*map(math.log, _SLOW_S)))
