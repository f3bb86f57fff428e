"""A store that was set back under a running service, by a failover with loss or a restore, and was written on since."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest

from orchestrator.engine.progress import AbortRequested, PauseRequested, ResumeRequested
from orchestrator.ledger import Archiving, Ledger, LedgerEntry, archive_ledger
from orchestrator.model.attempt import AttemptEvent, VehicleEvent
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.service.ledger_feed import BATCH, LedgerFeed, Look, ledger_entry
from orchestrator.store.base import BeyondMark, StoreUnavailableError
from orchestrator.store.memory import MemoryStore
from orchestrator.store.streams import position, rollout_stream
from tests.ledger.test_heads import Key
from tests.service.world import Car, World

SPRING = RolloutId("spring")


async def look_of(feed: LedgerFeed) -> Look:
    """What a feed sees now."""
    return await feed.look(await feed.marks())


class Overtaken:
    """A store on which another feed carries and trims just before a look."""

    def __init__(self, store: MemoryStore, other: LedgerFeed) -> None:
        self._store = store
        self._other = other
        self.missed: list[str] = []
        """Streams whose mark, as it was read before, is gone."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def journals_beyond(self, marks: Mapping[str, str], *, count: int) -> Mapping[str, BeyondMark]:
        await self._other.run_once()
        found = await self._store.journals_beyond(marks, count=count)
        self.missed = [stream for stream, beyond in found.items() if not beyond.stands]
        return found


async def test_each_time_that_the_store_goes_back_and_is_written_on_pauses_everything(world: World) -> None:
    """Workers are faster than the next tick: what they write since hides nothing, the second time as little."""
    await world.add(Car("v-1"), Car("v-2"))
    await world.evaluator.recover()
    await world.start()
    await world.tick()
    for number in range(2):
        earlier = deepcopy(vars(world.store))
        world.hand.advance(1000)
        await world.granted(Car("v-1") if number == 0 else Car("v-2"))
        await world.tick()
        vars(world.store).update(earlier)
        world.hand.advance(1000)
        await world.add(*(Car(f"{letter}-{number}") for letter in "abcdef"))
        await world.tick()
        paused = await world.rollout()
        assert (paused.status, paused.actor) == (RolloutStatus.PAUSED, "recovery"), number
        assert "is gone" in paused.reason
        await world.rollouts.request(SPRING, ResumeRequested("ann", "looked into it"), etag="")
        await world.tick()
        assert (await world.rollout()).status is RolloutStatus.RUNNING


async def test_abort_that_the_store_has_lost_is_made_again_also_of_what_stood_still(world: World) -> None:
    """It is final, and a person said so: nobody shall find the rollout as one that only waits to be resumed."""
    await world.add(Car("v-1"))
    await world.evaluator.recover()
    await world.start()
    await world.start(rollout_id="summer")
    await world.rollouts.request(SPRING, PauseRequested("ann", "a look at it"), etag="")
    await world.tick()
    earlier = deepcopy(vars(world.store))
    world.hand.advance(1000)
    for rollout_id in ("spring", "summer"):
        await world.rollouts.request(RolloutId(rollout_id), AbortRequested("carol", "wrong release"), etag="")
    await world.tick()
    # A repair of the rollout's counters stands in the same stream, and decided nothing.
    stream = rollout_stream(RolloutId("summer"))
    later = f"{position((await world.ledger.marks())[stream])[0] + 1}-0"
    await world.ledger.append(
        [LedgerEntry(stream, later, "counter_repaired", 1, {"actor": "dan", "reason": "off"}, b"")]
    )
    vars(world.store).update(earlier)
    world.hand.advance(1000)
    await world.tick()
    known = "the ledger has it aborted by carol (wrong release), which the store has lost"
    for rollout_id in ("spring", "summer"):
        rollout = await world.rollout(rollout_id)
        assert (rollout.status, rollout.actor, rollout.reason) == (RolloutStatus.ABORTED, "recovery", known)
        assert rollout.fence == rollout.epoch, "and what was granted without a permit is withdrawn"


async def test_stop_that_the_store_has_lost_is_told_to_who_may_resume(world: World) -> None:
    """A gap in a journal says little; that the gate had halted the release says all."""
    cars = [Car(f"v-{number}") for number in range(1, 6)]
    await world.add(*cars)
    await world.evaluator.recover()
    await world.start()
    permitted = {car: await world.permitted(car) for car in cars}
    await world.tick()
    earlier = deepcopy(vars(world.store))
    world.hand.advance(1000)
    for car, attempt_id in permitted.items():
        await world.check_in(car, VehicleEvent(2, attempt_id, AttemptEvent.FAILED, "flash_error"))
    await world.tick()
    halted = await world.rollout()
    assert halted.status is RolloutStatus.HALTED
    await world.tick()
    vars(world.store).update(earlier)
    world.hand.advance(1000)
    await world.tick()
    paused = await world.rollout()
    assert (paused.status, paused.actor) == (RolloutStatus.PAUSED, "recovery")
    assert paused.reason.startswith(
        f"the ledger has it halted by gate ({halted.reason}), which the store has lost; journal rollout/spring ends at "
    )


