"""From journal to ledger: each entry once, whatever crashes in between; and when a start is not proven complete."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from orchestrator.ledger import Ledger, LedgerError
from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.ids import RolloutId
from orchestrator.service.ledger_feed import BATCH, ROUNDS_MAX, LedgerFeed, Look, ledger_entry, settlements
from orchestrator.store.base import Reserved
from orchestrator.store.memory import MemoryStore
from orchestrator.store.streams import position
from tests.builders import a_slot_request
from tests.ledger.reading import vehicle_history
from tests.service.world import PLAN, Car, World

SPRING = RolloutId("spring")


async def start(world: World) -> None:
    """A running rollout that the evaluator's keys know, without a look at the journal."""
    await world.rollouts.create(PLAN, rollout_id="spring", request_id="", actor="alice", reason="test")
    assert await world.store.renew(SPRING, permit_ceiling=10, grant_ceiling=10, began_ms=world.hand.now_ms, epoch=1)
    await world.snapshots.refresh()


async def look_of(feed: LedgerFeed) -> Look:
    """What a feed sees now."""
    return await feed.look(await feed.marks())


async def kinds(world: World) -> list[str]:
    """Kinds of all entries of a vehicle's attempts in the ledger, in order."""
    return [item.entry.kind for item in await vehicle_history(world.ledger_file, "v-1")]


async def test_crash_between_settling_and_writing_is_made_good_by_doing_both_again(world: World) -> None:
    """Settling is idempotent by attempt, so it may come first, and twice."""
    car = Car("v-1")
    await world.add(car)
    await start(world)
    attempt_id = await world.granted(car)
    await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.REJECTED, "no_space"))
    lock = sqlite3.connect(world.folder / "ledger.sqlite3", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError):
        await world.feed.run_once()
    lock.rollback()
    lock.close()
    assert await kinds(world) == []
    assert len(await world.journal("attempt_granted")) == 1, "it stays in the journal"

    carried = await world.feed.run_once()
    assert carried["attempt_granted"] == 1
    assert (await kinds(world)).count("attempt_granted") == 1
    assert not await world.feed.run_once(), "and nothing is carried a third time"
    assert not (await world.store.unsettled([SPRING], older_than_ms=-1))[SPRING].reservations
    other = await world.store.reserve(SPRING, attempt_id, a_slot_request(total_max=1))
    assert isinstance(other, Reserved), "the slot came back, once"


async def test_crash_between_writing_and_trimming_writes_nothing_twice(world: World) -> None:
    """The ledger's mark moves with the entry, so the journal may be read again."""
    car = Car("v-1")
    await world.add(car)
    await start(world)
    await world.granted(car)
    for stream in await world.store.journal_streams():
        entries = await world.store.journal(stream, after="", count=100)
        await world.ledger.append([ledger_entry(entry) for entry in entries])
    assert await world.feed.run_once() == {}
    assert (await kinds(world)).count("attempt_granted") == 1


ONE_AT_A_TIME = "release: 1.1.0\nholdout: 0%\nwaves: [{name: all}]\nlimits: {in_flight: 1}\n"


async def test_attempt_that_defers_gives_its_slot_to_another(world: World) -> None:
    """A vehicle that waits for its owner must not hold up those that could install."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start(ONE_AT_A_TIME)
    attempt_id = await world.granted(car)
    world.hand.advance(1)
    await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.DEFERRED, "consent_pending"))
    assert (await world.check_in(other)).directive is None, "the journal was not carried yet"
    await world.tick()
    assert await world.granted(other) == "spring.v-2.1"
    standing = await world.store.standing(SPRING, now=world.now)
    assert (standing.in_flight_total, sum(standing.admitted.values())) == (1, 2)


async def test_attempt_that_went_on_within_one_look_keeps_its_slot(world: World) -> None:
    """What it waited for a second ago is no reason to give away what it holds now."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start(ONE_AT_A_TIME)
    attempt_id = await world.granted(car)
    world.hand.advance(1)
    told = [(1, AttemptEvent.DEFERRED), (2, AttemptEvent.DOWNLOAD_FINISHED)]
    await world.check_in(car, *(VehicleEvent(number, attempt_id, event, "not_parked") for number, event in told))
    await world.tick()
    assert (await world.check_in(other)).directive is None
    assert (await world.permits.authorize(car.vehicle_id, attempt_id)).refusal is None


async def test_old_deferral_does_not_empty_the_slot_of_a_permit(world: World) -> None:
    """The journal is carried late: the vehicle may have gone on, and install, before its deferral is read."""
    car, other = Car("v-1"), Car("v-2")
    await world.add(car, other)
    await world.start(ONE_AT_A_TIME)
    attempt_id = await world.granted(car)
    world.hand.advance(1)
    await world.check_in(car, VehicleEvent(1, attempt_id, AttemptEvent.DEFERRED, "consent_pending"))
    entries = [
        entry for stream in ("shard/0", "shard/1") for entry in await world.store.journal(stream, after="", count=9)
    ]
    world.hand.advance(1)
    assert (await world.permits.authorize(car.vehicle_id, attempt_id, consented=True)).refusal is None
    deferred = settlements(entries)[SPRING].deferred
    assert list(deferred) == [attempt_id]
    await world.store.suspend(SPRING, deferred)
    assert (await world.check_in(other)).directive is None


async def test_first_start_binds_the_ledger_and_the_same_data_pass_ever_after(world: World) -> None:
    """What was started together belongs together."""
    assert await world.feed.gaps() == {}
    assert await world.ledger.dataset_id() == await world.store.dataset_id()
    await world.add(Car("v-1"))
    await world.feed.run_once()
    assert await world.feed.gaps() == {}


