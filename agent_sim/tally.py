"""What the shell counts while it works: calls by method and status, how long they took, downloads, bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import ceil, log2

_FIRST_STEP_MS = 0.1
_STEPS_A_DOUBLING = 8
"""Latencies are counted in steps of 9 %: a percentile is known to that, and counts of processes can be added."""


@dataclass(slots=True)
class Tally:
    """Counts of one run; written by the shell only."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By method and gRPC status name."""
    call_steps: Counter[int] = field(default_factory=Counter)
    """Answered calls by how long they took; `step_ms` says what a step is."""
    polls_idle: int = 0
    """Polls with nothing to tell that were told nothing."""
    calls_repeated: int = 0
    """Calls of a vehicle whose call before failed."""
    bytes_sent: int = 0
    """Of the requests' messages, without TLS and framing."""
    bytes_received: int = 0
    """Of the answers' messages, without TLS and framing."""
    connections: int = 0
    """Opened to the vehicle port, each with the vehicle's own certificate."""
    downloads: Counter[str] = field(default_factory=Counter)
    """`started`, `resumed`, `broken`, `slow`, `complete`, `refused`."""
    bytes_downloaded: int = 0
    deltas: Counter[str] = field(default_factory=Counter)
    """`applied`, `refused`, `given_up`: what became of those that were tried."""
    bytes_saved: int = 0
    """Length of the images that deltas led to, without that of these deltas."""
    verifications: Counter[str] = field(default_factory=Counter)
    """`good`, or the attack's code."""

    def answered(self, method: str, took_ms: float) -> None:
        """A call was answered after `took_ms` of machine time."""
        self.calls[method, "OK"] += 1
        self.call_steps[step_of(took_ms)] += 1

    def add(self, other: Tally) -> None:
        """Take in the counts of another process."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


def step_of(took_ms: float) -> int:
    """The step that a latency belongs to: 0 up to a tenth of a millisecond, then eight for each doubling."""
    return max(0, ceil(_STEPS_A_DOUBLING * log2(max(took_ms, _FIRST_STEP_MS) / _FIRST_STEP_MS)))


def step_ms(step: int) -> float:
    """The longest latency in a step, milliseconds."""
    return float(_FIRST_STEP_MS * 2 ** (step / _STEPS_A_DOUBLING))


def percentile_ms(steps: Mapping[int, int], share: float) -> float | None:
    """The latency that `share` of the calls did not exceed, to a step; None when there were no calls."""
    wanted = share * sum(steps.values())
    seen = 0
    for step in sorted(steps):
        seen += steps[step]
        if seen >= wanted:
            return round(step_ms(step), 1)
    return None
