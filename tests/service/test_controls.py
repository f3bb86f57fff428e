"""Vehicles that wait become controls when they call, and the store is not asked more often than it owes."""

from __future__ import annotations

from collections import Counter

import pytest

from orchestrator.engine.controls import CONTROLS_AHEAD, ahead
from orchestrator.model.attempt import Control
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import VehicleId
from orchestrator.service.controls import NONE_OWED_MS, ControlWatch
from orchestrator.store.shards import shard_of
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS
from tests.service.world import Car, World

CANARY_FIRST = "release: 1.1.0\nholdout: 0%\nwaves: [{name: canary, cohorts: [canary]}, {name: rest}]\n"


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Control]:
    """Every control that the store was asked for."""
    enrol, seen = world.store.enrol, []

    async def recorded(control: Control, *, ahead: int, per_exposure: int) -> bool:
        seen.append(control)
        return await enrol(control, ahead=ahead, per_exposure=per_exposure)

    monkeypatch.setattr(world.store, "enrol", recorded)
    return seen


async def test_vehicle_that_waits_is_watched_and_judged_by_its_next_call(world: World) -> None:
    """What is normal is learnt from those that call and are told to wait, whatever the weather is."""
    waiting, gone = Car("v-1", cohort="general"), Car("v-2", cohort="general")
    await world.add(waiting, gone)
    await world.start(CANARY_FIRST)
    for car in (waiting, gone):
        assert (await world.check_in(car)).directive is None
    await world.last_seen.flush()
    world.hand.advance(HOUR_MS)
    await world.check_in(waiting)
    await world.last_seen.flush()
    world.hand.advance(DAY_MS)
    await world.tick()
    group = (await world.counted()).age_groups[0]
    assert (group.controls, group.controls_silent) == (2, 1)


async def test_vehicle_that_is_granted_or_kept_out_is_no_control(world: World, asked: list[Control]) -> None:
    """Only who would be updated now, but for its turn, is like those that are."""
    granted, foreign = Car("v-1"), Car("v-2", region="nowhere")
    await world.add(granted, foreign)
    await world.start(CANARY_FIRST + "regions: {eu: {}}\n")
    await world.granted(granted)
    assert (await world.check_in(foreign)).directive is None
    assert asked == []


async def test_shard_that_owes_nothing_is_left_alone_for_a_while(world: World, asked: list[Control]) -> None:
    """A fleet that waits calls thousands of times a second; a control is owed now and then."""
    cars = [Car(f"v-{number}", cohort="general") for number in range(3)]
    await world.add(*cars)
    await world.start(CANARY_FIRST)
    for _ in range(10):
        for car in cars:
            await world.check_in(car)
    # Each is enrolled once; the first that is watched already makes its shard quiet.
    assert len(asked) <= len(cars) + world.store.shards
    before = len(asked)
    world.hand.advance(NONE_OWED_MS)
    await world.check_in(cars[0])
    assert len(asked) == before + 1


async def test_more_than_are_owed_are_never_watched(world: World, asked: list[Control]) -> None:
    """The cost grows with exposures, not with the fleet."""
    cars = [Car(f"v-{number}", cohort="general") for number in range(40)]
    await world.add(*cars)
    await world.start(CANARY_FIRST)
    world.controls = ControlWatch(store=world.store, machine=world.hand.machine)
    for car in cars:
        await world.check_in(car)
    assert ahead(world.store.shards) * world.store.shards >= CONTROLS_AHEAD
    shards = Counter(shard_of(VehicleId(f"v-{number}"), world.store.shards) for number in range(len(cars)))
    owed = sum(min(count, ahead(world.store.shards)) for count in shards.values())
    assert len(await world.journal("control_enrolled")) == owed < len(cars)


async def test_vehicle_that_called_in_this_wave_before_is_no_control(world: World, asked: list[Control]) -> None:
    """Exposures are first calls since the wave opened; whoever calls at any moment is who calls most."""
    car = Car("v-1", cohort="general")
    await world.add(car)
    await world.start(CANARY_FIRST)
    await world.check_in(car)
    assert len(asked) == 1
    await world.last_seen.flush()
    world.hand.advance(HOUR_MS)
    await world.check_in(car)
    assert len(asked) == 1


async def test_vehicle_refused_by_its_wave_s_quota_is_watched(world: World, asked: list[Control]) -> None:
    """It was drawn and came late: nothing is more like those that were admitted."""
    cars = [Car(f"v-{number}") for number in range(6)]
    await world.add(*cars)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: half, share: 50%}, {name: rest}]\n")
    outcomes = [(await world.check_in(car)).directive for car in cars]
    waiting = [car.vehicle_id for car, directive in zip(cars, outcomes, strict=True) if directive is None]
    assert waiting
    assert sorted(control.vehicle_id for control in asked) == sorted(waiting)


async def test_control_has_the_habit_of_the_vehicle(world: World, asked: list[Control]) -> None:
    """An hourly caller is compared with hourly callers."""
    car = Car("v-1", cohort="general")
    await world.add(car)
    for _ in range(9):
        await world.check_in(car)
        await world.last_seen.flush()
        world.hand.advance(HOUR_MS)
    await world.start(CANARY_FIRST)
    await world.check_in(car)
    assert [control.habit for control in asked] == [Habit.OFTEN]
    world.hand.advance(MINUTE_MS)
