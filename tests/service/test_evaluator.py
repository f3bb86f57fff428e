"""The evaluator on the reference store: what a tick settles, decides, and when it gives no sign of life."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping

import pytest

from orchestrator import evaluator as evaluator_module
from orchestrator.engine.gates import Judgement, judge_rollout
from orchestrator.engine.progress import ResumeRequested
from orchestrator.ledger import LedgerEntry, LedgerError
from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.tally import CellTallies
from orchestrator.service.director import assigned
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.store.base import Permitted, Reserved, StoreUnavailableError
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    SECOND_MS,
    a_permit_request,
    a_rollout,
    a_slot_request,
    an_attempt,
)
from tests.ledger.reading import rollout_story
from tests.service.world import TICK_LIFE_MS, Car, World

SPRING = RolloutId("spring")
ONE_AT_A_TIME = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {in_flight: 1}\n"
ONE_AT_RISK = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {blast_budget: 1}\n"
QUICK = """
release: 1.1.0
holdout: 0%
waves: [{name: all, soak: 1h}]
gate: {checkpoints: [1h], silence_reference: [5%]}
"""


async def test_tick_that_fails_gives_no_sign_of_life(world: World) -> None:
    """Whatever breaks inside a tick, grants stop by themselves ten seconds after the last whole one."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    world.hand.advance(TICK_LIFE_MS - SECOND_MS)
    world.store.fail_with = StoreUnavailableError("gone")
    with pytest.raises(StoreUnavailableError):
        await world.evaluator.tick()
    world.store.fail_with = None
    world.hand.advance(SECOND_MS)
    assert (await world.check_in(car)).directive is None
    assert world.metrics.refusals.labels(reason="evaluator_silent")._value.get() == 1


