"""Why a vehicle does or does not get an update: one true reason at any moment, with the numbers of the store."""

from __future__ import annotations

import pytest

from orchestrator.engine.explain import Explanation
from orchestrator.engine.progress import AbortRequested, PauseRequested
from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import RolloutId
from orchestrator.service.errors import NotFoundError
from orchestrator.service.explain import Explained
from orchestrator.store.base import JournalEntry
from tests.builders import DAY_MS, MINUTE_MS, some_conditions
from tests.service.world import PLAN, TICK_LIFE_MS, Car, World

SPRING = RolloutId("spring")
E, S = AttemptEvent, AttemptState


async def explained(world: World, car: Car, rollout_id: RolloutId | None = None) -> Explained:
    """What an operator is told now; the vehicle's last contact has reached the store."""
    await world.last_seen.flush()
    return await world.explain.explain(car.vehicle_id, rollout_id)


async def why(world: World, car: Car, rollout_id: RolloutId | None = None) -> Explanation:
    """The answer for the only rollout."""
    (only,) = (await explained(world, car, rollout_id)).explanations
    return only


async def known(world: World, *cars: Car) -> None:
    """Vehicles that have enrolled and called."""
    await world.add(*cars)
    for car in cars:
        await world.store.put_token(car.vehicle_id, token_sha256="t", life_ms=DAY_MS)
        await world.store.take_token(car.vehicle_id, token_sha256="t", request_sha256="r")
        await world.check_in(car)


async def test_without_a_rollout_nothing_will_happen(world: World) -> None:
    """An empty answer says so."""
    car = Car("v-1")
    await known(world, car)
    found = await explained(world, car)
    assert (found.explanations, found.summary) == ([], "Nothing will happen: no rollout is under way.")


async def test_granted_at_the_next_call_with_what_is_in_flight(world: World) -> None:
    """The numbers are those that decide."""
    car, other = Car("v-1"), Car("v-2")
    await known(world, car, other)
    await world.start()
    await world.granted(other)
    found = await why(world, car)
    assert found.reason == "grant"
    assert found.facts["in flight in eu"] == "1 of 1000"
    assert (
        await explained(world, car)
    ).summary == "It begins with rollout spring at its next call (last heard 0 s ago)."


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("regions: {eu: {in_flight: 1}}\n", "in flight in eu (1) >= limit (1)"),
        ("limits: {in_flight: 1}\nregions: {eu: {in_flight: 5}}\n", "in flight in all regions (1) >= limit (1)"),
    ],
)
async def test_quota_of_slots_is_spent(world: World, limits: str, words: str) -> None:
    """Region and total are told apart, and the answer changes as soon as a slot is free."""
    car, other = Car("v-1"), Car("v-2")
    await known(world, car, other)
    await world.start(PLAN + limits)
    attempt_id = await world.granted(other)
    found = await why(world, car)
    assert (found.reason, found.message) == ("in_flight_spent", words)
    assert "Nothing will happen by time alone" in (await explained(world, car)).summary
    await world.check_in(other, VehicleEvent(1, attempt_id, E.REJECTED, "no_space"))
    await world.tick()
    assert (await why(world, car)).reason == "grant"


async def test_start_quota_is_spent_for_a_minute(world: World) -> None:
    """A vehicle that has everything and waits for a permit."""
    first, second = Car("v-1"), Car("v-2")
    await known(world, first, second)
    await world.start(PLAN + "limits: {starts_per_minute: 1}\n")
    await world.downloaded(second)
    await world.permitted(first)
    await world.tick()
    found = await why(world, second)
    assert (found.reason, found.message) == ("starts_spent", "permits in the last minute (1) >= limit (1)")
    world.hand.advance(MINUTE_MS + 1)
    await world.tick()
    found = await why(world, second)
    assert (found.reason, found.facts["starts in the last minute"]) == ("downloaded", "0 of 1")


async def test_blast_budget_is_spent(world: World) -> None:
    """The ceiling that the evaluator last said, against the permits so far."""
    cars = [Car("v-1"), Car("v-2")]
    await known(world, *cars)
    await world.start(PLAN + "limits: {blast_budget: 1}\n")
    await world.permitted(cars[0])
    await world.downloaded(cars[1])
    found = await why(world, cars[1])
    assert found.reason == "blast_budget_spent"
    assert "permits so far (1) >= ceiling of the blast budget (1)" in found.message


