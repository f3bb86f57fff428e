"""Whether a series is flat: its slope by the median of all pairs, which a few outliers do not move.

Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau, 1968.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WARM_UP_SHARE = 0.2
"""Caches fill and pools grow in the beginning; that is no leak."""
POINTS_MAX = 400
"""All pairs of so many are looked at; longer series are thinned evenly."""
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series went."""

    name: str
    unit: str
    middle: float
    """Median after the warm-up."""
    per_hour: float
    """Slope, in units an hour."""
    allowed_per_hour: float

    @property
    def flat(self) -> bool:
        """Whether it does not rise by more than is allowed."""
        return self.per_hour <= self.allowed_per_hour


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Theil-Sen slope of points (x, y); 0 of fewer than two."""
    step = max(1, -(-len(points) // POINTS_MAX))
    kept = points[::step]
    slopes = [
        (after[1] - before[1]) / (after[0] - before[0])
        for index, before in enumerate(kept)
        for after in kept[index + 1 :]
        if after[0] > before[0]
    ]
    return median(slopes) if slopes else 0.0


def trend(
    name: str, unit: str, points: Sequence[tuple[float, float]], *, allowed_share: float, allowed_least: float = 0.0
) -> Trend:
    """How a series of (seconds, value) went after its warm-up.

    Args:
        name: of the series.
        unit: of its values.
        points: in order of time.
        allowed_share: of its median, an hour.
        allowed_least: an hour, where that is more: of a dozen whole things, one more is more than any share.
    """
    settled = points[int(len(points) * WARM_UP_SHARE) :]
    middle = median(value for _, value in settled)
    return Trend(name, unit, middle, slope(settled) * HOUR_S, max(middle * allowed_share, allowed_least))
