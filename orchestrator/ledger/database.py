"""What the ledger asks of a database, and which one answers for a place.

Owns the few operations that SQLite and PostgreSQL both have to offer; SQL is written once, with `?` for values, in the
words that both understand. Leaves tables, durability and the words of errors to `sqlite` and `postgres`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, cast

from orchestrator.ledger.errors import LedgerBrokenError
from orchestrator.ledger.sqlite import SqliteDatabase

VERSION = 3
"""Of the tables. 2: indexes by which a rollout's whole story is read in order. 3: the first entries may be archived."""

Values = Sequence[object]


class Connection(Protocol):
    """One connection; whoever holds it uses it from one thread at a time."""

    def rows(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query that gives few."""

    def stream(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query inside `snapshot`, piece by piece, however many there are."""

    def run(self, statement: str, values: Values = ()) -> None:
        """One statement."""

    def run_many(self, statement: str, values: Iterable[Values]) -> None:
        """One statement, many times."""

    def writing(self) -> AbstractContextManager[None]:
        """A transaction that no other writer enters meanwhile; all of it is on disk when it is left, or nothing."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Reads inside see the ledger as it was at one moment."""

    def close(self) -> None:
        """Let go of it; harmless when it was lost."""


class Database(Protocol):
    """A place for a ledger."""

    @property
    def name(self) -> str:
        """How messages call it; without a password."""

    def open(self) -> Connection:
        """A connection that writes; makes the tables or brings them to this version."""

    def open_reading(self) -> Connection:
        """A connection that cannot write; makes nothing."""

    def explained(self) -> AbstractContextManager[None]:
        """Turns what the database raises inside into a LedgerError with the cause and the remedy."""


def database_at(place: Path | str, *, busy_timeout_s: float) -> Database:
    """The database for a place.

    Args:
        place: a file of SQLite, or the URL of a PostgreSQL database.
        busy_timeout_s: how long a writer waits for another one.

    Raises:
        LedgerBrokenError: it is a URL, and its driver is not installed.
    """
    if isinstance(place, Path):
        return SqliteDatabase(place, VERSION, busy_timeout_s=busy_timeout_s)
    try:
        # The driver is an extra: only who has a ledger on PostgreSQL needs it.
        module = importlib.import_module("orchestrator.ledger.postgres")
    except ImportError as exc:
        remedy = "install it: pip install 'outrider[postgres]'"
        raise LedgerBrokenError(f"ledger: PostgreSQL's driver is missing ({exc}); {remedy}") from exc
    return cast("Database", module.PostgresDatabase(place, VERSION, busy_timeout_s=busy_timeout_s))
