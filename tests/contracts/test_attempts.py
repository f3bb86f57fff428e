"""What every store promises about vehicles and their attempts: assign, resolve, permit, apply, change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.model.attempt import BEFORE_PERMIT_STATES, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, VehicleId
from orchestrator.model.vehicle import DirectorState
from orchestrator.store.base import Applied
from tests.builders import DEADLINES_MS, HOUR_MS, NOW, a_vehicle, after, an_attempt
from tests.contracts.steps import (
    DIRECTOR,
    V1,
    assigned,
    entries,
    permitted,
    reason,
    state_of,
    sweep_all,
    tell,
)
from tests.store_fixtures import StoreBench

E = AttemptEvent
S = AttemptState


def an_event(number: int, event: AttemptEvent = E.DOWNLOAD_STARTED, attempt_id: str = "spring.v-1.1") -> VehicleEvent:
    return VehicleEvent(number=number, attempt_id=AttemptId(attempt_id), event=event)


async def test_assigned_attempt_comes_back_exactly(bench: StoreBench) -> None:
    """Every field of attempt, Director state and try is what was written."""
    attempt = an_attempt(failure_code="x", checkpoints_ms=(1, 2, 3), aged=(), silent=(), epoch=4)
    await assigned(bench.store, attempt)
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.attempt == attempt
    assert record.director == DIRECTOR
    assert dict(record.tries)[attempt.rollout_id].number == 1
    assert list(await bench.store.attempts(V1)) == [attempt]


async def test_assigning_again_changes_nothing(bench: StoreBench) -> None:
    """A repeated assign after progress must not set the attempt back nor count it twice."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.DOWNLOAD_STARTED)
    answer = await bench.store.assign(attempt, DirectorState(version=99), expected_timestamp_version=0)
    assert isinstance(answer, Applied)
    assert answer.record.attempt is not None
    assert answer.record.attempt.state is S.DOWNLOADING
    assert answer.record.director == DIRECTOR
    tallies = await bench.store.tallies([attempt.rollout_id])
    assert [tally.granted for tally in tallies[attempt.rollout_id].values()] == [1]
    assert len(await entries(bench.store, "attempt_granted")) == 1


@pytest.mark.uptane("A19", "D5", "A18")
async def test_vehicle_has_one_live_attempt_at_most(bench: StoreBench) -> None:
    """Two rollouts must not install into one vehicle at once; of two concurrent assigns one wins."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    spring, autumn = an_attempt(), an_attempt(rollout_id="autumn")
    answers = await asyncio.gather(
        *(bench.store.assign(one, DIRECTOR, expected_timestamp_version=0) for one in (spring, autumn))
    )
    won = [isinstance(answer, Applied) for answer in answers]
    assert sorted(won) == [False, True]
    assert reason(answers[won.index(False)]) == "attempt_live"


async def test_next_attempt_follows_once_the_last_is_over(bench: StoreBench) -> None:
    """A retry is a new attempt with the next number; both stay on record, newest first."""
    first = await assigned(bench.store)
    await tell(bench.store, first, E.FAILED, failure_code="disk_full")
    second = an_attempt(number=2, granted_at=after(5), state_at=after(5))
    await assigned(bench.store, second)
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.attempt == second
    assert record.tries[second.rollout_id].number == 2
    assert [attempt.number for attempt in await bench.store.attempts(V1)] == [2, 1]


async def test_attempt_of_an_unknown_vehicle_is_refused(bench: StoreBench) -> None:
    """Nothing is made up for a vehicle that is not in the inventory."""
    assert reason(await bench.store.assign(an_attempt(), DIRECTOR, expected_timestamp_version=0)) == "unknown_attempt"
    assert await bench.store.attempts(V1) == []


async def test_lost_reservation_refuses_its_late_assign_for_ever(bench: StoreBench) -> None:
    """The slot was given back: an assign that arrives late would run without one."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    assert not await bench.store.resolve(AttemptId("spring.v-1.1"))
    assert not await bench.store.resolve(AttemptId("spring.v-1.1"))
    assert reason(await bench.store.assign(an_attempt(), DIRECTOR, expected_timestamp_version=0)) == "tombstoned"
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.attempt is None
    assert (await bench.store.tallies([RolloutId("spring")]))[RolloutId("spring")] == {}


