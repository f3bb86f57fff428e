"""The rendered function library says what Python says, and its keys and names are documented where they are used."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import msgpack
import pytest
import redis

from orchestrator.engine.attempts import TRANSITIONS
from orchestrator.model.attempt import AttemptEvent, AttemptState, Try
from orchestrator.model.ids import RolloutId
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import EmbeddedServer, RedisStore, codec
from orchestrator.store.redis.keys import ALL_KEYS, FLEET_KEYS, ROLLOUT_KEYS, SHARD_KEYS, key, shard_tag
from orchestrator.store.redis.library import FILES, LIBRARY, PREFIX, READS, render
from orchestrator.store.redis.packing import SCHEMA
from orchestrator.store.shards import shard_of
from tests.builders import NOW, a_rollout, a_vehicle, an_attempt
from tests.contracts.steps import V1, a_control, assigned, authorize, permitted, reserve, running


def sources() -> dict[str, str]:
    folder = resources.files("orchestrator.store.redis") / "functions"
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".lua")}


def test_every_lua_file_is_part_of_the_library() -> None:
    """A file that is not loaded is a function that is missing in production."""
    assert sorted(sources()) == sorted(FILES)


def test_library_has_the_whole_transition_table() -> None:
    """The server decides by the same table as the engine."""
    (line,) = [line for line in render().splitlines() if line.startswith("local NEXT")]
    found = dict(re.findall(r"\['([^']+)'\]='([^']+)'", line))
    assert found == {
        f"{state.value}|{'p' if exposed else 'b'}|{event.value}": transition.state.value
        for (state, exposed, event), transition in TRANSITIONS.items()
    }


def test_every_function_states_its_keys_arguments_and_reply() -> None:
    """A function that is called by position must say what stands where."""
    for name, text in sources().items():
        for match in re.finditer(r"^register\('(\w+)'", text, re.MULTILINE):
            above = text[: match.start()].rstrip().splitlines()
            comment: list[str] = []
            while above and above[-1].startswith("--"):
                comment.insert(0, above.pop())
            said = "\n".join(comment)
            assert said.startswith(f"-- {match[1]}: "), f"{name}: {match[1]}"
            for part in ("KEYS[1]", "ARGV", "Reply"):
                assert part in said, f"{name}: {match[1]} does not say {part}"


def test_functions_name_no_key_of_their_own() -> None:
    """keys.py is the only home of key names: every key in Lua is the tag and an entry of KEY."""
    used = set()
    for text in sources().values():
        used |= set(re.findall(r"KEY\.(\w+)", text))
        assert not re.search(r"(tag|keys\[1\])\s*\.\.\s*'", text)
    # `load` and `save` take the name as an argument.
    used |= set(re.findall(r"(?:load|save)\((?:tag|keys\[1\]), '(\w+)'", "".join(sources().values())))
    assert used <= set(ALL_KEYS)
    assert set(ALL_KEYS) - used == {"rollouts"}


def test_key_tables_do_not_overlap() -> None:
    """They are handed to Lua as one table."""
    assert len(ALL_KEYS) == len(SHARD_KEYS) + len(ROLLOUT_KEYS) + len(FLEET_KEYS)


@pytest.mark.parametrize(("vehicle_id", "shard"), [("v-1", 10), ("v-2", 2), ("a", 0), ("Z_9-z", 9)])
def test_shard_of_a_vehicle_never_changes(vehicle_id: str, shard: int) -> None:
    """Vectors by `b2sum -l 64`: whoever computes another shard looks for a vehicle where it is not."""
    assert shard_of(vehicle_id, 16) == shard  # type: ignore[arg-type]


async def test_every_key_in_use_is_documented(redis_store: RedisStore, embedded_server: EmbeddedServer) -> None:
    """An SRE who looks into the store finds each key in keys.py."""
    await running(redis_store)
    await permitted(redis_store)
    await redis_store.put_token(V1, token_sha256="t", life_ms=1000)
    await redis_store.touch({V1: Contact(at=NOW)})
    assert await redis_store.enrol(a_control())
    await reserve(redis_store, "spring.v-1.1", transfer_ms=1)
    await authorize(redis_store, "spring.v-1.1")
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        names = [name.decode() for name in client.keys("*")]
    patterns = [
        re.compile(rf"\{{[^}}]+\}}{re.escape(suffix)}{'.+' if suffix.endswith(':') else ''}")
        for suffix in ALL_KEYS.values()
    ]
    assert len(names) > 10
    assert [name for name in names if not any(pattern.fullmatch(name) for pattern in patterns)] == []


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("exposed", [False, True])
def test_attempt_survives_encoding_in_every_state(state: AttemptState, exposed: bool) -> None:
    """None and zero, empty and absent are different things."""
    attempt = an_attempt(
        state, exposed=exposed, aged=(True, False) if exposed else (), silent=() if not exposed else (True, False)
    )
    assert codec.decode_attempt(codec.encode_attempt(attempt)) == attempt


@pytest.mark.fault("F18")
async def test_record_of_a_newer_build_is_refused(redis_store: RedisStore, embedded_server: EmbeddedServer) -> None:
    """Both sides refuse what they might misread: Python when it reads, Lua when it would change."""
    newer = f"has schema {SCHEMA + 1}"
    await assigned(redis_store)
    name = key(shard_tag(shard_of(V1, redis_store.shards)), "hot")
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        packed = client.hget(name, V1)
        assert isinstance(packed, bytes)
        record = msgpack.unpackb(packed)
        client.hset(name, V1, msgpack.packb([SCHEMA + 1, *record[1:]]))
    with pytest.raises(Exception, match=newer):
        await redis_store.vehicle(V1)
    with pytest.raises(Exception, match=newer):
        await redis_store.apply(V1, outbox_id="box", oldest_number=0, events=[], now=NOW)


@pytest.mark.fault("F18")
def test_document_of_a_newer_build_is_refused() -> None:
    """Rollouts carry a schema too."""
    newer = codec.encode_rollout(a_rollout()).replace(f'{{"schema": {SCHEMA}', f'{{"schema": {SCHEMA + 1}')
    with pytest.raises(StoreRefusedError, match=f"has schema {SCHEMA + 1}, this build reads {SCHEMA}"):
        codec.decode_rollout(newer.encode())


async def test_lua_and_python_write_the_same_bytes(redis_store: RedisStore, embedded_server: EmbeddedServer) -> None:
    """A record that Lua wrote is one that Python could have written: no type is lost between the two."""
    attempt = await assigned(redis_store)
    await redis_store.change(attempt.attempt_id, AttemptEvent.DOWNLOAD_FINISHED, now=NOW)
    name = key(shard_tag(shard_of(V1, redis_store.shards)), "attempts")
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        packed = client.hget(name, attempt.attempt_id)
    assert isinstance(packed, bytes)
    assert msgpack.unpackb(codec.encode_attempt(codec.decode_attempt(packed))) == msgpack.unpackb(packed)
    record = await redis_store.vehicle(V1)
    assert record is not None
    assert record.tries == {
        RolloutId("spring"): Try(number=1, state=AttemptState.DOWNLOADED, state_at=NOW, exposed=False)
    }


async def test_profile_without_tags_and_release_is_readable(redis_store: RedisStore) -> None:
    """The empty ends of a profile's key are fields too."""
    await redis_store.import_vehicles([a_vehicle(), a_vehicle("v-2", tags=("a", "b"))], now=NOW)
    assert sorted(profile.tags for profile in await redis_store.profiles()) == [(), ("a", "b")]


async def test_functions_that_only_read_are_known_to_both_sides(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """Whatever may change data waits for replicas: one that is listed wrongly could be acknowledged too early."""
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        (library,) = client.function_list(LIBRARY)
    functions = {_text(each["name"]): each["flags"] for each in map(_named, _named(library)["functions"])}
    reads = {name for name, flags in functions.items() if "no-writes" in {_text(flag) for flag in flags}}
    assert reads == {f"{PREFIX}{name}" for name in READS}


def _named(cells: dict[bytes, Any]) -> dict[str, Any]:
    return {_text(name): value for name, value in cells.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
