"""Reach: whom a plan is for, and the blast budget that follows from how many they are."""

from __future__ import annotations

import pytest

from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.reach import default_budget, reach, with_budget
from tests.builders import a_plan, a_vehicle, some_limits

ONE = a_vehicle(cohort="general").profile("1.0.0")
OTHER = a_vehicle(cohort="general", region="us", model="Y").profile("1.0.0")
DONE = a_vehicle(cohort="general").profile("1.1.0")


@pytest.mark.parametrize(
    ("targeted", "budget", "careful"),
    [(0, 20, 20), (1, 20, 20), (10_000, 20, 20), (100_000, 200, 50), (1_000_000, 2000, 500)],
)
def test_budget_is_a_share_of_the_target_but_enough_to_learn_from(targeted, budget, careful):
    """Below twenty aged exposures the gate excludes nothing, so fewer would only be slower."""
    assert default_budget(targeted, safety_critical=False) == budget
    assert default_budget(targeted, safety_critical=True) == careful


def test_budget_counts_who_is_targeted_and_no_others():
    """Ten million cars in the inventory are no reason to hurt thousands of a small target."""
    fleet = {ONE: 50_000, OTHER: 3_000_000, DONE: 900_000}
    small = read_plan("release: 1.1.0\ntarget: {model: [S]}")
    assert with_budget(small, fleet).limits.blast_budget == 100
    assert with_budget(read_plan("release: 1.1.0"), fleet).limits.blast_budget == 6100
    critical = read_plan("release: 1.1.0\ntarget: {model: [S]}\ngate: {safety_critical: true}")
    assert with_budget(critical, fleet).limits.blast_budget == 25


def test_budget_of_the_plan_is_kept():
    """Who writes a number means it, safety or not."""
    plan = a_plan(limits=some_limits(blast_budget=3))
    assert with_budget(plan, {ONE: 1_000_000}) is plan


def test_reach_of_an_empty_fleet_is_nobody():
    """A fleet of zero is an answer, not an error."""
    nobody = reach(a_plan(regions={}), {ONE: 0})
    assert (nobody.targeted, nobody.cells, nobody.regions, nobody.excluded) == (0, {}, {}, {})