async def test_vehicle_goes_on_after_a_lost_reservation(bench: StoreBench) -> None:
    """The tombstone raises the number, so the next consideration grants the next attempt instead of the dead one."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    await bench.store.resolve(AttemptId("spring.v-1.1"))
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.tries[RolloutId("spring")].number == 1
    assert not record.tries[RolloutId("spring")].exposed
    second = await assigned(bench.store, an_attempt(number=2))
    assert list(await bench.store.attempts(V1)) == [second]


async def test_resolve_knows_a_live_attempt(bench: StoreBench) -> None:
    """Assigned means: confirm the slot."""
    attempt = await assigned(bench.store)
    assert await bench.store.resolve(attempt.attempt_id)
    assert await state_of(bench.store, attempt) is S.OFFERED


async def test_resolve_gives_back_the_slot_of_an_ended_attempt(bench: StoreBench) -> None:
    """A reserve that arrived after its attempt's end would otherwise hold the slot for ever."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.REJECTED)
    assert not await bench.store.resolve(attempt.attempt_id)
    assert await state_of(bench.store, attempt) is S.REJECTED


@pytest.mark.parametrize("name", ["spring.v-9.1", "nonsense", "", "a.b.c", "spring.v-1.0x1"])
async def test_ids_that_lead_nowhere_are_harmless(bench: StoreBench, name: str) -> None:
    """Ids come over the wire; none may reach a key it should not."""
    await bench.store.import_vehicles([a_vehicle()], now=NOW)
    assert not await bench.store.resolve(AttemptId(name))
    assert reason(await bench.store.permit(AttemptId(name), permitted_at=NOW)) == "unknown_attempt"
    assert await bench.store.change(AttemptId(name), E.WITHDRAWN, now=NOW) is None


async def test_permit_begins_exposure(bench: StoreBench) -> None:
    """PERMITTED with its own deadline, exposed from the permit's time on."""
    attempt = await permitted(bench.store, at=after(HOUR_MS))
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.attempt == replace(
        attempt,
        state=S.PERMITTED,
        state_at=after(HOUR_MS),
        permitted_at=after(HOUR_MS),
        deadline_at=after(HOUR_MS + DEADLINES_MS[S.PERMITTED]),
    )
    assert record.tries[attempt.rollout_id].exposed


async def test_permit_is_recorded_once(bench: StoreBench) -> None:
    """Worker and evaluator may both record it, in any order and also when the attempt went on or ended."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.INSTALL_STARTED)
    answer = await bench.store.permit(attempt.attempt_id, permitted_at=after(999))
    assert isinstance(answer, Applied)
    assert answer.record.attempt is not None
    assert (answer.record.attempt.state, answer.record.attempt.permitted_at) == (S.INSTALLING, NOW)
    await tell(bench.store, attempt, E.FAILED)
    assert isinstance(await bench.store.permit(attempt.attempt_id, permitted_at=NOW), Applied)
    tallies = (await bench.store.tallies([attempt.rollout_id]))[attempt.rollout_id]
    assert [tally.exposed for tally in tallies.values()] == [1]


async def test_permit_needs_a_downloaded_attempt(bench: StoreBench) -> None:
    """A permit for anything else would count an exposure that cannot be."""
    attempt = await assigned(bench.store)
    assert reason(await bench.store.permit(attempt.attempt_id, permitted_at=NOW)) == "wrong_state"
    await tell(bench.store, attempt, E.DOWNLOAD_STARTED)
    assert reason(await bench.store.permit(attempt.attempt_id, permitted_at=NOW)) == "wrong_state"
    await tell(bench.store, attempt, E.REJECTED)
    assert reason(await bench.store.permit(attempt.attempt_id, permitted_at=NOW)) == "attempt_over"
    assert not (await bench.store.attempts(V1))[0].exposed


async def test_deferred_attempt_is_permitted_as_it_is(bench: StoreBench) -> None:
    """Who asks has what it was waiting for; a crash in between must not leave an exposure that no state leads to."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.DEFERRED, failure_code="consent_pending")
    answer = await bench.store.permit(attempt.attempt_id, permitted_at=NOW)
    assert isinstance(answer, Applied)
    (found,) = await bench.store.attempts(V1)
    assert (found.state, found.exposed, found.failure_code) == (S.PERMITTED, True, "")


