"""A server in trouble while the service runs: each a clear refusal, no grant, and a way back by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.model.attempt import AttemptEvent
from orchestrator.store.base import Reserved, StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.address import connection_to
from orchestrator.store.redis.pipeline import Pipeline
from tests.builders import NOW, a_vehicle
from tests.contracts.steps import SPRING, V1, assigned, renew, reserve, running, tell
from tests.ports import HOST, free_ports
from tests.redis_cluster import Server, servers

pytestmark = pytest.mark.processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with servers(tmp_path, 1, clustered=False) as (alone,):
        yield alone


@pytest.fixture
async def store(server: Server) -> AsyncIterator[RedisStore]:
    opened = await RedisStore.connect(f"redis://{server.node}", deadline_s=1.0)
    await running(opened)
    yield opened
    await opened.close()


@pytest.mark.fault("F17")
async def test_store_at_its_memory_limit_takes_nothing_and_forgets_nothing(server: Server, store: RedisStore) -> None:
    """Whole functions are refused before they begin; reads go on; afterwards everything does."""
    attempt = await assigned(store)
    server.ask("CONFIG", "SET", "maxmemory", 1)
    limit = "at its memory limit, raise its `maxmemory`: "
    for change in (
        tell(store, attempt, AttemptEvent.DOWNLOAD_FINISHED),
        reserve(store, "spring.v-2.1"),
        renew(store, permit_ceiling=2),
        store.import_vehicles([a_vehicle("v-3")], now=NOW),
        store.sweep([0], now=NOW, fences={}),
    ):
        with pytest.raises(StoreUnavailableError, match=limit):
            await change
    record = await store.vehicle(V1)
    assert record is not None
    assert record.acknowledged_number == 0
    assert await store.tallies([SPRING]) == await store.recount([SPRING])
    server.ask("CONFIG", "SET", "maxmemory", 0)
    assert (await tell(store, attempt, AttemptEvent.DOWNLOAD_FINISHED)).record.acknowledged_number == 1
    assert await reserve(store, "spring.v-2.1") == Reserved()


async def test_server_that_becomes_a_replica_is_left_and_found_again(server: Server, store: RedisStore) -> None:
    """A managed failover moves the address: an old connection to the demoted one must not be kept."""
    (nobody,) = free_ports(1)
    server.ask("REPLICAOF", HOST, nobody)
    with pytest.raises(StoreUnavailableError, match="is a replica now and takes no writes"):
        await renew(store, permit_ceiling=2)
    # The next call connects anew, and is told whom the server follows; reads as well, for they could be old.
    with pytest.raises(StoreUnavailableError, match=f"is a replica of {HOST}:{nobody}: let store_url name the primary"):
        await store.rollouts()
    server.ask("REPLICAOF", "NO", "ONE")
    assert await renew(store, permit_ceiling=2)


async def test_server_that_holds_other_data_all_at_once_is_refused(
    server: Server, store: RedisStore, tmp_path: Path
) -> None:
    """It followed an empty one, or came back empty: better no answer than that of an empty fleet."""
    with servers(tmp_path / "other", 1, clustered=False) as (other,):
        server.follow(other)
        with pytest.raises(StoreError):
            await renew(store, permit_ceiling=2)
        server.ask("REPLICAOF", "NO", "ONE")
        with pytest.raises(StoreRefusedError, match=r"holds no data set where it held \w{8}: bring that back"):
            await renew(store, permit_ceiling=2)
        elsewhere = await RedisStore.connect(f"redis://{server.node}")
        await elsewhere.close()
        with pytest.raises(StoreRefusedError, match=r"holds data set \w{8} where it held \w{8}"):
            await store.vehicle(V1)


async def test_server_that_comes_back_with_other_settings_is_refused(server: Server, store: RedisStore) -> None:
    """It was looked at once, at the start; whoever restarts it may have edited its configuration."""
    server.kill()
    server.settings = {**server.settings, "appendfsync": "everysec"}
    await asyncio.to_thread(server.start)
    with pytest.raises(StoreUnavailableError, match="lost the store in mid-call"):
        await renew(store, permit_ceiling=2)
    with pytest.raises(StoreRefusedError, match="appendfsync is 'everysec', not 'always'"):
        await renew(store, permit_ceiling=2)
    server.ask("CONFIG", "SET", "appendfsync", "always")
    assert await renew(store, permit_ceiling=2)


async def test_store_that_stands_still_is_waited_for_no_longer_than_said(server: Server, store: RedisStore) -> None:
    """SIGSTOP, or a machine that swaps: whoever calls is told in time, and the dead-man runs out on its own clock."""
    server.freeze()
    outcomes = await asyncio.gather(
        *(renew(store, permit_ceiling=2) for _ in range(5)), reserve(store, "spring.v-2.1"), return_exceptions=True
    )
    assert all(isinstance(outcome, StoreUnavailableError) for outcome in outcomes), outcomes
    server.thaw()
    answer: object = None
    while answer is None:
        try:
            answer = await reserve(store, "spring.v-2.1")
        except StoreUnavailableError:
            continue
    # Whether the first try got through is in doubt; the slot is held once.
    assert answer == Reserved()
    assert (await store.standing(SPRING, now=NOW)).in_flight["eu"] == 1


class Cutting:
    """Passes bytes on to a server, and cuts the line after so many that come back.

    Args:
        target: the server's socket.
        socket: where it listens itself.
    """

    def __init__(self, target: Path, socket: Path) -> None:
        self._target = target
        self._socket = socket
        self.replies_bytes_left: int | None = None

    async def __aenter__(self) -> Cutting:
        self._server = await asyncio.start_unix_server(self._serve, self._socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as tasks:
                there = tasks.create_task(self._pass(reader, forth, cuts=False))
                await self._pass(back, writer, cuts=True)
                there.cancel()
        finally:
            forth.close()
            writer.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, cuts: bool) -> None:
        while data := await source.read(65_536):
            if cuts and self.replies_bytes_left is not None:
                data = data[: self.replies_bytes_left]
                self.replies_bytes_left -= len(data)
            target.write(data)
            await target.drain()
            if cuts and self.replies_bytes_left == 0:
                self.replies_bytes_left = None
                return


async def test_connection_that_breaks_in_the_middle_answers_what_was_answered(tmp_path: Path) -> None:
    """Of a round that was cut, some know their outcome and the others know that they do not; nobody gets another's."""
    embedded = EmbeddedServer(tmp_path / "store")
    embedded.start()
    async with Cutting(embedded.socket_path, tmp_path / "cut") as line:
        pipeline = Pipeline(connection_to(tmp_path / "cut"))
        assert await pipeline.call("ECHO", "connected") == b"connected"
        one = len(b":1\r\n")
        line.replies_bytes_left = 20 * one + 2
        outcomes = await asyncio.gather(
            *(pipeline.call("SADD", "members", str(number)) for number in range(50)), return_exceptions=True
        )
        assert outcomes[:20] == [1] * 20
        assert all("lost the store in mid-call" in str(outcome) for outcome in outcomes[20:])
        # All had been sent: a repetition finds what was done, and does it no second time.
        again = await asyncio.gather(*(pipeline.call("SADD", "members", str(number)) for number in range(50)))
        assert again == [0] * 50
        await pipeline.close()
    embedded.stop()


async def test_store_whose_server_is_killed_again_and_again_answers_in_between(tmp_path: Path) -> None:
    """Whatever is refused is refused at once; whatever was acknowledged is there."""
    embedded = EmbeddedServer(tmp_path / "store")
    embedded.start()
    store = await RedisStore.connect(embedded.url)
    for number in range(5):
        assert (await store.import_vehicles([a_vehicle(f"v-{number}")], now=NOW)).added == 1
        assert embedded.pid is not None
        os.kill(embedded.pid, signal.SIGKILL)
        await asyncio.to_thread(embedded.wait_dead)
        with pytest.raises(StoreUnavailableError):
            await store.vehicle(V1)
        await asyncio.to_thread(embedded.start)
    records, _ = await store.vehicles(page_token="", page_size=10)
    assert {record.vehicle.vehicle_id for record in records} == {f"v-{number}" for number in range(5)}
    await store.close()
    embedded.stop()
