"""The way between vehicles and workers: messages are lost, doubled, weeks late, out of order, or cannot pass at all.

Owns what becomes of a message on its way. Who answers it is the house's matter; what was asked, the vehicle's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from random import Random

from agent_sim.actions import Call, CallFailed, Input
from tests.builders import DAY_MS, MINUTE_MS
from tests.sim.scenario import CALM, Hazards

CALL_TIMEOUT_S = 10.0
_USUAL_S = (0.02, 0.4)
_SLOW_S = (1.0, 120.0)
_LATE_MS = (10 * MINUTE_MS, 30 * DAY_MS)

Serve = Callable[[str, Call], Awaitable[Input | None]]
"""Answers a call of a vehicle; None: whoever took it is gone."""
Take = Callable[[Input], None]


class Network:
    """Carries calls and answers.

    Args:
        serve: whoever answers.
        rng: of the run.
        spawn: starts what answers a call.
        scale: of fleet time.
        arrived_late: told how late a message came, fleet time.
    """

    def __init__(
        self,
        serve: Serve,
        rng: Random,
        spawn: Callable[[Awaitable[None]], None],
        *,
        scale: float,
        arrived_late: Callable[[int], None],
    ) -> None:
        self._serve = serve
        self._rng = rng
        self._spawn = spawn
        self._scale = scale
        self._arrived_late = arrived_late
        self.hazards: Hazards = CALM
        self.apart: set[str] = set()
        """Vehicles that reach nobody."""
        self.underway = 0
        """Messages that nobody waits for any more, and that will arrive all the same."""

    def send(self, vehicle_id: str, call: Call, take: Take) -> None:
        """Carry a call; `take` gets whatever comes back, as often as it does, or that time is up and then that."""
        time_is_up = asyncio.get_running_loop().call_later(CALL_TIMEOUT_S, take, CallFailed(call.token))
        for _ in range(2 if self._rng.random() < self.hazards.doubled else 1):
            if vehicle_id in self.apart or self._rng.random() < self.hazards.lost:
                continue
            if self._rng.random() < self.hazards.late:
                self._delay(vehicle_id, call)
                continue
            self._spawn(self._carry(vehicle_id, call, take, time_is_up))

    def _delay(self, vehicle_id: str, call: Call) -> None:
        """Bring a message when its sender has long given it up: as often within minutes as within hours, or weeks."""
        late_ms = round(math.exp(self._rng.uniform(*map(math.log, _LATE_MS))))
        self.underway += 1
        asyncio.get_running_loop().call_later(
            late_ms / self._scale / 1000, lambda: self._spawn(self._arrive(vehicle_id, call, late_ms))
        )

    async def _arrive(self, vehicle_id: str, call: Call, late_ms: int) -> None:
        self.underway -= 1
        self._arrived_late(late_ms)
        await self._serve(vehicle_id, call)

    async def _carry(self, vehicle_id: str, call: Call, take: Take, time_is_up: asyncio.TimerHandle) -> None:
        await asyncio.sleep(self._takes_s())
        answer = await self._serve(vehicle_id, call)
        if answer is None or vehicle_id in self.apart or self._rng.random() < self.hazards.lost:
            return
        await asyncio.sleep(self._takes_s())
        time_is_up.cancel()
        take(answer)

    def _takes_s(self) -> float:
        if self._rng.random() >= self.hazards.slow:
            return self._rng.uniform(*_USUAL_S)
        # As often from one to ten seconds as from ten to a hundred: some must come just before the call is given up.
        return math.exp(self._rng.uniform(*map(math.log, _SLOW_S)))
