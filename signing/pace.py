"""How slowly a mirror may serve: a floor of the rate, so that a byte now and then does not hold a vehicle for ever.

A time-out between bytes lets one byte come just before each. Times are handed in; what follows from "too slow" is the
caller's decision: it proves no attack, so it ends a try and is reported, and never rejects an image.
Source: Uptane 2.1.0, section 5.4 (slow retrieval).
"""

from __future__ import annotations

BYTES_PER_S_MIN = 512
"""A thousandth of what a poor link gives; 27 MB would take 14 hours."""
WINDOW_S = 30.0
"""Machine time over which the rate is told: a tunnel is no attack."""


class RateFloor:
    """Watches one transfer.

    Args:
        bytes_per_s: The floor.
        window_s: Over how much time it is told.
    """

    def __init__(self, *, bytes_per_s: float = BYTES_PER_S_MIN, window_s: float = WINDOW_S) -> None:
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._received_bytes = 0
        self._took_s = 0.0

    def undercut(self, received_bytes: int, took_s: float) -> bool:
        """Whether the transfer was below the floor for a whole window, now that more came.

        Args:
            received_bytes: How much came now.
            took_s: How long it took to come.
        """
        self._received_bytes += received_bytes
        self._took_s += took_s
        if self._took_s < self._window_s:
            return False
        too_slow = self._received_bytes < self._bytes_per_s * self._took_s
        self._received_bytes, self._took_s = 0, 0.0
        return too_slow
