"""Pairs: something of ours and the barest thing of its kind, measured in turns.

Owns the method. A rate alone says more about the machine than about the code, and on a shared one it says little even
about that: so each figure is the ratio to a baseline that was measured between its own rounds, and the median of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

ROUNDS = 7
"""Of each pair."""

Work = Callable[[], int]
"""Does something and says how many times."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is measured, and against what."""

    name: str
    unit: str
    """What is counted, in the plural."""
    baseline: str
    """What the barest thing is."""
    ours: Work
    bare: Work


@dataclass(frozen=True, slots=True)
class Figure:
    """One pair, measured."""

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

    def as_json(self) -> dict[str, object]:
        """For `build/speed.json`."""
        return asdict(self)


def measured(pair: Pair, rounds: int = ROUNDS, clock: Callable[[], float] = perf_counter) -> Figure:
    """Measure a pair in turns; the first round warms up and does not count.

    Args:
        pair: What.
        rounds: How many count; at least 1.
        clock: Seconds.
    """
    ours, bare = [], []
    for number in range(rounds + 1):
        both = _rate(pair.ours, clock), _rate(pair.bare, clock)
        if number:
            ours.append(both[0])
            bare.append(both[1])
    times = [plain / own for own, plain in zip(ours, bare, strict=True)]
    return Figure(
        name=pair.name,
        unit=pair.unit,
        baseline=pair.baseline,
        per_s=median(ours),
        bare_per_s=median(bare),
        times=median(times),
        times_least=min(times),
        times_most=max(times),
    )


def _rate(work: Work, clock: Callable[[], float]) -> float:
    began = clock()
    count = work()
    return count / (clock() - began)
