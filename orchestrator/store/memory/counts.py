"""Counts of one shard in memory: of attempts and controls by rollout and field, of calls by region and half hour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.tally import CellTallies
from orchestrator.store import counters
from orchestrator.store.contacts import half_hour, place


class RolloutCounts:
    """Counters of every rollout, by field (`store.counters`)."""

    def __init__(self) -> None:
        self.by_rollout: dict[RolloutId, Counter[str]] = {}
        self._stamps: dict[RolloutId, object] = {}

    def add(self, rollout_id: RolloutId, field: str, amount: int) -> None:
        """Add to one counter; adding nothing makes it."""
        self.by_rollout.setdefault(rollout_id, Counter())[field] += amount
        self._stamps[rollout_id] = object()

    def stamp(self, rollout_id: RolloutId) -> object:
        """Another one after each change to a rollout's counters; no copy of these has the same."""
        return self._stamps.get(rollout_id)


class Sums:
    """Tallies as they were summed last, kept while no counter changes: a tick asks for them every second."""

    def __init__(self) -> None:
        self._kept: dict[RolloutId, tuple[list[object], CellTallies]] = {}

    def of(self, rollout_id: RolloutId, parts: Sequence[RolloutCounts]) -> CellTallies:
        """The tallies of a rollout over all shards."""
        stamps = [part.stamp(rollout_id) for part in parts]
        kept = self._kept.get(rollout_id)
        if kept is not None and kept[0] == stamps:
            return kept[1]
        summed = counters.tallies(counters.add(part.by_rollout.get(rollout_id, {}) for part in parts))
        self._kept[rollout_id] = (stamps, summed)
        return summed


class ContactCounts:
    """Calls of the last day and a little, by region."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], tuple[int, int]] = {}
        """By region and place: which half hour, and its calls."""

    def add(self, region: str, at: FleetTime) -> None:
        """Count a call; one that is older than all that is kept is nobody's."""
        number = half_hour(at)
        held, count = self._kept.get((region, place(number)), (number, 0))
        if held <= number:
            self._kept[region, place(number)] = (number, count + 1 if held == number else 1)

    def of(self, region: str, number: int) -> int:
        """Calls of a region in a half hour."""
        held, count = self._kept.get((region, place(number)), (number, 0))
        return count if held == number else 0
