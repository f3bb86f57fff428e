"""`outrider store verify`: what a person sees, and what a script can tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.store.redis import EmbeddedServer, RedisStore
from tests.builders import NOW, a_vehicle
from tests.cli.conftest import Outrider

WHY = ("--repair", "--reason", "somebody tried HINCRBY")


def miscount(socket: Path) -> None:
    """Two vehicles in the store, and a count of three."""

    async def fill() -> None:
        store = await RedisStore.connect(f"unix://{socket}")
        await store.import_vehicles([a_vehicle("v-1"), a_vehicle("v-2")], now=NOW)
        await store.close()

    asyncio.run(fill())
    with redis.Redis(unix_socket_path=str(socket)) as client:
        counted = next(client.scan_iter("*:profiles"))
        client.hincrby(counted, client.hkeys(counted)[0], 1)  # type: ignore[index]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """The private store of a data folder, as it is while the orchestrator runs."""
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    yield server
    server.stop()


def test_store_that_counts_right_is_said_to_be_so(tmp_path: Path, outrider: Outrider, store: EmbeddedServer) -> None:
    """While it runs: nobody stops the service to look."""
    outcome = outrider("store", "verify", "--data", tmp_path)
    assert outcome.exit_code == 0
    assert "Every counter of 16 shards and 0 rollouts is what the records say." in outcome.stdout


def test_wrong_counter_is_named_and_ends_with_a_code(tmp_path: Path, outrider: Outrider, store: EmbeddedServer) -> None:
    """A script that looks once a day has to notice; nothing is changed unasked."""
    miscount(store.socket_path)
    for _ in range(2):
        outcome = outrider("store", "verify", "--data", tmp_path)
        assert outcome.exit_code == 4
        assert "1 counters of 16 shards" in outcome.stdout
        assert "profiles" in outcome.stdout
        assert "--repair --reason" in outcome.stderr


def test_repair_says_what_it_did_and_leaves_a_word_in_the_journal(
    tmp_path: Path, outrider: Outrider, store: EmbeddedServer
) -> None:
    """Who, why, what was, what is."""
    miscount(store.socket_path)
    outcome = outrider("--output", "json", "store", "verify", *WHY, "--data", tmp_path)
    assert outcome.exit_code == 0
    [correction] = json.loads(outcome.stdout)["corrections"]
    assert int(correction["was"]) == int(correction["is"]) + 1
    assert outrider("store", "verify", "--data", tmp_path).exit_code == 0

    async def journalled() -> list[object]:
        opened = await RedisStore.connect(store.url)
        entries = await opened.journal(correction["stream"], after="", count=1000)
        await opened.close()
        return [entry.data["reason"] for entry in entries if entry.kind == "counter_repaired"]

    assert asyncio.run(journalled()) == ["somebody tried HINCRBY"]


def test_store_that_does_not_run_is_started_for_the_while(tmp_path: Path, outrider: Outrider) -> None:
    """After an accident one looks before one serves."""
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    miscount(server.socket_path)
    server.stop()
    assert outrider("store", "verify", "--data", tmp_path).exit_code == 4
    assert outrider("store", "verify", *WHY, "--data", tmp_path).exit_code == 0
    assert outrider("store", "verify", "--data", tmp_path).exit_code == 0


@pytest.mark.parametrize("arguments", [("--repair",), ("--reason", "why"), ("--repair", "--reason", " ")])
def test_repair_without_a_reason_and_a_reason_without_a_repair_are_refused(
    tmp_path: Path, outrider: Outrider, arguments: tuple[str, ...]
) -> None:
    """What changes a counter by hand is explained, or does not happen."""
    outcome = outrider("store", "verify", *arguments, "--data", tmp_path)
    assert outcome.exit_code == 2


def test_folder_without_a_store_is_said_to_be_none(tmp_path: Path, outrider: Outrider) -> None:
    """Nothing is made by looking."""
    assert outrider("store", "verify", "--data", tmp_path / "gone").exit_code == 3
    assert outrider("store", "verify", "--data", tmp_path).exit_code == 3
    assert not (tmp_path / "store").exists()
