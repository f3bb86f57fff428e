"""What the plan and the vehicle decide at the point of no return: windows, conditions, consent; and what is told
before.
"""

from __future__ import annotations

import pytest

from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import RefusalReason
from orchestrator.model.ids import AttemptId
from orchestrator.model.plan import Consent, Preconditions
from orchestrator.model.vehicle import EVERY_ROLLOUT, Conditions, Exclusion, LinkType
from orchestrator.service.permits import PermitAnswer
from orchestrator.service.vehicles import Install
from tests.builders import HOUR_MS, MINUTE_MS
from tests.service.world import PLAN, Car, World

NIGHTS = f'{PLAN}zone: Europe/Berlin\nwindows: [{{from: "02:00", to: "05:00"}}]\n'
"""Berlin is an hour ahead of the world's beginning, 2026-01-01T00:00Z: the first window opens an hour later."""
ASKED = f"{PLAN}consent: required\nconditions: {{battery: 30%, parked: true, unmetered: true}}\n"
AT_HOME = Conditions(link=LinkType.WIFI, battery_percent=80, parked=True)


@pytest.fixture
def car() -> Car:
    return Car("v-1")


async def downloaded(world: World, car: Car, plan: str) -> AttemptId:
    await world.add(car)
    await world.start(plan)
    return await world.downloaded(car)


async def ask(
    world: World, car: Car, attempt_id: AttemptId, conditions: Conditions | None = None, *, consented: bool = False
) -> PermitAnswer:
    await world.tick()
    return await world.permits.authorize(car.vehicle_id, attempt_id, conditions=conditions, consented=consented)


def reason(answer: PermitAnswer) -> RefusalReason | None:
    return answer.refusal.reason if answer.refusal else None


async def test_permit_waits_for_the_window_and_ends_with_it(world: World, car: Car) -> None:
    """Downloads at noon, installs at night: a permit must not reach into the morning."""
    attempt_id = await downloaded(world, car, NIGHTS)
    early = await ask(world, car, attempt_id)
    assert reason(early) is RefusalReason.WINDOW_CLOSED
    assert early.retry_after_ms is not None
    assert HOUR_MS <= early.retry_after_ms <= HOUR_MS + 30 * MINUTE_MS
    assert (await world.counted()).exposed == 0
    world.hand.advance(4 * HOUR_MS - 5 * MINUTE_MS)
    last_minutes = await ask(world, car, attempt_id)
    assert (reason(last_minutes), last_minutes.valid_ms) == (None, 5 * MINUTE_MS)
    world.hand.advance(2 * MINUTE_MS)
    assert (await ask(world, car, attempt_id)).valid_ms == 3 * MINUTE_MS, "told again, it is not longer"


async def test_vehicle_that_waits_for_its_window_holds_no_slot(world: World, car: Car) -> None:
    """Night windows would need as many slots as there are vehicles that downloaded by day."""
    other = Car("v-2")
    await world.add(other)
    await world.add(car)
    await world.start(NIGHTS + "limits: {in_flight: 1}\n")
    attempt_id = await world.granted(car)
    world.hand.advance(1)
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.WINDOW_CLOSED
    waiting = await world.attempt(car)
    assert (waiting.state, waiting.failure_code) == (AttemptState.DEFERRED, "window_closed")
    await world.tick()
    assert await world.downloaded(other) == "spring.v-2.1"
    world.hand.advance(2 * HOUR_MS)
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.IN_FLIGHT_SPENT
    assert (await world.attempt(car)).state is AttemptState.DEFERRED, "it waits on, and holds nothing"
    await world.check_in(other, VehicleEvent(2, AttemptId("spring.v-2.1"), AttemptEvent.REJECTED, "no_space"))
    assert reason(await ask(world, car, attempt_id)) is None
    assert (await world.attempt(car)).state is AttemptState.PERMITTED


async def test_waiting_is_told_once_for_each_cause(world: World, car: Car) -> None:
    """A vehicle asks every few minutes for hours; the ledger should say what changed, and not how often it asked."""
    attempt_id = await downloaded(world, car, ASKED)
    for conditions in (None, None, Conditions(battery_percent=29, parked=True), None):
        await ask(world, car, attempt_id, conditions, consented=True)
    await world.tick()
    story = [item.entry for item in await world.ledger.vehicle_history("v-1")]
    told = [entry.data["failure_code"] for entry in story if entry.data.get("to") == "deferred"]
    assert sorted(told) == ["battery_low", "link_metered", "link_metered"]
    assert reason(await ask(world, car, attempt_id, AT_HOME)) is RefusalReason.CONSENT_MISSING
    assert (await world.attempt(car)).failure_code == "consent_pending", "the word that vehicles have for it"


async def test_late_word_of_the_download_does_not_end_the_wait_for_the_window(world: World, car: Car) -> None:
    """Asking may overtake the event; else it would hold a slot, and run out of time, through the day."""
    await world.add(car)
    await world.start(NIGHTS)
    attempt_id = await world.granted(car)
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.WINDOW_CLOSED
    reply = await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.DOWNLOAD_FINISHED))
    assert isinstance(reply.directive, Install)
    assert (await world.attempt(car)).state is AttemptState.DEFERRED
    world.hand.advance(2 * HOUR_MS)
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.DOWNLOAD_FINISHED))
    assert (await world.attempt(car)).state is AttemptState.DOWNLOADED, "the window is open: nothing is in the way"


