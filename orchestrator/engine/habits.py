"""How often a vehicle calls: learnt from its own past gaps, so that its silence can be judged by them.

Owns what a gap teaches and which habit follows. The stores learn in the step that writes a contact (the Redis library
says in Lua what `learn` says here); what silence of a habit means is the matter of `gates`.
"""

from __future__ import annotations

from orchestrator.model.fleet import Habit
from orchestrator.model.plan import GateLimits
from orchestrator.model.vehicle import Gaps

SAME_CONTACT_MS = 900_000
"""Fleet time within which contacts are one: a vehicle under way calls again and again."""
GAPS_MIN = 8
"""Gaps below which a vehicle has no habit yet."""
OFTEN_MS = 3 * 3_600_000
"""Mean gap up to which a vehicle calls often."""
DAILY_MS = 36 * 3_600_000
"""Mean gap up to which it calls about once a day."""


def learn(gaps: Gaps, gap_ms: int) -> Gaps:
    """What is known of a vehicle after one more gap between two contacts.

    The first gap is the mean; each further one moves it by an eighth of the difference, rounded down, so that a habit
    that changes is followed within about eight gaps.

    Args:
        gaps: As known before.
        gap_ms: Fleet time between the last contact and this one; below SAME_CONTACT_MS it teaches nothing.
    """
    if gap_ms < SAME_CONTACT_MS:
        return gaps
    mean_ms = gaps.mean_ms + (gap_ms - gaps.mean_ms) // 8 if gaps.heard else gap_ms
    return Gaps(mean_ms=mean_ms, heard=gaps.heard + 1)


def habit_of(gaps: Gaps) -> Habit:
    """How often a vehicle with these gaps usually calls."""
    if gaps.heard < GAPS_MIN:
        return Habit.UNKNOWN
    if gaps.mean_ms <= OFTEN_MS:
        return Habit.OFTEN
    return Habit.DAILY if gaps.mean_ms <= DAILY_MS else Habit.SELDOM


def ages_of(gate: GateLimits, habit: Habit) -> tuple[int, ...]:
    """Ages at which vehicles of a habit are counted apart, ascending: the plan's checkpoints, and what comes before."""
    first_ms = min(gate.checkpoints_ms, default=0)
    early = {age_ms for age_ms in gate.habit_ages_ms.get(habit, ()) if age_ms < first_ms}
    return tuple(sorted(early.union(gate.checkpoints_ms)))
