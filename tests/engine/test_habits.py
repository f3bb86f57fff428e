"""Habits: what gaps teach, and whom it makes comparable with whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.habits import DAILY_MS, GAPS_MIN, OFTEN_MS, SAME_CONTACT_MS, ages_of, habit_of, learn
from orchestrator.model.fleet import Habit
from orchestrator.model.vehicle import Gaps
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, a_gate


def learnt(*gaps_ms: int) -> Gaps:
    """What a vehicle with these gaps is known by."""
    known = Gaps()
    for gap_ms in gaps_ms:
        known = learn(known, gap_ms)
    return known


@pytest.mark.parametrize(
    ("gap_ms", "habit"),
    [
        (HOUR_MS, Habit.OFTEN),
        (OFTEN_MS, Habit.OFTEN),
        (OFTEN_MS + 1, Habit.DAILY),
        (DAILY_MS, Habit.DAILY),
        (DAILY_MS + 1, Habit.SELDOM),
        (7 * DAY_MS, Habit.SELDOM),
    ],
)
def test_habit_follows_the_mean_gap(gap_ms: int, habit: Habit) -> None:
    """A weekly caller that is silent for a day is well; an hourly one is not."""
    assert habit_of(learnt(*[gap_ms] * GAPS_MIN)) is habit


def test_vehicle_that_was_hardly_heard_has_no_habit() -> None:
    """A guess from seven gaps would put a new vehicle among those whose silence is judged early."""
    assert habit_of(learnt(*[HOUR_MS] * (GAPS_MIN - 1))) is Habit.UNKNOWN


def test_calls_of_one_contact_are_no_gaps() -> None:
    """A weekly driver that calls every five minutes while it drives is still a weekly driver."""
    drive = [5 * MINUTE_MS] * 20
    week = [*drive, 7 * DAY_MS]
    assert habit_of(learnt(*week * GAPS_MIN)) is Habit.SELDOM
    assert learn(Gaps(), SAME_CONTACT_MS - 1) == Gaps()
    assert learn(Gaps(), SAME_CONTACT_MS).heard == 1


def test_habit_that_changes_is_followed() -> None:
    """Who stops commuting must not be held to be a brick for ever after."""
    assert habit_of(learnt(*[HOUR_MS] * 50, *[7 * DAY_MS] * 8)) is Habit.SELDOM


@given(st.lists(st.integers(SAME_CONTACT_MS, 60 * DAY_MS), min_size=1, max_size=40))
def test_mean_stays_among_the_gaps(gaps_ms: list[int]) -> None:
    """Whole-number arithmetic in two languages must neither drift nor go below what was ever heard."""
    known = learnt(*gaps_ms)
    assert min(gaps_ms) <= known.mean_ms <= max(gaps_ms)
    assert known.heard == len(gaps_ms)


def test_habits_are_counted_apart_at_early_ages_and_at_checkpoints() -> None:
    """In a mixed fleet nobody could say otherwise whose silence tells something."""
    gate = a_gate(checkpoints_ms=(DAY_MS,), habit_ages_ms={Habit.OFTEN: (DAY_MS, 6 * HOUR_MS, 3 * HOUR_MS)})
    assert ages_of(gate, Habit.OFTEN) == (3 * HOUR_MS, 6 * HOUR_MS, DAY_MS)
    assert ages_of(gate, Habit.SELDOM) == (DAY_MS,)
