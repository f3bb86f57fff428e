"""When to call again: polls, answers that name a delay, and failures. Pure; all durations are milliseconds.

Source: docs/agent-protocol.md, sections The poll and Permits.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

_NOT_CODE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Pace:
    """Bounds of a vehicle's own timing, fleet time."""

    poll_min_ms: int = 60_000
    poll_max_ms: int = 86_400_000
    backoff_base_ms: int = 5_000
    backoff_max_ms: int = 1_800_000
    smear_max_ms: int = 600_000
    """A delay that the orchestrator names is prolonged by at most this."""

    def next_poll(self, next_poll_after_ms: int, rng: random.Random) -> int:
        """uniform(0.5, 1.5) of what the orchestrator asked for, within the bounds whatever it asked for."""
        wanted = round(next_poll_after_ms * rng.uniform(0.5, 1.5))
        return min(self.poll_max_ms, max(self.poll_min_ms, wanted))

    def backoff(self, failures: int, rng: random.Random) -> int:
        """Full jitter: uniform(0, min(max, base x 2^failures)) after `failures` earlier ones in a row."""
        return round(rng.uniform(0, min(self.backoff_max_ms, self.backoff_base_ms * 2 ** min(failures, 30))))

    def retry_after(self, retry_after_ms: int, rng: random.Random) -> int:
        """Never sooner than asked for, and smeared so that those who were told the same do not come together; but not
        so much later that a window which opens then is missed.
        """
        wait_ms = min(retry_after_ms, self.poll_max_ms)
        return wait_ms + round(rng.uniform(0, min(wait_ms / 2, self.smear_max_ms)))


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How an agent behaves; durations in milliseconds of fleet time."""

    pace: Pace = field(default_factory=Pace)
    first_poll_within_ms: int = 600_000
    """After power on with nothing to tell, the first poll comes within this."""
    link_wake_within_ms: int = 120_000
    """After the link comes back the first call comes within this: those who wake together do not call together."""
    look_every_ms: int = 300_000
    """While conditions keep an attempt waiting, the agent looks at them this often."""


class Retry:
    """When something that fails may be tried again: one for calls, one for downloads.

    Args:
        pace: how long failures pause.
        wake_within_ms: after the link is back, the next try comes within this.
        rng: for jitter.
    """

    def __init__(self, pace: Pace, *, wake_within_ms: int, rng: random.Random) -> None:
        self._pace = pace
        self._wake_within_ms = wake_within_ms
        self._rng = rng
        self._failures = 0
        self.after = 0
        """Fleet time before which nothing is tried."""

    def failed(self, now: int, *, no_link_until: int | None = None, retry_after_ms: int | None = None) -> None:
        """A try failed: no link is not the other side's fault, a delay that it names is kept, else it is backed off."""
        if no_link_until is not None:
            self.after = no_link_until + round(self._rng.uniform(0, self._wake_within_ms))
        elif retry_after_ms is not None:
            self.after = now + self._pace.retry_after(retry_after_ms, self._rng)
        else:
            self.after = now + self._pace.backoff(self._failures, self._rng)
            self._failures += 1

    def worked(self) -> None:
        """A try brought something: the next failure is a first one."""
        self._failures = 0

    def reset(self, now: int) -> None:
        """Something new is to be tried."""
        self.after, self._failures = now, 0


def failure_code(text: str) -> str:
    """`text` as a machine-readable cause, `[a-z0-9_]{1,64}`."""
    return _NOT_CODE.sub("_", text.lower()).strip("_")[:64] or "unknown"
