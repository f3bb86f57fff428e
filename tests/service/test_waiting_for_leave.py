"""Who has all that it needs but leave to install: it asks when it was told to, and calls no more often than it must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.decision import RefusalReason
from orchestrator.model.ids import FleetTime
from orchestrator.model.vehicle import Contact
from orchestrator.service.budget_turns import SPREAD_SHARE, BudgetTurns
from orchestrator.service.permits import PERMIT_RETRY_MS, PLACE_RETRY_MS
from orchestrator.store.base import StoreUnavailableError
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, a_contact, a_diagnostic, an_attempt, some_conditions
from tests.service.world import PLAN, Car, World

LIVE_MS = 5 * MINUTE_MS
"""As the world's worker is told."""


async def asked_for(world: World, car: Car, attempt_id: str, reason: RefusalReason, *, hours: int) -> list[int]:
    """Ask for a permit as told for so long; the waits."""
    waits: list[int] = []
    ends_at = world.now + hours * HOUR_MS
    while world.now < ends_at:
        await world.tick()
        answer = await world.permits.authorize(car.vehicle_id, attempt_id)
        assert answer.refusal is not None
        assert answer.refusal.reason is reason
        assert answer.retry_after_ms is not None
        waits.append(answer.retry_after_ms)
        world.hand.advance(answer.retry_after_ms)
    return waits


@pytest.mark.parametrize("stood_aside", ["", "watched", "quota_spent"])
async def test_who_waits_for_the_budget_asks_ever_more_seldom(world: World, stood_aside: str) -> None:
    """A worker that does not know when there will be room: half a day is some twenty calls, not three hundred."""
    first, second = Car("v-1"), Car("v-2")
    await world.add(first, second)
    await world.start(PLAN + "limits: {blast_budget: 1}\n")
    await world.permitted(first)
    world.permits = world.permit_desk()
    attempt_id = await world.downloaded(second)
    if stood_aside:
        await world.check_in(second, VehicleEvent(2, attempt_id, AttemptEvent.DEFERRED, stood_aside))
    waits = await asked_for(world, second, attempt_id, RefusalReason.BLAST_BUDGET_SPENT, hours=11)
    assert waits[0] == PERMIT_RETRY_MS
    assert waits == sorted(waits)
    assert waits[-1] == PLACE_RETRY_MS
    assert len(waits) <= 20


async def test_who_waits_for_the_budget_comes_when_there_is_room(world: World) -> None:
    """The worker gave the permit that fills the budget, and knows when it ages: one refusal, then leave."""
    first, second = Car("v-1"), Car("v-2")
    await world.add(first, second)
    await world.start(PLAN + "limits: {blast_budget: 1}\ngate: {checkpoints: [6h]}\n")
    await world.permitted(first)
    attempt_id = await world.downloaded(second)
    world.hand.advance(HOUR_MS)
    await world.tick()
    refused = await world.permits.authorize(second.vehicle_id, attempt_id)
    assert refused.refusal is not None
    assert refused.refusal.reason is RefusalReason.BLAST_BUDGET_SPENT
    assert refused.retry_after_ms is not None
    assert 5 * HOUR_MS - MINUTE_MS <= refused.retry_after_ms <= 5 * HOUR_MS + 6 * HOUR_MS * SPREAD_SHARE
    world.hand.advance(refused.retry_after_ms + MINUTE_MS)
    await world.tick()
    assert (await world.permits.authorize(second.vehicle_id, attempt_id)).refusal is None


