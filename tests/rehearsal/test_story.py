"""Several runs as chances."""

from __future__ import annotations

import pytest

from orchestrator.rehearsal.run import Ending
from orchestrator.rehearsal.story import chances, typical
from tests.rehearsal.stories import a_story, a_turn


def test_halts_and_holds_that_need_a_person_are_stops() -> None:
    """A hold that clears by itself is none: the run went on and says how it ended."""
    found = chances(
        [
            a_story(seed=1, ending=Ending.HALTED, rule="failures_evalue", ended_days=3.0),
            a_story(seed=2, ending=Ending.HELD, rule="silence_posterior_0", ended_days=9.0),
            a_story(seed=3, ending=Ending.STALLED),
            a_story(seed=4),
        ]
    )
    assert (found.stopped.hits, found.stopped.runs) == (2, 4)
    assert found.rules == {"failures_evalue": 1, "silence_posterior_0": 1}
    assert {ending: share.hits for ending, share in found.endings.items()} == dict.fromkeys(Ending, 1)
    assert found.stopped_days is not None
    assert found.stopped_days.mean == 6.0


def test_a_run_that_never_came_so_far_is_no_number() -> None:
    """A mean over what did not happen would look like speed."""
    found = chances([a_story(days_to_95=10.0), a_story(days_to_95=None), a_story(days_to_95=20.0)])
    assert found.days_to_95 is not None
    assert (found.days_to_95.runs, found.days_to_95.mean) == (2, 15.0)
    assert chances([a_story(days_to_95=None)]).days_to_95 is None


@pytest.mark.parametrize("harms", [[5, 1, 9], [9, 5, 1, 30]])
def test_the_typical_run_is_the_one_in_the_middle(harms: list[int]) -> None:
    """The plot shows it in full: neither the luckiest nor the worst."""
    assert typical([a_story(seed=number, harmed=harm) for number, harm in enumerate(harms)]).harmed == 5


def test_openings_keep_each_regions_walk() -> None:
    """Turns of the whole rollout are not a region's."""
    turns = [a_turn(), a_turn(region="", phase="", kind="rollout_held"), a_turn(days=2.0, phase="tenth")]
    walks = a_story(turns=turns).openings()
    assert {region: [turn.phase for turn in walk] for region, walk in walks.items()} == {"eu": ["first", "tenth"]}
