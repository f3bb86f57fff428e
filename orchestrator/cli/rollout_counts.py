"""Adds up a rollout's counts into the words that people ask for: done, active, failed, silent, waiting, admitted.

Owns what each of these words counts. Leaves how they look to `rollout_view`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrider.v1.rollout_pb2 import AgeGroup, CellCounts, GateReport, Rollout

from orchestrator.model.attempt import LIVE_STATES, AttemptState

LIVE = frozenset(state.value for state in LIVE_STATES)
LIVE_AFTER_PERMIT = (
    AttemptState.PERMITTED.value,
    AttemptState.INSTALLING.value,
    AttemptState.REBOOTING.value,
    AttemptState.VERIFYING.value,
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the vehicles of some cells."""

    targeted: int = 0
    """Vehicles that the plan targets."""
    done: int = 0
    """Attempts proven by a signed manifest."""
    active: int = 0
    """Attempts under way, before or after their permit."""
    installing: int = 0
    """Of these, after their permit."""
    failed: int = 0
    """Explicit failures after a permit, critical diagnoses since included."""
    silent: int = 0
    """Exposures that gave no word by a checkpoint, at the checkpoint with most of them. Frozen there: one that spoke
    later is counted here as well.
    """
    ended: int = 0
    """Attempts that ended in any other way: timed out, rejected, withdrawn, or failed before a permit."""
    exposed: int = 0
    """Attempts with a permit."""
    lost: int = 0
    """Exposures that ended neither well nor by an explicit failure: nobody heard of them again."""
    diagnosed: int = 0
    """Of the failed, those that installed well and told a critical diagnosis since."""
    safety: int = 0
    """Exposures that reported a failure as a matter of safety."""

    @property
    def waiting(self) -> int:
        """Targeted vehicles with nothing under way that neither have the release nor were hurt by it; those whose
        attempt ended before a permit wait again. At least 0: attempts are counted here, and a vehicle can have several.
        """
        return max(0, self.targeted - self.done - self.active - (self.failed - self.diagnosed) - self.lost)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            targeted=self.targeted + other.targeted,
            done=self.done + other.done,
            active=self.active + other.active,
            installing=self.installing + other.installing,
            failed=self.failed + other.failed,
            silent=self.silent + other.silent,
            ended=self.ended + other.ended,
            exposed=self.exposed + other.exposed,
            lost=self.lost + other.lost,
            diagnosed=self.diagnosed + other.diagnosed,
            safety=self.safety + other.safety,
        )


def of_cell(cell: CellCounts) -> Counts:
    """The counts of one (region, hardware, cohort)."""
    done = cell.states.get("succeeded", 0)
    active = sum(number for state, number in cell.states.items() if state in LIVE)
    installing = sum(cell.states.get(state, 0) for state in LIVE_AFTER_PERMIT)
    # Whoever told a diagnosis has the release as well: such a vehicle stands under done and under failed.
    failed = cell.failed - cell.diagnosed
    return Counts(
        targeted=cell.targeted,
        done=done,
        active=active,
        installing=installing,
        failed=cell.failed,
        silent=max((group.silent for group in cell.age_groups), default=0),
        ended=max(0, sum(cell.states.values()) - done - active - failed),
        exposed=cell.exposed,
        lost=max(0, cell.exposed - done - failed - installing),
        diagnosed=cell.diagnosed,
        safety=cell.safety,
    )


def total(cells: Iterable[CellCounts]) -> Counts:
    """The sum over cells."""
    return sum(map(of_cell, cells), Counts())


def endings(cells: Sequence[CellCounts]) -> dict[str, int]:
    """What `ended` is made of, by state: attempts that ended, but neither well nor by a failure after a permit."""
    found: dict[str, int] = {}
    for cell in cells:
        for state, number in cell.states.items():
            if state not in LIVE and state != AttemptState.SUCCEEDED.value:
                found[state] = found.get(state, 0) + number
    bad = sum(cell.failed - cell.diagnosed for cell in cells)
    for state in (AttemptState.ROLLED_BACK.value, AttemptState.FAILED.value):
        apart = min(bad, found.get(state, 0))
        found[state] = found.get(state, 0) - apart
        bad -= apart
    return {state: number for state, number in sorted(found.items()) if number}


def by_region_and_cohort(rollout: Rollout) -> dict[tuple[str, str], Counts]:
    """Counts by region and cohort, hardware variants together, in order of name."""
    result: dict[tuple[str, str], Counts] = {}
    for cell in rollout.cells:
        key = (cell.region, cell.cohort)
        result[key] = result.get(key, Counts()) + of_cell(cell)
    return dict(sorted(result.items()))


def by_stratum(rollout: Rollout) -> dict[tuple[str, str], tuple[Counts, list[CellCounts]]]:
    """Counts and cells by region and hardware, cohorts together, in order of name."""
    result: dict[tuple[str, str], tuple[Counts, list[CellCounts]]] = {}
    for cell in rollout.cells:
        key = (cell.region, cell.hardware)
        before, cells = result.get(key, (Counts(), []))
        result[key] = (before + of_cell(cell), [*cells, cell])
    return dict(sorted(result.items()))


