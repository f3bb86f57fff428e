"""When to call again: polls, answers that name a delay, and failures. Pure; all durations are milliseconds.

Source: design.md, "Vehicle protocol"; reference/rollout-safety.md section 3, herds and rate shaping.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

_NOT_CODE = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Pace:
    """Bounds of a vehicle's own timing, fleet time."""

    poll_min_ms: int = 60_000
    poll_max_ms: int = 86_400_000
    backoff_base_ms: int = 5_000
    backoff_max_ms: int = 1_800_000

    def next_poll(self, next_poll_after_ms: int, rng: random.Random) -> int:
        """uniform(0.5, 1.5) of what the orchestrator asked for, within the bounds whatever it asked for."""
        wanted = round(next_poll_after_ms * rng.uniform(0.5, 1.5))
        return min(self.poll_max_ms, max(self.poll_min_ms, wanted))

    def backoff(self, failures: int, rng: random.Random) -> int:
        """Full jitter: uniform(0, min(max, base x 2^failures)) after `failures` earlier ones in a row."""
        return round(rng.uniform(0, min(self.backoff_max_ms, self.backoff_base_ms * 2 ** min(failures, 30))))

    def retry_after(self, retry_after_ms: int, rng: random.Random) -> int:
        """Never sooner than asked for, and smeared so that those who were told the same do not come together."""
        return round(min(retry_after_ms, self.poll_max_ms) * rng.uniform(1.0, 1.5))


def failure_code(text: str) -> str:
    """`text` as a machine-readable cause, `[a-z0-9_]{1,64}`."""
    return _NOT_CODE.sub("_", text.lower()).strip("_")[:64] or "unknown"
