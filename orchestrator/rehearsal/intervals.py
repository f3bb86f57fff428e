"""What several rehearsals say together: shares with their interval, and how a number is spread.

Owns the statistics, knows nothing of rollouts. Standard library only, so that a report can be made anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean

from orchestrator.engine.gates.evidence import beta_above, incomplete_beta

CONFIDENCE = 0.95
_HALVINGS = 60
"""Of [0, 1]: after so many a bound is as exact as a float."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the runs, with the interval in which the true chance lies."""

    hits: int
    runs: int
    low: float
    """Lower end, 0 to 1."""
    high: float
    """Upper end, 0 to 1."""

    @property
    def share(self) -> float:
        """Hits over runs; 0 without runs."""
        return self.hits / self.runs if self.runs else 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number is spread over the runs that have it."""

    runs: int
    mean: float
    least: float
    median: float
    ninety: float
    """90 % of the runs are at or below it."""
    most: float


def share(hits: int, runs: int, confidence: float = CONFIDENCE) -> Share:
    """The part of runs that something happened in.

    The interval is the exact one of Clopper and Pearson: whatever the true chance, it is missed at most as often as
    the confidence leaves, on each side half of that. It is wide when runs are few, and says so instead of hiding it:
    none of 10 is up to 31 %.

    Args:
        hits: 0 to `runs`.
        runs: How many; 0 says nothing, from 0 to 1.
        confidence: Within (0, 1).

    Raises:
        ValueError: the counts cannot be.
    """
    if not 0 <= hits <= runs:
        msg = f"hits ({hits}) not within 0 and runs ({runs})"
        raise ValueError(msg)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if hits == 0 else _where(lambda p: incomplete_beta(p, hits, runs - hits + 1) >= tail)
    high = 1.0 if hits == runs else _where(lambda p: beta_above(p, hits + 1, runs - hits) <= tail)
    return Share(hits=hits, runs=runs, low=low, high=high)


def spread(values: Sequence[float]) -> Spread | None:
    """How numbers are spread; None without any. Quantiles are interpolated between neighbours."""
    if not values:
        return None
    ordered = sorted(float(value) for value in values)
    return Spread(
        runs=len(ordered),
        mean=fmean(ordered),
        least=ordered[0],
        median=_quantile(ordered, 0.5),
        ninety=_quantile(ordered, 0.9),
        most=ordered[-1],
    )


def _where(beyond: Callable[[float], bool]) -> float:
    """The point of [0, 1] from which on `beyond` holds; it holds at 1."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def _quantile(ordered: Sequence[float], part: float) -> float:
    place = part * (len(ordered) - 1)
    below, above = floor(place), ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
