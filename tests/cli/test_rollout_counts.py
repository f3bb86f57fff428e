"""What the words done, active, failed, silent, ended and waiting count."""

from __future__ import annotations

from outrider.v1.rollout_pb2 import HabitGroup

from orchestrator.cli.rollout_counts import ages, endings, of_cell, quotas, total
from orchestrator.cli.rollout_parts import silence_line
from tests.cli.answers import a_cell, an_age_group


def test_a_vehicle_whose_attempt_died_before_a_permit_waits_again() -> None:
    """It was not hurt and will be offered the release again; it must not vanish from the table."""
    counts = of_cell(a_cell(targeted=100, states={"succeeded": 90, "timed_out": 10}, exposed=90, failed=0))
    assert (counts.done, counts.ended, counts.waiting) == (90, 10, 10)


def test_a_vehicle_that_fell_silent_after_its_permit_does_not_wait() -> None:
    """A brick is not waiting for anything; it stands among the cases."""
    counts = of_cell(a_cell(targeted=100, states={"succeeded": 90, "timed_out": 10}, exposed=100, failed=0))
    assert (counts.done, counts.ended, counts.waiting) == (90, 10, 0)


def test_vehicles_that_install_right_now_are_active_and_not_lost() -> None:
    """An install under way is neither hurt nor waiting."""
    counts = of_cell(a_cell(targeted=10, states={"installing": 3, "rebooting": 1, "offered": 2}, exposed=4, failed=0))
    assert (counts.active, counts.lost, counts.waiting) == (6, 0, 4)


def test_a_diagnosis_after_success_is_harm_and_the_vehicle_has_the_release() -> None:
    """It stands under done and under failed; nobody is missing from the sum, and nobody seems lost."""
    counts = of_cell(a_cell(targeted=10, states={"succeeded": 6, "failed": 1}, exposed=7, failed=3, diagnosed=2))
    assert (counts.done, counts.failed, counts.diagnosed) == (6, 3, 2)
    assert (counts.waiting, counts.lost, counts.ended) == (3, 0, 0)


def test_ages_add_up_over_cells_youngest_first_with_habits_apart() -> None:
    """Six hours of those that call often are not six hours of everybody; a checkpoint is said once, of everybody."""
    early = HabitGroup(habit="often", group=an_age_group(6, 5, 1, 4, 0))
    also = HabitGroup(habit="unknown", group=an_age_group(24, 10, 2, 8, 1))
    cell = a_cell(age_groups=[an_age_group(24, 10, 2, 8, 1)], habit_groups=[early, also])
    found = [(each.age_s, each.habit, each.exposed, each.silent, each.controls) for each in ages([cell, cell])]
    assert found == [(21_600, "often", 10, 2, 8), (86_400, "", 20, 4, 16)]


def test_silence_is_conspicuous_only_beside_controls_that_are_not() -> None:
    """Nine of fifty are many where one of forty is silent anyway, and none where a fifth is; without controls nobody
    can say.
    """
    [many] = ages([a_cell(age_groups=[an_age_group(24, 50, 9, 40, 1)])])
    [usual] = ages([a_cell(age_groups=[an_age_group(24, 50, 9, 40, 8)])])
    [alone] = ages([a_cell(age_groups=[an_age_group(24, 50, 9)])])
    assert (many.conspicuous, usual.conspicuous, alone.conspicuous) == (True, False, False)


def test_exposures_without_controls_are_told_apart_from_those_that_are_compared() -> None:
    """They called at other times: beside the controls of the others they would look broken, or hide what is."""
    group = an_age_group(24, 850, 49, 40, 1, unpaired=800, unpaired_silent=48)
    [age] = ages([a_cell(age_groups=[group])])
    assert (age.exposed, age.silent, age.unpaired, age.unpaired_silent) == (50, 1, 800, 48)
    assert not age.conspicuous
    assert silence_line(age).plain == "after 1 d: 1 of 50, controls 1 of 40; not compared 48 of 800"


def test_who_was_admitted_of_a_quota_are_live_attempts_and_permits() -> None:
    """One that timed out before its permit gave its place back; one with a permit keeps it."""
    states = {"offered": 2, "installing": 1, "succeeded": 3, "timed_out": 4}
    [quota] = quotas([a_cell(states=states, exposed=5, quota=20), a_cell(region="us")])
    assert (quota.admitted, quota.quota) == (7, 20)


def test_retries_never_make_waiting_negative() -> None:
    """Attempts are counted, vehicles are meant."""
    counts = of_cell(a_cell(targeted=3, states={"failed": 5, "succeeded": 2}, exposed=7, failed=5))
    assert counts.waiting == 0


def test_the_sum_over_cells_adds_every_word() -> None:
    """The last row of the table is the sum of those above."""
    one, both = of_cell(a_cell()), total([a_cell(), a_cell(region="us")])
    names = ("targeted", "done", "active", "failed", "silent", "ended", "exposed", "lost")
    assert [getattr(both, name) for name in names] == [2 * getattr(one, name) for name in names]


def test_endings_say_what_ended_is_made_of() -> None:
    """Seven that reject a release are seven that reject it, not a number without a word; harm is counted elsewhere."""
    states = {"succeeded": 9, "rejected": 7, "rolled_back": 2, "failed": 3, "offered": 4}
    cells = [a_cell(states=states, exposed=13, failed=4), a_cell(states={"rejected": 1}, failed=0)]
    assert endings(cells) == {"rejected": 8, "failed": 1}
    assert sum(endings(cells).values()) == total(cells).ended
