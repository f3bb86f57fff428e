"""A store's data as one file: taken while it runs, laid where none runs, and told when that goes wrong."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.embedded import EmbeddedServer
from orchestrator.store.redis.snapshot import lay_snapshot, take_snapshot
from tests.builders import NOW, a_vehicle


async def test_what_is_laid_is_what_was_taken(
    redis_store: RedisStore, embedded_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A restore that loses a vehicle is none."""
    vehicle = a_vehicle()
    await redis_store.import_vehicles([vehicle], now=NOW)
    assert take_snapshot(embedded_server.socket_path, tmp_path / "taken") > 0
    lay_snapshot(tmp_path / "taken", tmp_path / "store")
    server = EmbeddedServer(tmp_path / "store")
    server.start()
    try:
        laid = await RedisStore.connect(server.socket_path)
        record = await laid.vehicle(vehicle.vehicle_id)
        await laid.close()
    finally:
        server.stop()
    assert record is not None
    assert record.vehicle == vehicle


def test_a_folder_with_data_is_left_alone(tmp_path: Path) -> None:
    """Somebody's store must not be written over by a restore to the wrong place."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "other").touch()
    with pytest.raises(StoreRefusedError, match="is not empty"):
        lay_snapshot(tmp_path / "taken", tmp_path / "store")


def test_a_server_that_dies_while_it_takes_the_data_is_told(
    redis_store: RedisStore, embedded_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at 3 a.m. has to be an error with a place to look, not a stack trace."""
    take_snapshot(embedded_server.socket_path, tmp_path / "taken")
    begin = EmbeddedServer.start

    def begin_and_die(server: EmbeddedServer) -> None:
        begin(server)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)

    monkeypatch.setattr(EmbeddedServer, "start", begin_and_die)
    with pytest.raises(StoreUnavailableError, match="ended while it took the data"):
        lay_snapshot(tmp_path / "taken", tmp_path / "store")
