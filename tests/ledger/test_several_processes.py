"""One ledger file in several processes: a reader that comes and goes must not cut the writer off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from orchestrator.ledger import Ledger
from tests.ledger.entries import an_entry

COUNT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
connection.close()
"""


def entries_seen_by_another_process(path: Path) -> int:
    """Opens the file like any tool, counts, closes, ends."""
    done = subprocess.run([sys.executable, "-c", COUNT, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


async def test_reader_that_leaves_does_not_take_the_writers_log_with_it(tmp_path: Path) -> None:
    """SQLite's locks belong to the process: closing the file once by other means drops them all, the next reader
    believes that it is alone and removes the write-ahead log, and what is written afterwards is in no file at all.
    """
    path = tmp_path / "ledger.sqlite3"
    ledger = Ledger(path)
    await ledger.append([an_entry(1)])
    log = tmp_path / "ledger.sqlite3-wal"
    inode = log.stat().st_ino
    assert entries_seen_by_another_process(path) == 1
    assert log.exists()
    assert log.stat().st_ino == inode
    await ledger.append([an_entry(2)])
    assert entries_seen_by_another_process(path) == 2
    second = Ledger(path)
    await second.close()
    await ledger.append([an_entry(3)])
    assert entries_seen_by_another_process(path) == 3
    await ledger.close()
