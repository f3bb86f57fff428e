"""The ledger in a file: what SQLite does when disks fill, processes die, and files are not what they should be."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, LedgerBrokenError, LedgerUnavailableError
from orchestrator.ledger.database import VERSION
from orchestrator.ledger.sqlite import SqliteDatabase
from tests.ledger.entries import an_entry


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
async def ledger(path: Path) -> AsyncIterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    await ledger.close()


async def test_only_its_owner_can_read_the_file(ledger: Ledger, path: Path):
    """It names operators and holds manifests."""
    await ledger.append([an_entry(1)])
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def _nothing(path: Path) -> None:
    """Leave the place empty."""


def _text(path: Path) -> None:
    path.write_text("this is not a database, but long enough to look at" * 30)


def _foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    asyncio.run(Ledger(path).close())
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize(
    ("prepare", "name", "told"),
    [
        (_text, "ledger.sqlite3", "this is not a ledger"),
        (_foreign, "ledger.sqlite3", "another program's database"),
        (_newer, "ledger.sqlite3", "tables of version 99, this Outrider knows 3"),
        (_nothing, "no/such/folder/ledger.sqlite3", "see to it that the folder exists"),
    ],
)
def test_a_file_that_cannot_be_a_ledger_is_refused_with_the_remedy(
    tmp_path: Path, prepare: Callable[[Path], None], name: str, told: str
):
    """The message names the file and says what to do; the file is left as it was."""
    path = tmp_path / name
    prepare(path)
    before = path.read_bytes() if path.exists() else b""
    with pytest.raises(LedgerBrokenError, match=told) as refused:
        Ledger(path)
    assert str(path) in str(refused.value)
    assert (path.read_bytes() if path.exists() else b"") == before


async def test_a_damaged_file_is_told_apart_from_a_busy_one(path: Path):
    """One needs a backup, the other a moment."""
    ledger = Ledger(path)
    await ledger.append([an_entry(number, blob=b"x" * 3000) for number in range(1, 60)])
    await ledger.close()
    _damage(path)
    damaged = Ledger(path)
    with pytest.raises(LedgerBrokenError, match="restore the last backup"):
        await damaged.append([an_entry(100)])
    await damaged.close()


def _damage(path: Path) -> None:
    """Overwrite all pages but the first two."""
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xaa" * (len(content) - 8192)
    path.write_bytes(content)


async def test_a_busy_ledger_asks_to_try_again(path: Path):
    """Another process in the middle of a long write is no reason to stop the service."""
    ledger = Ledger(path, busy_timeout_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailableError, match="another process holds it"):
        await ledger.append([an_entry(1)])
    other.execute("ROLLBACK")
    other.close()
    assert await ledger.append([an_entry(1)]) == {"attempt_changed": 1}
    await ledger.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from orchestrator.ledger import Ledger, LedgerEntry, LedgerUnavailableError

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    entries = [LedgerEntry("shard/0", f"1-{n}", "k", n, {"text": "x" * 2000}) for n in range(1, 201)]
    await ledger.append(entries[:2])
    before = await ledger.verify()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        await ledger.append(entries)
    except LedgerUnavailableError as exc:
        print("refused", exc)
    assert await ledger.verify() == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(dict(await ledger.append(entries)), (await ledger.verify()).ok)
    await ledger.close()

asyncio.run(main())
"""


@pytest.mark.processes
def test_a_disk_that_takes_no_more_loses_nothing(path: Path):
    """The batch stays whole: none of it now, all of it when there is room again."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused, repeated = done.stdout.splitlines()
    assert refused.startswith(f"refused ledger {path}: ")
    assert repeated == "{'k': 198} True"


FEED = """
import asyncio, sys
from pathlib import Path
from orchestrator.ledger import Ledger, LedgerEntry

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    mark = int((await ledger.mark("shard/0") or "1-0").partition("-")[2])
    while True:
        first = max(1, mark - 3)
        await ledger.append([LedgerEntry("shard/0", f"1-{n}", "k", n, {"n": n}) for n in range(first, mark + 41)])
        mark += 40
        print(mark, flush=True)

asyncio.run(main())
"""


@pytest.mark.processes
async def test_kill_9_in_the_middle_of_appends_leaves_a_valid_chain(path: Path):
    """What was acknowledged is there, what was not is whole or absent, and the feed goes on from the mark."""
    for acknowledgements in (1, 7, 30):
        acknowledged = _feed_and_kill(path, acknowledgements)
        ledger = Ledger(path)
        report = await ledger.verify()
        assert report.ok, report.reason
        assert report.entries >= acknowledged
        assert report.entries % 40 == 0
        assert await ledger.mark("shard/0") == f"1-{report.entries}"
        await ledger.close()


def _feed_and_kill(path: Path, acknowledgements: int) -> int:
    """Run a feeder until it has told of so many batches, then kill it at once; the last number it told."""
    feeder = subprocess.Popen([sys.executable, "-c", FEED, str(path)], stdout=subprocess.PIPE, text=True)
    assert feeder.stdout is not None
    told = [int(feeder.stdout.readline()) for _ in range(acknowledgements)]
    feeder.send_signal(signal.SIGKILL)
    feeder.wait(30)
    feeder.stdout.close()
    return told[-1]


def test_a_full_disk_is_named_as_such(tmp_path: Path):
    """SQLite's own word for it is "database or disk is full": the remedy must be ours."""
    with pytest.raises(LedgerUnavailableError, match="the disk is full; free some space"):
        _fill(tmp_path / "small.sqlite3")


def _fill(path: Path) -> None:
    """Write more into a database than it may hold."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA max_page_count = 2")
        with SqliteDatabase(path, VERSION, busy_timeout_s=1.0).explained():
            connection.execute("CREATE TABLE big AS SELECT zeroblob(100000)")
    finally:
        connection.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_file_from_before_is_brought_along(path: Path, version: int):
    """What is there stays; indexes and guards are this version's."""
    ledger = Ledger(path)
    await ledger.append([an_entry(1), an_entry(2)])
    await ledger.close()
    new = _schema(path)
    connection = sqlite3.connect(path)
    connection.executescript(
        "DROP TRIGGER entries_are_not_removed; DROP TRIGGER entries_are_added_at_the_end;"
        + ("DROP INDEX decisions_by_rollout; DROP INDEX entries_by_rollout;" if version == 1 else "")
        + f"PRAGMA user_version = {version};"
    )
    connection.close()
    ledger = Ledger(path)
    assert (await ledger.verify()).entries == 2
    assert _schema(path) == new
    await ledger.close()


def _schema(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    rows = {str(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_schema")}
    connection.close()
    return rows
