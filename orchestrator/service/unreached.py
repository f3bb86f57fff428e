"""Whom each rollout has not reached yet, kept from one tick to the next.

Owns when it is worked out anew: when the fleet, a release or the plan is another one. Leaves who counts to
`engine/reach`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from orchestrator.engine.reach import waiting
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.ids import ReleaseVersion, RolloutId
from orchestrator.model.plan import Plan
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was worked out, and of what."""

    plan: Plan
    profiles: Mapping[Profile, int]
    releases: Mapping[ReleaseVersion, Release]
    cells: Mapping[Cell, int]


class Unreached:
    """Vehicles by cell that match a rollout's target and have not got its release."""

    def __init__(self) -> None:
        self._kept: dict[RolloutId, _Kept] = {}

    def of(
        self, rollout: Rollout, profiles: Mapping[Profile, int], releases: Mapping[ReleaseVersion, Release]
    ) -> Mapping[Cell, int]:
        """As `engine.reach.waiting`.

        Args:
            rollout: whose.
            profiles: how many vehicles have each profile; the same object says that nothing changed.
            releases: every registered one.
        """
        kept = self._kept.get(rollout.rollout_id)
        same = kept is not None and kept.plan is rollout.plan and kept.profiles is profiles
        if kept is None or not same or kept.releases != releases:
            cells = waiting(rollout.plan, profiles, releases.values())
            kept = self._kept[rollout.rollout_id] = _Kept(rollout.plan, profiles, releases, cells)
        return kept.cells

    def keep(self, rollout_ids: Collection[RolloutId]) -> None:
        """Forget all others: each holds on to the fleet as it was."""
        for rollout_id in self._kept.keys() - set(rollout_ids):
            del self._kept[rollout_id]
