"""Reads a ledger that another process writes: pages of entries about a rollout, a vehicle or an attempt.

Owns that nothing is ever written through it: the file is opened read-only, and a missing one is not made. Leaves
writing and proof to `Ledger`, and what an entry means to whoever asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.entry import Recorded, Row
from orchestrator.ledger.errors import LedgerUnavailableError, explained
from orchestrator.ledger.schema import connect_reading

_COLUMNS = "seq, stream, entry_id, kind, at, rollout_id, vehicle_id, attempt_id, data, blob, hash"


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are wanted: all that is given must hold."""

    rollout_id: str = ""
    """Only about this rollout; empty means any."""
    vehicle_id: str = ""
    """Only about this vehicle; empty means any. Give it with an attempt: the index goes by vehicle."""
    attempt_id: str = ""
    """Only about this attempt; empty means any."""
    decisions_only: bool = False
    """Leave out what is about single vehicles."""

    def condition(self) -> tuple[str, list[object]]:
        """As SQL, with its values. Says again what the partial indexes say, or SQLite would not use them."""
        terms: list[str] = []
        values: list[object] = []
        for column in ("rollout_id", "vehicle_id", "attempt_id"):
            if value := getattr(self, column):
                terms.append(f"{column} = ? AND {column} <> ''")
                values.append(value)
        if self.decisions_only:
            terms.append("vehicle_id = ''")
        return " AND ".join(terms), values


class LedgerReader:
    """One ledger file, seen from a process that does not write it. Opened when first asked; blocking work happens on
    a thread of its own.

    Args:
        path: The file.
        busy_timeout_s: How long to wait for a lock. Readers wait for nobody but a recovery.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-read")

    async def entries(self, wanted: EntryFilter, *, after: int, count: int) -> Sequence[Recorded]:
        """Entries in order, as they are on the disk now.

        Args:
            wanted: Which.
            after: Only those beyond this place; 0 for all.
            count: At most so many.

        Raises:
            LedgerUnavailableError: there is no ledger yet, or it cannot be read now.
            LedgerBrokenError: the file is damaged or foreign.
        """
        with explained(self._path):
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._entries, wanted, after, count)

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _entries(self, wanted: EntryFilter, after: int, count: int) -> Sequence[Recorded]:
        if self._connection is None:
            if not self._path.is_file():
                raise LedgerUnavailableError(f"ledger {self._path}: there is none yet; it is made by the supervisor")
            self._connection = connect_reading(self._path, busy_timeout_s=self._busy_timeout_s)
        query, values = query_of(wanted, after=after, count=count)
        return [
            Recorded(seq, Row(*columns).entry(), own) for seq, *columns, own in self._connection.execute(query, values)
        ]

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def query_of(wanted: EntryFilter, *, after: int, count: int) -> tuple[str, list[object]]:
    """The query for a page, and its values."""
    condition, values = wanted.condition()
    if wanted.rollout_id and not wanted.vehicle_id and not wanted.decisions_only:
        # By its index, all of a rollout's entries would be sorted again for each page; along the chain, each page
        # goes on where the last one ended.
        condition = condition.replace("rollout_id", "+rollout_id")
    where = f"seq > ? AND {condition}" if condition else "seq > ?"
    query = f"SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY seq LIMIT ?"  # noqa: S608 - our own words
    return query, [after, *values, count]
