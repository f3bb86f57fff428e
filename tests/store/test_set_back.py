"""A server that was set back to what it held earlier, and was written on by the time that we look again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
import redis

from orchestrator.ledger import Ledger
from orchestrator.model.attempt import AttemptEvent as E
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.store.base import StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.keys import key, shard_tag
from orchestrator.store.shards import shard_of
from orchestrator.store.streams import shard_stream
from tests.builders import NOW, a_vehicle
from tests.contracts.steps import SPRING, permitted, running, tell
from tests.store.test_counts import same_as_seen_first


@contextmanager
def set_back(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """Forget what happens meanwhile, and close every connection, as a failover with loss does."""
    with redis.Redis(unix_socket_path=str(server.socket_path), protocol=3) as client:
        earlier = {name: client.dump(name) for name in client.scan_iter()}
        yield client
        client.flushall()
        for name, packed in earlier.items():
            client.restore(name, 0, packed)
        client.client_kill_filter(_type="normal", skipme=True)


async def lost(store: RedisStore) -> None:
    """The call after a failover fails; those behind it connect anew."""
    with pytest.raises(StoreUnavailableError):
        await store.dataset_id()


async def test_counters_that_were_set_back_and_written_on_are_seen_as_they_are_now(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """Writes overtake the number of changes that was seen: it proves nothing any more, and nothing seen is kept."""
    await running(redis_store)
    with set_back(embedded_server) as client:
        attempt = await permitted(redis_store)
        await tell(redis_store, attempt, E.INSTALL_STARTED, E.FAILED)
        assert (await redis_store.tallies([SPRING]))[SPRING]
        changes = key(shard_tag(shard_of(attempt.vehicle_id, redis_store.shards)), "change")
        seen = int(client.get(changes) or 0)
    worker = await RedisStore.connect(embedded_server.url)
    for number in count():
        await worker.import_vehicles([a_vehicle(f"x-{number}")], now=NOW)
        if int(await worker._calls.command("GET", changes) or 0) > seen:
            break
    await worker.close()
    await lost(redis_store)
    await same_as_seen_first(redis_store, embedded_server.url)
    assert await redis_store.tallies([SPRING]) == {SPRING: {}}


async def test_journal_that_was_set_back_and_written_on_does_not_hold_the_ledgers_mark(
    redis_store: RedisStore, embedded_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Of a stream of a real server: where it ends says nothing, and what was trimmed is no loss."""
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    feed = LedgerFeed(redis_store, ledger)
    await feed.gaps()
    for number in range(3):
        await redis_store.import_vehicles([a_vehicle(f"v-{number}")], now=NOW)
        assert await feed.gaps() == {}
        await feed.run_once()
        assert await LedgerFeed(redis_store, ledger).gaps() == {}
    with set_back(embedded_server):
        await redis_store.import_vehicles([a_vehicle("v-9")], now=NOW)
        await feed.run_once()
    await lost(redis_store)
    await redis_store.import_vehicles([a_vehicle("v-9")], now=NOW)
    stream = shard_stream(shard_of(a_vehicle("v-9").vehicle_id, redis_store.shards))
    (why,) = (await feed.gaps()).values()
    assert why.startswith(f"journal {stream} was written on to {await redis_store.journal_mark(stream)}, but")
    await feed.run_once()
    assert await feed.gaps() == {}
    await ledger.close()