async def test_tick_without_the_ledger_gives_no_sign_of_life_and_loses_nothing(world: World) -> None:
    """What is not recorded cannot be replayed: no ledger, no grants."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.granted(car)
    before = len(await world.journal("attempt_granted"))
    lock = sqlite3.connect(world.folder / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(LedgerError):
            await world.evaluator.tick()
    finally:
        lock.rollback()
        lock.close()
    assert len(await world.journal("attempt_granted")) == before == 1
    await world.evaluator.tick()
    assert all(not batch for batch in (await world.feed.look(await world.feed.marks())).batches.values())
    assert await world.ledger.outcomes("spring") == {"offered": 1}


async def test_evaluator_survives_a_tick_that_fails_in_an_unforeseen_way(world: World) -> None:
    """A defect in one rollout's judgement must not take the whole service down: it logs, and grants stop."""
    world.store.fail_with = ZeroDivisionError("a defect")
    running = asyncio.ensure_future(world.evaluator.run(0.0))
    await asyncio.sleep(0.05)
    assert not running.done()
    world.store.fail_with = None
    while not world.metrics.evaluator_last_tick._value.get():  # noqa: ASYNC110 - a gauge cannot be awaited
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_orphan_permit_is_completed_on_the_vehicles_shard(world: World) -> None:
    """A worker died between the rollout's keys and the vehicle's: the exposure counts from its first second."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.downloaded(car)
    permitted = await world.store.authorize(SPRING, attempt_id, a_permit_request(valid_ms=MINUTE_MS, now=world.now))
    assert isinstance(permitted, Permitted)
    assert await world.state(car) is AttemptState.DOWNLOADED
    await world.tick()
    assert await world.state(car) is AttemptState.DOWNLOADED, "its worker may still be on the way"
    world.hand.advance(6 * SECOND_MS)
    await world.tick()
    attempt = await world.attempt(car)
    assert (attempt.state, attempt.permitted_at) == (AttemptState.PERMITTED, permitted.permitted_at)
    assert not (await world.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits


async def test_orphan_permit_of_an_attempt_that_ended_gives_its_place_in_the_budget_back(world: World) -> None:
    """Nobody was told of it and nobody is exposed by it: it must not spend the budget for ever."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start(ONE_AT_RISK)
    attempt_id = await world.downloaded(car)
    await world.store.authorize(SPRING, attempt_id, a_permit_request(valid_ms=MINUTE_MS, now=world.now))
    await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.REJECTED, "no_space"))
    world.hand.advance(6 * SECOND_MS)
    await world.tick()
    assert await world.state(car) is AttemptState.REJECTED
    assert not (await world.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits
    await world.permitted(other)
    assert (await world.counted()).exposed == 1


async def test_lost_reservation_returns_and_its_late_assignment_is_refused(world: World) -> None:
    """A worker that died, or froze, between reserve and assign: the slot comes back exactly once."""
    frozen, other = Car("v-1"), Car("v-2")
    await world.add(frozen, other)
    rollout = await world.start(ONE_AT_A_TIME)
    lost = AttemptId("spring.v-1.1")
    reserved = await world.store.reserve(SPRING, lost, a_slot_request(total_max=1, epoch=rollout.epoch))
    assert isinstance(reserved, Reserved)
    await world.tick()
    assert (await world.check_in(other)).directive is None, "the slot may still be taken up"
    world.hand.advance(6 * SECOND_MS)
    await world.tick()
    assert await world.granted(other) == "spring.v-2.1"
    record = await world.record(frozen)
    late = an_attempt(vehicle_id="v-1")
    state = record.director
    answer = await world.store.assign(
        late, assigned(state, late.release, world.now), expected_timestamp_version=state.timestamp_version
    )
    assert isinstance(answer, Refusal)
    assert answer.reason is RefusalReason.TOMBSTONED


async def test_live_reservation_is_kept(world: World) -> None:
    """Looking into what is unconfirmed must not take away what is in use."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start(ONE_AT_A_TIME)
    await world.granted(car)
    world.hand.advance(MINUTE_MS)
    await world.tick()
    await world.tick()
    assert (await world.check_in(other)).directive is None
    assert (await world.counted()).in_flight == 1


async def test_deadline_frees_the_slot_of_a_vehicle_that_went_away(world: World) -> None:
    """A car in a garage must not hold up the fleet."""
    gone, other = Car("v-1"), Car("v-2")
    await world.add(gone, other)
    await world.start(ONE_AT_A_TIME)
    await world.granted(gone)
    world.hand.advance(DAY_MS + 1)
    await world.tick()
    assert await world.state(gone) is AttemptState.TIMED_OUT
    await world.tick()
    assert await world.granted(other) == "spring.v-2.1"


async def test_exposed_vehicle_that_falls_silent_becomes_a_case(world: World) -> None:
    """Nobody reports a bricked car but its silence."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.permitted(car)
    world.hand.advance(DAY_MS + 1)
    await world.tick()
    (case,) = await world.store.cases(rollout_id=None, settled=False)
    assert (case.attempt_id, case.cause) == (attempt_id, "timed_out")
    tally = await world.counted()
    assert (tally.age_groups[0].exposed, tally.age_groups[0].silent) == (1, 1)
    assert world.metrics.cases_open.labels(rollout="spring")._value.get() == 1


async def test_failures_stop_the_rollout_with_the_numbers_and_raise_the_fence(world: World) -> None:
    """A bad release stops by itself, and says why."""
    cars = [Car(f"v-{number}") for number in range(1, 6)]
    late = Car("late")
    await world.add(*cars, late)
    await world.start()
    doomed = await world.downloaded(late)
    for car in cars:
        attempt_id = await world.permitted(car)
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    await world.tick()
    rollout = await world.rollout()
    assert rollout.status is RolloutStatus.HALTED
    assert rollout.fence == rollout.epoch == 2
    assert rollout.verdict is not None
    assert rollout.verdict.inputs
    refused = await world.permits.authorize(late.vehicle_id, doomed)
    assert refused.refusal is not None
    assert refused.refusal.reason is RefusalReason.ROLLOUT_HALTED
    await world.tick()
    story = await rollout_story(world.ledger_file, "spring")
    (halted,) = [item.entry for item in story if item.entry.kind == "rollout_halted"]
    assert halted.data["actor"] == "gate"
    assert (await world.rollout()).epoch == 2, "and nothing halts it twice"


async def test_good_rollout_walks_to_its_end_by_itself(world: World) -> None:
    """Nobody should have to press a button for a release that works."""
    cars = [Car(f"v-{number}") for number in range(1, 4)]
    await world.add(*cars)
    (release,) = await world.store.releases()
    await world.start(QUICK)
    for car in cars:
        await world.permitted(car)
        await world.manifests.submit(car.vehicle_id, car.manifest(world.now, release))
    for _ in range(6):
        await world.tick()
        world.hand.advance(HOUR_MS)
    await world.tick()
    assert (await world.rollout()).status is RolloutStatus.COMPLETED
    assert await world.ledger.outcomes("spring") == {"succeeded": 3}
    assert (await world.store.recount([SPRING])) == (await world.store.tallies([SPRING]))


async def test_second_evaluator_is_harmless(world: World) -> None:
    """Two supervisors may both believe that they are the one: compare-and-set decides, each entry goes once."""
    cars = [Car(f"v-{number}") for number in range(1, 6)]
    await world.add(*cars)
    await world.start()
    for car in cars:
        attempt_id = await world.permitted(car)
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    twin = world.an_evaluator(LedgerFeed(world.store, world.ledger))
    await asyncio.gather(world.evaluator.tick(), twin.tick())
    await asyncio.gather(world.evaluator.tick(), twin.tick())
    assert (await world.rollout()).epoch == 2
    report = await world.ledger.verify()
    assert report.ok
    states = await world.ledger.outcomes("spring")
    assert states == {"failed": 5}


async def test_start_without_proof_pauses_and_says_why(world: World) -> None:
    """A store that lost something may have lost a failure: a person looks before anything goes on."""
    await world.add(Car("v-1"))
    await world.start()
    assert await world.evaluator.recover() == "", "the same data, nothing missing"
    assert (await world.rollout()).status is RolloutStatus.RUNNING
    with sqlite3.connect(world.folder / "ledger.sqlite3") as ledger:
        ledger.execute("UPDATE meta SET value = 'another' WHERE name = 'dataset_id'")
    why = await world.evaluator.recover()
    assert why == "the store holds data set memory, the ledger belongs to another"
    rollout = await world.rollout()
    assert (rollout.status, rollout.actor, rollout.reason) == (RolloutStatus.PAUSED, "recovery", why)
    assert await world.an_evaluator(world.feed).recover() == why
    assert (await world.rollout()).epoch == rollout.epoch, "a second start changes nothing more"


async def test_store_that_goes_back_under_a_living_evaluator_pauses_everything(world: World) -> None:
    """A failover that lost acknowledged writes must not go on as if nothing were missing; a person's resume stands."""
    car = Car("v-1")
    await world.add(car)
    await world.evaluator.recover()
    await world.start()
    await world.granted(car)
    await world.tick()
    ahead = LedgerEntry(stream="shard/0", entry_id=f"{10**14}-0", kind="event_ignored", at=0, data={})
    await world.ledger.append([ahead])
    await world.tick()
    paused = await world.rollout()
    assert (paused.status, paused.actor) == (RolloutStatus.PAUSED, "recovery")
    assert "the ledger has seen" in paused.reason
    await world.rollouts.request(SPRING, ResumeRequested("ann", "looked into it"), etag="")
    await world.tick()
    assert (await world.rollout()).status is RolloutStatus.RUNNING


async def test_pause_that_the_store_did_not_take_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Just after a failover the store often fails once more: what it has forgotten must not run on for that."""
    await world.add(Car("v-1"))
    await world.evaluator.recover()
    await world.start()
    ahead = LedgerEntry(stream="shard/0", entry_id=f"{10**14}-0", kind="event_ignored", at=0, data={})
    await world.ledger.append([ahead])
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "transition", unavailable)
        with pytest.raises(StoreUnavailableError):
            await world.tick()
    await world.tick()
    assert (await world.rollout()).status is RolloutStatus.PAUSED


async def unavailable(*_: object, **__: object) -> None:
    """An operation of which nothing is known but that it had no answer."""
    raise StoreUnavailableError("gone")


async def test_defect_of_one_rollout_stops_that_rollout_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record that cannot be judged must not be able to stop every rollout of the fleet."""
    car = Car("v-1")
    await world.add(car)
    await world.start(ONE_AT_A_TIME, rollout_id="ill")
    await world.start(ONE_AT_A_TIME)

    def judged(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], now: FleetTime) -> Judgement:
        if broken:
            broken.pop()
            raise ValueError("numbers that nobody foresaw")
        return judge_rollout(rollout, cells, waiting, now)

    broken = [True]
    monkeypatch.setattr(evaluator_module, "judge_rollout", judged)
    world.hand.advance(TICK_LIFE_MS)
    await world.tick()
    answers = {}
    for name in ("spring", "ill"):
        answers[name] = await world.store.reserve(
            RolloutId(name), AttemptId(f"{name}.v-1.1"), a_slot_request(total_max=1)
        )
    refused = [answer for answer in answers.values() if isinstance(answer, Refusal)]
    assert [refusal.reason for refusal in refused] == [RefusalReason.EVALUATOR_SILENT]