async def test_events_are_applied_in_order_and_acknowledged(bench: StoreBench) -> None:
    """The reply says up to which number the vehicle may forget."""
    attempt = await assigned(bench.store)
    applied = await tell(bench.store, attempt, E.DOWNLOAD_STARTED, E.DOWNLOAD_FINISHED, now=after(7))
    assert applied.record.acknowledged_number == 2
    assert applied.record.attempt is not None
    assert applied.record.attempt.state is S.DOWNLOADED
    assert applied.record.attempt.deadline_at == after(7 + DEADLINES_MS[S.DOWNLOADED])
    changes = [(one.data["from"], one.data["to"]) for one in await entries(bench.store, "attempt_changed")]
    assert changes == [("offered", "downloading"), ("downloading", "downloaded")]


async def test_event_sent_again_counts_once(bench: StoreBench) -> None:
    """At least once on the wire is exactly once in the record."""
    attempt = await assigned(bench.store)
    events = [an_event(1), an_event(2, E.DOWNLOAD_FINISHED)]
    for _ in range(3):
        applied = await bench.store.apply(V1, outbox_id="box", oldest_number=1, events=events, now=NOW)
        assert applied.record.acknowledged_number == 2
    assert len(await entries(bench.store, "attempt_changed")) == 2
    assert await entries(bench.store, "event_ignored", "events_gap") == []
    tallies = (await bench.store.tallies([attempt.rollout_id]))[attempt.rollout_id]
    assert [dict(tally.before_permit) for tally in tallies.values()] == [{S.DOWNLOADED: 1}]


async def test_concurrent_repetitions_count_once(bench: StoreBench) -> None:
    """A vehicle's retry may overtake its first call on another worker."""
    await assigned(bench.store)
    calls = [
        bench.store.apply(V1, outbox_id="box", oldest_number=1, events=[an_event(1), an_event(2, E.REJECTED)], now=NOW)
        for _ in range(20)
    ]
    applied = await asyncio.gather(*calls)
    assert {one.record.acknowledged_number for one in applied} == {2}
    assert len(await entries(bench.store, "attempt_changed")) == 2


async def test_fresh_outbox_restarts_the_numbering(bench: StoreBench) -> None:
    """An agent that lost its state begins at one again and must be heard."""
    await assigned(bench.store)
    await bench.store.apply(
        V1, outbox_id="old", oldest_number=1, events=[an_event(1), an_event(2, E.DEFERRED)], now=NOW
    )
    applied = await bench.store.apply(V1, outbox_id="new", oldest_number=1, events=[an_event(1)], now=NOW)
    assert (applied.record.outbox_id, applied.record.acknowledged_number) == ("new", 1)
    assert applied.record.attempt is not None
    assert applied.record.attempt.state is S.DOWNLOADING


async def test_poll_without_events_registers_a_fresh_outbox(bench: StoreBench) -> None:
    """The acknowledged number in the reply must belong to the outbox that asks."""
    await assigned(bench.store)
    await bench.store.apply(V1, outbox_id="old", oldest_number=1, events=[an_event(1)], now=NOW)
    applied = await bench.store.apply(V1, outbox_id="new", oldest_number=0, events=[], now=NOW)
    assert (applied.record.outbox_id, applied.record.acknowledged_number) == ("new", 0)
    assert await entries(bench.store, "events_gap") == []


