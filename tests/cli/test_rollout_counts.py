"""What the words done, active, failed, silent, ended and waiting count."""

from __future__ import annotations

from orchestrator.cli.rollout_counts import endings, of_cell, total
from tests.cli.answers import a_cell


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
