"""Whether a server may hold Outrider's state: its version, durability, memory policy, role, functions and data.

Every refusal says what was found, what is needed, and the remedy. `greet` looks at one server and is repeated whenever
a connection is made, for whoever answers there now may be another; the rest is asked once, at start, of every primary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import structlog

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis.address import Node
from orchestrator.store.redis.binary import VERSION_MIN
from orchestrator.store.redis.calls import Calls, number
from orchestrator.store.redis.keys import FLEET_TAG, is_ours, key
from orchestrator.store.redis.library import LIBRARY, render
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED
from orchestrator.store.redis.pipeline import Ask
from orchestrator.store.redis.topology import SLOTS, read_topology

Durability = Literal["always", "provider"]
"""Who guarantees that what was acknowledged is on disk: this server's `appendfsync always`, or whoever provides it."""

LOOKS_MAX = 10
"""Scans in which keys that are not ours are looked for, on each server."""
LOOK_COUNT = 1000
"""Keys of one such scan, about."""

log = structlog.get_logger()


async def greet(ask: Ask, *, durability: Durability, replica: bool = False) -> None:
    """Refuse a server that is too old, may evict, may forget what it acknowledged, or is a replica.

    Args:
        ask: of the server.
        durability: who guarantees it.
        replica: whether it is one that may take over, not one that is to be written to.

    Raises:
        StoreRefusedError: it would break a promise.
        StoreUnavailableError: it is a replica now.
    """
    info = await _info(ask)
    version = tuple(int(part) for part in info.get("redis_version", "0.0").split(".")[:2])
    if version < VERSION_MIN:
        raise StoreRefusedError(
            f"the store runs version {info.get('redis_version')}, Outrider needs Functions of 7.0: use Redis >= 7.0 "
            "or Valkey"
        )
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction":
        raise StoreRefusedError(
            f"maxmemory-policy is {policy!r}, it would throw state away: set `maxmemory-policy noeviction`"
        )
    if durability == "always":
        await _check_durable(ask)
    if info.get("role") == "slave" and not replica:
        primary = f"{info.get('master_host')}:{info.get('master_port')}"
        raise StoreUnavailableError(f"the store's server is a replica of {primary}: let store_url name the primary")


async def check_same_data(ask: Ask, dataset_id: str) -> None:
    """Refuse a server that holds other data than it did.

    Raises:
        StoreRefusedError: it came back empty, or the address leads to another one.
    """
    found = await ask("HGET", key(FLEET_TAG, "meta"), "dataset_id")
    if found is None or found.decode() != dataset_id:
        now = "no data set" if found is None else f"data set {found.decode()[:8]}"
        raise StoreRefusedError(
            f"the store's server holds {now} where it held {dataset_id[:8]}: bring that back, or restart the "
            "orchestrator to go on with what is there"
        )


async def _info(ask: Ask) -> dict[str, str]:
    text: bytes = await ask("INFO", "everything")
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return dict(pair for pair in pairs if len(pair) == 2)


async def _check_durable(ask: Ask) -> None:
    remedy = "set `appendonly yes` and `appendfsync always`, or say --store-durability=provider if its provider "
    remedy += "guarantees that acknowledged writes survive"
    try:
        found = await ask("CONFIG", "GET", "append*")
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise StoreRefusedError(f"the store does not say whether it syncs to disk ({error}): {remedy}") from error
    config: dict[bytes, Any] = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    for setting, needed in (("appendonly", b"yes"), ("appendfsync", b"always")):
        value = config.get(setting.encode(), b"")
        if value != needed:
            raise StoreRefusedError(f"{setting} is {value.decode()!r}, not {needed.decode()!r}: {remedy}")


async def check_not_of_a_cluster(server: Calls) -> None:
    """Refuse one node where the address says that there is one server.

    Raises:
        StoreRefusedError: most calls would be another node's.
    """
    if (await _info(server.command)).get("cluster_enabled") != "1":
        return
    seen = read_topology(await server.command("CLUSTER", "SLOTS"), Node("", 0))
    if len(seen.primaries) != 1 or seen.covered < SLOTS:
        raise StoreRefusedError(
            f"the store's server is one of {len(seen.nodes)} nodes of a cluster: write redis+cluster:// in store_url"
        )


async def check_replicas(server: Calls, *, name: str, replicas_min: int, cluster: bool, durability: Durability) -> None:
    """Refuse a primary that has fewer replicas than are to confirm, or a cluster where a failover would forget.

    Raises:
        StoreRefusedError: what is acknowledged could not be confirmed, or could be lost.
    """
    info = await _info(server.command)
    replicas = sum("state=online" in about for field, about in info.items() if field.startswith("slave"))
    if replicas < replicas_min:
        raise StoreRefusedError(
            f"{name} has {replicas} replicas in step, store_replicas_min is {replicas_min}: start what is missing, or "
            "lower store_replicas_min"
        )
    if replicas and not replicas_min and durability == "always":
        risk = f"{name} has {replicas} replicas, and a failover to one forgets what it had not received"
        if cluster:
            raise StoreRefusedError(f"{risk}: set store_replicas_min to 1 or more")
        log.warning("store_failover_forgets", what=risk, remedy="set store_replicas_min if a replica may take over")


