"""Whose silence tells something: at each checkpoint, the habits that are usually heard by then.

Owns the choice. Vehicles of one fleet differ in how often they call, and exposures come in another order than fleets
are made of: first those that call often, late in a wave those that call seldom. Held against one rate for all, a good
release looks worse every day. And where most controls of a habit are silent anyway, what one brick adds is lost among
them, while every small difference between exposures and controls grows as large as the limit. So a habit counts at a
checkpoint where its controls are usually heard by then; its vehicles are judged at a later one otherwise. Only where
most of those are missing that should have been heard does it count whatever is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.plan import GateLimits
from orchestrator.model.tally import AgeGroup, Tally

CONTROLS_MIN = 30
"""Controls of a habit at an age, below which nobody knows what is normal there."""
SILENT_MAX = 0.15
"""Share of controls silent up to which a habit tells something."""
ALARM_ABOVE = 2.0 / 3.0
"""Part of those usually heard whose silence speaks for any habit."""
ALARM_MIN = 100
"""Exposures from which it does."""
BELIEF = 20.0
"""Controls' worth of belief in the plan's reference, where habits are counted apart; half as much decides here."""
DOUBT = 1.0
"""How much the posterior minds that controls are few, where habits are counted apart."""
POOLED_BELIEF = 100.0
"""Controls' worth of belief in the plan's reference where they are not; it is taken for known."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is judged at a checkpoint."""

    group: AgeGroup
    belief: float
    """Controls' worth of belief in what was thought beforehand."""
    doubt: float = 0.0
    """How much the posterior minds that controls are few: 0 takes their share for known, 1 for estimated."""
    later: tuple[AgeGroup, ...] = ()
    """The same habits at the later checkpoints."""


def told(tally: Tally, gate: GateLimits) -> tuple[Told, ...]:
    """At each checkpoint, exposures and controls of the habits that tell something there.

    All habits together where no habit has enough controls; none at all where some have and none tells: then the blast
    budget stays as small as if nothing had aged.
    """
    pooled = tally.age_groups + (AgeGroup(),) * (len(gate.checkpoints_ms) - len(tally.age_groups))
    ages = gate.checkpoints_ms
    return tuple(_told(tally, ages[index:], pooled[index:]) for index in range(len(ages)))


def _told(tally: Tally, ages: tuple[int, ...], pooled: tuple[AgeGroup, ...]) -> Told:
    """What is told at the first of these checkpoints; the others are later."""
    groups = {habit: _of_habit(tally, habit, ages[0]) for habit in Habit}
    known = [habit for habit, group in groups.items() if group.controls >= CONTROLS_MIN]
    if not known:
        return Told(pooled[0], POOLED_BELIEF, later=pooled[1:])
    telling = [habit for habit in known if tells(groups[habit]) or alarms(groups[habit])]
    first, *later = (sum((_of_habit(tally, habit, age_ms) for habit in telling), AgeGroup()) for age_ms in ages)
    return Told(first, BELIEF, DOUBT, tuple(later))


def _of_habit(tally: Tally, habit: Habit, age_ms: int) -> AgeGroup:
    return tally.habit_groups.get(HabitAge(habit, age_ms), AgeGroup())


def alarms(group: AgeGroup) -> bool:
    """Whether the silence of a habit speaks, though its controls are often silent as well.

    Of exposures that should have been heard most are not: no order of calls makes such a difference.
    """
    if group.paired < ALARM_MIN or group.controls < CONTROLS_MIN:
        return False
    heard, usual = 1.0 - group.paired_silent / group.paired, 1.0 - group.controls_silent / group.controls
    return heard < (1.0 - ALARM_ABOVE) * usual


def tells(group: AgeGroup) -> bool:
    """Whether the silence of a habit tells something: its controls are usually heard."""
    return (BELIEF * SILENT_MAX / 4.0 + group.controls_silent) / (BELIEF + group.controls) <= SILENT_MAX
