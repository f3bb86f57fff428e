"""What every store promises about silence compared like with like: habits, controls, grants, contacts of a region."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.engine.controls import HEARD_AFTER_MS
from orchestrator.engine.habits import GAPS_MIN, habit_of
from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.model.vehicle import Contact, Gaps
from orchestrator.store.base import DARK_WAIT_MS, Applied, ContactRate, Store
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, NOW, a_vehicle, after, an_attempt, some_conditions
from tests.contracts.steps import SPRING, V1, a_control, assigned, entries, permitted, sweep_all, tell
from tests.store_fixtures import StoreBench

E, S = AttemptEvent, AttemptState
SIX_HOURS = HabitAge(Habit.OFTEN, 6 * HOUR_MS)
V2 = VehicleId("v-2")


async def tally(store: Store) -> Tally:
    """The one cell's tally; the recount must agree."""
    tallies = await store.tallies([SPRING])
    assert tallies == await store.recount([SPRING])
    (found,) = tallies[SPRING].values()
    return found


async def called(store: Store, at: FleetTime, *vehicle_ids: VehicleId) -> None:
    """Vehicles call."""
    await store.touch({vehicle_id: Contact(at=at) for vehicle_id in vehicle_ids or (V1,)})


async def gaps_of(store: Store) -> Gaps:
    """What is known of the first vehicle's gaps."""
    record = await store.vehicle(V1)
    assert record is not None
    return record.gaps


