"""Counts that are written together: a worker counts at every call, and each write of the client costs as much as a
small answer.

Owns what was counted and is not written yet, for a few hundredths of a second; leaves to `telemetry` what is counted.
What a worker that dies had not written is lost; nothing that decides depends on it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import cast

from prometheus_client import Counter, Histogram

WRITE_AFTER_S = 0.02


class Batch:
    """Writes what was counted, soon after the first of it."""

    def __init__(self) -> None:
        self._due: list[Callable[[], None]] = []

    def counter(self, series: Counter) -> Counter:
        """What to count by in its place."""
        return cast("Counter", PendingCounter(series, self))

    def histogram(self, series: Histogram) -> Histogram:
        """What to observe by in its place."""
        return cast("Histogram", PendingHistogram(series, self))

    def owe(self, write: Callable[[], None]) -> None:
        """Write by this in a moment."""
        if not self._due:
            asyncio.get_running_loop().call_later(WRITE_AFTER_S, self.write)
        self._due.append(write)

    def write(self) -> None:
        """Write everything that is due."""
        due, self._due = self._due, []
        for write in due:
            write()


class PendingCounter:
    """A counter's series; only counts up."""

    def __init__(self, series: Counter, batch: Batch) -> None:
        self._series = series
        self._batch = batch
        self._amount = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count."""
        if not self._amount and amount:
            self._batch.owe(self._write)
        self._amount += amount

    def _write(self) -> None:
        amount, self._amount = self._amount, 0.0
        self._series.inc(amount)


class PendingHistogram:
    """A histogram's series."""

    def __init__(self, series: Histogram, batch: Batch) -> None:
        self._series = series
        self._batch = batch
        self._bounds: list[float] = series._upper_bounds  # the client adds one observation at a time only
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        self._owed = False

    def observe(self, amount: float) -> None:
        """Count an observation."""
        if not self._owed:
            self._owed = True
            self._batch.owe(self._write)
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def _write(self) -> None:
        counts, self._counts = self._counts, [0] * len(self._bounds)
        self._series._sum.inc(self._sum)
        self._sum, self._owed = 0.0, False
        for bucket, count in zip(self._series._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