async def test_other_data_set_is_a_gap(world: World) -> None:
    """A store from a backup of another installation must not run on with this ledger."""
    await world.feed.gaps()
    other = MemoryStore(2, machine_ms=lambda: world.hand.now_ms, dataset_id="other")
    assert await LedgerFeed(other, world.ledger).gaps() == {
        "dataset": "the store holds data set other, the ledger belongs to memory"
    }


async def test_journal_behind_the_ledgers_mark_is_a_gap(world: World) -> None:
    """The ledger has seen what the store does not know any more: acknowledgements are missing."""
    await world.feed.gaps()
    await world.add(Car("v-1"))
    await world.feed.run_once()
    emptied = MemoryStore(2, machine_ms=lambda: world.hand.now_ms)
    assert await emptied.dataset_id() == await world.store.dataset_id()
    gaps = await LedgerFeed(emptied, world.ledger).gaps()
    assert all("ends at nothing, the ledger has seen" in why for why in gaps.values())
    assert gaps


async def test_a_look_at_what_is_new_proves_on_the_way_that_nothing_is_missing(world: World) -> None:
    """The tick reads every journal anyhow; only where that proves nothing are the marks asked for."""
    await world.add(Car("v-1"), Car("v-2"))
    first = await look_of(world.feed)
    assert first.proven, "what the ledger has never seen cannot be missing"
    await world.feed.run_once(first)
    again = await look_of(world.feed)
    assert (again.proven, [entry for batch in again.batches.values() for entry in batch]) == (True, [])
    streams = await world.store.journal_streams()
    left = [await world.store.journal(stream, after="", count=9) for stream in streams]
    assert [len(entries) for entries in left if entries] == [1] * len(await world.ledger.marks())
    emptied = MemoryStore(2, machine_ms=lambda: world.hand.now_ms)
    assert not (await look_of(LedgerFeed(emptied, world.ledger))).proven
    other = MemoryStore(2, machine_ms=lambda: world.hand.now_ms, dataset_id="other")
    assert not (await look_of(LedgerFeed(other, world.ledger))).proven


async def test_journal_that_came_since_the_last_look_is_in_the_next_one(world: World) -> None:
    """Known journals are read ahead of the list of all; a rollout's first decision must not wait for another tick."""
    await world.add(Car("v-1"))
    await world.feed.run_once()
    before = await look_of(world.feed)
    await start(world)
    look = await look_of(world.feed)
    assert look.batches.keys() - before.batches.keys() == {"rollout/spring"}
    assert [entry.kind for entry in look.batches["rollout/spring"]] == ["rollout_created"]
    assert look.proven


async def test_stream_that_is_no_longer_listed_proves_nothing_though_it_is_read(world: World) -> None:
    """A store that forgot a rollout's name would otherwise be believed because its journal was known before."""
    await world.add(Car("v-1"))
    await start(world)
    await world.feed.run_once()
    assert (await look_of(world.feed)).proven
    forgetful: Any = Forgetful(world.store)
    feed = LedgerFeed(forgetful, world.ledger)
    assert (await look_of(feed)).proven
    forgetful.forgotten = "rollout/spring"
    look = await look_of(feed)
    assert "rollout/spring" in look.batches
    assert not look.proven


class Forgetful:
    """A store that does not list one of its streams any more."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.forgotten = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def journal_streams(self) -> list[str]:
        return [stream for stream in await self._store.journal_streams() if stream != self.forgotten]


async def test_a_journal_trimmed_to_its_end_is_proven_by_its_mark(world: World) -> None:
    """As an earlier version left it, or a hand that knows the store: nothing is missing, and nobody is paused."""
    await world.feed.gaps()
    await world.add(Car("v-1"))
    await world.feed.run_once()
    for stream, mark in (await world.ledger.marks()).items():
        await world.store.trim_journal(stream, upto=mark)
    assert not (await look_of(world.feed)).proven
    assert await world.feed.gaps() == {}


async def test_new_ledger_proves_nothing_about_an_old_store(world: World) -> None:
    """Who lost the ledger must not be told that nothing is missing."""
    await world.add(Car("v-1"))
    await world.start()
    lost = Ledger(world.folder / "another.sqlite3")
    try:
        for _ in range(2):
            assert await LedgerFeed(world.store, lost).gaps() == {"ledger": "the ledger is new, the store is not"}
        feed = LedgerFeed(world.store, lost)
        await feed.accept()
        assert await feed.gaps() == {}, "it was paused, and a person looks"
        assert await lost.dataset_id() == await world.store.dataset_id()
    finally:
        await lost.close()


async def test_feed_comes_back_to_the_gate_however_much_there_is(world: World) -> None:
    """A vehicle that talks without end must not keep the gate from looking."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    total = BATCH * ROUNDS_MAX + 100
    for begin in range(1, total + 1, 64):
        numbers = range(begin, min(begin + 64, total + 1))
        await world.check_in(car, *(VehicleEvent(n, attempt_id, AttemptEvent.VERIFY_STARTED) for n in numbers))
    carried = await world.feed.run_once()
    assert 0 < sum(carried.values()) <= (BATCH * ROUNDS_MAX) * 4
    assert world.feed.waiting > 0
    await world.feed.run_once()
    assert world.feed.waiting == 0


def test_positions_are_compared_as_numbers() -> None:
    """`9-9` stands before `10-0`, and before `9-10`."""
    assert position("") < position("9-9") < position("9-10") < position("10-0")
