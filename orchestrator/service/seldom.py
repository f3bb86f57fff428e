"""What whoever looks each second need not look at each second."""

from __future__ import annotations


class Seldom:
    """Says when it is time again.

    Args:
        every_ms: milliseconds, of whichever clock is asked by.
    """

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._last_ms: int | None = None

    def due(self, now_ms: int) -> bool:
        """Whether it is time, which then counts as taken; the first time always, and when the clock was set back."""
        due = self._last_ms is None or not 0 <= now_ms - self._last_ms < self._every_ms
        if due:
            self._last_ms = now_ms
        return due
