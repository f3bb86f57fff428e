"""Half hours in which calls are counted: one statement for both stores."""

from __future__ import annotations

from orchestrator.model.ids import FleetTime

HALF_HOUR_MS = 1_800_000
HALF_HOURS_A_DAY = 48
HALF_HOURS_KEPT = HALF_HOURS_A_DAY + 2
"""The present one, the last whole one, and back to the same a day before; older counts give way."""


def half_hour(at: FleetTime) -> int:
    """Number of the half hour of fleet time that a moment is in."""
    return at // HALF_HOUR_MS


def place(number: int) -> int:
    """Where the count of a half hour is kept."""
    return number % HALF_HOURS_KEPT


def compared(now: FleetTime) -> tuple[int, int]:
    """The last whole half hour and the same one a day before."""
    last = half_hour(now) - 1
    return last, last - HALF_HOURS_A_DAY
