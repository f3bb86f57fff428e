"""Counts of one shard in memory: of attempts and controls by rollout and field, of calls by region and half hour."""

from __future__ import annotations

from collections import Counter

from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.store.contacts import half_hour, place


class RolloutCounts:
    """Counters of every rollout, by field (`store.counters`)."""

    def __init__(self) -> None:
        self.by_rollout: dict[RolloutId, Counter[str]] = {}

    def add(self, rollout_id: RolloutId, field: str, amount: int) -> None:
        """Add to one counter; adding nothing makes it."""
        self.by_rollout.setdefault(rollout_id, Counter())[field] += amount


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