async def test_gap_is_recorded_and_skipped(bench: StoreBench) -> None:
    """Events that a vehicle no longer has must not block those it has; that something is missing is written down."""
    await assigned(bench.store)
    applied = await bench.store.apply(V1, outbox_id="box", oldest_number=4, events=[an_event(4)], now=after(3))
    assert applied.record.acknowledged_number == 4
    (gap,) = await entries(bench.store, "events_gap")
    assert (gap.at, gap.data) == (after(3), {"vehicle_id": "v-1", "outbox_id": "box", "first": 1, "last": 3})
    assert await state_of(bench.store, an_attempt()) is S.DOWNLOADING


async def test_gap_without_events_is_acknowledged_up_to_it(bench: StoreBench) -> None:
    """An outbox may have dropped everything but what it is about to send."""
    await assigned(bench.store)
    applied = await bench.store.apply(V1, outbox_id="box", oldest_number=6, events=[], now=NOW)
    assert applied.record.acknowledged_number == 5
    again = await bench.store.apply(V1, outbox_id="box", oldest_number=6, events=[], now=NOW)
    assert again.record.acknowledged_number == 5
    assert len(await entries(bench.store, "events_gap")) == 1


async def test_hole_between_events_is_a_gap_too(bench: StoreBench) -> None:
    """Whatever the vehicle says of its oldest number, what is missing is missing."""
    await assigned(bench.store)
    events = [an_event(1), an_event(3, E.DOWNLOAD_FINISHED)]
    applied = await bench.store.apply(V1, outbox_id="box", oldest_number=1, events=events, now=NOW)
    assert applied.record.acknowledged_number == 3
    (gap,) = await entries(bench.store, "events_gap")
    assert (gap.data["first"], gap.data["last"]) == (2, 2)


async def test_illegal_event_is_acknowledged_and_journalled_but_changes_nothing(bench: StoreBench) -> None:
    """Truth is what the table allows; the vehicle is not asked to send it for ever."""
    attempt = await assigned(bench.store)
    applied = await tell(bench.store, attempt, E.INSTALL_STARTED, failure_code="odd")
    assert applied.record.acknowledged_number == 1
    assert applied.record.attempt == attempt
    (ignored,) = await entries(bench.store, "event_ignored")
    assert ignored.data["why"] == "offered"
    assert (ignored.data["event"], ignored.data["failure_code"]) == ("install_started", "odd")


async def test_event_about_another_vehicles_attempt_is_ignored(bench: StoreBench) -> None:
    """A vehicle speaks for itself only, on the same shard too."""
    names = [f"w-{number}" for number in range(8)]
    await bench.store.import_vehicles([a_vehicle(name) for name in names], now=NOW)
    for name in names:
        await assigned(bench.store, an_attempt(vehicle_id=name))
    events = [an_event(number, attempt_id=f"spring.{name}.1") for number, name in enumerate(names[1:], start=1)]
    await bench.store.apply(VehicleId(names[0]), outbox_id="box", oldest_number=1, events=events, now=NOW)
    assert [await state_of(bench.store, an_attempt(vehicle_id=name)) for name in names] == [S.OFFERED] * 8
    ignored = await entries(bench.store, "event_ignored")
    assert {one.data["why"] for one in ignored} == {"unknown_attempt"}
    assert {one.data.get("rollout_id") for one in ignored} == {"spring"}, "the rollout's story has what was said of it"


async def test_unknown_vehicle_cannot_be_heard(bench: StoreBench) -> None:
    """The caller authenticated somebody who is not in the inventory."""
    with pytest.raises(KeyError):
        await bench.store.apply(VehicleId("ghost"), outbox_id="box", oldest_number=0, events=[], now=NOW)


