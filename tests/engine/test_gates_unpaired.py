"""Silence of exposures that no control stands beside: no evidence, but where it is far from usual somebody looks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.gates import judge
from orchestrator.engine.gates.unpaired import EXPOSED_MIN
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.rollout import Verdict, VerdictKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import HOUR_MS, a_cell, a_gate, a_plan, a_tally

AGES_MS = (12 * HOUR_MS, 24 * HOUR_MS)
GATE = a_gate(checkpoints_ms=AGES_MS, silence_reference=(0.05, 0.04), habit_ages_ms={"often": (6 * HOUR_MS,)})
PLAN = a_plan(gate=GATE)


def counted(unpaired: int, silent: int, *, controls: int = 3_000, later_silent: int | None = None) -> Tally:
    """A last wave of vehicles that call often: 1,000 exposures were compared and are well, the others were not."""
    by_age = {}
    for age_ms in (6 * HOUR_MS, *AGES_MS):
        gone = later_silent if later_silent is not None and age_ms > AGES_MS[0] else silent
        by_age[HabitAge(Habit.OFTEN, age_ms)] = AgeGroup(
            1_000 + unpaired, 20 + gone, controls, controls // 50, unpaired, gone
        )
    groups = tuple(by_age[HabitAge(Habit.OFTEN, age_ms)] for age_ms in AGES_MS)
    tally = a_tally(succeeded=980 + unpaired - silent, timed_out=20 + silent)
    return replace(tally, age_groups=groups, habit_groups=by_age)


def verdict(tally: Tally, **kwargs: object) -> Verdict:
    """About everything."""
    return judge({a_cell(): tally}, PLAN, **kwargs).worst  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tally", "held"),
    [
        (counted(2_000, 40), False),
        (counted(2_000, 180), False),
        (counted(2_000, 400), True),
        (counted(EXPOSED_MIN, EXPOSED_MIN), True),
        (counted(EXPOSED_MIN - 1, 19), False),
        (counted(2_000, 400, controls=299), False),
    ],
    ids=["as usual", "a little more", "a fifth", "few", "too few", "nobody knows what is usual"],
)
def test_silence_far_from_usual_holds_though_it_is_not_compared(tally: Tally, held: bool) -> None:
    """A cohort that only the last wave reaches is hardly compared: a fifth of it silent must not go unheard."""
    found = verdict(tally)
    assert found.kind is (VerdictKind.HOLD if held else VerdictKind.PROCEED)
    assert found.rule.startswith("silence_unpaired_posterior") is held


def test_it_is_no_evidence_and_never_halts() -> None:
    """These called at another time than the controls: what differs is not the release's alone."""
    found = verdict(counted(50_000, 50_000))
    assert found.kind is VerdictKind.HOLD
    assert found.inputs["log_e"] < 0.0
    assert not [name for name in found.inputs if "unpaired_log_e" in name]


def test_who_is_heard_by_the_last_checkpoint_was_slow() -> None:
    """An installation that takes a night is no brick."""
    found = verdict(counted(2_000, 400, later_silent=40))
    assert found.rule == "none"


def test_person_who_looked_lets_it_go_on() -> None:
    """All its places are waived by their names, like those of every rule."""
    waived = tuple(f"silence_unpaired_posterior_{place}@all" for place in ("0", "1", "often_0"))
    tally = counted(2_000, 400)
    assert verdict(tally, waived=waived[:1]).kind is VerdictKind.HOLD
    assert verdict(tally, waived=waived).kind is VerdictKind.PROCEED


def of_both(daily: AgeGroup, often: AgeGroup) -> Tally:
    """Vehicles of two habits, at the last checkpoint."""
    places = {HabitAge(Habit.DAILY, AGES_MS[1]): daily, HabitAge(Habit.OFTEN, AGES_MS[1]): often}
    group = daily + often
    tally = a_tally(succeeded=group.exposed - group.silent, timed_out=group.silent)
    return replace(tally, age_groups=(group, group), habit_groups=places)


def test_each_habit_is_held_against_its_own_controls() -> None:
    """Late in a wave mostly those come that call once a day, and most controls were of those that call often."""
    often = AgeGroup(30_000, 60, 90_000, 180, 0, 0)
    daily = AgeGroup(21_000, 2_940, 3_000, 420, 20_000, 2_800)
    assert verdict(of_both(daily, often)).kind is VerdictKind.PROCEED
    worse = replace(daily, silent=2_940 + 2_800, unpaired_silent=5_600)
    assert verdict(of_both(worse, often)).rule == "silence_unpaired_posterior_1"


def test_who_calls_seldom_is_not_looked_at() -> None:
    """Of these only a few lucky ones were ever controls: a perfect release was held for the others."""
    place = HabitAge(Habit.SELDOM, AGES_MS[1])
    seldom = AgeGroup(13_576, 6_700, 400, 40, 13_557, 6_695)
    tally = replace(
        a_tally(succeeded=6_876, timed_out=6_700), age_groups=(seldom, seldom), habit_groups={place: seldom}
    )
    assert not [name for name in verdict(tally).inputs if "silence_unpaired" in name]
