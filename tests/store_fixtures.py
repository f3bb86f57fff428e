"""Stores for tests: the reference model on a clock of its own, and a real embedded server without a TCP port.

Import the fixtures into a conftest: `from tests.store_fixtures import *  # noqa: F403`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from orchestrator.model.ids import RolloutId
from orchestrator.store.base import DEAD_MAN_LIFE_MS, Store
from orchestrator.store.memory import MemoryStore
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.keys import key, rollout_tag
from tests.redis_cluster import ACluster, a_cluster

__all__ = [
    "FakeMachine",
    "StoreBench",
    "bench",
    "cluster",
    "embedded_server",
    "hasty_server",
    "machine",
    "memory_store",
    "redis_store",
]


def redis_of_the_system() -> Path:
    """The server of Redis that is installed here, beside the one that ships; skips the test where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        assert not os.environ.get("CI"), "Redis must be installed in CI"
        pytest.skip("Redis is not installed; apt-get install redis-server runs this test")
    return Path(found)


class FakeMachine:
    """Machine time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ms = 1_795_000_000_000

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, milliseconds: int) -> None:
        self.now_ms += milliseconds


@dataclass(frozen=True)
class StoreBench:
    """A store under test, and how to make its dead-man run out and its clock go wrong."""

    name: str
    store: Store
    lapse: Callable[[RolloutId], Awaitable[None]]
    """Lets the last sign of life of a rollout's evaluator expire."""
    set_back: Callable[[RolloutId, int], Awaitable[None]]
    """Sets machine time back by milliseconds, as far as the signs of life of a rollout's evaluator are concerned."""


@pytest.fixture
def machine() -> FakeMachine:
    return FakeMachine()


@pytest.fixture
def memory_store(machine: FakeMachine) -> MemoryStore:
    return MemoryStore(4, machine_ms=machine)


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server a test session; every test gets it empty through `redis_store`."""
    server = EmbeddedServer(tmp_path_factory.mktemp("embedded") / "store")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def hasty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server that syncs once a second, for tests that make thousands of calls one after the other."""
    server = EmbeddedServer(tmp_path_factory.mktemp("hasty") / "store", settings={"appendfsync": "everysec"})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ACluster]:
    """Three primaries and three replicas a test session; whoever harms one makes it whole again."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def empty(socket: Path) -> None:
    """Forget every key; functions stay."""
    with redis.Redis(unix_socket_path=str(socket), protocol=3) as client:
        client.flushall()


@pytest.fixture
async def redis_store(embedded_server: EmbeddedServer) -> AsyncIterator[RedisStore]:
    empty(embedded_server.socket_path)
    store = await RedisStore.connect(embedded_server.url, shards=4)
    yield store
    await store.close()


@pytest.fixture(params=["memory", "redis", pytest.param("cluster", marks=pytest.mark.processes)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[StoreBench]:
    """Each store, one after the other."""
    if request.param == "memory":
        machine = FakeMachine()
        memory = MemoryStore(4, machine_ms=machine)

        async def lapse_memory(rollout_id: RolloutId) -> None:
            machine.advance(DEAD_MAN_LIFE_MS)

        async def set_back_memory(rollout_id: RolloutId, by_ms: int) -> None:
            machine.advance(-by_ms)

        yield StoreBench("memory", memory, lapse_memory, set_back_memory)
        return
    # Started only where it is asked for: a cluster takes seconds.
    if request.param == "redis":
        embedded: EmbeddedServer = request.getfixturevalue("embedded_server")
        empty(embedded.socket_path)
        store = await RedisStore.connect(embedded.url, shards=4)
        bench = _bench("redis", store, lambda _: redis.Redis(unix_socket_path=str(embedded.socket_path), protocol=3))
    else:
        cluster: ACluster = request.getfixturevalue("cluster")
        cluster.empty()
        store = await RedisStore.connect(cluster.url, shards=4, replicas_min=1)
        bench = _bench("cluster", store, lambda tag: cluster.primary_of(tag).client())
    yield bench
    await store.close()


def _bench(name: str, store: RedisStore, client_of: Callable[[str], redis.Redis]) -> StoreBench:
    def move_signs_of_life(by_ms: int, rollout_id: RolloutId) -> None:
        # The server's clock is the machine's: what was written by it is moved instead.
        tag = rollout_tag(rollout_id)
        with client_of(tag) as client:
            for field in ("alive_until", "began_ms"):
                client.hincrby(key(tag, "rollout"), field, by_ms)

    async def lapse(rollout_id: RolloutId) -> None:
        move_signs_of_life(-DEAD_MAN_LIFE_MS, rollout_id)

    async def set_back(rollout_id: RolloutId, by_ms: int) -> None:
        move_signs_of_life(by_ms, rollout_id)

    return StoreBench(name, store, lapse, set_back)
