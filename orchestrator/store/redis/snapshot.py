"""The private store's data as one file: taken from a server that runs on, and laid into a folder where none runs.

Taken as a replica takes it (`SYNC`): one moment, while every call goes on being answered; sent as it is made, so that
the server lays no file of its own on the disk that it needs. Laid by a server of its own, which reads the file and
writes the append-only file that the next start loads. Leaves to `embedded` how servers start.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import time
from pathlib import Path
from typing import BinaryIO

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis.embedded import EmbeddedServer

DUMP = "dump.rdb"
QUIET_S = 60.0
"""Longest that a server may be silent: it sends line ends while it prepares the file."""
POLL_S = 0.02
CHUNK_BYTES = 1 << 20
MARK_BYTES = 40
"""Of the random mark that is told before the data and ends them: how long they are is not known when they begin."""


def take_snapshot(socket_path: Path, target: Path) -> int:
    """Write the data of a running server into a new file, durably; the size in bytes.

    Raises:
        StoreUnavailableError: the server did not answer, or ended in between.
        OSError: the file cannot be written.
    """
    with socket.socket(socket.AF_UNIX) as line, target.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        line.settimeout(QUIET_S)
        try:
            line.connect(str(socket_path))
            with line.makefile("rb") as answer:
                # Without this said the server writes a file first, and leaves it in its folder.
                line.sendall(b"REPLCONF capa eof\r\n")
                _told(answer, b"+OK")
                line.sendall(b"SYNC\r\n")
                _copy(answer, file, mark=_told(answer, b"$EOF:"))
        except (TimeoutError, ConnectionError, FileNotFoundError) as exc:
            raise StoreUnavailableError(f"the store did not hand over its data ({exc}): see server.log") from exc
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def remove_leftover(folder: Path) -> None:
    """Remove the whole copy of the data that each snapshot of an earlier build left in the store's folder.

    A server with an append-only file never reads it.
    """
    (folder / DUMP).unlink(missing_ok=True)


def lay_snapshot(rdb: Path, folder: Path) -> None:
    """Make a store's folder out of a snapshot; afterwards nothing runs, and any start finds the data.

    Args:
        rdb: as `take_snapshot` wrote it; stays.
        folder: the store's; absent or empty.

    Raises:
        StoreRefusedError: something lies in the folder, or the server does not take the file.
        StoreUnavailableError: the server ended before it had written the data, as on a full disk.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreRefusedError(f"{folder} is not empty: restore into a new data folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(rdb, folder / DUMP)
    server = EmbeddedServer(folder, settings={"appendonly": "no", "dbfilename": DUMP})
    server.start()
    try:
        with redis.Redis(unix_socket_path=str(server.socket_path), protocol=3, retry=Retry(NoBackoff(), 0)) as client:
            client.config_set("appendonly", "yes")
            while (persistence := client.info("persistence"))["aof_rewrite_in_progress"] or persistence.get(
                "aof_rewrite_scheduled"
            ):
                # As long as it takes to write the data once; a server that dies meanwhile ends the wait.
                time.sleep(POLL_S)
            if persistence["aof_last_bgrewrite_status"] != "ok" or not persistence["aof_enabled"]:
                raise StoreRefusedError(f"the store's server could not write its append-only file: see {folder}")
    except redis.RedisError as exc:
        raise StoreUnavailableError(f"the store's server ended while it took the data ({exc}): see {folder}") from exc
    finally:
        server.stop()
    (folder / DUMP).unlink()


def _told(answer: io.BufferedReader, begin: bytes) -> bytes:
    """What follows the beginning that the server's next line is to have; empty lines say that it is at work."""
    told = b"\n"
    while told and not told.strip():
        told = answer.readline()
    if not told.startswith(begin):
        raise ConnectionError(told.strip().decode(errors="replace")[:200] or "it closed the connection")
    return told.removeprefix(begin).strip()


def _copy(answer: io.BufferedReader, file: BinaryIO, *, mark: bytes) -> None:
    """Nothing follows the mark: a replica gets no more before it has said that it took the data."""
    if len(mark) != MARK_BYTES:
        raise ConnectionError(f"it told a mark of {len(mark)} bytes, {MARK_BYTES} are expected")
    held = b""
    while not held.endswith(mark):
        file.write(held[:-MARK_BYTES])
        chunk = answer.read1(CHUNK_BYTES)
        if not chunk:
            raise ConnectionError("it ended before all of them had come")
        held = held[-MARK_BYTES:] + chunk
    file.write(held[:-MARK_BYTES])