@dataclass(frozen=True, slots=True)
class Silence:
    """Silence at one checkpoint: the one where most are silent beyond what is normal."""

    silent: int = 0
    expected: float = 0.0
    """What is normal for as many exposures, by the rate that the gate judges with."""
    aged: int = 0
    """Exposures that reached the checkpoint, but for those that are not compared."""
    controls: int = 0
    """Controls that reached it beside them."""
    controls_silent: int = 0
    """Of these."""


def silence(cells: Sequence[CellCounts], gate: GateReport) -> Silence:
    """Silence of some cells beside what the gate expects."""
    found = Silence()
    for index in range(max((len(cell.age_groups) for cell in cells), default=0)):
        groups = [cell.age_groups[index] for cell in cells if index < len(cell.age_groups)]
        aged = sum(group.exposed - group.unpaired for group in groups)
        silent = sum(group.silent - group.unpaired_silent for group in groups)
        here = Silence(
            silent=silent,
            expected=gate.inputs.get(f"q_a{index}", 0.0) * aged,
            aged=aged,
            controls=sum(group.controls for group in groups),
            controls_silent=sum(group.controls_silent for group in groups),
        )
        if not found.aged or here.silent - here.expected > found.silent - found.expected:
            found = here
    return found


@dataclass(frozen=True, slots=True)
class AgeSum:
    """Exposures of all cells at one age, beside vehicles that were not admitted: what silence is normal."""

    age_s: int
    habit: str
    """Of those that are looked at earlier than the others; empty: all."""
    exposed: int
    """Of those that controls stand beside, where any do."""
    silent: int
    controls: int
    controls_silent: int
    unpaired: int
    """Exposures that no control stands beside: they called at other times, so their silence is not compared."""
    unpaired_silent: int

    @property
    def conspicuous(self) -> bool:
        """Whether clearly more exposures than controls are silent: for the eye, the gate judges by better means."""
        if not self.controls or not self.exposed:
            return False
        usual = self.controls_silent / self.controls
        return self.silent > usual * self.exposed + 2 * math.sqrt(usual * self.exposed) + 1


def ages(cells: Sequence[CellCounts]) -> list[AgeSum]:
    """Sums of every age, youngest first: of all at the plan's checkpoints, and of single habits where they are judged
    earlier. What stands at a checkpoint by habit as well is a part of the first, and not said twice.
    """
    found: dict[tuple[int, str], list[AgeGroup]] = {}
    groups = [group for cell in cells for group in cell.age_groups]
    for group in groups:
        found.setdefault((group.age.seconds, ""), []).append(group)
    checkpoints = {group.age.seconds for group in groups}
    for each in (each for cell in cells for each in cell.habit_groups):
        if each.group.age.seconds not in checkpoints:
            found.setdefault((each.group.age.seconds, each.habit), []).append(each.group)
    return [
        AgeSum(
            age_s=age_s,
            habit=habit,
            exposed=sum(group.exposed - group.unpaired for group in groups),
            silent=sum(group.silent - group.unpaired_silent for group in groups),
            controls=sum(group.controls for group in groups),
            controls_silent=sum(group.controls_silent for group in groups),
            unpaired=sum(group.unpaired for group in groups),
            unpaired_silent=sum(group.unpaired_silent for group in groups),
        )
        for (age_s, habit), groups in sorted(found.items(), key=lambda item: (item[0][0], not item[0][1], item[0][1]))
    ]


@dataclass(frozen=True, slots=True)
class Losses:
    """What became of grants before their permit, over all cells."""

    granted: int
    """Attempts in all."""
    failed: int
    """Of these, without a permit: failed, or rejected by the vehicle."""
    aged: int
    """Grants as old as the first checkpoint."""
    silent: int
    """Of these, without a permit and not heard since."""
    age_s: int
    """The first checkpoint."""


def losses(cells: Sequence[CellCounts]) -> Losses:
    """What a payload did to vehicles that never came to install it."""
    return Losses(
        granted=sum(sum(cell.states.values()) for cell in cells),
        failed=sum(cell.failed_before_permit for cell in cells),
        aged=sum(cell.grants.exposed for cell in cells),
        silent=sum(cell.grants.silent for cell in cells),
        age_s=max((cell.grants.age.seconds for cell in cells), default=0),
    )


@dataclass(frozen=True, slots=True)
class Quota:
    """How far one cell's quota of the present wave is used."""

    region: str
    hardware: str
    cohort: str
    admitted: int
    """Live attempts and those with a permit."""
    quota: int


def quotas(cells: Iterable[CellCounts]) -> list[Quota]:
    """Of every cell that has one."""
    return [
        Quota(cell.region, cell.hardware, cell.cohort, admitted_of(cell), cell.quota)
        for cell in cells
        if cell.HasField("quota")
    ]


def admitted_of(cell: CellCounts) -> int:
    """Vehicles of a cell that hold a place in its quota."""
    counts = of_cell(cell)
    return counts.active - counts.installing + cell.exposed


def by_region(found: Iterable[Quota]) -> dict[str, list[Quota]]:
    """Quotas by region, in order of name."""
    result: dict[str, list[Quota]] = {}
    for each in found:
        result.setdefault(each.region, []).append(each)
    return dict(sorted(result.items()))
