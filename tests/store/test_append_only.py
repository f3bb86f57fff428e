"""What a repair of the append-only file must leave alone; what it cuts and keeps is in `test_embedded`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import EmbeddedServer, repair
from orchestrator.store.redis.lock import take_server_lock
from tests.processes import eventually

pytestmark = pytest.mark.processes

TORN = b"*3\r\n$3\r\nSE"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(folder)
    server.start()
    yield server
    server.stop()


def tear(folder: Path) -> Path:
    """The file that is written to, with half of a write at its end."""
    (newest,) = (folder / "appendonlydir").glob("*.incr.aof")
    with newest.open("ab") as file:
        file.write(TORN)
    return newest


def is_free(folder: Path) -> bool:
    """Whether no server works on the folder."""
    lock = take_server_lock(folder)
    if lock is not None:
        lock.close()
    return lock is not None


def test_repair_refuses_while_a_server_that_was_left_behind_works_on_the_file(
    server: EmbeddedServer, folder: Path
) -> None:
    """A killed owner's lock is free, but the file is being written to: what looks torn may be half of a write."""
    server._lock.drop()
    file = tear(folder)
    torn = file.read_bytes()
    with pytest.raises(StoreRefusedError, match=r"left behind still works on .*server\.lock` names, then repair"):
        repair(folder)
    assert file.read_bytes() == torn
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: is_free(folder), what="a killed server lets go of its lock")
    assert repair(folder).bytes_cut == len(TORN)


def test_copies_are_numbered_above_those_that_were_kept(server: EmbeddedServer, folder: Path) -> None:
    """Whoever deleted an old copy, to have room on a full disk, must be able to repair again."""
    server.stop()
    for kept, next_one in (("damaged-2", "damaged-3"), ("damaged-10", "damaged-11")):
        (folder / kept).mkdir()
        tear(folder)
        (cut,) = repair(folder).cut
        assert cut.copy.parent.name == next_one
