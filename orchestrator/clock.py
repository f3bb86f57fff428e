"""The only home of clocks: machine time, and fleet time on top of it.

Owns every read of a clock in the orchestrator. Leaves to the store where the fleet clock's numbers are kept (that is
what makes fleet time survive a crash), and to the caller to read the store's time and hand it in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

AHEAD_MAX_MS = 60_000
"""Machine time that fleet time may be ahead of the store's date without a word: two reads differ by seconds."""
CATCHING_UP_PACE = 0.5
"""Of fleet time while it is ahead. It must not stand still: nothing would lapse, fall due or be swept for as long."""


class MachineClock:
    """Machine time: for RPC deadlines, TLS, the dead-man and waiting. Never scaled.

    Args:
        monotonic_ns: Nanoseconds that only rise, whatever an administrator does to the date.
        wall_ns: Nanoseconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment in the past; only differences mean something."""
        return self._monotonic_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """The same in seconds, with their fractions."""
        return self._monotonic_ns() / 1e9

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch by this machine's date, which may jump."""
        return self._wall_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait `seconds` of machine time, not less; at once when it is not positive."""
        await asyncio.sleep(max(0.0, seconds))


class FleetClock:
    """Fleet time = origin + scale x (store time - started), in milliseconds since the Unix epoch.

    Store time is what the store said when it was last asked plus what went by here since then, so every process of an
    installation agrees to within the time of one store call times `scale`. Never goes back within a process: when the
    store's date is set back, fleet time goes on at half its pace until the date has caught up.

    Args:
        origin: Fleet time at the start, milliseconds since the Unix epoch.
        started_ms: Store time at the start, milliseconds since the Unix epoch.
        scale: Milliseconds of fleet time in one of machine time; above 0.
        machine_ms: Store time as read just now.
        machine: Measures what goes by between two reads of store time.

    Raises:
        ValueError: `scale` is not above 0.
    """

    def __init__(self, *, origin: int, started_ms: int, scale: float, machine_ms: int, machine: MachineClock) -> None:
        if not scale > 0:
            raise ValueError(f"scale ({scale}) must be above 0: fleet time has to move forward")
        self._origin = origin
        self._started_ms = started_ms
        self._scale = scale
        self._machine = machine
        self._latest = origin
        self._anchor_store_ms = machine_ms
        self._anchor_monotonic_ms = machine.monotonic_ms()
        self._slow_from = (origin, self._anchor_monotonic_ms)
        """Fleet time, and machine time by this process, from which it goes on slowly where the date is behind it."""

    @property
    def scale(self) -> float:
        """Milliseconds of fleet time in one of machine time."""
        return self._scale

    def synchronise(self, machine_ms: int) -> None:
        """Take over the store's time as read just now: undoes the drift between its clock and ours."""
        before = self.now()
        self._anchor_store_ms = machine_ms
        self._anchor_monotonic_ms = self._machine.monotonic_ms()
        if self._dated() < before and self._slowly() < before:
            self._slow_from = (before, self._anchor_monotonic_ms)

    def store_ms(self) -> int:
        """The store's time now, as far as this process can tell, milliseconds since the Unix epoch."""
        return self._anchor_store_ms + self._machine.monotonic_ms() - self._anchor_monotonic_ms

    def now(self) -> int:
        """Fleet time, milliseconds since the Unix epoch; never less than an earlier answer."""
        self._latest = max(self._latest, self._dated(), self._slowly())
        return self._latest

    def ahead_ms(self) -> int:
        """How far the store's date was set back that fleet time has not made up for yet, machine time."""
        return max(0, round((self.now() - self._dated()) / self._scale))

    def _dated(self) -> int:
        """Fleet time as the store's date says it."""
        return self._origin + round((self.store_ms() - self._started_ms) * self._scale)

    def _slowly(self) -> int:
        fleet_ms, monotonic_ms = self._slow_from
        return fleet_ms + int((self._machine.monotonic_ms() - monotonic_ms) * self._scale * CATCHING_UP_PACE)

    def to_fleet(self, machine_s: float) -> int:
        """How much fleet time goes by in `machine_s` seconds of machine time, in milliseconds."""
        return round(machine_s * 1000 * self._scale)

    def machine_seconds_until(self, fleet_ms: int) -> float:
        """How many seconds of machine time it takes until fleet time `fleet_ms`; 0 when it has passed."""
        return max(0, fleet_ms - self.now()) / self._scale / 1000
