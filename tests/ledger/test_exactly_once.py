"""Each event once in the ledger, whichever side dies at whichever step; judged by what the journal ever held."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.ledger import EntryFilter, Ledger, LedgerError, LedgerReader
from orchestrator.model.ids import FleetTime
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.store.base import StoreError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from tests.builders import a_vehicle
from tests.ledger.feeding import Countdown, counted_feed
from tests.ledger.places import Place
from tests.postgres_server import PostgresServer

pytestmark = pytest.mark.processes

STEPS_MAX = 40
"""More than a feed of four streams has."""


class Witness:
    """A store that things happen in, and what its journal ever held."""

    def __init__(self, server: EmbeddedServer, store: RedisStore) -> None:
        self.server, self.store = server, store
        self.seen: set[tuple[str, str]] = set()
        self._number = 0

    async def something_happens(self) -> None:
        """On several streams at once; what the journal holds now is noted."""
        self._number += 1
        vehicles = [a_vehicle(f"v-{self._number}-{n}") for n in range(3)]
        await self.store.import_vehicles(vehicles, now=FleetTime(self._number))
        for stream in await self.store.journal_streams():
            self.seen |= {(stream, entry.entry_id) for entry in await self.store.journal(stream, after="", count=999)}

    async def agrees(self, place: Path | str) -> None:
        """The ledger holds what was seen, each once, in a chain that is whole."""
        reader = LedgerReader(place)
        found = await reader.entries(EntryFilter(), after=0, count=10_000)
        times = Counter((item.entry.stream, item.entry.entry_id) for item in found)
        assert set(times) == self.seen
        assert set(times.values()) == {1}
        await reader.close()
        ledger = Ledger(place)
        assert (await ledger.verify()).ok
        await ledger.close()


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[Witness]:
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    store = await RedisStore.connect(server.url, shards=2)
    yield Witness(server, store)
    await store.close()
    server.stop()


async def test_a_feed_that_is_killed_at_every_step_in_turn_writes_each_event_once(witness: Witness, place: Place):
    """Between reading the journal, writing, committing and trimming: whoever comes next makes it good."""
    killed = 0
    for step in range(1, STEPS_MAX, 2):
        await witness.something_happens()
        arguments = [sys.executable, "-m", "tests.ledger.feeding", witness.server.url, str(place.where), str(step)]
        code = await (await asyncio.create_subprocess_exec(*arguments)).wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
    else:
        pytest.fail("the feed never came to its end")
    assert killed >= 6, "it must have died in its middle, not only at its doors"
    await witness.agrees(place.where)


async def test_a_database_that_is_killed_at_every_step_in_turn_takes_each_event_once(
    witness: Witness, postgres: PostgresServer
):
    """A COMMIT whose answer never came is the doubtful one: it may stand, or not."""
    url = postgres.a_database()

    def dies() -> None:
        postgres.stop(signal.SIGQUIT)

    died = 0
    for step in range(1, STEPS_MAX, 2):
        await witness.something_happens()
        ledger, countdown = Ledger(url), Countdown(step, dies)
        try:
            await counted_feed(witness.store, ledger, countdown).run_once()
        except LedgerError:
            died += 1
        if countdown.passed:
            postgres.start("fsync=on")
        await ledger.close()
        if not countdown.passed:
            break
    assert died >= 4, "some steps come after the last word with the database; not all"
    await witness.agrees(url)


async def test_a_store_that_is_killed_at_every_step_in_turn_gives_each_event_once(witness: Witness, tmp_path: Path):
    """What it had trimmed may come again from its file, and what it had acknowledged is still there."""
    place, store = tmp_path / "ledger.sqlite3", witness.store

    def dies() -> None:
        pid = witness.server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        witness.server.wait_dead()

    died = 0
    for step in range(1, STEPS_MAX, 2):
        await witness.something_happens()
        ledger, countdown = Ledger(place), Countdown(step, dies)
        try:
            await counted_feed(store, ledger, countdown).run_once()
        except StoreError:
            died += 1
        if countdown.passed:
            witness.server.start()
            # A server that died between two calls is missed by the next one only.
            with suppress(StoreError):
                await store.dataset_id()
        await ledger.close()
        if not countdown.passed:
            break
    assert died >= 4
    ledger = Ledger(place)
    await LedgerFeed(store, ledger).run_once()
    await ledger.close()
    await witness.agrees(place)