async def test_dead_man_stops_grants_and_permits(world: World) -> None:
    """When the evaluator is silent, nothing is granted whatever the plan says."""
    idle, ready = Car("v-1"), Car("v-2")
    await known(world, idle, ready)
    await world.start()
    await world.downloaded(ready)
    world.hand.advance(TICK_LIFE_MS)
    for car in (idle, ready):
        found = await why(world, car)
        assert (found.reason, "no finished evaluator tick" in found.message) == ("evaluator_silent", True)


async def test_older_rollout_goes_first(world: World) -> None:
    """One line a rollout, newest first, and only one of them is next."""
    car = Car("v-1")
    await known(world, car)
    await world.release("1.2.0", counter=4)
    await world.start()
    world.hand.advance(1000)
    await world.start(PLAN.replace("1.1.0", "1.2.0"), rollout_id="autumn")
    found = await explained(world, car)
    assert [(each.rollout_id, each.reason) for each in found.explanations] == [
        ("autumn", "other_rollout_first"),
        ("spring", "grant"),
    ]
    assert "rollout spring is older" in found.explanations[0].message
    assert found.summary.startswith("It begins with rollout spring")


async def test_rollout_of_higher_priority_goes_first(world: World) -> None:
    """However young it is; and the words name both numbers."""
    car = Car("v-1")
    await known(world, car)
    await world.release("1.2.0", counter=4)
    await world.start()
    world.hand.advance(1000)
    await world.start(PLAN.replace("1.1.0", "1.2.0") + "priority: 7\n", rollout_id="autumn")
    found = await explained(world, car)
    reasons = {each.rollout_id: each for each in found.explanations}
    assert (reasons["autumn"].reason, reasons["spring"].reason) == ("grant", "other_rollout_first")
    assert "rollout autumn has priority 7 > 0 and goes first" in reasons["spring"].message
    assert await world.granted(car) == "autumn.v-1.1"


async def test_places_of_the_wave_are_taken(world: World) -> None:
    """Drawn, and yet too late for this wave: with both numbers."""
    cars = [Car(f"v-{number}") for number in range(4)]
    await known(world, *cars)
    await world.start(
        "release: 1.1.0\nholdout: 0%\ngate: {stratum_sample: 0}\nwaves: [{name: half, share: 50%}, {name: all}]\n"
    )
    taken = [car for car in cars if (await world.check_in(car)).directive is not None]
    assert len(taken) == 2, "half of four, and not one more"
    late = next(car for car in cars if car not in taken)
    found = await why(world, late)
    assert (found.reason, found.message) == ("quota_spent", "admitted in eu/gen2/canary (2) >= quota (2)")
    assert found.facts["places of the wave"] == "2 of 2"
    assert "Not yet, and no time can be told" in (await explained(world, late)).summary


async def test_blast_budget_of_grants_is_spent(world: World) -> None:
    """A payload may hurt before it installs: what is on its way at once is bounded as well."""
    cars = [Car("v-1"), Car("v-2")]
    await known(world, *cars)
    await world.start(PLAN + "limits: {blast_budget: 1}\n")
    await world.granted(cars[0])
    found = await why(world, cars[1])
    assert found.reason == "blast_budget_spent"
    assert "slots without a permit (1) >= ceiling of the blast budget (1)" in found.message


async def test_revoked_vehicle_gets_nothing(world: World) -> None:
    """Whatever else holds, it cannot call."""
    car = Car("v-1")
    await known(world, car)
    await world.start()
    entry = JournalEntry("fleet", "", "vehicle_revoked", world.now, {})
    await world.store.revoke(car.vehicle_id, entry)
    assert (await why(world, car)).reason == "revoked"
    assert (await explained(world, car)).summary.startswith("Nothing will happen before it calls: its certificates")


async def test_excluded_vehicle_says_by_whom_and_why(world: World) -> None:
    """Quarantine and denial are told apart, and lifted they are gone."""
    car = Car("v-1")
    await known(world, car)
    await world.start()
    for scope, reason in ((None, "quarantined"), (SPRING, "denied")):
        await world.care.exclude([car.vehicle_id], scope, actor="ann", reason="boots twice")
        found = await why(world, car)
        assert found.reason == reason
        assert "boots twice" in found.message
        assert (await world.check_in(car)).directive is None
        await world.care.readmit([car.vehicle_id], scope, actor="ann", reason="repaired")
    assert (await why(world, car)).reason == "grant"


