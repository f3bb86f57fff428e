"""The chain in a database: where it begins, where it ends, and what is put behind its end.

Owns the notes in `meta` and how a row is chained. What stands before the beginning was archived: `archived_seq` and
`archived_hash` name the last entry that was removed, `archived_marks` how far each stream was. Whoever calls holds the
transaction. Leaves to `ledger` what is written and to `archive` what is removed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from orchestrator.ledger.database import Connection
from orchestrator.ledger.entry import COLUMNS, GENESIS, Row, position
from orchestrator.ledger.errors import LedgerBrokenError

INSERT = f"INSERT INTO entries (seq, {COLUMNS}, prev_hash, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
CHAINED = f"SELECT seq, {COLUMNS}, prev_hash, hash FROM entries"  # noqa: S608 - a constant
"""Rows as `verify.chained` reads them."""
_SET_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


def meta(connection: Connection, name: str) -> str:
    """A note; empty when there is none."""
    found = next(connection.rows("SELECT value FROM meta WHERE name = ?", (name,)), None)
    return str(found[0]) if found else ""


def note(connection: Connection, **notes: str) -> None:
    """Write notes down."""
    connection.run_many(_SET_META, notes.items())


def beginning(connection: Connection) -> tuple[int, bytes]:
    """Place and hash of the last entry that was archived, which the first one follows; 0 and GENESIS when none was."""
    seq = _number(meta(connection, "archived_seq"))
    return (seq, bytes.fromhex(meta(connection, "archived_hash"))) if seq else (0, GENESIS)


def noted_end(connection: Connection) -> tuple[int, str]:
    """Place and hash, hex, that the last append left; -1, which no chain matches, when somebody wrote nonsense."""
    return _number(meta(connection, "head_seq")), meta(connection, "head_hash")


def end_of(connection: Connection, name: str) -> tuple[int, bytes]:
    """Place and hash of the last entry; refuses to build on an end that is not the one we left.

    Args:
        connection: in a transaction.
        name: of the ledger, for the message.

    Raises:
        LedgerBrokenError: rows were removed, changed or added.
    """
    last = next(connection.rows("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"), None)
    seq, own = last or beginning(connection)
    left_seq, left_hash = noted_end(connection)
    if (seq, own.hex()) != (left_seq, left_hash or GENESIS.hex()):
        raise LedgerBrokenError(
            f"ledger {name}: its end ({seq}) is not the one that was written ({left_seq}): rows were "
            "removed, changed or added; stop, keep a copy for evidence and restore the last backup"
        )
    return seq, own


def extend(connection: Connection, end: tuple[int, bytes], rows: Iterable[Row]) -> None:
    """Put rows behind the end, and note where it is now."""
    seq, last = end
    chained = []
    for row in rows:
        seq, previous = seq + 1, last
        last = row.hash_after(previous, seq)
        chained.append((seq, *row.values(), previous, last))
    connection.run_many(INSERT, chained)
    note(connection, head_seq=str(seq), head_hash=last.hex())


def is_beyond(entry_id: str, mark: str) -> bool:
    """Whether a position lies behind a mark of its stream; behind none, all do."""
    return not mark or position(entry_id) > position(mark)


def archived_marks(connection: Connection) -> Mapping[str, str]:
    """The highest position of each stream that was archived."""
    return dict(json.loads(meta(connection, "archived_marks") or "{}"))


def _number(value: str) -> int:
    return int(value or "0") if not value or (value.isascii() and value.isdigit()) else -1
