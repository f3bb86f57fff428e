"""A store's data as one file: taken while it runs, laid where none runs, and told when that goes wrong."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import RedisStore, embedded
from orchestrator.store.redis.binary import find_binary
from orchestrator.store.redis.embedded import EmbeddedServer
from orchestrator.store.redis.snapshot import MARK_BYTES, lay_snapshot, take_snapshot
from tests.builders import NOW, a_vehicle
from tests.store_fixtures import redis_of_the_system


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


LARGE_BYTES = 20_000_000


@pytest.mark.parametrize("program", ["valkey", "redis"])
@pytest.mark.parametrize("settings", [{}, {"repl-diskless-sync-delay": "1"}], ids=["", "as an earlier build began it"])
def test_a_snapshot_leaves_no_file_on_the_stores_disk(
    program: str, settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy as large as the data, unannounced, fills the disk without which no change is acknowledged."""
    binary = find_binary() if program == "valkey" else redis_of_the_system()
    monkeypatch.setattr(embedded, "find_binary", lambda: binary)
    folder = tmp_path / "store"
    server = EmbeddedServer(folder, settings=settings)
    server.start()
    value = os.urandom(LARGE_BYTES)
    try:
        with redis.Redis(unix_socket_path=str(server.socket_path)) as client:
            client.set("large", value)
            before = {path.name for path in folder.iterdir()}
            for number in range(2):
                taken = tmp_path / f"taken-{number}"
                assert take_snapshot(server.socket_path, taken) == taken.stat().st_size > LARGE_BYTES
                client.set("written since", number)
        assert {path.name for path in folder.iterdir()} == before
    finally:
        server.stop()
    lay_snapshot(tmp_path / "taken-1", tmp_path / "laid")
    server = EmbeddedServer(tmp_path / "laid")
    server.start()
    try:
        with redis.Redis(unix_socket_path=str(server.socket_path)) as client:
            assert client.get("large") == value
            assert client.get("written since") == b"0"
    finally:
        server.stop()


MARK = bytes(range(65, 65 + MARK_BYTES))
BEGIN = b"+OK\r\n\n\n$EOF:" + MARK + b"\r\n"


@contextmanager
def a_server_that_says(path: Path, pieces: Sequence[bytes]) -> Iterator[None]:
    """Whoever connects is told this, piece by piece, and then no more."""

    def answer() -> None:
        line, _ = listening.accept()
        with line:
            for piece in pieces:
                line.sendall(piece)
            line.shutdown(socket.SHUT_WR)
            while line.recv(1000):
                pass

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("data", [b"", b"short", MARK[1:], bytes(3_000_000) + MARK[:-1], MARK[:20] * 5])
@pytest.mark.parametrize("length", [1, 39, 41, 1 << 22])
def test_the_data_end_at_the_mark_however_they_come(data: bytes, length: int, tmp_path: Path) -> None:
    """A byte of the mark in the file, or one too few, and no server loads it."""
    end = data[-100:] + MARK
    pieces = [BEGIN, data[:-100], *(end[at : at + length] for at in range(0, len(end), length))]
    with a_server_that_says(tmp_path / "s", pieces):
        assert take_snapshot(tmp_path / "s", tmp_path / "taken") == len(data)
    assert (tmp_path / "taken").read_bytes() == data


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((BEGIN, b"half of the da"), "ended before all of them had come"),
        ((BEGIN, b"data", MARK[:-1]), "ended before all of them had come"),
        ((b"+OK\r\n", b"-LOADING it is\r\n"), "LOADING it is"),
        ((b"+OK\r\n$400\r\n",), "400"),
        ((b"+OK\r\n$EOF:\r\n", b"data"), "a mark of 0 bytes"),
        ((b"+OK\r\n",), "closed the connection"),
    ],
)
def test_data_that_do_not_come_to_their_end_are_no_snapshot(pieces: Sequence[bytes], why: str, tmp_path: Path) -> None:
    """A server that dies in between must not leave a backup that is found to be half of one when it is needed."""
    with (
        a_server_that_says(tmp_path / "s", pieces),
        pytest.raises(StoreUnavailableError, match=why),
    ):
        take_snapshot(tmp_path / "s", tmp_path / "taken")