async def test_permit_is_not_taken_back_by_a_window_that_closes(world: World, car: Car) -> None:
    """Nothing takes an exposure back, and the state of one that runs out is not a wait."""
    attempt_id = await downloaded(world, car, NIGHTS)
    world.hand.advance(4 * HOUR_MS - 5 * MINUTE_MS)
    assert reason(await ask(world, car, attempt_id)) is None
    world.hand.advance(10 * MINUTE_MS)
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.WINDOW_CLOSED
    assert (await world.attempt(car)).state is AttemptState.PERMITTED


async def test_lapsed_permit_is_no_leave_to_install_by_day(world: World, car: Car) -> None:
    """A vehicle that slept over its permit asks in the open again, whatever was said last night."""
    attempt_id = await downloaded(world, car, NIGHTS)
    world.hand.advance(4 * HOUR_MS - 5 * MINUTE_MS)
    assert reason(await ask(world, car, attempt_id)) is None
    world.hand.advance(10 * MINUTE_MS)
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.WINDOW_CLOSED


async def test_plan_and_vehicle_are_asked_before_any_budget_is_spent(world: World, car: Car) -> None:
    """A refusal costs nothing: a start that was counted for a car on the road is one that another cannot have."""
    attempt_id = await downloaded(world, car, ASKED)
    answers = [
        (None, True, RefusalReason.LINK_METERED),
        (Conditions(metered=True, battery_percent=80, parked=True), True, RefusalReason.LINK_METERED),
        (Conditions(battery_percent=29, parked=True), True, RefusalReason.BATTERY_LOW),
        (Conditions(battery_percent=80, parked=False), True, RefusalReason.NOT_PARKED),
        (AT_HOME, False, RefusalReason.CONSENT_MISSING),
    ]
    for conditions, consented, expected in answers:
        answer = await ask(world, car, attempt_id, conditions, consented=consented)
        assert (reason(answer), bool(answer.retry_after_ms)) == (expected, True)
    assert (await world.counted()).exposed == 0
    assert not await world.journal("consent_given")
    assert reason(await ask(world, car, attempt_id, AT_HOME, consented=True)) is None


async def test_conditions_that_are_not_told_are_those_of_the_last_contact(world: World, car: Car) -> None:
    """An agent that tells them at each poll need not repeat them."""
    attempt_id = await downloaded(world, car, ASKED.replace("consent: required\n", ""))
    assert reason(await ask(world, car, attempt_id)) is RefusalReason.LINK_METERED
    await world.check_in(car, conditions=AT_HOME)
    await world.last_seen.flush()
    assert reason(await ask(world, car, attempt_id)) is None


async def test_consent_is_on_record_before_the_permit_is(world: World, car: Car) -> None:
    """Who asks a year later why this car was updated on a Sunday finds that its owner agreed, and to what."""
    attempt_id = await downloaded(world, car, f"{PLAN}consent: required\n")
    assert reason(await ask(world, car, attempt_id, consented=True)) is None
    await world.tick()
    story = await world.ledger.vehicle_history("v-1")
    kinds = [item.entry.kind for item in story]
    assert kinds.count("consent_given") == 1
    [consent] = [item.entry for item in story if item.entry.kind == "consent_given"]
    assert consent.data["attempt_id"] == attempt_id
    assert consent.data["release"] == "1.1.0"


async def test_consent_that_nobody_asked_for_is_not_recorded(world: World, car: Car) -> None:
    """What a vehicle says of its owner is personal: it is kept where the plan rests on it only."""
    attempt_id = await downloaded(world, car, f"{PLAN}consent: notice\n")
    assert reason(await ask(world, car, attempt_id, consented=True)) is None
    assert not await world.journal("consent_given")


async def test_deferred_vehicle_gets_its_permit_once_its_owner_agrees(world: World, car: Car) -> None:
    """Deferred is a pause, no end: the same attempt goes on."""
    attempt_id = await downloaded(world, car, f"{PLAN}consent: required\n")
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.DEFERRED, "consent"))
    assert await world.state(car) is AttemptState.DEFERRED
    assert reason(await ask(world, car, attempt_id, consented=True)) is None
    assert await world.state(car) is AttemptState.PERMITTED


async def test_quarantined_vehicle_gets_no_permit(world: World, car: Car) -> None:
    """A person's word binds at once, also for what was granted before."""
    attempt_id = await downloaded(world, car, PLAN)
    await world.store.exclude(car.vehicle_id, Exclusion(EVERY_ROLLOUT, "alice", "smells", world.now))
    answer = await ask(world, car, attempt_id)
    assert reason(answer) is RefusalReason.QUARANTINED
    assert answer.refusal is not None
    assert "smells" in answer.refusal.message


async def test_directive_tells_what_will_be_asked(world: World, car: Car) -> None:
    """The vehicle asks its owner and waits for its charger before it asks us."""
    await world.add(car)
    release = await world.release("1.3.0", counter=5)
    await world.start(
        f"release: {release.version}\nwaves: [{{name: all}}]\nholdout: 0%\nconsent: none\n"
        "conditions: {battery: 30%}\nregions: {eu: {consent: notice}}\n"
    )
    reply = await world.check_in(car)
    again = await world.check_in(car)
    for answer in (reply, again):
        assert isinstance(answer.directive, Install)
        assert answer.directive.consent is Consent.NOTICE
        assert answer.directive.preconditions == Preconditions(battery_percent_min=30)
        assert answer.directive.notes == "What is new in 1.3.0"
