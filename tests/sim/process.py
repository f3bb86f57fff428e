"""One process of the orchestrator as the simulation sees it: it can die between any two awaits, stall, lose the store.

Owns what happens around each operation on the store. What the operation does is the reference store's matter, whether
it may have happened is the witness's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from orchestrator.store.base import StoreUnavailableError
from orchestrator.store.memory import MemoryStore

Saw = Callable[["Process", str, tuple[Any, ...], dict[str, Any], Any], None]
"""Told of every operation that was done: by whom, which, with what, and what came of it."""


_CONTENDED = {"transition": 8.0, "assign": 4.0, "permit": 4.0, "reserve": 4.0, "authorize": 4.0, "renew": 4.0}
"""Where several want the same, chances of coming in between are so much higher, and it takes so much longer."""
_HALFWAY = {"assign": 10.0}
"""Before the second half of what is done on two keys, where others have to judge what the first half means, the chance
to stand still is so much higher again: by itself a grant is over in a moment, and a storm has some twenty.
"""


class Died(BaseException):
    """The process is gone. No `except Exception` sees it, as none sees a kill -9."""


@dataclass(slots=True)
class Weather:
    """What goes wrong around the store just now; chances are for each operation."""

    pause: float = 0.0
    """It takes a while, and others come in between."""
    pause_max_s: float = 0.05
    fail_before: float = 0.0
    """It is not done, and the caller hears that the outcome is unknown."""
    fail_after: float = 0.0
    """It is done, and the caller hears the same."""
    die: float = 0.0
    stall: float = 0.0
    """The process stands still as a whole, for `stall_s`: swapped out, suspended."""
    stall_s: float = 60.0
    store_away: bool = False
    """Nobody reaches the store."""


class Process:
    """A process.

    Args:
        name: for messages.
        rng: of the run.
        weather: of the run.
    """

    def __init__(self, name: str, rng: Random, weather: Weather) -> None:
        self.name = name
        self.alive = True
        self.cut_off = False
        """Whether the store is out of its reach."""
        self.stalled_until_s = 0.0
        """Virtual time until which all of it stands still; 0: it runs."""
        self._rng = rng
        self._weather = weather

    def die(self) -> None:
        """From here on, whatever of it runs, ends at its next step."""
        self.alive = False

    async def before(self, name: str) -> None:
        """Up to the moment in which the operation `name` happens.

        Raises:
            Died: it does not, and nothing after it.
            StoreUnavailableError: it does not.
        """
        if (
            await self._live(_CONTENDED.get(name, 1.0), _HALFWAY.get(name, 1.0)) < self._weather.fail_before
            or self.cut_off
            or self._weather.store_away
        ):
            raise StoreUnavailableError("not done, and nobody knows")

    async def after(self, name: str) -> None:
        """From that moment until the caller has its answer.

        Raises:
            Died: it was done, and nobody heard of it.
            StoreUnavailableError: it was done, and the caller does not know.
        """
        if await self._live(_CONTENDED.get(name, 1.0)) < self._weather.fail_after:
            raise StoreUnavailableError("done, and nobody knows")

    async def elsewhere(self) -> None:
        """A step of this process that is not the store's.

        Raises:
            Died: it goes no further.
        """
        await self._live()

    async def _live(self, contended: float = 1.0, halfway: float = 1.0) -> float:
        """One step of the process; a number from 0 to 1 that decides what else becomes of it."""
        weather, rng = self._weather, self._rng
        lot = rng.random()
        if lot < weather.pause * contended:
            await asyncio.sleep(rng.uniform(0, weather.pause_max_s * contended))
        elif lot > 1.0 - weather.stall * contended * halfway:
            self.stalled_until_s = asyncio.get_running_loop().time() + weather.stall_s * rng.uniform(0.2, 1.5)
        if self.stalled_until_s:
            await self._stand_still()
        lot = rng.random()
        if lot > 1.0 - weather.die * contended:
            self.die()
        if not self.alive:
            raise Died(self.name)
        return lot

    async def _stand_still(self) -> None:
        loop = asyncio.get_running_loop()
        while self.stalled_until_s > loop.time():  # noqa: ASYNC110 - a moment in time is no event
            await asyncio.sleep(self.stalled_until_s - loop.time())
        self.stalled_until_s = 0.0


class StoreWindow:
    """The store as one process reaches it: the reference store, with the weather around every operation.

    Args:
        store: the one all processes share.
        process: whose window it is.
        saw: told of what was done, in the very step in which it was.
    """

    def __init__(self, store: MemoryStore, process: Process, saw: Saw) -> None:
        self._store = store
        self._process = process
        self._saw = saw

    @property
    def shards(self) -> int:
        """See `base.VehicleStore`."""
        return self._store.shards

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        operation = getattr(self._store, name)
        process, saw = self._process, self._saw

        async def done(*args: Any, **kwargs: Any) -> Any:
            await process.before(name)
            answer = await operation(*args, **kwargs)
            saw(process, name, args, kwargs, answer)
            await process.after(name)
            return answer

        setattr(self, name, done)
        return done
