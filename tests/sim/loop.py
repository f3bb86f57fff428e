"""An event loop whose time is virtual: it jumps to whatever is due next, and nothing happens beside it.

Owns time and order. The same coroutines with the same seed run in the same order on every machine: there is no thread,
no socket and no clock behind it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

_SAME_MOMENT_S = 1e-6
"""Two times closer than this are one: additions of floats are not exact."""


class StuckError(RuntimeError):
    """Everybody waits and nothing is due: a promise was forgotten."""


class _Jump(selectors.SelectSelector):
    """A selector that waits by turning the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise StuckError("nothing is due and nobody can go on")
        self._loop.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual seconds, from 0."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Jump(self))
        self._clock_resolution = _SAME_MOMENT_S

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self.now_s

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Do it here and now: a thread would end whenever the machine likes."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future