async def test_late_word_corrects_a_timeout(bench: StoreBench) -> None:
    """Silence was our word; the vehicle's own replaces it and the counters follow."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(HOUR_MS))
    assert await state_of(bench.store, attempt) is S.TIMED_OUT
    await tell(bench.store, attempt, E.FAILED, now=after(2 * HOUR_MS), failure_code="flash_error")
    (correction,) = await entries(bench.store, "attempt_corrected")
    assert (correction.data["from"], correction.data["to"]) == ("timed_out", "failed")
    tallies = (await bench.store.tallies([attempt.rollout_id]))[attempt.rollout_id]
    assert [dict(tally.after_permit) for tally in tallies.values()] == [{S.FAILED: 1}]


async def test_late_word_about_an_earlier_attempt_leaves_the_latest_alone(bench: StoreBench) -> None:
    """The earlier attempt is corrected; the vehicle's record goes on telling of the latest."""
    first = await permitted(bench.store)
    await sweep_all(bench.store, after(HOUR_MS))
    second = await assigned(bench.store, an_attempt(number=2, granted_at=after(2 * HOUR_MS)))
    applied = await tell(bench.store, first, E.ROLLED_BACK, now=after(3 * HOUR_MS))
    assert await state_of(bench.store, first) is S.ROLLED_BACK
    assert applied.record.attempt == second
    assert applied.record.tries[first.rollout_id].state is S.OFFERED


async def test_change_withdraws_an_attempt_before_its_permit(bench: StoreBench) -> None:
    """The orchestrator takes back what was fenced; the reason is kept."""
    attempt = await assigned(bench.store)
    answer = await bench.store.change(attempt.attempt_id, E.WITHDRAWN, now=after(5), failure_code="fenced")
    assert answer is not None
    assert answer.record.attempt is not None
    assert (answer.record.attempt.state, answer.record.attempt.failure_code) == (S.WITHDRAWN, "fenced")
    assert answer.record.attempt.deadline_at is None


async def test_change_cannot_take_back_a_permit(bench: StoreBench) -> None:
    """Nothing interrupts a running install."""
    attempt = await permitted(bench.store)
    before = await bench.store.vehicle(V1)
    answer = await bench.store.change(attempt.attempt_id, E.WITHDRAWN, now=after(5), failure_code="fenced")
    assert answer is not None
    assert answer.record == before


async def test_deferred_attempt_says_so_in_the_journal(bench: StoreBench) -> None:
    """Whoever reads the story of a vehicle sees that it waited, and for what."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.DEFERRED, failure_code="no_consent")
    (change,) = await entries(bench.store, "attempt_changed")
    assert (change.data["to"], change.data["attempt_id"]) == ("deferred", attempt.attempt_id)
    assert change.data["rollout_id"] == "spring"


async def test_grant_is_journalled_with_what_it_was_based_on(bench: StoreBench) -> None:
    """Every decision can be explained: release, epoch, cell and Director version stand in the ledger."""
    await assigned(bench.store, an_attempt(epoch=3))
    (granted,) = await entries(bench.store, "attempt_granted")
    assert granted.at == NOW
    assert granted.data == {
        "rollout_id": "spring",
        "vehicle_id": "v-1",
        "attempt_id": "spring.v-1.1",
        "number": 1,
        "release": "1.1.0",
        "region": "eu",
        "hardware": "gen2",
        "cohort": "canary",
        "exposed": False,
        "epoch": 3,
        "director_version": 7,
    }


async def test_vehicle_that_defers_again_and_again_times_out_all_the_same(bench: StoreBench) -> None:
    """Postponing renews a deadline; it must not hold an in-flight slot for ever."""
    attempt = await assigned(bench.store)
    life_ms = sum(DEADLINES_MS[state] for state in BEFORE_PERMIT_STATES)
    number, now = 0, NOW
    while now < NOW + 2 * life_ms and not (await state_of(bench.store, attempt)).terminal:
        for event in (E.DEFERRED, E.DOWNLOAD_STARTED):
            number += 1
            await bench.store.apply(
                V1, outbox_id="o-1", oldest_number=1, events=[an_event(number, event)], now=FleetTime(now)
            )
        now = FleetTime(now + HOUR_MS)
        await sweep_all(bench.store, now)
    assert await state_of(bench.store, attempt) is S.TIMED_OUT
    assert now <= NOW + life_ms + HOUR_MS
