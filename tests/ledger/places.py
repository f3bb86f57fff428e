"""The two kinds of place that a ledger can lie in, for the suite that both have to pass."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from orchestrator.ledger.postgres import SCHEMA


@dataclass(frozen=True)
class Place:
    """A place for a ledger, and the back door to it."""

    where: Path | str

    @property
    def on_postgres(self) -> bool:
        return isinstance(self.where, str)

    def tampered(self, *statements: str) -> None:
        """Do to it what somebody with every right on the database could: switch the guards off first."""
        self.as_owner(*self._without_guards(), *statements)

    def as_owner(self, *statements: str) -> None:
        """Statements past the ledger."""
        for statement in statements:
            assert self._run(statement) != 0, "the tampering must hit something"

    def explain(self, query: str, values: Sequence[object]) -> str:
        """How the database would answer a query, in its own words."""
        if isinstance(self.where, Path):
            with sqlite3.connect(self.where) as connection:
                return "\n".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", values))
        with psycopg.connect(self.where) as connection:
            connection.execute(f"SET search_path TO {SCHEMA}".encode())
            connection.execute(b"ANALYZE entries")
            told = connection.execute(f"EXPLAIN {query.replace('?', '%s')}".encode(), values).fetchall()
            return "\n".join(str(row[0]) for row in told)

    def _run(self, statement: str) -> int:
        if isinstance(self.where, Path):
            with sqlite3.connect(self.where) as connection:
                changed = connection.execute(statement).rowcount
            connection.close()
            return changed
        with psycopg.connect(self.where) as connection:
            connection.execute(f"SET search_path TO {SCHEMA}".encode())
            return connection.execute(statement.encode()).rowcount

    def _without_guards(self) -> Sequence[str]:
        if self.on_postgres:
            return [f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in ("entries", "marks")]
        with sqlite3.connect(self.where) as connection:
            names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        connection.close()
        return [f"DROP TRIGGER {name}" for (name,) in names]
