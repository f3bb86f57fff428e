"""Pairs: something of ours and the barest thing of its kind, measured in turns.

Owns the method. A rate alone says more about the machine than about the code, and on a shared one it says little even
about that: so each figure is the ratio to a baseline that was measured between its own rounds, and the median of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter, process_time

ROUNDS = 7
"""Of each pair."""

Work = Callable[[], int]
"""Does something and says how many times."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is measured, and against what."""

    key: str
    """Name of the ratio in `build/bench.json`."""
    name: str
    unit: str
    """What is counted, in the plural."""
    baseline: str
    """What the barest thing is."""
    ours: Work
    bare: Work
    at_most: float | None = None
    """What the ratio was asked to be, where it was."""
    clock: Callable[[], float] = process_time
    """Seconds; of the process, or of the wall where another process does the work."""
    bare_clock: Callable[[], float] | None = None
    """Of the baseline, where another process does it."""
    at_least: float | None = None
    """Which share of the baseline's rate was asked for, where it was: then that is the figure, and not its inverse."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One pair, measured."""

    key: str
    name: str
    unit: str
    baseline: str
    per_s: float
    """Median over the rounds."""
    bare_per_s: float
    times: float
    """How many of the baseline one of ours costs: median over the rounds of the ratio within a round."""
    times_least: float
    times_most: float
    at_most: float | None
    at_least: float | None = None
    wall_per_s: float = 0.0
    """Median over the rounds by the clock on the wall, whoever worked."""
    bare_wall_per_s: float = 0.0

    @property
    def value(self) -> float:
        """What was asked: how many of the baseline one of ours costs, or the share of its rate."""
        return self.times if self.at_least is None else 1.0 / self.times

    def as_json(self, command: str) -> dict[str, object]:
        """For `build/bench.json`.

        Args:
            command: That measured it.
        """
        return {"name": self.key, "value": self.value, "unit": "ratio", "baseline": self.baseline, "command": command}


def measured(pair: Pair, rounds: int = ROUNDS) -> Figure:
    """Measure a pair in turns; the first round warms up and does not count.

    Args:
        pair: What.
        rounds: How many count; at least 1.
    """
    ours, bare = [], []
    for number in range(rounds + 1):
        both = _rates(pair.ours, pair.clock), _rates(pair.bare, pair.bare_clock or pair.clock)
        if number:
            ours.append(both[0])
            bare.append(both[1])
    times = [plain / own for (own, _), (plain, _) in zip(ours, bare, strict=True)]
    return Figure(
        key=pair.key,
        name=pair.name,
        unit=pair.unit,
        baseline=pair.baseline,
        per_s=median(rate for rate, _ in ours),
        bare_per_s=median(rate for rate, _ in bare),
        times=median(times),
        times_least=min(times),
        times_most=max(times),
        at_most=pair.at_most,
        at_least=pair.at_least,
        wall_per_s=median(rate for _, rate in ours),
        bare_wall_per_s=median(rate for _, rate in bare),
    )


def _rates(work: Work, clock: Callable[[], float]) -> tuple[float, float]:
    """By the clock, and by that on the wall."""
    began, began_at = clock(), perf_counter()
    count = work()
    return count / (clock() - began), count / (perf_counter() - began_at)