async def test_journal_that_was_set_back_and_written_on_is_a_gap(world: World) -> None:
    """Vehicles call within the second before the next look: that a journal goes on says nothing of what it lost."""
    await world.feed.gaps()
    await world.add(Car("v-1"), Car("v-2"))
    await world.feed.run_once()
    earlier, before = deepcopy(vars(world.store)), await world.ledger.marks()
    world.hand.advance(1)
    await world.add(Car("v-3"), Car("v-4"), Car("v-5"))
    await world.feed.run_once()
    vars(world.store).update(earlier)
    world.hand.advance(1)
    await world.add(Car("v-3"), Car("v-4"), Car("v-5"))
    assert not (await look_of(world.feed)).proven
    gaps = await world.feed.gaps()
    lost = {stream: mark for stream, mark in (await world.ledger.marks()).items() if mark != before.get(stream)}
    assert lost.keys() == gaps.keys() != set()
    for stream, mark in lost.items():
        end = await world.store.journal_mark(stream)
        assert position(end) > position(mark)
        assert gaps[stream] == (
            f"journal {stream} was written on to {end}, but the last entry that the ledger has seen, {mark}, is gone"
        )
    await world.feed.run_once()
    assert await world.feed.gaps() == {}, "carried on, the journal holds the mark again"


async def test_journal_that_goes_on_at_any_step_of_a_feed_is_no_gap(world: World) -> None:
    """A feed that died before it trimmed, a restart, an archived ledger: the entry at the mark stays all along."""
    await world.feed.gaps()
    for number in range(3):
        await world.add(Car(f"v-{number}"), Car(f"w-{number}"))
        assert await world.feed.gaps() == {}, "written on, and not carried yet"
        for batch in (await look_of(world.feed)).batches.values():
            await world.ledger.append([ledger_entry(entry) for entry in batch])
        assert await LedgerFeed(world.store, world.ledger).gaps() == {}, "written down, and not trimmed"
        await world.add(Car(f"x-{number}"))
        assert await LedgerFeed(world.store, world.ledger).gaps() == {}, "and written on"
        await world.feed.run_once()
        assert await world.feed.gaps() == {}, "carried"
    database = world.folder / "ledger.sqlite3"
    asked = Archiving(world.now + 1, "ada", "kept with the year")
    archived = await asyncio.to_thread(archive_ledger, database, world.folder / "1.jsonl", asked, Key())
    assert archived.note.last > 1
    await world.add(Car("y-1"), Car("y-2"))
    assert await world.feed.gaps() == {}


async def test_what_another_feed_trims_meanwhile_is_no_gap(world: World) -> None:
    """Two evaluators for the time of a failover: the mark that one has read is behind what the other has carried."""
    await world.feed.gaps()
    await world.add(Car("v-1"), Car("v-2"))
    await world.feed.run_once()
    await world.add(Car("v-3"), Car("v-4"), Car("v-5"))
    slow: Any = Overtaken(world.store, world.feed)
    assert await LedgerFeed(slow, world.ledger).gaps() == {}
    assert slow.missed, "or this proves nothing"


async def test_feed_stops_between_two_batches_where_the_store_was_set_back(world: World) -> None:
    """Carried on, the mark would lie in what was written since, and nobody would ever see that something is missing."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    attempt_id = await world.granted(car)
    await world.feed.run_once()
    earlier = deepcopy(vars(world.store))
    for begin in range(1, BATCH + 2, 57):
        numbers = range(begin, begin + 57)
        await world.check_in(car, *(VehicleEvent(n, attempt_id, AttemptEvent.VERIFY_STARTED) for n in numbers))
    feed = LedgerFeed(world.store, world.ledger)
    look = await look_of(feed)
    assert BATCH in map(len, look.batches.values())
    vars(world.store).update(earlier)
    world.hand.advance(1)
    await world.add(Car("v-2"), Car("v-3"), Car("v-4"))
    await feed.run_once(look)
    assert not (await look_of(feed)).proven
    assert await feed.gaps()


async def unavailable(*_: object, **__: object) -> None:
    """An operation of which nothing is known but that it had no answer."""
    raise StoreUnavailableError("gone")


async def test_start_on_a_lost_ledger_that_ends_before_rollouts_are_paused_is_made_good_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in between, or without an answer: the next process must not find that all is well, and go on granting."""
    await world.add(Car("v-1"))
    await world.evaluator.recover()
    await world.start()
    lost = Ledger(world.folder / "another.sqlite3")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "transition", unavailable)
            with pytest.raises(StoreUnavailableError):
                await world.an_evaluator(LedgerFeed(world.store, lost)).recover()
        assert (await world.rollout()).status is RolloutStatus.RUNNING
        evaluator = world.an_evaluator(LedgerFeed(world.store, lost))
        assert await evaluator.recover() == "the ledger is new, the store is not"
        assert (await world.rollout()).status is RolloutStatus.PAUSED
        await world.rollouts.request(SPRING, ResumeRequested("ann", "looked into it"), etag="")
        for again in (evaluator, world.an_evaluator(LedgerFeed(world.store, lost))):
            await again.tick()
            assert await again.recover() == "", "a person's resume stands"
        assert (await world.rollout()).status is RolloutStatus.RUNNING
    finally:
        await lost.close()
