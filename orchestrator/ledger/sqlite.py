"""The ledger in a SQLite file: tables, their guards, the durability of a connection, and the words of its errors.

Leaves to `ledger` what is written and read.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.ledger.errors import LedgerBrokenError, LedgerUnavailableError

APPLICATION_ID = 0x4F545244
"""`OTRD`: says to whom the file belongs."""

# entries: one row an entry, seq without holes from 1; prev_hash and hash make the chain.
# marks:   one row a stream: the highest position that was fed, written in the transaction that writes the entries.
# meta:    dataset_id (of the store that feeds it); head_seq and head_hash (hex) of the last entry, so that a missing
#          tail shows; archived_seq, archived_hash and archived_marks of what was removed (see `chain`).
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
CREATE INDEX entries_by_vehicle ON entries (vehicle_id, seq) WHERE vehicle_id <> '';
CREATE TABLE marks (stream TEXT PRIMARY KEY, entry_id TEXT NOT NULL) STRICT;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TRIGGER entries_are_not_changed BEFORE UPDATE ON entries
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are not changed'); END;
CREATE TRIGGER marks_are_not_removed BEFORE DELETE ON marks
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: marks are not removed'); END;
"""

# By them a rollout's whole story, and its decisions alone, are read in order, page by page, without a sort.
FROM_1_TO_2 = """
DROP INDEX IF EXISTS entries_by_rollout;
CREATE INDEX entries_by_rollout ON entries (rollout_id, seq) WHERE rollout_id <> '';
CREATE INDEX decisions_by_rollout ON entries (rollout_id, seq) WHERE rollout_id <> '' AND vehicle_id = '';
"""

# Only what is noted as archived may be removed, and the first entry follows it.
FROM_2_TO_3 = """
DROP TRIGGER IF EXISTS entries_are_not_removed;
DROP TRIGGER IF EXISTS entries_are_added_at_the_end;
CREATE TRIGGER entries_are_not_removed BEFORE DELETE ON entries
  WHEN OLD.seq > coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'archived_seq'), 0)
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are not removed'); END;
CREATE TRIGGER entries_are_added_at_the_end BEFORE INSERT ON entries
  WHEN NEW.seq <> 1 + coalesce(
    (SELECT max(seq) FROM entries), (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'archived_seq'), 0)
  BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: entries are added at the end'); END;
"""

_LATER = {
    "SQLITE_FULL": "the disk is full; free some space, what was not written stays in the journal",
    "SQLITE_BUSY": "another process holds it for writing; if this lasts, find out who has the file open",
    "SQLITE_LOCKED": "another connection holds it; try again",
    "SQLITE_IOERR": "the disk reported an error; check the disk and its mount",
}
_NEVER = {
    "SQLITE_CORRUPT": "the file is damaged; stop, keep a copy for evidence and restore the last backup",
    "SQLITE_NOTADB": "this is not a ledger; move it away, or name the right file",
    "SQLITE_READONLY": "it cannot be written; see to it that this user owns the file and its folder",
    "SQLITE_CANTOPEN": "it cannot be opened; see to it that the folder exists and this user may write there",
    "SQLITE_PERM": "access is denied; see to it that this user owns the file and its folder",
    "SQLITE_AUTH": "access is denied; see to it that this user owns the file and its folder",
}


