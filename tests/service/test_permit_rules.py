"""What the plan and the vehicle decide at the point of no return: windows, conditions, consent; and what is told
before.
"""

from __future__ import annotations

import pytest

from orchestrator.clock import FleetClock
from orchestrator.engine.requests import AbortRequested
from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, RolloutId
from orchestrator.model.plan import Consent, Preconditions
from orchestrator.model.vehicle import EVERY_ROLLOUT, Conditions, Exclusion, LinkType
from orchestrator.service.permits import PermitAnswer
from orchestrator.service.vehicles import Install
from tests.builders import HOUR_MS, MINUTE_MS, NOW, a_permit_request
from tests.ledger.reading import vehicle_history
from tests.service.world import PLAN, Car, World

NIGHTS = f'{PLAN}zone: Europe/Berlin\nwindows: [{{from: "02:00", to: "05:00"}}]\n'
"""Berlin is an hour ahead of the world's beginning, 2026-01-01T00:00Z: the first window opens an hour later."""
ASKED = f"{PLAN}consent: required\nconditions: {{battery: 30%, parked: true, unmetered: true}}\n"
SPRING = RolloutId("spring")
AT_HOME = Conditions(link=LinkType.WIFI, battery_percent=80, parked=True)


@pytest.fixture
def car() -> Car:
    return Car("v-1")


async def downloaded(world: World, car: Car, plan: str) -> AttemptId:
    await world.add(car)
    await world.start(plan)
    return await world.downloaded(car)


async def ask(
    world: World,
    car: Car,
    attempt_id: AttemptId,
    conditions: Conditions | None = None,
    *,
    consented: bool = False,
    offline: bool = False,
) -> PermitAnswer:
    await world.tick()
    return await world.permits.authorize(
        car.vehicle_id, attempt_id, conditions=conditions, consented=consented, offline=offline
    )


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
    story = [item.entry for item in await vehicle_history(world.ledger_file, "v-1")]
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
    story = await vehicle_history(world.ledger_file, "v-1")
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


OFFLINE = f"{PLAN}offline_permit: 12h\nconditions: {{parked: true}}\n"
DRIVEN = Conditions(battery_percent=80, parked=False)


async def test_offline_permit_is_given_where_the_plan_says_and_the_vehicle_asks(world: World, car: Car) -> None:
    """Twelve hours in which nobody can say no are a decision of the plan's author, and told with the directive."""
    await world.add(car)
    await world.start(OFFLINE)
    directive = (await world.check_in(car)).directive
    assert isinstance(directive, Install)
    assert directive.offline_permit_ms == 12 * HOUR_MS
    attempt_id = directive.attempt.attempt_id
    assert reason(await ask(world, car, attempt_id, DRIVEN)) is RefusalReason.NOT_PARKED
    given = await ask(world, car, attempt_id, DRIVEN, offline=True)
    assert (reason(given), given.valid_ms) == (None, 12 * HOUR_MS)
    attempt = await world.attempt(car)
    assert (attempt.state, attempt.offline_ms) == (AttemptState.PERMITTED, 12 * HOUR_MS)
    assert (await world.counted()).exposed == 1
    world.hand.advance(HOUR_MS)
    assert (await ask(world, car, attempt_id)).valid_ms == 11 * HOUR_MS, "told again, it is what it was"


async def test_offline_permit_is_refused_where_the_plan_gives_none(world: World, car: Car) -> None:
    """An ordinary one instead would be spent on a vehicle that cannot use it: exposed for nothing."""
    attempt_id = await downloaded(world, car, PLAN)
    answer = await ask(world, car, attempt_id, offline=True)
    assert (reason(answer), bool(answer.retry_after_ms)) == (RefusalReason.OFFLINE_NOT_ALLOWED, True)
    assert (await world.counted()).exposed == 0
    assert await world.state(car) is AttemptState.DOWNLOADED, "it is no wait that time will end"


async def test_lapsed_offline_permit_is_asked_for_in_the_open_again(world: World, car: Car) -> None:
    """Whoever never got there is refused by today's rules, and by a halt."""
    attempt_id = await downloaded(world, car, OFFLINE)
    assert reason(await ask(world, car, attempt_id, DRIVEN, offline=True)) is None
    world.hand.advance(12 * HOUR_MS - 1)
    assert reason(await ask(world, car, attempt_id, DRIVEN)) is None
    world.hand.advance(1)
    assert reason(await ask(world, car, attempt_id, DRIVEN)) is RefusalReason.NOT_PARKED