async def test_held_back_by_pause_and_by_region(world: World) -> None:
    """Statuses and places have words of their own."""
    car, elsewhere = Car("v-1"), Car("v-2", region="cn")
    await known(world, car, elsewhere)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nregions: {eu: {}}\n")
    await world.rollouts.request(SPRING, PauseRequested("ann", "lunch"), etag="")
    assert (await why(world, car)).reason == "rollout_paused"
    assert (await why(world, elsewhere)).reason == "region_not_in_plan"


async def test_attempt_under_way_is_told_with_its_deadline(world: World) -> None:
    """Downloading since, installing since; a silence is told as such."""
    car = Car("v-1")
    await known(world, car)
    await world.start()
    attempt_id = await world.granted(car)
    await world.check_in(car, VehicleEvent(1, attempt_id, E.DOWNLOAD_STARTED))
    found = await why(world, car)
    assert (found.reason, "downloads" in found.message, found.changes_at is not None) == ("downloading", True, True)
    assert (await explained(world, car)).summary.startswith("Rollout spring: attempt 1 downloads, since")
    world.hand.advance(2 * DAY_MS)
    assert (await why(world, car)).reason == "silent"


async def test_waiting_for_conditions_and_consent_is_told_with_values(world: World) -> None:
    """What the vehicle told at its last call, against what the plan asks for."""
    car = Car("v-1")
    await known(world, car)
    await world.start(PLAN + "consent: required\nconditions: {battery: 50%, parked: true}\n")
    attempt_id = await world.granted(car)
    ready = VehicleEvent(1, attempt_id, E.DOWNLOAD_FINISHED)
    await world.check_in(car, ready, conditions=some_conditions(battery_percent=20))
    low = await why(world, car)
    assert (low.reason, "20 %" in low.message) == ("battery_low", True)
    await world.check_in(car, conditions=some_conditions(parked=False))
    assert (await why(world, car)).reason == "not_parked"
    await world.check_in(car, conditions=some_conditions())
    assert (await why(world, car)).reason == "consent_missing"
    await world.check_in(car, VehicleEvent(2, attempt_id, E.DEFERRED, "consent_pending"), conditions=some_conditions())
    assert (await why(world, car)).reason == "consent_missing"


async def test_closed_window_is_told_with_when_it_opens(world: World) -> None:
    """The one reason that time alone changes; the summary begins with when."""
    car = Car("v-1")
    await known(world, car)
    # It is midnight UTC at the start of the world.
    await world.start(PLAN + 'windows: [{from: "03:00", to: "05:00"}]\n')
    await world.downloaded(car)
    found = await why(world, car)
    assert found.reason == "window_closed"
    assert found.changes_at == world.now + 3 * 60 * MINUTE_MS


async def test_rollout_that_is_over_says_why_it_never_came(world: World) -> None:
    """The owner of a car asks weeks later."""
    car, late = Car("v-1"), Car("v-2", cohort="general")
    await known(world, car, late)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves:\n  - {name: first, cohorts: [canary]}\n  - {name: rest}\n")
    await world.rollouts.request(SPRING, AbortRequested("ann", "enough"), etag="")
    assert (await explained(world, late)).explanations == []
    found = await why(world, late, SPRING)
    assert (found.reason, found.facts["status"]) == ("wave_not_reached", "aborted")


async def test_live_attempt_of_a_rollout_that_is_over_is_the_reason(world: World) -> None:
    """A vehicle that went silent is not told of by another rollout's target while its attempt still runs."""
    car = Car("v-1")
    await known(world, car)
    await world.start()
    await world.permitted(car)
    await world.rollouts.request(SPRING, AbortRequested("ann", "bricks"), etag="")
    found = await explained(world, car)
    assert [said.rollout_id for said in found.explanations] == [SPRING]
    assert found.summary.startswith("Rollout spring: attempt 1 has its permit")


async def test_waves_to_come_are_not_said_to_need_a_person(world: World) -> None:
    """Time does bring the next wave, only no clock says when."""
    late = Car("v-2", cohort="general")
    await known(world, Car("v-1"), late)
    await world.start("release: 1.1.0\nholdout: 0%\nwaves:\n  - {name: first, cohorts: [canary]}\n  - {name: rest}\n")
    assert (await explained(world, late)).summary.startswith("Not yet, and no time can be told; rollout spring: region")


async def test_unknown_vehicle_and_rollout_are_not_found(world: World) -> None:
    """With a way on."""
    car = Car("v-1")
    with pytest.raises(NotFoundError, match="v-1 is not in the inventory"):
        await explained(world, car)
    await known(world, car)
    with pytest.raises(NotFoundError, match="no rollout sprig"):
        await explained(world, car, RolloutId("sprig"))
