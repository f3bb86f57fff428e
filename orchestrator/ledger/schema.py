"""The ledger's tables, and how a connection to them is opened.

Owns table definitions, their guards and the durability of a connection. Leaves to ledger.py what is written and read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.ledger.errors import LedgerBrokenError, LedgerUnavailableError

APPLICATION_ID = 0x4F545244
"""`OTRD`: says to whom the file belongs."""
VERSION = 1
"""Of the tables; a newer one is refused."""

# entries: one row an entry, seq without holes from 1; prev_hash and hash make the chain.
# marks:   one row a stream: the highest position that was fed, written in the transaction that writes the entries.
# meta:    dataset_id (of the store that feeds it); head_seq and head_hash (hex) of the last entry, so that a missing
#          tail shows.
# The guards refuse by accident what the chain would find on purpose.
TABLES = """
CREATE TABLE entries (
  seq INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  entry_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  rollout_id TEXT NOT NULL,
  vehicle_id TEXT NOT NULL,
  attempt_id TEXT NOT NULL,
  data TEXT NOT NULL,
  blob BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  UNIQUE (stream, entry_id)
) STRICT;
CREATE INDEX entries_by_rollout ON entries (rollout_id, vehicle_id, seq) WHERE rollout_id <> '';
CREATE INDEX entries_by_vehicle ON entries (vehicle_id, seq) WHERE vehicle_id <> '';
CREATE TABLE marks (stream TEXT PRIMARY KEY, entry_id TEXT NOT NULL) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are not changed'); END;
CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are not removed'); END;
CREATE TRIGGER entries_are_added_at_the_end BEFORE INSERT ON entries
  WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM entries)
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are added at the end'); END;
CREATE TRIGGER marks_are_not_removed BEFORE DELETE ON marks
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: marks are not removed'); END;
"""


def connect(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
    """Open the ledger, making it when it is not there. The caller serialises the use of the connection.

    Every commit is on the disk when it returns (WAL, synchronous=FULL).

    Args:
        path: The file; made readable by its owner only.
        busy_timeout_s: How long to wait for another writer.

    Raises:
        LedgerBrokenError: the file belongs to another program or to a newer Outrider.
        sqlite3.Error: anything else.
    """
    _make_private(path)
    connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reading(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
    """Open a ledger that is there, for reading only. The caller serialises the use of the connection.

    Args:
        path: The file.
        busy_timeout_s: How long to wait for a lock.

    Raises:
        LedgerBrokenError: the file belongs to another program or to a newer Outrider.
        LedgerUnavailableError: it has no tables yet.
        sqlite3.Error: anything else.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_timeout_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        if _empty(connection, path):
            raise LedgerUnavailableError(f"ledger {path}: it has no tables yet; try again")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner only, if it is not there.

    A file that is there must not be opened here: SQLite's locks are the process's, and closing any other descriptor of
    the file drops those of its open connections. Source: SQLite, How To Corrupt An SQLite Database File, section 2.2.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        return  # what cannot be made, SQLite will say


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    _empty(connection, path)
    if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise LedgerBrokenError(f"ledger {path}: this file system cannot hold it (no WAL); use a local disk")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA trusted_schema=OFF")
    with transaction(connection):
        if _empty(connection, path):
            _create(connection)


def _empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has no tables yet; refuses one that is not ours before anything in it is touched."""
    if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        return True
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise LedgerBrokenError(f"ledger {path}: another program's database; move it away, or name the right file")
    if version != VERSION:
        raise LedgerBrokenError(
            f"ledger {path}: tables of version {version}, this Outrider knows {VERSION}; use the Outrider that made it"
        )
    return False


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One writing transaction: all of it or nothing, on the disk when it is left."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _create(connection: sqlite3.Connection) -> None:
    statement = ""
    for line in TABLES.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
