"""Reach: whom a plan is for, and the limits that follow from how many they are."""

from __future__ import annotations

import pytest

from orchestrator.engine.plan.document import effective_plan
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.reach import default_budget, default_in_flight, reach, with_limits
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
    assert with_limits(small, fleet).limits.blast_budget == 100
    assert with_limits(read_plan("release: 1.1.0"), fleet).limits.blast_budget == 6100
    critical = read_plan("release: 1.1.0\ntarget: {model: [S]}\ngate: {safety_critical: true}")
    assert with_limits(critical, fleet).limits.blast_budget == 25


def test_budget_of_the_plan_is_kept():
    """Who writes a number means it, safety or not."""
    plan = a_plan(limits=some_limits(blast_budget=3))
    assert with_limits(plan, {ONE: 1_000_000}) is plan


@pytest.mark.parametrize(
    ("targeted", "starts", "slots"),
    [(0, 100, 1000), (1, 100, 1000), (9_000, 100, 1000), (100_000, 100, 10_000), (10_000_000, 100, 144_000)],
)
def test_slots_are_a_share_of_the_target_but_no_more_than_a_day_of_starts(targeted, starts, slots):
    """A fleet of seldom callers starves on a fixed number; slots beyond what may start only download early."""
    assert default_in_flight(targeted, starts) == slots


def test_slots_that_were_left_to_the_start_are_filled_in_for_each_region():
    """A region left at nought would admit nobody for ever; one with a number of its own keeps it."""
    plan = read_plan("release: 1.1.0\nregions: {eu: {in_flight: 7}, us: {follow: eu}}")
    assert (plan.limits.in_flight_max, plan.regions["us"].in_flight_max) == (0, 0)
    filled = with_limits(plan, {ONE: 100_000, OTHER: 100_000})
    assert filled.limits.in_flight_max == filled.region_defaults.in_flight_max == 20_000
    assert (filled.regions["eu"].in_flight_max, filled.regions["us"].in_flight_max) == (7, 20_000)


def test_slots_of_the_plan_are_kept():
    """Who writes a number means it: it is not raised with the fleet, and regions get no more."""
    plan = with_limits(read_plan("release: 1.1.0\nlimits: {in_flight: 5}\nregions: {eu: {}}"), {ONE: 1_000_000})
    assert plan.limits.in_flight_max == plan.regions["eu"].in_flight_max == 5


def test_a_filled_plan_is_read_as_itself():
    """The effective plan that people copy from a preview is the plan that would run."""
    plan = with_limits(read_plan("release: 1.1.0\nregions: {eu: {in_flight: 7}, us: {}}"), {ONE: 100_000})
    assert read_plan(effective_plan(plan)) == plan


def test_reach_of_an_empty_fleet_is_nobody():
    """A fleet of zero is an answer, not an error."""
    nobody = reach(a_plan(regions={}), {ONE: 0})
    assert (nobody.targeted, nobody.cells, nobody.regions, nobody.excluded) == (0, {}, {}, {})
