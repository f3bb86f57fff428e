"""Whole rollouts under windows, freeze days, followed regions and approvals, on virtual time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from orchestrator.engine.progress import ApproveRequested, Illegal, approval_wanted, step
from orchestrator.engine.reach import waiting
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import Freeze, RegionRules, Window
from orchestrator.model.rollout import RegionPhase, RolloutStatus
from tests.builders import DAY_MS, THREE_WAVES, a_plan, some_limits
from tests.engine.test_rollouts import World, a_world

NIGHT = Window(weekdays=tuple(range(7)), start_minute=22 * 60, end_minute=5 * 60)
LIMITS = some_limits(patience_ms=40 * DAY_MS, attempts_max=9)
FROZEN = Freeze(date(2026, 1, 4), date(2026, 1, 5))
RULES = {
    "eu": RegionRules(in_flight_max=500, zone="Europe/Berlin", windows=(NIGHT,), freezes=(FROZEN,)),
    "us": RegionRules(in_flight_max=500, zone="America/New_York", windows=(NIGHT,), follow="eu"),
    "cn": RegionRules(in_flight_max=500, zone="Asia/Shanghai", follow="us"),
}
WAVES = (replace(THREE_WAVES[0], approvals=1), THREE_WAVES[1], replace(THREE_WAVES[2], approvals=2))


def approve_what_is_wanted(world: World) -> list[tuple[str, str, int]]:
    """Two people approve, region by region, what is wanted now: (region, wave, day)."""
    approved = []
    unreached = waiting(world.rollout.plan, world.profiles())
    for region in world.rollout.regions:
        wave = approval_wanted(world.rollout, world.cells(), unreached, region, world.now)
        for actor in ("bob", "carol") if wave else ():
            answer = step(world.rollout, ApproveRequested(actor, wave, region, "fine"), world.now)
            assert not isinstance(answer, Illegal)
            world.rollout = answer.rollout
        if wave:
            approved.append((region, wave, world.now // DAY_MS))
    return approved


def a_bound_world(seed: int) -> World:
    """Three regions that follow each other, with nights, a freeze and approvals."""
    # Who calls once in three nights needs more patience, and more tries, than who calls by day.
    return a_world(a_plan(waves=WAVES, regions=RULES, limits=LIMITS), 210, seed)


@pytest.mark.parametrize("seed", range(3))
def test_bound_rollout_reaches_everybody_within_all_its_rules(seed):
    """It gets through by itself but for the approvals, and no permit was ever given outside a window or on a freeze."""
    world = a_bound_world(seed)
    waves_in_time: list[tuple[str, int]] = []
    approved: list[tuple[str, str, int]] = []

    def over(world: World) -> bool:
        approved.extend(approve_what_is_wanted(world))
        for region, progress in world.rollout.regions.items():
            if progress.phase is not RegionPhase.PENDING and (region, progress.wave) not in waves_in_time:
                waves_in_time.append((region, progress.wave))
        return world.rollout.status.over

    world.run(200, over)
    assert world.rollout.status is RolloutStatus.COMPLETED, world.rollout.regions
    assert Counter(car.record.installed for car in world.cars) == {ReleaseVersion("1.1.0"): 210}
    # Each region asked once for each wave that needs it, and no wave began before that of the region it follows.
    assert sorted((region, wave) for region, wave, _ in approved) == sorted(
        (region, wave) for region in RULES for wave in ("canary", "general")
    )
    for follower, leader in (("us", "eu"), ("cn", "us")):
        for wave in range(3):
            assert waves_in_time.index((leader, wave)) < waves_in_time.index((follower, wave))
    assert len(world.permitted) == 210
    for vehicle, at in world.permitted:
        rules = RULES[vehicle.region]
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at)).astimezone(ZoneInfo(rules.zone))
        assert not rules.windows or local.hour >= 22 or local.hour < 5, (vehicle.region, local)
        assert not rules.freezes or not FROZEN.first <= local.date() <= FROZEN.last


def test_without_approvals_nobody_is_admitted():
    """A hundred days of good weather do not approve anything."""
    world = a_bound_world(7)
    world.run(100)
    assert world.rollout.status is RolloutStatus.RUNNING
    assert {progress.phase for progress in world.rollout.regions.values()} == {RegionPhase.PENDING}
    assert not world.permitted
    assert all(car.record.attempt is None for car in world.cars)