async def test_what_is_due_is_counted_before_it_is_judged_however_much_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate that saw one batch of many silent vehicles would permit more, and its sign of life would say so."""
    cars = [Car(f"v-{number}") for number in range(5)]
    await world.add(*cars)
    await world.start(QUICK)
    for car in cars:
        await world.permitted(car)
    seen: list[int] = []

    def judged(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], now: FleetTime) -> Judgement:
        seen.append(sum(group.exposed for tally in cells.values() for group in tally.age_groups))
        return judge_rollout(rollout, cells, waiting, now)

    monkeypatch.setattr(evaluator_module, "judge_rollout", judged)
    monkeypatch.setattr(evaluator_module, "SWEEP_BATCH", 1)
    await world.tick()
    world.hand.advance(2 * HOUR_MS)
    await world.tick()
    assert seen == [0, 5]


async def test_clock_that_jumps_ahead_takes_nobodys_silence_for_a_brick(world: World) -> None:
    """A suspended host wakes a day later: nobody could be heard, so nobody was silent."""
    cars = [Car(f"v-{number}") for number in range(3)]
    await world.add(*cars)
    await world.start(QUICK)
    for car in cars:
        await world.permitted(car)
    evaluator = world.an_evaluator(world.feed, unnoticed_s=15)
    await evaluator.tick()
    world.hand.advance(26 * HOUR_MS)
    await evaluator.tick()
    assert (await world.rollout()).status is RolloutStatus.RUNNING
    assert sum(group.silent for group in (await world.counted()).age_groups) == 0


def test_sweep_knows_the_fences_of_parts_as_well() -> None:
    """A halted stratum takes back what was granted in it, also from vehicles that never call."""
    halted = a_rollout(fence=3, fences={"eu/gen2": 5})
    assert evaluator_module.fences_of([halted, a_rollout(rollout_id="autumn")]) == {"spring": 3, "spring|eu/gen2": 5}
