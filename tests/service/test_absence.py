"""Our own outage is nobody's silence: what the evaluator counts after a start, and after its store was away."""

from __future__ import annotations

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import AttemptId
from orchestrator.model.tally import AgeGroup
from orchestrator.service.absence import LISTEN_MAX_MS
from orchestrator.store.base import StoreUnavailableError
from tests.builders import HOUR_MS, MINUTE_MS, SECOND_MS
from tests.service.world import Car, World

PLAN = """
release: 1.1.0
holdout: 0%
waves: [{name: all, soak: 1h}]
gate: {checkpoints: [1h], silence_reference: [5%]}
deadlines: {permitted: 1h}
"""


async def exposed(world: World) -> tuple[Car, AttemptId]:
    """A vehicle with a permit, a minute ago; the evaluator has seen it."""
    car = Car("v-1")
    await world.add(car)
    await world.start(PLAN)
    attempt_id = await world.permitted(car)
    world.hand.advance(MINUTE_MS)
    await world.tick()
    return car, attempt_id


async def lose_the_store(world: World, milliseconds: int) -> None:
    """Let the store be away for a while."""
    world.store.fail_with = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        await world.evaluator.tick()
    world.hand.advance(milliseconds)
    with pytest.raises(StoreUnavailableError):
        await world.evaluator.tick()
    world.store.fail_with = None


async def group(world: World) -> AgeGroup:
    """What is counted at the checkpoint."""
    return (await world.counted()).age_groups[0]


async def test_vehicle_that_could_not_be_heard_is_not_silent(world: World) -> None:
    """A checkpoint that passed while the store was away says nothing: it is judged once vehicles could call."""
    car, attempt_id = await exposed(world)
    await lose_the_store(world, HOUR_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=0, silent=0)
    assert await world.state(car) is AttemptState.PERMITTED, "no deadline passes either"
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash"))
    world.hand.advance(LISTEN_MAX_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=1, silent=0)


async def test_vehicle_that_stays_silent_is_counted_once_we_have_listened(world: World) -> None:
    """An outage of ours may delay the truth about a brick, and not hide it."""
    car, _ = await exposed(world)
    await lose_the_store(world, HOUR_MS)
    await world.tick()
    world.hand.advance(LISTEN_MAX_MS - SECOND_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=0, silent=0)
    world.hand.advance(SECOND_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=1, silent=1)
    assert await world.state(car) is AttemptState.TIMED_OUT


async def test_start_after_a_crash_listens_before_it_counts(world: World) -> None:
    """The next orchestrator knows from the store's journal since when nobody was heard."""
    await exposed(world)
    world.hand.advance(HOUR_MS)
    world.evaluator = world.an_evaluator(world.feed)
    await world.evaluator.recover()
    await world.tick()
    assert await group(world) == AgeGroup(exposed=0, silent=0)
    world.hand.advance(LISTEN_MAX_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=1, silent=1)


async def test_vehicle_that_found_no_worker_is_not_silent(world: World) -> None:
    """The evaluator lives on while workers are started again: that it sees the store does not mean that it hears."""
    served = True
    world.evaluator = world.an_evaluator(world.feed, reachable=lambda: served)
    await exposed(world)
    served = False
    world.hand.advance(HOUR_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=0, silent=0)
    served = True
    await world.tick()
    world.hand.advance(LISTEN_MAX_MS - SECOND_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=0, silent=0)
    world.hand.advance(SECOND_MS)
    await world.tick()
    assert await group(world) == AgeGroup(exposed=1, silent=1)


async def test_short_absence_is_listened_to_for_a_short_time(world: World) -> None:
    """A restart of seconds must not delay what a gate knows by half an hour."""
    await exposed(world)
    await lose_the_store(world, HOUR_MS)
    await world.tick()
    world.hand.advance(LISTEN_MAX_MS)
    await world.tick()
    assert (await group(world)).exposed == 1
    other = Car("v-2")
    await world.add(other)
    await world.permitted(other)
    world.hand.advance(HOUR_MS - 5 * SECOND_MS)
    await world.tick()
    await lose_the_store(world, 5 * SECOND_MS)
    await world.tick()
    assert (await group(world)).exposed == 1
    world.hand.advance(21 * SECOND_MS)
    await world.tick()
    assert (await group(world)).exposed == 2


async def test_start_without_an_absence_has_nothing_to_listen_for(world: World) -> None:
    """Where nobody was missed, no truth is delayed."""
    await world.feed.run_once()
    await world.evaluator.recover()
    await exposed(world)
    world.hand.advance(HOUR_MS)
    await world.tick()
    assert (await group(world)).exposed == 1
