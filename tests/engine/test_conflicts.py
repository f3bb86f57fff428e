"""Conflicts: which other rollouts want the same vehicles, and who goes first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.conflicts import conflicts
from orchestrator.engine.preview import preview
from orchestrator.model.plan import Target
from orchestrator.model.rollout import RolloutStatus
from tests.builders import NOW, a_plan, a_release, a_rollout, after
from tests.engine.test_calendar import BOTH

PLAN = a_plan(release="1.2.0", priority=3)
RELEASES = (a_release("1.1.0"), a_release("1.2.0"))


def told(*others, plan=PLAN, releases=RELEASES) -> str:
    return " | ".join(conflicts(plan, BOTH, others, releases))


@pytest.mark.parametrize(
    ("priority", "words"),
    [
        (2, "this one goes first (priority 3 > 2)"),
        (3, "it goes first, being older (both have priority 3)"),
        (4, "it goes first (priority 4 > 3)"),
    ],
)
def test_priority_then_age_decides(priority, words):
    """Two rollouts that want the same vehicle are never resolved silently."""
    said = told(a_rollout(plan=a_plan(priority=priority)))
    assert said == (
        f"rollout spring (1.1.0, running) wants 1000 of these vehicles as well: {words}; both bring images for "
        "acme-bcm-2, acme-gw-2, and a vehicle ends with the newer by release counter"
    )


def test_only_vehicles_that_both_want_count():
    """A rollout elsewhere is no conflict, and one that is over wants nobody."""
    us = a_rollout(plan=a_plan(target=Target(region=("us",)), regions=("us",)))
    assert "wants 500 of these" in told(us)
    assert told(us, plan=replace(PLAN, target=Target(region=("eu",)))) == ""
    assert told(a_rollout(plan=a_plan(release="1.0.0"))) == ""
    for status in (RolloutStatus.COMPLETED, RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED):
        assert told(replace(us, status=status)) == ""
    assert "draft" in told(replace(us, status=RolloutStatus.DRAFT))


def test_others_are_told_in_the_order_in_which_they_go():
    """The first line is the one to talk to."""
    late = a_rollout(rollout_id="late", created_at=after(1))
    high = a_rollout(rollout_id="high", created_at=after(2), plan=a_plan(priority=9))
    said = told(late, a_rollout(), high)
    assert said.index("high") < said.index("spring") < said.index("late")


def test_different_control_units_are_said_to_be():
    """One after the other, both arrive."""
    brake = replace(a_release("1.1.0"), images=a_release("1.1.0", hardware_ids=("acme-brake",)).images)
    said = told(a_rollout(), releases=(brake, a_release("1.2.0", hardware_ids=("acme-radio",))))
    assert said.endswith("they are for different control units")


def test_same_release_is_said_to_be():
    """Two rollouts of one release are a mistake, or a second region."""
    assert told(a_rollout(plan=a_plan(release="1.2.0"))).endswith("; it is the same release")


def test_superseded_rollout_is_no_conflict_but_told():
    """Who takes a place says whose, and a name that is wrong is found before the start."""
    plan = replace(PLAN, supersedes="spring")
    assert told(a_rollout(), plan=plan) == (
        "rollout spring (1.1.0, running) ends when this one starts: what it granted without a permit is withdrawn"
    )
    assert "is not there: check `supersedes`" in told(plan=plan)
    assert "is completed already" in told(a_rollout(status=RolloutStatus.COMPLETED), plan=plan)


def test_preview_carries_conflicts():
    """It is read before the start, where the priority can still be changed."""
    found = preview(PLAN, BOTH, RELEASES[1], NOW, others=(a_rollout(),), releases=RELEASES)
    assert found.conflicts == conflicts(PLAN, BOTH, (a_rollout(),), RELEASES)
    assert found.conflicts