class SqliteConnection:
    """One connection to the file; every commit is on the disk when it returns (WAL, synchronous=FULL)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows, as they are asked for."""
        return iter(self._connection.execute(query, tuple(values)))

    def stream(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """The same: SQLite reads no further than it is asked."""
        return self.rows(query, values)

    def run(self, statement: str, values: Sequence[object] = ()) -> None:
        """One statement."""
        self._connection.execute(statement, tuple(values))

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """One statement, many times."""
        self._connection.executemany(statement, values)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One immediate transaction."""
        with self._between("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """One reading transaction: WAL keeps what it sees."""
        with self._between("BEGIN"):
            yield

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def _between(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


class SqliteDatabase:
    """A file.

    Args:
        path: made readable by its owner only, when it is first opened for writing.
        version: of the tables.
        busy_timeout_s: how long to wait for another writer.
    """

    def __init__(self, path: Path, version: int, *, busy_timeout_s: float) -> None:
        self._path = path
        self._version = version
        self._busy_timeout_s = busy_timeout_s

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def open(self) -> SqliteConnection:
        """For writing; makes the file, and brings its tables to this version.

        Raises:
            LedgerBrokenError: the file belongs to another program or to a newer Outrider.
            sqlite3.Error: anything else.
        """
        _make_private(self._path)
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        opened = SqliteConnection(connection)
        try:
            self._prepare(connection, opened)
        except BaseException:
            connection.close()
            raise
        return opened

    def open_reading(self) -> SqliteConnection:
        """For reading only; a missing file is not made.

        Raises:
            LedgerBrokenError: the file belongs to another program or to a newer Outrider.
            LedgerUnavailableError: there is none yet, or its tables are not made yet.
            sqlite3.Error: anything else.
        """
        if not self._path.is_file():
            raise LedgerUnavailableError(f"ledger {self._path}: there is none yet; it is made by the supervisor")
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(
            uri, uri=True, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            if not self._found(connection):
                raise LedgerUnavailableError(f"ledger {self._path}: it has no tables yet; try again")
        except BaseException:
            connection.close()
            raise
        return SqliteConnection(connection)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what SQLite raises inside into a LedgerError with the cause and the remedy.

        Raises:
            LedgerUnavailableError: full, busy, or the disk failed.
            LedgerBrokenError: damaged, foreign, not accessible; or a rule of the ledger itself said no.
        """
        try:
            yield
        except sqlite3.Error as exc:
            # Extended codes carry the cause in the name after the base one: SQLITE_IOERR_WRITE.
            base = "_".join(getattr(exc, "sqlite_errorname", "").split("_")[:2])
            if base in _LATER:
                raise LedgerUnavailableError(f"ledger {self._path}: {_LATER[base]} ({exc})") from exc
            remedy = _NEVER.get(base, "this should not happen; keep a copy of the file and report it")
            raise LedgerBrokenError(f"ledger {self._path}: {remedy} ({exc})") from exc
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise LedgerUnavailableError(f"ledger {self._path}: {_LATER['SQLITE_FULL']} ({exc})") from exc
            raise LedgerBrokenError(f"ledger {self._path}: {_NEVER['SQLITE_CANTOPEN']} ({exc})") from exc

    def _prepare(self, connection: sqlite3.Connection, opened: SqliteConnection) -> None:
        self._found(connection)
        if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
            raise LedgerBrokenError(f"ledger {self._path}: this file system cannot hold it (no WAL); use a local disk")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA trusted_schema=OFF")
        if self._found(connection) == self._version:
            return
        with opened.writing():
            found = self._found(connection)
            steps = (TABLES, FROM_1_TO_2, FROM_2_TO_3)
            _run_all(connection, "".join(steps[found:]))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={self._version}")

    def _found(self, connection: sqlite3.Connection) -> int:
        """The version of its tables, 0 for none; refuses a file that is not ours before anything in it is touched."""
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return 0
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise LedgerBrokenError(
                f"ledger {self._path}: another program's database; move it away, or name the right file"
            )
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version > self._version:
            raise LedgerBrokenError(
                f"ledger {self._path}: tables of version {version}, this Outrider knows {self._version}; use the "
                "Outrider that made it"
            )
        return version


def _make_private(path: Path) -> None:
    """Make the file, readable by its owner only, if it is not there.

    A file that is there must not be opened here: SQLite's locks are the process's, and closing any other descriptor of
    the file drops those of its open connections. Source: SQLite, How To Corrupt An SQLite Database File, section 2.2.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        return  # what cannot be made, SQLite will say


def _run_all(connection: sqlite3.Connection, script: str) -> None:
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
