"""Counters: what the store counts in the same step as it changes an attempt, and what the gate reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.model.attempt import LIVE_STATES, AttemptState
from orchestrator.model.fleet import Cell, Stratum


@dataclass(frozen=True, slots=True)
class AgeGroup:
    """Exposures that reached a checkpoint."""

    exposed: int = 0
    """n_a."""
    silent: int = 0
    """k_a: of these, not settled by the vehicle's own word at that age. Frozen then; a later word does not take it
    back.
    """


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one cell, one stratum or one rollout."""

    before_permit: Mapping[AttemptState, int] = field(default_factory=dict)
    """Attempts without a permit, by state."""
    after_permit: Mapping[AttemptState, int] = field(default_factory=dict)
    """Exposures, by state."""
    age_groups: tuple[AgeGroup, ...] = ()
    """By the plan's checkpoints."""

    @property
    def granted(self) -> int:
        """Attempts in all."""
        return sum(self.before_permit.values()) + self.exposed

    @property
    def exposed(self) -> int:
        """n: the only denominator of a gate."""
        return sum(self.after_permit.values())

    @property
    def failed(self) -> int:
        """k: explicit failures among the exposures."""
        return self.after_permit.get(AttemptState.FAILED, 0) + self.after_permit.get(AttemptState.ROLLED_BACK, 0)

    @property
    def succeeded(self) -> int:
        """s: exposures settled well by a signed manifest."""
        return self.after_permit.get(AttemptState.SUCCEEDED, 0)

    @property
    def succeeded_in_all(self) -> int:
        """Attempts that succeeded, also the few that never asked for a permit (a workshop installed)."""
        return self.state(AttemptState.SUCCEEDED)

    @property
    def in_flight(self) -> int:
        """Attempts that hold a slot."""
        return sum(
            count
            for states in (self.before_permit, self.after_permit)
            for state, count in states.items()
            if state in LIVE_STATES
        )

    def state(self, state: AttemptState) -> int:
        """Attempts in `state`, with or without a permit."""
        return self.before_permit.get(state, 0) + self.after_permit.get(state, 0)


CellTallies = Mapping[Cell, Tally]
"""Counts of one rollout by cell."""


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of several tallies."""
    before: dict[AttemptState, int] = {}
    after: dict[AttemptState, int] = {}
    exposed: list[int] = []
    silent: list[int] = []
    for tally in tallies:
        for state, count in tally.before_permit.items():
            before[state] = before.get(state, 0) + count
        for state, count in tally.after_permit.items():
            after[state] = after.get(state, 0) + count
        missing = len(tally.age_groups) - len(exposed)
        exposed.extend([0] * missing)
        silent.extend([0] * missing)
        for index, group in enumerate(tally.age_groups):
            exposed[index] += group.exposed
            silent[index] += group.silent
    groups = tuple(AgeGroup(exposed=n, silent=k) for n, k in zip(exposed, silent, strict=True))
    return Tally(before_permit=before, after_permit=after, age_groups=groups)


def by_stratum(cells: CellTallies) -> dict[Stratum, Tally]:
    """One tally a stratum."""
    groups: dict[Stratum, list[Tally]] = {}
    for cell, tally in cells.items():
        groups.setdefault(cell.stratum, []).append(tally)
    return {stratum: total(tallies) for stratum, tallies in sorted(groups.items())}


def count_strata(cells: CellTallies, waiting: Mapping[Cell, int]) -> int:
    """Strata that a rollout has reached or will reach: how many are judged apart."""
    return len({cell.stratum for cell in (*cells, *waiting)})