async def test_vehicle_gets_its_habit_from_its_calls(bench: StoreBench) -> None:
    """Nobody tells how often a car is driven; its calls do."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    for number in range(GAPS_MIN + 1):
        assert (await gaps_of(bench.store)).heard == max(0, number - 1), "the first call ends no gap"
        await called(bench.store, after(number * HOUR_MS))
    assert await gaps_of(bench.store) == Gaps(mean_ms=HOUR_MS, heard=GAPS_MIN)
    assert habit_of(await gaps_of(bench.store)) is Habit.OFTEN
    await called(bench.store, after((GAPS_MIN + 5) * HOUR_MS + 3))
    assert await gaps_of(bench.store) == Gaps(mean_ms=HOUR_MS + (4 * HOUR_MS + 3) // 8, heard=GAPS_MIN + 1)
    await called(bench.store, after((GAPS_MIN + 6) * HOUR_MS))
    mean_ms = HOUR_MS + (4 * HOUR_MS + 3) // 8
    assert (await gaps_of(bench.store)).mean_ms == mean_ms + (HOUR_MS - 3 - mean_ms) // 8, "rounded down below zero too"


async def test_older_contact_changes_nothing(bench: StoreBench) -> None:
    """Two workers write behind: what one flushes late must not set a vehicle's last call back."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await called(bench.store, after(HOUR_MS))
    await called(bench.store, after(MINUTE_MS))
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert (record.last_seen_at, record.gaps) == (after(HOUR_MS), Gaps())
    assert (await bench.store.contacts(["eu"], now=after(HOUR_MS // 2)))["eu"].recent == 0
    assert (await bench.store.contacts(["eu"], now=after(3 * HOUR_MS // 2)))["eu"].recent == 1


async def test_contact_that_is_written_again_counts_once(bench: StoreBench) -> None:
    """What was done and not confirmed is written again until it is: a day later the region would seem to be dark."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    for _ in range(3):
        await called(bench.store, NOW, V1)
    await called(bench.store, NOW, V1, V2)
    await called(bench.store, after(MINUTE_MS), V1)
    assert (await bench.store.contacts(["eu"], now=after(HOUR_MS // 2)))["eu"].recent == 3


async def test_of_two_contacts_at_the_same_time_the_later_word_stays(bench: StoreBench) -> None:
    """It is one moment, and counts once; what was told last is what is so."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    for battery in (20, 90):
        await bench.store.touch({V1: Contact(at=NOW, conditions=some_conditions(battery_percent=battery))})
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.conditions == some_conditions(battery_percent=90)


async def test_contacts_of_a_region_are_compared_with_the_day_before(bench: StoreBench) -> None:
    """Whole half hours: what is counted yet is not held against what was counted fully."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2"), a_vehicle("u-1", region="us")], now=NOW)
    await called(bench.store, NOW, V1, V2, VehicleId("u-1"))
    await called(bench.store, after(DAY_MS), V1)
    await called(bench.store, after(DAY_MS + 1), V2, VehicleId("stranger"))
    half = HOUR_MS // 2
    rates = await bench.store.contacts(["eu", "us", "nowhere"], now=after(DAY_MS + half))
    assert rates == {"eu": ContactRate(2, 2), "us": ContactRate(0, 1), "nowhere": ContactRate(0, 0)}
    assert (await bench.store.contacts(["eu"], now=after(DAY_MS + half - 1)))["eu"] == ContactRate(0, 0)
    assert (await bench.store.contacts(["eu"], now=after(DAY_MS + 2 * half)))["eu"] == ContactRate(0, 0)
    assert await bench.store.contacts([], now=NOW) == {}


async def test_count_of_an_old_half_hour_is_nobodys(bench: StoreBench) -> None:
    """What is kept is a ring: a count of last week must not stand for yesterday's."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    half = HOUR_MS // 2
    await called(bench.store, NOW)
    await called(bench.store, after(50 * half))
    assert (await bench.store.contacts(["eu"], now=after(51 * half)))["eu"] == ContactRate(1, 0)
    await called(bench.store, NOW, V2)
    assert (await bench.store.contacts(["eu"], now=after(51 * half)))["eu"] == ContactRate(1, 0), "too late to count"


async def test_frequent_caller_is_judged_at_the_age_of_its_habit(bench: StoreBench) -> None:
    """Six hours without a word say more of an hourly caller than a day of a weekly one; the pool stays as it was."""
    often = an_attempt(habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,))
    await permitted(bench.store, often)
    await permitted(bench.store, an_attempt(vehicle_id="v-2", habit=Habit.SELDOM))
    await sweep_all(bench.store, after(6 * HOUR_MS - 1))
    assert (await tally(bench.store)).habit_groups == {}
    await sweep_all(bench.store, after(6 * HOUR_MS))
    found = await tally(bench.store)
    assert found.habit_groups == {SIX_HOURS: AgeGroup(exposed=1, silent=1)}
    assert found.age_groups == (AgeGroup(), AgeGroup())
    cases = await bench.store.cases(rollout_id=None, settled=True)
    assert "silent" not in [case.cause for case in cases], "most of them call yet"
    await tell(bench.store, often, E.FAILED, now=after(7 * HOUR_MS))
    assert (await tally(bench.store)).habit_groups == {SIX_HOURS: AgeGroup(exposed=1, silent=1)}, "frozen"
    (entry,) = await entries(bench.store, "habit_aged")
    assert (entry.data["habit"], entry.data["age_ms"], entry.data["silent"]) == ("often", 6 * HOUR_MS, True)


async def test_control_is_silent_until_it_calls_again(bench: StoreBench) -> None:
    """The same question to a vehicle that did not install: was it heard since?"""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    await called(bench.store, NOW, V1, V2)
    for name in ("v-1", "v-2"):
        assert await bench.store.enrol(a_control(name))
    await called(bench.store, after(HOUR_MS), V1)
    await sweep_all(bench.store, after(6 * HOUR_MS))
    found = await tally(bench.store)
    assert found.habit_groups == {SIX_HOURS: AgeGroup(controls=2, controls_silent=1)}
    await called(bench.store, after(7 * HOUR_MS), V2)
    await sweep_all(bench.store, after(3 * DAY_MS))
    found = await tally(bench.store)
    assert found.age_groups == (AgeGroup(controls=2), AgeGroup(controls=2))
    assert found.exposed == found.granted == 0
    assert [one.data["vehicle_id"] for one in await entries(bench.store, "control_silent")] == ["v-2"]
    assert len(await entries(bench.store, "control_enrolled")) == 2


async def test_contact_at_which_a_control_asked_is_no_word_of_it(bench: StoreBench) -> None:
    """It asks, is told to wait, and asks again within the same contact: an exposure says nothing so early either."""
    await bench.store.import_vehicles([a_vehicle(), a_vehicle("v-2")], now=NOW)
    for name in ("v-1", "v-2"):
        assert await bench.store.enrol(a_control(name))
    await called(bench.store, after(HEARD_AFTER_MS - 1), V1)
    await called(bench.store, after(HEARD_AFTER_MS), V2)
    await sweep_all(bench.store, after(6 * HOUR_MS))
    found = await tally(bench.store)
    assert found.habit_groups == {SIX_HOURS: AgeGroup(controls=2, controls_silent=1)}
    assert [one.data["vehicle_id"] for one in await entries(bench.store, "control_silent")] == ["v-1"]


async def test_vehicle_is_watched_once_since_one_time_under_any_concurrency(bench: StoreBench) -> None:
    """Who asks again because the answer was lost is told the same, and is no second observation."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    answers = await asyncio.gather(*(bench.store.enrol(a_control()) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]
    await sweep_all(bench.store, after(DAY_MS))
    assert not await bench.store.enrol(a_control()), "nor once it was counted"
    await sweep_all(bench.store, after(3 * DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(controls=1, controls_silent=1),) * 2
    assert len(await entries(bench.store, "control_enrolled")) == 1


async def test_watches_of_one_vehicle_may_overlap(bench: StoreBench) -> None:
    """Each time at which the coin lets it wait is an observation of its own, as each exposure is."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    assert await bench.store.enrol(a_control())
    assert await bench.store.enrol(a_control(enrolled_at=after(HOUR_MS)))
    assert await bench.store.enrol(a_control(rollout_id=RolloutId("autumn")))
    await called(bench.store, after(HOUR_MS))
    await sweep_all(bench.store, after(DAY_MS + HOUR_MS))
    assert (await tally(bench.store)).age_groups[0] == AgeGroup(controls=2, controls_silent=1)


@pytest.mark.parametrize("paired", [False, True])
async def test_exposure_in_no_trial_is_counted_apart(bench: StoreBench, paired: bool) -> None:
    """No control stands beside it: its silence counts among all, and is compared with nobody's."""
    left_out = an_attempt(habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,))
    await permitted(bench.store, left_out, paired=paired)
    again = await bench.store.permit(left_out.attempt_id, permitted_at=NOW, paired=not paired)
    assert isinstance(again, Applied)
    assert again.record.attempt is not None
    assert again.record.attempt.paired is paired, "the first permit fixed it"
    await permitted(bench.store, an_attempt(vehicle_id="v-2", habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,)))
    await sweep_all(bench.store, after(6 * HOUR_MS))
    await tell(bench.store, left_out, E.FAILED, now=after(7 * HOUR_MS))
    await sweep_all(bench.store, after(DAY_MS))
    found, apart = await tally(bench.store), int(not paired)
    early, first = found.habit_groups[SIX_HOURS], found.age_groups[0]
    assert early == AgeGroup(exposed=2, silent=2, unpaired=apart, unpaired_silent=apart)
    assert first == AgeGroup(exposed=2, silent=1, unpaired=apart), "its own word settled it before"
    assert (first.paired, first.paired_silent) == (2 - apart, 1)


async def test_vehicle_that_is_not_in_the_inventory_is_no_control(bench: StoreBench) -> None:
    """Who was sold is silent for another reason."""
    assert not await bench.store.enrol(a_control())
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    assert await bench.store.enrol(a_control())
    assert await bench.store.remove_vehicle(V1, actor="ann", reason="sold", now=NOW) is True
    await sweep_all(bench.store, after(3 * DAY_MS))
    assert (await bench.store.tallies([SPRING]))[SPRING] == {}
    assert await bench.store.recount([SPRING]) == await bench.store.tallies([SPRING])


async def test_control_that_is_permitted_goes_on_being_one(bench: StoreBench) -> None:
    """It was heard since: leaving it out would keep the silent ones only, and call a brick normal."""
    await permitted(bench.store)
    assert await bench.store.enrol(a_control())
    await called(bench.store, after(HEARD_AFTER_MS))
    await sweep_all(bench.store, after(DAY_MS))
    assert (await tally(bench.store)).age_groups[0] == AgeGroup(exposed=1, silent=1, controls=1)


@pytest.mark.parametrize("heard", [False, True])
async def test_grant_without_a_word_since_is_a_loss_before_the_permit(bench: StoreBench, heard: bool) -> None:
    """A payload that kills the agent while it downloads shows here and nowhere else."""
    await assigned(bench.store)
    await called(bench.store, NOW)
    if heard:
        await called(bench.store, after(1))
    await sweep_all(bench.store, after(DAY_MS))
    assert (await tally(bench.store)).grants == AgeGroup(exposed=1, silent=int(not heard))
    assert len(await entries(bench.store, "grant_silent")) == int(not heard)


async def test_grant_that_became_an_exposure_is_no_loss_before_the_permit(bench: StoreBench) -> None:
    """It is judged as an exposure; twice would be once too often."""
    await permitted(bench.store)
    await sweep_all(bench.store, after(DAY_MS))
    found = await tally(bench.store)
    assert found.grants == AgeGroup(exposed=1, silent=0)
    assert found.age_groups[0] == AgeGroup(exposed=1, silent=1)


async def test_ages_of_a_dark_region_wait_and_its_deadlines_do_not(bench: StoreBench) -> None:
    """Who cannot be heard is not silent; but a slot is not held by a network that is down."""
    await permitted(bench.store, an_attempt(habit=Habit.OFTEN, habit_ages_ms=(6 * HOUR_MS,)))
    late = await assigned(bench.store, an_attempt(vehicle_id="v-2"))
    assert await bench.store.enrol(a_control(enrolled_at=after(1)))
    await sweep_all(bench.store, after(DAY_MS + 1), dark=["eu"])
    dark = await tally(bench.store)
    assert (dark.age_groups, dark.habit_groups, dark.grants) == ((AgeGroup(), AgeGroup()), {}, AgeGroup())
    record = await bench.store.vehicle(late.vehicle_id)
    assert record is not None
    assert record.attempt is not None
    assert record.attempt.state is S.TIMED_OUT
    await sweep_all(bench.store, after(DAY_MS + DARK_WAIT_MS))
    assert (await tally(bench.store)).age_groups[0] == AgeGroup(), "a quarter of an hour to call again"
    await sweep_all(bench.store, after(DAY_MS + 1 + DARK_WAIT_MS))
    bright = await tally(bench.store)
    assert bright.age_groups[0] == AgeGroup(exposed=1, silent=1, controls=1, controls_silent=1)
    assert bright.grants.exposed == 2
    await sweep_all(bench.store, after(2 * DAY_MS), dark=["us"])
    assert (await tally(bench.store)) == bright


async def test_critical_diagnosis_after_the_permit_counts_once_and_not_beside_a_failure(bench: StoreBench) -> None:
    """Installed, but not well: a failure that no report of the installation tells."""
    attempt = await permitted(bench.store)
    for _ in range(2):
        await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=after(1))
    found = await tally(bench.store)
    assert (found.diagnosed, found.failed) == (1, 1)
    await tell(bench.store, attempt, E.FAILED, now=after(2))
    found = await tally(bench.store)
    assert (found.diagnosed, found.failed) == (0, 1)


async def test_critical_diagnosis_counts_where_silence_had_opened_the_case(bench: StoreBench) -> None:
    """One case an attempt; but the vehicle that comes back ill is a failure all the same."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(DAY_MS))
    assert not await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=after(2 * DAY_MS))
    assert (await tally(bench.store)).diagnosed == 1


async def test_diagnosis_before_the_permit_is_not_the_updates(bench: StoreBench) -> None:
    """Who was ill before was not hurt by it."""
    attempt = await assigned(bench.store)
    assert not await bench.store.diagnose(attempt.attempt_id, detail="U0100", now=NOW)
    assert (await tally(bench.store)).diagnosed == 0


@pytest.mark.parametrize("event", [E.FAILED, E.ROLLED_BACK])
async def test_safety_report_stays_whatever_is_attested_later(bench: StoreBench, event: AttemptEvent) -> None:
    """Somebody may have been hurt: a vehicle that is well again does not undo that."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, event, failure_code="safety_brake_assist")
    assert (await tally(bench.store)).safety == 1
    await bench.store.change(attempt.attempt_id, E.ATTESTED_RELEASE, now=after(1))
    found = await tally(bench.store)
    assert (found.safety, found.succeeded) == (1, 1)


async def test_failure_before_the_permit_is_no_safety_report_of_an_exposure(bench: StoreBench) -> None:
    """The code alone proves nothing: nothing was installed."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.FAILED, failure_code="safety_brake_assist")
    assert (await tally(bench.store)).safety == 0
