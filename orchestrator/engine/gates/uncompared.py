"""Exposures that no control stands beside: most of a last wave, in which a cohort may be exposed for the first time.

Owns their rule, `silence_uncompared_posterior_*`. They called at other times than the controls did, so what differs is
not the release's alone, and they are no evidence. But where a tenth more of them is silent than is usual for their
habits, and the limit besides, somebody has to look before more are exposed: this holds. Why: docs/decisions, Silence
that is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

from orchestrator.engine.gates import rules
from orchestrator.engine.gates.findings import Weighed, habit_groups
from orchestrator.engine.gates.habits import CONTROLS_MIN, POOLED_BELIEF, Told, tells
from orchestrator.engine.gates.terms import Scope
from orchestrator.engine.wording import duration
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.tally import AgeGroup, Tally

UNCOMPARED = "silence_uncompared"
"""Name of the quantity."""
MARGIN = 0.1
"""Silence that is accepted beyond what is usual and the limit."""
EXPOSED_MIN = 20
"""Such exposures from which they are looked at."""


def weigh(tally: Tally, scope: Scope, heard: Sequence[Told]) -> Iterator[Weighed]:
    """At each checkpoint, and at the earlier ages of habits; only where controls of their habits are known.

    Args:
        tally: Counters of the scope.
        scope: By what it is judged.
        heard: What its silence tells at each checkpoint.
    """
    for index, (age_ms, each) in enumerate(zip(scope.gate.checkpoints_ms, heard, strict=True)):
        if each.by_habit and each.group.unpaired >= EXPOSED_MIN:
            share = rules.estimate(each, scope.normal[index]) + rules.slow(each.uncompared)
            yield _weighed(f"_{index}", f"exposed were silent after {duration(age_ms)}", each.uncompared, share, scope)
    for place, index, group in habit_groups(tally, scope.gate):
        if group.unpaired >= EXPOSED_MIN and group.controls >= CONTROLS_MIN and tells(group):
            what = f"exposed that call {place.habit} were silent after {duration(place.age_ms)}"
            told = Told(group.uncompared, POOLED_BELIEF, rules.HABIT_DOUBT, tuple(_later(tally, scope, place.habit)))
            # Slowness of hours is known at once, that of a night later.
            slow = max(rules.resolved(told.group, told.later[0]), rules.slow(told))
            yield _weighed(f"_{place.habit}_{index}", what, told, rules.habit_estimate(group) + slow, scope)


def _later(tally: Tally, scope: Scope, habit: Habit) -> Iterator[AgeGroup]:
    for age_ms in scope.gate.checkpoints_ms:
        yield tally.habit_groups.get(HabitAge(habit, age_ms), AgeGroup()).uncompared


def _weighed(suffix: str, what: str, told: Told, share: float, scope: Scope) -> Weighed:
    margin = scope.gate.failure_ratio_max + MARGIN
    return Weighed(
        name=UNCOMPARED,
        suffix=suffix,
        what=f"{what} and are not compared",
        hits=told.group.silent,
        trials=told.group.exposed,
        log_e=-inf,
        likely=rules.above_usual(told, share, margin),
        limit=share + margin,
        usual=share,
    )
