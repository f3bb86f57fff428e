"""The simulator's only home of clocks: machine time, and an estimate of the orchestrator's fleet time.

Fleet time is the orchestrator's; here it is only estimated, from the times that its replies carry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

SCALE_BASELINE_MS = 1_000
"""Machine time between the two replies that the scale is first told from."""
_LEARNING = 0.05
"""How much of a lag a later reply corrects: replies that were slow to arrive make the estimate late, never early."""


def machine_ms() -> float:
    """Machine time in milliseconds since some moment in the past; only differences mean something."""
    return time.monotonic_ns() / 1e6  # noqa: TID251 - this is the home


def machine_date() -> datetime:
    """The machine's date, UTC: what TLS judges certificates by, and nothing else in a vehicle."""
    return datetime.now(tz=UTC)  # noqa: TID251 - this is the home


class FleetClock:
    """Fleet time = offset + scale x machine time; never goes back.

    Args:
        scale: milliseconds of fleet time in one of machine time; None: to be told from replies.
        machine: the machine's clock, milliseconds.
    """

    def __init__(self, scale: float | None = None, *, machine: Callable[[], float] = machine_ms) -> None:
        self._machine = machine
        self._scale = scale
        self._first: tuple[float, int] | None = None
        self._offset: float | None = None
        self._latest = 0

    @property
    def known(self) -> bool:
        """Whether fleet time can be told."""
        return self._offset is not None and self._scale is not None

    @property
    def scale(self) -> float:
        """Milliseconds of fleet time in one of machine time; 1 while it is unknown."""
        return self._scale if self._scale is not None else 1.0

    def observe(self, fleet_ms: int) -> None:
        """Take in the fleet time of a reply that arrived just now."""
        machine = self._machine()
        if self._first is None:
            self._first = (machine, fleet_ms)
        first_machine, first_fleet = self._first
        if self._scale is None and machine - first_machine >= SCALE_BASELINE_MS:
            self._scale = max(0.001, (fleet_ms - first_fleet) / (machine - first_machine))
        if self._scale is None:
            return
        offset = fleet_ms - self._scale * machine
        if self._offset is None or offset > self._offset:
            self._offset = offset
        else:
            self._offset += _LEARNING * (offset - self._offset)

    def now(self) -> int:
        """Fleet time, milliseconds since the epoch.

        Raises:
            RuntimeError: no reply was observed yet.
        """
        if self._offset is None or self._scale is None:
            raise RuntimeError("fleet time is not known before a reply")
        self._latest = max(self._latest, round(self._offset + self._scale * self._machine()))
        return self._latest

    def machine_seconds_until(self, fleet_ms: int) -> float:
        """Seconds of machine time until fleet time `fleet_ms`; 0 when it has passed."""
        return max(0, fleet_ms - self.now()) / self.scale / 1000

    def to_fleet_ms(self, machine_s: float) -> int:
        """How much fleet time goes by in `machine_s` seconds of machine time."""
        return round(machine_s * 1000 * self.scale)
