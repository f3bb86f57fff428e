"""Exposures that no control stands beside: most of a last wave, in which a cohort may be exposed for the first time.

Owns their rule, `silence_unpaired_posterior_*`. They called at other times than the controls did, so what differs is
not the release's alone, and they are no evidence. But where a tenth more of them is silent than is usual for their
habits, and the limit besides, somebody has to look before more are exposed: this holds. Why: docs/decisions, Silence
that is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import fsum, inf

from orchestrator.engine.gates import rules
from orchestrator.engine.gates.findings import Weighed
from orchestrator.engine.gates.habits import POOLED_BELIEF, Told, tells
from orchestrator.engine.gates.terms import Scope
from orchestrator.engine.wording import duration
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.tally import AgeGroup, Tally

UNPAIRED = "silence_unpaired"
"""Name of the quantity."""
MARGIN = 0.1
"""Silence that is accepted beyond what is usual and the limit."""
EXPOSED_MIN = 20
"""Such exposures from which they are looked at."""
REGULAR = (Habit.OFTEN, Habit.DAILY)
"""Habits that are looked at. Who calls seldom, or is not known yet, differs too much from the few that are controls."""


def weigh(tally: Tally, scope: Scope) -> Iterator[Weighed]:
    """At each checkpoint, and at the earlier ages of habits; only where controls of their habits are known.

    Args:
        tally: Counters of the scope.
        scope: By what it is judged.
    """
    for index, age_ms in enumerate(scope.gate.checkpoints_ms):
        what = f"exposed were silent after {duration(age_ms)}"
        yield from _weighed(f"_{index}", what, _groups(tally, REGULAR, age_ms), tally, scope)
    for name, ages_ms in scope.gate.habit_ages_ms.items():
        for index, age_ms in enumerate(ages_ms):
            what = f"exposed that call {name} were silent after {duration(age_ms)}"
            habits = tuple(habit for habit in REGULAR if habit == name)
            yield from _weighed(f"_{name}_{index}", what, _groups(tally, habits, age_ms), tally, scope)


def _groups(tally: Tally, habits: tuple[Habit, ...], age_ms: int) -> Mapping[Habit, AgeGroup]:
    """Of habits whose usual silence is known at an age, and little."""
    groups = {habit: tally.habit_groups.get(HabitAge(habit, age_ms), AgeGroup()) for habit in habits}
    return {habit: group for habit, group in groups.items() if group.controls >= rules.CONTROLS_ENOUGH and tells(group)}


def _weighed(suffix: str, what: str, groups: Mapping[Habit, AgeGroup], tally: Tally, scope: Scope) -> Iterator[Weighed]:
    group = sum((each.unpaired_alone for each in groups.values()), AgeGroup())
    if group.exposed < EXPOSED_MIN:
        return
    # Habits are mixed otherwise than among the controls: each counts by how many of it were exposed here.
    usual = (
        each.unpaired * (rules.habit_estimate(each) + _slow(tally, habit, each, scope))
        for habit, each in groups.items()
    )
    share, margin = fsum(usual) / group.exposed, scope.gate.failure_ratio_max + MARGIN
    yield Weighed(
        name=UNPAIRED,
        suffix=suffix,
        what=f"{what} and are not compared",
        hits=group.silent,
        trials=group.exposed,
        log_e=-inf,
        likely=rules.above_usual(Told(group, POOLED_BELIEF, rules.HABIT_DOUBT), share, margin),
        limit=share + margin,
        usual=share,
    )


def _slow(tally: Tally, habit: Habit, group: AgeGroup, scope: Scope) -> float:
    """Share of a habit that was only slow: by any later checkpoint that so many have reached as can say it."""
    later = (tally.habit_groups.get(HabitAge(habit, age_ms), AgeGroup()) for age_ms in scope.gate.checkpoints_ms)
    return max(rules.resolved(group.unpaired_alone, each.unpaired_alone) for each in later)