async def test_who_waits_for_the_budget_comes_as_exposures_age(world: World) -> None:
    """Half of the exposures are an hour older: about half of those that wait come an hour earlier, nobody at once."""
    await world.add(Car("v-1"))
    rollout, turns = await world.start(PLAN + "gate: {checkpoints: [6h]}\n"), BudgetTurns()
    for age in (2 * HOUR_MS, HOUR_MS):
        for _ in range(10):
            turns.exposed(rollout.rollout_id, FleetTime(world.now - age), offline_ms=0)
    waits = []
    for number in range(400):
        attempt = an_attempt(vehicle_id=f"v-{number}", deadline_at=FleetTime(world.now + 7 * DAY_MS))
        wait_ms = turns.wait_ms(attempt, rollout, FleetTime(world.now))
        assert wait_ms is not None
        waits.append(wait_ms)
    soon = [each for each in waits if each < 5 * HOUR_MS]
    assert 150 < len(soon) < 250
    assert min(waits) >= 4 * HOUR_MS
    assert len({each // MINUTE_MS for each in soon}) > 5
    short = replace(attempt, deadline_at=FleetTime(world.now + HOUR_MS))
    assert turns.wait_ms(short, rollout, world.now) == HOUR_MS // 2
    assert turns.wait_ms(attempt, rollout, FleetTime(world.now + 5 * HOUR_MS)) is None


async def test_who_waits_for_its_minute_asks_soon(world: World) -> None:
    """Starts are by the minute: whoever came later would leave them unused."""
    first, second = Car("v-1"), Car("v-2")
    await world.add(first, second)
    await world.start(PLAN + "limits: {starts_per_minute: 1}\n")
    attempt_id = await world.downloaded(second)
    world.hand.advance(HOUR_MS)
    await world.tick()
    await world.permitted(first)
    answer = await world.permits.authorize(second.vehicle_id, attempt_id)
    assert answer.refusal is not None
    assert (answer.refusal.reason, answer.retry_after_ms) == (RefusalReason.STARTS_SPENT, PERMIT_RETRY_MS)


@pytest.mark.parametrize("cause", ["not_parked", "watched"])
async def test_polls_are_seldom_while_only_leave_is_missing(world: World, cause: str) -> None:
    """It asks by itself, and is heard by that."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    started = VehicleEvent(1, attempt_id, AttemptEvent.DOWNLOAD_STARTED)
    assert (await world.check_in(car, started)).next_poll_ms == LIVE_MS
    finished = VehicleEvent(2, attempt_id, AttemptEvent.DOWNLOAD_FINISHED)
    assert (await world.check_in(car, finished)).next_poll_ms == HOUR_MS
    deferred = VehicleEvent(3, attempt_id, AttemptEvent.DEFERRED, cause)
    assert (await world.check_in(car, deferred)).next_poll_ms == HOUR_MS
    await world.tick()
    assert (await world.permits.authorize(car.vehicle_id, attempt_id)).refusal is None
    assert (await world.check_in(car)).next_poll_ms == LIVE_MS


@pytest.mark.parametrize("flushed", [True, False])
async def test_who_asks_for_its_permit_was_heard_and_told_nothing_new(world: World, flushed: bool) -> None:
    """Silence is judged by calls, whichever they are. What a poll said of the vehicle stays, written by then or not: a
    diagnosis that was forgotten would be new after the permit, and the release's.
    """
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    finished = VehicleEvent(1, attempt_id, AttemptEvent.DOWNLOAD_FINISHED)
    await world.check_in(car, finished, conditions=some_conditions(), diagnostics=(a_diagnostic(),))
    if flushed:
        await world.last_seen.flush()
    world.hand.advance(HOUR_MS)
    await world.tick()
    assert (await world.permits.authorize(car.vehicle_id, attempt_id)).refusal is None
    await world.last_seen.flush()
    record = await world.record(car)
    assert record.last_seen_at == world.now
    assert (record.conditions, record.diagnostics) == (some_conditions(), (a_diagnostic(),))


async def test_what_a_poll_told_outlives_a_store_that_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks while its poll is written in vain: what is written later has the poll's words and the later time."""
    car, told = Car("v-1"), a_contact(world.now)
    await world.add(car)
    world.last_seen.saw(car.vehicle_id, told)

    async def asked_meanwhile(_: object) -> None:
        world.last_seen.saw(car.vehicle_id, Contact(at=FleetTime(told.at + 1), told=False))
        raise StoreUnavailableError("away")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "touch", asked_meanwhile)
        await world.last_seen.flush()
    await world.last_seen.flush()
    record = await world.record(car)
    assert (record.last_seen_at, record.diagnostics) == (told.at + 1, told.diagnostics)
