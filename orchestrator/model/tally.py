"""Counters: what the store counts in the same step as it changes an attempt, and what the gate reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orchestrator.model.attempt import LIVE_STATES, AttemptState
from orchestrator.model.fleet import Cell, HabitAge


@dataclass(frozen=True, slots=True)
class AgeGroup:
    """Exposures that reached a checkpoint."""

    exposed: int = 0
    """n_a."""
    silent: int = 0
    """k_a: of these, not settled by the vehicle's own word at that age. Frozen then; a later word does not take it
    back.
    """
    controls: int = 0
    """Controls that reached it: vehicles that wait by a coin beside the exposures, see `Control`."""
    controls_silent: int = 0
    """Of these, not heard again since their enrolment."""
    unpaired: int = 0
    """Of `exposed`, those that no control stands beside: see `Attempt.paired`."""
    unpaired_silent: int = 0
    """Of these, silent."""

    @property
    def paired(self) -> int:
        """Exposures whose silence is compared."""
        return self.exposed - self.unpaired

    @property
    def paired_silent(self) -> int:
        """Of these, silent."""
        return self.silent - self.unpaired_silent

    @property
    def unpaired_alone(self) -> AgeGroup:
        """The exposures that no control stands beside, next to the controls of the others."""
        return AgeGroup(self.unpaired, self.unpaired_silent, self.controls, self.controls_silent)

    def __add__(self, other: AgeGroup) -> AgeGroup:
        return AgeGroup(
            exposed=self.exposed + other.exposed,
            silent=self.silent + other.silent,
            controls=self.controls + other.controls,
            controls_silent=self.controls_silent + other.controls_silent,
            unpaired=self.unpaired + other.unpaired,
            unpaired_silent=self.unpaired_silent + other.unpaired_silent,
        )


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one cell, one stratum or one rollout."""

    before_permit: Mapping[AttemptState, int] = field(default_factory=dict)
    """Attempts without a permit, by state."""
    after_permit: Mapping[AttemptState, int] = field(default_factory=dict)
    """Exposures, by state."""
    age_groups: tuple[AgeGroup, ...] = ()
    """By the plan's checkpoints."""
    habit_groups: Mapping[HabitAge, AgeGroup] = field(default_factory=dict)
    """At the earlier ages at which vehicles that call often are judged."""
    grants: AgeGroup = AgeGroup()
    """Grants that reached the plan's first checkpoint, and of these the ones without a permit that were not heard since
    (`silent`): losses before the permit.
    """
    diagnosed: int = 0
    """Exposures that told a critical diagnosis and did not fail otherwise: installed, but not well."""
    safety: int = 0
    """Exposures that reported a failure of the safety class (`safety_*`)."""

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
        """k: explicit failures among the exposures, a critical diagnosis after the installation included."""
        states = (AttemptState.FAILED, AttemptState.ROLLED_BACK)
        return sum(self.after_permit.get(state, 0) for state in states) + self.diagnosed

    @property
    def failed_before_permit(self) -> int:
        """Explicit failures of attempts that never had a permit: failed on the way, or refused by the vehicle."""
        states = (AttemptState.FAILED, AttemptState.REJECTED)
        return sum(self.before_permit.get(state, 0) for state in states)

    @property
    def at_risk_before_permit(self) -> int:
        """Live attempts with a slot and without a permit: what a payload could hurt before it installs."""
        states = (AttemptState.OFFERED, AttemptState.DOWNLOADING, AttemptState.DOWNLOADED)
        return sum(self.before_permit.get(state, 0) for state in states)

    @property
    def succeeded(self) -> int:
        """s: exposures settled well by a signed manifest, and without a critical diagnosis since."""
        return max(0, self.after_permit.get(AttemptState.SUCCEEDED, 0) - self.diagnosed)

    @property
    def succeeded_in_all(self) -> int:
        """Attempts that succeeded, also the few that never asked for a permit (a workshop installed)."""
        return self.state(AttemptState.SUCCEEDED)

    @property
    def in_flight(self) -> int:
        """Attempts that hold a slot: live ones, but for those that wait."""
        return sum(self.state(state) for state in LIVE_STATES if state is not AttemptState.DEFERRED)

    def state(self, state: AttemptState) -> int:
        """Attempts in `state`, with or without a permit."""
        return self.before_permit.get(state, 0) + self.after_permit.get(state, 0)


CellTallies = Mapping[Cell, Tally]
"""Counts of one rollout by cell."""


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of several tallies; of a single one, itself: most strata and many regions are one cell."""
    tallies = tuple(tallies)
    if len(tallies) == 1:
        return tallies[0]
    before: dict[AttemptState, int] = {}
    after: dict[AttemptState, int] = {}
    groups: list[AgeGroup] = []
    habits: dict[HabitAge, AgeGroup] = {}
    grants = AgeGroup()
    diagnosed = safety = 0
    for tally in tallies:
        for state, count in tally.before_permit.items():
            before[state] = before.get(state, 0) + count
        for state, count in tally.after_permit.items():
            after[state] = after.get(state, 0) + count
        groups.extend([AgeGroup()] * (len(tally.age_groups) - len(groups)))
        for index, group in enumerate(tally.age_groups):
            groups[index] += group
        for habit_age, group in tally.habit_groups.items():
            habits[habit_age] = habits.get(habit_age, AgeGroup()) + group
        grants += tally.grants
        diagnosed += tally.diagnosed
        safety += tally.safety
    return Tally(
        before_permit=before,
        after_permit=after,
        age_groups=tuple(groups),
        habit_groups=habits,
        grants=grants,
        diagnosed=diagnosed,
        safety=safety,
    )
