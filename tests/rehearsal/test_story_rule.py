"""The engine as a story: regions that follow, people that take their time, parts that stand still."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orchestrator.engine.plan.file import read_plan
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import Brake, BrakeKind, Opening
from orchestrator.rehearsal import Ending, ReleaseModel, run
from orchestrator.rehearsal.inventory import invented
from orchestrator.rehearsal.rehearse import Scenario, filled, rehearse
from orchestrator.rehearsal.roads import Outage
from orchestrator.rehearsal.rooms import Rooms
from orchestrator.rehearsal.story import Story
from orchestrator.rehearsal.story_rule import People, StoryRule
from tests.rehearsal.fleets import GOOD, OpenRule, a_fleet, some_vehicles

START = FleetTime(1_800_000_000_000)
PLAN = """\
release: 1.1.0
waves:
  - {name: canary, cohorts: [canary], soak: 12h}
  - {name: all, soak: 12h, approvals: 2}
regions: {eu: {}, us: {follow: eu}}
limits: {in_flight: 1000, starts_per_minute: 1000, blast_budget: 500}
"""


def rehearsed(
    plan: str = PLAN, *, release: ReleaseModel = GOOD, vehicles: int = 1000, seed: int = 1, **more: Any
) -> Story:
    """One run on vehicles that call once a day; a tenth of them canaries."""
    read = read_plan(plan)
    inventory = invented(read, vehicles, regions={}, hardware={}, cohorts={"canary": 0.1, "general": 0.9})
    return rehearse(read, Scenario(inventory, a_fleet(vehicles), release, START, **more), seed=seed)


def came_to(story: Story, region: str, phase: str) -> float:
    return next(turn.days for turn in story.turns if (turn.region, turn.phase) == (region, phase))


def test_a_region_that_follows_begins_when_its_leader_is_through() -> None:
    """Whoever reads the story sees the order of the plan."""
    story = rehearsed()
    assert story.ending is Ending.COMPLETED
    assert [turn.phase for turn in story.openings()["us"]][:3] == ["pending", "canary", "all"]
    assert came_to(story, "us", "canary") == came_to(story, "eu", "all") > 0.5
    assert came_to(story, "us", "all") >= came_to(story, "eu", "aging")


def test_people_take_their_time() -> None:
    """A wave that needs approval begins so much later."""
    at_once, later = rehearsed(), rehearsed(people=People(approve_after_h=36.0))
    assert came_to(later, "eu", "all") - came_to(at_once, "eu", "all") == pytest.approx(1.5)
    assert later.days_to_all is not None
    assert at_once.days_to_all is not None
    assert later.days_to_all > at_once.days_to_all + 2


def test_a_bad_release_ends_with_the_rule_that_stopped_it() -> None:
    """The name leads to the runbook, the words to the numbers."""
    story = rehearsed(release=ReleaseModel(0.5, 0.0))
    assert story.ending is Ending.HALTED
    assert story.rule == "failures_evalue"
    assert "exposed failed" in story.reason
    assert story.days_to_all is None
    assert 0 < story.harmed == story.end.harmed < 100


def test_a_stratum_that_breaks_alone_stands_alone() -> None:
    """The rest of the fleet goes on, and the story says which part does not."""
    cell = Cell("us", "any", "general")
    story = rehearsed(release=ReleaseModel(0.0, 0.0, {cell: 1.0, replace(cell, cohort="canary"): 1.0}), vehicles=2000)
    braked = [turn for turn in story.turns if turn.kind.startswith("part_halted")]
    assert braked or story.ending is Ending.HALTED
    assert story.harmed < 200


def test_a_dark_region_stands_until_its_vehicles_call_again() -> None:
    """What the scenario takes away is seen by the service as its own."""
    story = rehearsed(outages=(Outage("eu", 6.0, 30.0),))
    kinds = [
        (turn.kind, turn.text[:2]) for turn in story.turns if turn.kind in ("outage", "part_paused", "part_cleared")
    ]
    assert [kind for kind, _ in kinds] == ["outage", "part_paused", "part_cleared"]
    assert came_to(story, "eu", "all") > came_to(rehearsed(), "eu", "all")


def test_what_never_comes_through_says_what_it_waits_for() -> None:
    """`stalled` alone would send people looking."""
    story = rehearsed(horizon_days=3.0, people=People(approve_after_h=1000.0))
    assert story.ending is Ending.STALLED
    assert "needs 2 approvals" in story.reason
    assert story.days_to_95 is None


def test_a_fleet_of_one_comes_through() -> None:
    """The smallest rollout there is."""
    story = rehearsed(vehicles=1)
    assert story.ending is Ending.COMPLETED
    assert (story.targeted, story.end.succeeded, story.harmed) == (1, 1, 0)


def test_the_same_seed_is_the_same_story() -> None:
    """A result that cannot be repeated cannot be argued with."""
    assert rehearsed(release=ReleaseModel(0.02, 0.3)) == rehearsed(release=ReleaseModel(0.02, 0.3))


def a_rule(plan: Plan, vehicles: int = 1000) -> tuple[StoryRule, Rooms, Any]:
    cells = ((Cell("eu", "a", "general"), 0.5), (Cell("eu", "b", "general"), 0.5))
    drawn = some_vehicles(a_fleet(vehicles, cells=cells))
    rule = StoryRule(drawn, plan, step_h=1.0, started_at=START, people=People(), dark=lambda _: frozenset())
    return rule, Rooms(rule.rollout, drawn, 1.0), drawn


def counts_of(vehicles: Any, opened: int) -> Any:
    """Counts after a day in which so many of each cell were exposed."""
    rule = OpenRule(opened=opened, cells=2, until_h=24.0)
    run(vehicles, rule, seed=1)
    return rule.seen[-1][1]


def test_quotas_starts_and_brakes_bound_their_part() -> None:
    """What the store refuses one by one, the model must not give out in bulk."""
    plan = filled(
        read_plan("release: 1.1.0\nlimits: {in_flight: 700, starts_per_minute: 5, blast_budget: 100000}\n"), 10
    )
    rule, rooms, vehicles = a_rule(plan)
    counts = counts_of(vehicles, 40)
    exposed = [int(counts.exposed[:4].sum()), int(counts.exposed[4:].sum())]
    stands = replace(rule.rollout.regions["eu"], openings={"a/general": Opening(exposed[0] + 3, 1.0)})
    brake = Brake("eu/b", BrakeKind.HELD, START, "gate", "why")
    rollout = replace(rule.rollout, regions={"eu": stands}, brakes=(brake,))
    region, braked, often, quota = rooms.parts(rollout, counts, START)
    assert region.room.tolist() == [300]
    assert (braked.bucket.tolist(), braked.room.tolist()) == ([-1] * 4 + [0] * 4, [0])
    assert (quota.bucket.tolist()[:4], quota.room.tolist()[0]) == ([0] * 4, 3)
    assert quota.bucket.tolist()[4:] == [-1] * 4
    assert often.bound(np.arange(4)).tolist() == [True, True, False, True], (
        "who calls seldom is bound by the quota alone"
    )
    assert often.bucket.tolist()[:4] == [0] * 4, "and takes a place that others then lack"
    assert rooms.total(counts, int(counts.exposed.sum()) + 7) == 7
    assert rooms.total(counts, 0) == 0
    free = rooms.parts(rule.rollout, counts, START)
    assert all(cap.bucket.tolist() == [-1] * 8 for cap in free[1:])


def test_places_are_kept_for_those_who_call_seldom() -> None:
    """From the second wave on, until the soak is over: whoever calls first must not take them all."""
    plan = read_plan("release: 1.1.0\nlimits: {in_flight: 700, starts_per_minute: 9, blast_budget: 100000}\n")
    rule, rooms, vehicles = a_rule(filled(plan, 10))
    counts = counts_of(vehicles, 0)
    stands = replace(rule.rollout.regions["eu"], wave=1, openings={"a/general": Opening(100, 1.0)})
    _, often, all_of_them = rooms.parts(replace(rule.rollout, regions={"eu": stands}), counts, START)
    seldom = list(Habit).index(Habit.SELDOM)
    assert (often.room.tolist()[0], all_of_them.room.tolist()[0]) == (80, 100)
    assert often.bound(np.arange(4)).tolist() == [index != seldom for index in range(4)]
    assert all_of_them.bucket[:4].tolist() == [0] * 4
    later = FleetTime(START + plan.waves[1].soak_ms)
    _, often, _ = rooms.parts(replace(rule.rollout, regions={"eu": stands}), counts, later)
    assert often.room.tolist()[0] == 100


def test_days_held_are_counted() -> None:
    """Days in which nobody new was admitted are days of the plan."""
    story = next(
        one
        for seed in range(1, 20)
        if (one := rehearsed(release=ReleaseModel(0.015, 0.0), vehicles=3000, seed=seed)).holds
    )
    held = [turn for turn in story.turns if turn.kind == "rollout_held"]
    assert len(held) == story.holds
    assert 0 < story.held_days <= story.ended_days - held[0].days + 1 / 24 + 1e-9