async def test_halt_says_how_many_are_out_and_until_when(world: World, car: Car) -> None:
    """What cannot be called back has to be counted where somebody decides what to do next."""
    near = Car("v-2")
    await world.add(near)
    attempt_id = await downloaded(world, car, OFFLINE)
    assert reason(await ask(world, car, attempt_id, DRIVEN, offline=True)) is None
    given_at = world.now
    other = await world.downloaded(near)
    assert reason(await ask(world, near, other, AT_HOME)) is None
    await world.rollouts.request(SPRING, AbortRequested("alice", "smells"), etag="")
    await world.tick()
    view = await world.rollouts.view(SPRING)
    assert (view.outstanding, view.outstanding_until) == (2, given_at + 12 * HOUR_MS)
    await world.check_in(near, VehicleEvent(2, other, AttemptEvent.INSTALL_STARTED))
    assert (await world.rollouts.view(SPRING)).outstanding == 1, "who has begun has used it"
    again = await ask(world, car, attempt_id, DRIVEN)
    assert (reason(again), again.valid_ms > 11 * HOUR_MS) == (None, True), "told is told"
    world.hand.advance(12 * HOUR_MS)
    await world.tick()
    view = await world.rollouts.view(SPRING)
    assert (view.outstanding, view.outstanding_until) == (0, None)
    assert reason(await ask(world, car, attempt_id, AT_HOME)) is RefusalReason.ROLLOUT_OVER


async def test_evaluator_completes_an_offline_permit_as_one(world: World, car: Car) -> None:
    """A worker died between the two writes: silence must not be judged as of a vehicle that can be heard."""
    attempt_id = await downloaded(world, car, OFFLINE)
    await world.tick()
    request = a_permit_request(cell=(await world.attempt(car)).cell, offline_ms=12 * HOUR_MS, now=world.now)
    assert not isinstance(await world.store.authorize(SPRING, attempt_id, request), Refusal)
    world.hand.advance(10_000)
    await world.tick()
    attempt = await world.attempt(car)
    assert (attempt.state, attempt.offline_ms) == (AttemptState.PERMITTED, 12 * HOUR_MS)


@pytest.mark.fault("F6", "F7", "P8")
async def test_permit_of_a_wrong_date_is_not_told_again_after_a_halt(world: World, car: Car) -> None:
    """The date was a day ahead for a moment; hours later nobody may begin by what was given then."""
    attempt_id = await downloaded(world, car, PLAN)
    await world.tick()
    world.clock.synchronise(world.hand.now_ms + 24 * HOUR_MS)
    assert reason(await world.permits.authorize(car.vehicle_id, attempt_id)) is None
    world.hand.advance(5 * MINUTE_MS)
    again = await ask(world, car, attempt_id)
    assert (reason(again), again.valid_ms) == (None, 15 * MINUTE_MS), "while it runs, one that is asked for anew"
    assert (await world.counted()).exposed == 1
    await world.rollouts.request(SPRING, AbortRequested("alice", "smells"), etag="")
    for _ in range(3):
        world.hand.advance(5 * MINUTE_MS)
        assert reason(await ask(world, car, attempt_id)) is RefusalReason.ROLLOUT_OVER


async def test_permit_of_a_wrong_date_is_judged_by_the_right_one_in_a_process_that_starts(
    world: World, car: Car
) -> None:
    """A restart begins at the right date, before the permit: the window that it was given in is not open yet."""
    attempt_id = await downloaded(world, car, NIGHTS)
    await world.tick()
    world.clock.synchronise(world.hand.now_ms + 90 * MINUTE_MS)
    assert reason(await world.permits.authorize(car.vehicle_id, attempt_id)) is None
    world.clock = FleetClock(
        origin=NOW, started_ms=NOW, scale=1.0, machine_ms=world.hand.now_ms, machine=world.hand.machine
    )
    assert reason(await world.permit_desk().authorize(car.vehicle_id, attempt_id)) is RefusalReason.WINDOW_CLOSED
