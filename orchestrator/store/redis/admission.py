"""Whether a server may hold Outrider's state: its version, durability, memory policy, functions and data.

Every refusal says what was found, what is needed, and the remedy.
"""

from __future__ import annotations

from typing import Any

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis.calls import Calls, number
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.library import LIBRARY, render
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED

VERSION_MIN = (7, 0)


async def check_server(calls: Calls, *, durability: str) -> None:
    """Refuse a server that is too old, may evict, or may forget what it acknowledged.

    Raises:
        StoreRefusedError: it would break a promise.
    """
    info = await _info(calls)
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
        await _check_durable(calls)


async def _info(calls: Calls) -> dict[str, str]:
    text: bytes = await calls.command("INFO", "everything")
    pairs = (line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
    return dict(pair for pair in pairs if len(pair) == 2)


async def _check_durable(calls: Calls) -> None:
    remedy = "set `appendonly yes` and `appendfsync always`, or say --store-durability=provider if its provider "
    remedy += "guarantees that acknowledged writes survive"
    try:
        found = await calls.command("CONFIG", "GET", "append*")
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise StoreRefusedError(f"the store does not say whether it syncs to disk ({error}): {remedy}") from error
    config: dict[bytes, Any] = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    for setting, needed in (("appendonly", b"yes"), ("appendfsync", b"always")):
        value = config.get(setting.encode(), b"")
        if value != needed:
            raise StoreRefusedError(f"{setting} is {value.decode()!r}, not {needed.decode()!r}: {remedy}")


async def check_foreign_keys(calls: Calls) -> None:
    """Refuse a database that holds keys but no data set of ours.

    Raises:
        StoreRefusedError: it belongs to somebody else.
    """
    if await calls.command("EXISTS", key(FLEET_TAG, "meta")):
        return
    foreign = await calls.command("DBSIZE")
    if foreign:
        raise StoreRefusedError(
            f"the database holds {foreign} keys that are not Outrider's: give Outrider a database of its own"
        )


async def load_library(calls: Calls) -> None:
    """Load the function library of this build unless it is there already.

    Raises:
        StoreRefusedError: the server knows no Functions, or does not let us load one.
    """
    source = render()
    try:
        found = await calls.command("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE")
        if found and _code(found[0]) == source:
            return
        await calls.command("FUNCTION", "LOAD", "REPLACE", source)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise StoreRefusedError(
            f"the function library {LIBRARY} cannot be loaded ({error}): allow FUNCTION LIST and FUNCTION LOAD"
        ) from error


async def retire_libraries(calls: Calls) -> None:
    """Take earlier builds' libraries away: they would overlook what this one writes. A process that still calls them is
    refused at every call until it is replaced.

    Raises:
        StoreError: the server did not do it.
    """
    for library in await calls.command("FUNCTION", "LIST", "LIBRARYNAME", "outrider_v*"):
        name = _field(library, b"library_name")
        if version_of(name) < version_of(LIBRARY):
            await calls.command("FUNCTION", "DELETE", name)


def version_of(library: str) -> int:
    """The number in a library's name."""
    return int(library.removeprefix("outrider_v"))


def _code(library: Any) -> str:
    return _field(library, b"library_code")


def _field(library: Any, name: bytes) -> str:
    fields = library if isinstance(library, dict) else dict(zip(library[::2], library[1::2], strict=True))
    value: bytes = fields[name]
    return value.decode()


async def open_dataset(calls: Calls, *, new_dataset_id: str, new_shards: int) -> int:
    """Make the data set where there is none; the number of shards of the one that stands now.

    Raises:
        StoreRefusedError: it was written under another schema.
    """
    reply = await calls.function("initialise", FLEET_TAG, SCHEMA_ENDED, new_dataset_id, new_shards)
    if number(reply, 1) == SCHEMA:
        # Its records are read as they are. What is written from now on an earlier build must not work on.
        await calls.command("HSET", key(FLEET_TAG, "meta"), "schema", SCHEMA_ENDED)
    elif number(reply, 1) != SCHEMA_ENDED:
        raise StoreRefusedError(
            f"the store has schema {number(reply, 1)}, this build reads {SCHEMA_ENDED}: start the build that wrote it"
        )
    return number(reply, 3)
