"""Servers that would break a promise are refused when the store is opened, each with its remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.admission import greet
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.library import LIBRARY
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED
from tests.builders import NOW
from tests.store_fixtures import empty


@pytest.fixture
async def raw(embedded_server: EmbeddedServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A plain client of the server, which is empty; whatever it sets is set back."""
    empty(embedded_server.socket_path)
    client = redis.asyncio.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3)
    yield client
    await client.config_set("appendfsync", "always")
    await client.config_set("maxmemory-policy", "noeviction")
    await client.flushall()
    await client.aclose()


async def refusal(server: EmbeddedServer, **arguments: object) -> str:
    with pytest.raises(StoreRefusedError) as refused:
        await RedisStore.connect(server.url, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("policy", ["everysec", "no"])
async def test_server_that_syncs_late_is_refused(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis, policy: str
) -> None:
    """Durable means on disk before the reply; less is taken only when somebody else is named who guarantees it."""
    await raw.config_set("appendfsync", policy)
    said = await refusal(embedded_server)
    assert said.startswith(f"appendfsync is '{policy}', not 'always': set `appendonly yes`")
    assert "--store-durability=provider" in said
    store = await RedisStore.connect(embedded_server.url, durability="provider")
    await store.close()


async def test_server_that_evicts_is_refused(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """A cache may forget; whoever counts exposures may not, whoever runs the server."""
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    for durability in ("always", "provider"):
        said = await refusal(embedded_server, durability=durability)
        assert said == (
            "maxmemory-policy is 'allkeys-lru', it would throw state away: set `maxmemory-policy noeviction`"
        )


async def test_database_of_somebody_else_is_refused(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """Keys that are not ours mean that the address is wrong; nothing is written there."""
    await raw.set("session:1", "x")
    assert "holds keys that are not Outrider's, as 'session:1': give Outrider" in await refusal(embedded_server)
    assert await raw.keys("*") == [b"session:1"]


async def test_database_that_somebody_else_moved_into_is_refused(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """Who shares it may empty it one day."""
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    await raw.set("cache:{s:00}", "x")
    assert "as 'cache:{s:00}'" in await refusal(embedded_server)


async def test_keys_of_ours_without_their_data_set_are_refused(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """A part of the data is gone: beginning anew beside the rest would mix two fleets."""
    store = await RedisStore.connect(embedded_server.url)
    await store.clock(origin=NOW, scale=1.0)
    await store.close()
    await raw.delete(key(FLEET_TAG, "meta"))
    assert "but not what says whose they are: a part of it is lost; restore a backup" in await refusal(embedded_server)


@pytest.mark.fault("F18")
async def test_data_of_another_schema_are_refused(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """A build that misreads records is worse than one that does not start."""
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    await raw.hset("{g}:meta", "schema", str(SCHEMA_ENDED + 1))
    newer = f"the store has schema {SCHEMA_ENDED + 1}, this build reads {SCHEMA_ENDED}"
    assert newer in await refusal(embedded_server)


async def test_data_of_the_schema_before_are_taken_over_for_good(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """Their records are read as they are; a build that would overlook what is written from now on must not start."""
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    await raw.hset("{g}:meta", "schema", str(SCHEMA_ENDED - 1))
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    assert await raw.hget("{g}:meta", "schema") == str(SCHEMA_ENDED).encode()


async def test_functions_of_an_earlier_build_are_taken_away(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """They would count fewer permits than there were; those of a later build are not ours to judge."""
    for name in ("outrider_v1", "outrider_v999"):
        body = f"redis.register_function('{name}_old', function() return 1 end)"
        await raw.function_load(f"#!lua name={name}\n{body}")
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    left = {library[b"library_name"] for library in await raw.function_list("outrider_v*")}
    assert left == {LIBRARY.encode(), b"outrider_v999"}
    await raw.function_delete("outrider_v999")


async def load(raw: redis.asyncio.Redis, name: str) -> None:
    """Functions of another build."""
    body = f"redis.register_function('{name}_old', function() return 1 end)"
    await raw.function_load(f"#!lua name={name}\n{body}", replace=True)


@pytest.mark.fault("F18", "P9")
@pytest.mark.parametrize("name", ["outrider_v1", LIBRARY, "outrider_v999"])
async def test_who_comes_beside_leaves_another_builds_functions_and_data_as_they_are(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis, name: str
) -> None:
    """A command that only looks, or a worker that is started after an upgrade, must not stop what serves."""
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    await raw.hset("{g}:meta", "schema", str(SCHEMA))
    await raw.function_flush()
    await load(raw, name)
    before = await raw.function_list(withcode=True)
    assert f"functions of another build ({name}; this one's are {LIBRARY}): restart `outrider serve` first" in (
        await refusal(embedded_server, beside=True)
    )
    assert await raw.function_list(withcode=True) == before
    assert await raw.hget("{g}:meta", "schema") == str(SCHEMA).encode()
    await raw.function_flush()


@pytest.mark.fault("F18", "P9")
async def test_who_comes_beside_takes_nothing_over(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """An earlier build that was started again has its functions beside ours; and data are raised by who serves them."""
    store = await RedisStore.connect(embedded_server.url)
    await store.close()
    await load(raw, "outrider_v1")
    beside = await RedisStore.connect(embedded_server.url, beside=True)
    await beside.close()
    assert {library[b"library_name"] for library in await raw.function_list()} == {b"outrider_v1", LIBRARY.encode()}
    await raw.hset("{g}:meta", "schema", str(SCHEMA))
    assert "restart `outrider serve` first" in await refusal(embedded_server, beside=True)
    assert await raw.hget("{g}:meta", "schema") == str(SCHEMA).encode()
    await raw.function_flush()


async def test_who_comes_beside_brings_functions_where_there_are_none(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """Nobody is served by a store without any, so that a worker may bring back what somebody flushed."""
    store = await RedisStore.connect(embedded_server.url)
    await raw.function_flush()
    beside = await RedisStore.connect(embedded_server.url, beside=True)
    assert await store.vehicle("v-1") is None  # type: ignore[arg-type]
    await beside.close()
    await store.close()


@pytest.mark.fault("F17")
async def test_number_of_shards_is_fixed_at_creation(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """Another number would look for vehicles where they are not."""
    store = await RedisStore.connect(embedded_server.url, shards=3)
    await store.close()
    assert "has 3 shards, not 16" in await refusal(embedded_server, shards=16)
    store = await RedisStore.connect(embedded_server.url)
    assert store.shards == 3
    await store.close()


@pytest.mark.parametrize("shards", [0, 257])
async def test_impossible_number_of_shards_is_an_error(embedded_server: EmbeddedServer, shards: int) -> None:
    """One byte chooses a shard."""
    with pytest.raises(ValueError, match="between 1 and 256"):
        await RedisStore.connect(embedded_server.url, shards=shards)


async def test_sixteen_shards_are_made_unless_said_otherwise(
    embedded_server: EmbeddedServer, raw: redis.asyncio.Redis
) -> None:
    """The default is a constant, not a count of machines."""
    store = await RedisStore.connect(embedded_server.url)
    assert store.shards == 16
    await store.close()


@pytest.mark.fault("F17")
async def test_stale_library_is_replaced_at_start(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """Functions of another build of the same version must not serve this one."""
    await raw.function_load(
        f"#!lua name={LIBRARY}\nredis.register_function('outrider_v1_old', function() return 1 end)", replace=True
    )
    store = await RedisStore.connect(embedded_server.url)
    assert await store.vehicle("v-1") is None  # type: ignore[arg-type]
    await store.close()


@pytest.mark.fault("F17")
async def test_lost_library_is_said_and_not_retried(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """A call without its function is a refusal with a remedy, not an outage to wait out."""
    store = await RedisStore.connect(embedded_server.url)
    await raw.function_delete(LIBRARY)
    with pytest.raises(StoreRefusedError, match="lost its function library: restart"):
        await store.vehicle("v-1")  # type: ignore[arg-type]
    with pytest.raises(StoreRefusedError, match="lost its function library: restart"):
        await store.answers()
    await store.close()


async def test_two_openers_at_once_make_one_data_set(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """Supervisor and workers start together."""
    stores = [await RedisStore.connect(embedded_server.url) for _ in range(3)]
    assert len({await store.dataset_id() for store in stores}) == 1
    for store in stores:
        await store.close()


async def test_nobody_there_is_an_outage(tmp_path: Path) -> None:
    """Not a refusal: it may be started in a moment."""
    with pytest.raises(StoreUnavailableError, match="cannot reach the store"):
        await RedisStore.connect(tmp_path / "nobody")


async def test_wrong_credentials_are_a_refusal(embedded_server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """Waiting does not help; the remedy is in the settings."""
    await raw.acl_setuser("outrider-test", enabled=True, passwords=["+right"], commands=["+@all"], keys=["*"])
    address = f"unix://outrider-test:{{}}@{embedded_server.socket_path}"
    with pytest.raises(StoreRefusedError, match="refuses our credentials, check its URL"):
        await RedisStore.connect(address.format("wrong"))
    store = await RedisStore.connect(address.format("right"))
    await store.close()
    await raw.acl_deluser("outrider-test")


@pytest.mark.parametrize(
    "address", ["http://localhost", "redis://localhost:port", "redis+cluster://", "redis+cluster://:secret@a:1/3"]
)
async def test_address_of_no_kind_is_refused(address: str) -> None:
    """A typo in the settings; what it says holds no password."""
    with pytest.raises(StoreRefusedError, match=r"URL cannot be used .*: write it as redis://host:port") as refused:
        await RedisStore.connect(address)
    assert "secret" not in str(refused.value)


class OldServer:
    """Answers INFO as a server of another version does; there is none of that age to start here.

    A real Redis 6.2.14 was tried by hand: `outrider serve --store-url` refuses it in these words.
    """

    def __init__(self, info: str) -> None:
        self._info = info

    async def ask(self, *command: object) -> bytes:
        assert command[0] == "INFO"
        return self._info.encode()


@pytest.mark.parametrize("version", ["6.2.14", "2.8", "0"])
async def test_server_without_functions_is_refused(version: str) -> None:
    """Functions came with 7.0."""
    server = OldServer(f"redis_version:{version}\r\nmaxmemory_policy:noeviction\r\n")
    with pytest.raises(StoreRefusedError, match=rf"runs version {version}, .*use Redis >= 7.0 or Valkey"):
        await greet(server.ask, durability="provider")


async def test_server_that_hides_its_settings_is_refused_unless_provided() -> None:
    """Managed services forbid CONFIG; then somebody has to say aloud who guarantees durability."""

    class Hiding(OldServer):
        async def ask(self, *command: object) -> bytes:
            if command[0] == "CONFIG":
                raise StoreRefusedError("unknown command 'CONFIG'")
            return await super().ask(*command)

    server = Hiding("redis_version:7.2.4\r\nmaxmemory_policy:noeviction\r\n")
    await greet(server.ask, durability="provider")
    with pytest.raises(StoreRefusedError, match="does not say whether it syncs to disk"):
        await greet(server.ask, durability="always")


@pytest.fixture
def memory_only_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(tmp_path / "store", settings={"appendonly": "no"})
    server.start()
    yield server
    server.stop()


async def test_server_without_append_only_file_is_refused(memory_only_server: EmbeddedServer) -> None:
    """What is only in memory is gone with the process."""
    assert (await refusal(memory_only_server)).startswith("appendonly is 'no', not 'yes'")