async def check_keys(calls: Calls, servers: Sequence[Calls]) -> None:
    """Refuse a database that holds keys of somebody else, or keys of ours without their data set.

    Raises:
        StoreRefusedError: it is shared, or a part of it is lost.
    """
    for server in servers:
        if foreign := await _foreign_key(server):
            raise StoreRefusedError(
                f"the database holds keys that are not Outrider's, as {foreign!r}: give Outrider a database of its own"
            )
    if await calls.command("EXISTS", key(FLEET_TAG, "meta")):
        return
    if left := sum([int(await server.command("DBSIZE")) for server in servers]):
        raise StoreRefusedError(
            f"the database holds {left} keys of Outrider's, but not what says whose they are: a part of it is lost; "
            "restore a backup"
        )


async def _foreign_key(server: Calls) -> str:
    """A key that is not ours among the first some thousand; empty when there is none."""
    cursor = -1
    for _ in range(LOOKS_MAX):
        following, names = await server.command("SCAN", max(cursor, 0), "COUNT", LOOK_COUNT)
        cursor = int(following)
        for name in names:
            text: str = name.decode(errors="replace")
            if not is_ours(text):
                return text
        if cursor == 0:
            break
    return ""


async def load_library(calls: Calls) -> None:
    """Load the function library of this build unless it is there already.

    Raises:
        StoreRefusedError: the server knows no Functions, or does not let us load one.
    """
    source = render()
    try:
        if (await _libraries(calls, LIBRARY)).get(LIBRARY) == source:
            return
        await calls.command("FUNCTION", "LOAD", "REPLACE", source)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise StoreRefusedError(
            f"the function library {LIBRARY} cannot be loaded ({error}): allow FUNCTION LIST and FUNCTION LOAD"
        ) from error


async def check_libraries(servers: Collection[Calls]) -> None:
    """Refuse a store that another build's functions serve: ours would replace them, or work on what they know nothing
    of. One that has none at all serves nobody.

    Raises:
        StoreRefusedError: another build took it over last.
        StoreError: a server did not answer.
    """
    for server in servers:
        found = await _libraries(server, "outrider_v*")
        if found and found.get(LIBRARY) != render():
            raise StoreRefusedError(
                f"the store has functions of another build ({', '.join(sorted(found))}; this one's are {LIBRARY}): "
                "restart `outrider serve` first, which takes the store over, or use the command of the build that "
                "serves"
            )


async def earlier_libraries(calls: Calls) -> Sequence[str]:
    """Names of earlier builds' libraries that a server still has.

    Raises:
        StoreError: the server did not answer.
    """
    return [name for name in await _libraries(calls, "outrider_v*") if version_of(name) < version_of(LIBRARY)]


async def retire(servers: Collection[Calls], *, first: Callable[[], Awaitable[None]]) -> None:
    """Take earlier builds' libraries away: they would overlook what this one writes. A process that still calls them is
    refused at every call until it is replaced.

    Args:
        servers: that may have them.
        first: what to do before, where there is one.

    Raises:
        StoreError: a server did not do it.
    """
    earlier = [(server, name) for server in servers for name in await earlier_libraries(server)]
    if earlier:
        await first()
    for server, name in earlier:
        await server.command("FUNCTION", "DELETE", name)


def version_of(library: str) -> int:
    """The number in a library's name."""
    return int(library.removeprefix("outrider_v"))


async def _libraries(calls: Calls, pattern: str) -> Mapping[str, str]:
    """The source of each library, by its name."""
    found = await calls.command("FUNCTION", "LIST", "LIBRARYNAME", pattern, "WITHCODE")
    return {_field(library, b"library_name"): _field(library, b"library_code") for library in found}


def _field(library: Any, name: bytes) -> str:
    fields = library if isinstance(library, dict) else dict(zip(library[::2], library[1::2], strict=True))
    value: bytes = fields[name]
    return value.decode()


async def open_dataset(calls: Calls, *, new_dataset_id: str, new_shards: int, takes_over: bool) -> int:
    """Make the data set where there is none; the number of shards of the one that stands now.

    Args:
        calls: to the fleet's keys.
        new_dataset_id: of the one that is made.
        new_shards: of the one that is made.
        takes_over: whether data of the schema before are raised, not refused.

    Raises:
        StoreRefusedError: it was written under another schema.
    """
    reply = await calls.function("initialise", FLEET_TAG, SCHEMA_ENDED, new_dataset_id, new_shards)
    if number(reply, 1) == SCHEMA and takes_over:
        # Its records are read as they are. What is written from now on an earlier build must not work on.
        await calls.command("HSET", key(FLEET_TAG, "meta"), "schema", SCHEMA_ENDED)
    elif number(reply, 1) != SCHEMA_ENDED:
        remedy = "start the build that wrote it"
        if number(reply, 1) == SCHEMA:
            remedy = "restart `outrider serve` first, which takes the store over"
        raise StoreRefusedError(f"the store has schema {number(reply, 1)}, this build reads {SCHEMA_ENDED}: {remedy}")
    return number(reply, 3)
