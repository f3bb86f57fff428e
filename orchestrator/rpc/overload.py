"""Overload: how many calls are taken at once, and when whoever is one too many shall come again.

A place at a time is told. Whoever is refused is given the next moment at which a call could be answered that nobody
was told yet, and a moment around it: so a herd comes back at the pace that it can be served, and each is refused about
once. A delay that did not count those who were sent away before would bring all of them back together.

Pure: is told the time and draws from what it is given.
"""

from __future__ import annotations

from collections.abc import Callable

WINDOW_S = 1.0
"""Over which answers are counted."""
KEPT_SHARE = 0.9
"""What remains of the best rate after a window with a full house: a store that became slow is believed within some ten
seconds. What a quiet night leaves to answer says nothing of what could be."""
PER_S_START = 500.0
"""Rate that is assumed of a worker that has answered nothing yet."""
PER_S_MIN = 20.0
"""Rate that is assumed at worst."""
USED_SHARE = 0.8
"""Of the rate is given to those who were sent away; the others come as they like, and what is left clears the queue."""
RETRY_S_MIN = 1.0
RETRY_S_MAX = 1500.0
"""With what is spread around it no more than the half hour that agents wait at most after a lost connection."""


class Turnstile:
    """Counts calls in and out.

    Args:
        calls_max: taken at once.
        draw: uniform within 0 and 1.
    """

    def __init__(self, calls_max: int, draw: Callable[[], float]) -> None:
        self._calls_max = calls_max
        self._draw = draw
        self._calls = 0
        self._answered = 0
        self._was_full = False
        self._window_ends_s = 0.0
        self._per_s = PER_S_START
        self._next_turn_s = 0.0

    @property
    def per_s(self) -> float:
        """Calls a second that are answered when there are enough, as far as is known."""
        return self._per_s

    def enter(self, now_s: float) -> float | None:
        """Take a call, which must `leave`; or the wait of one that is not taken, seconds.

        Args:
            now_s: machine time that only rises.
        """
        self._look(now_s)
        if self._calls < self._calls_max:
            self._calls += 1
            self._was_full |= self._calls == self._calls_max
            return None
        backlog_s = self._calls / self._per_s
        self._next_turn_s = max(self._next_turn_s + 1 / (USED_SHARE * self._per_s), now_s + backlog_s)
        wait_s = max(RETRY_S_MIN, self._next_turn_s - now_s)
        return min(RETRY_S_MAX, wait_s) * (0.75 + 0.5 * self._draw())

    def leave(self, now_s: float) -> None:
        """A call that was taken is answered, however."""
        self._look(now_s)
        self._calls -= 1
        self._answered += 1

    def _look(self, now_s: float) -> None:
        """Close the window if it is over. Only a full house shows the rate; from others the best is remembered. Before
        a call counts: since the end of the window nobody came or left, for want of answers only if the house is full.
        """
        over_s = now_s - self._window_ends_s
        if over_s < 0:
            return
        is_full = self._calls == self._calls_max
        took_s = WINDOW_S + over_s if is_full else WINDOW_S
        kept = KEPT_SHARE ** min(took_s, 60.0) if self._was_full else 1.0
        self._per_s = max(PER_S_MIN, self._answered / took_s, kept * self._per_s)
        self._answered = 0
        self._was_full = is_full
        self._window_ends_s = now_s + WINDOW_S
