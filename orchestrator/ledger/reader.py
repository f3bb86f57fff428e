"""Reads a ledger that another process writes: pages of entries about a rollout, a vehicle or an attempt.

Owns that nothing is ever written through it: the database is opened read-only, and a missing one is not made. Leaves
writing and proof to `Ledger`, and what an entry means to whoever asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.ledger.chain import beginning
from orchestrator.ledger.database import Connection, database_at
from orchestrator.ledger.entry import COLUMNS, Recorded, Row


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries are wanted: all that is given must hold."""

    rollout_id: str = ""
    """Only about this rollout; empty means any."""
    vehicle_id: str = ""
    """Only about this vehicle; empty means any. Give it with an attempt: the index goes by vehicle."""
    attempt_id: str = ""
    """Only about this attempt; empty means any. Needs its vehicle."""
    decisions_only: bool = False
    """Leave out what is about single vehicles."""

    def named(self) -> Mapping[str, str]:
        """What is given, by field."""
        return {name: str(value) for name, value in asdict(self).items() if value}

    def condition(self, after: int) -> tuple[str, str, list[object]]:
        """What holds of entries beyond a place, in which order they stand in the index, and the values.

        Says again what a partial index says, or no database would use it.
        """
        if self.vehicle_id:
            # By vehicle alone: a rollout has a million entries where a vehicle has ten.
            terms, values, order = ["vehicle_id = ?", "vehicle_id <> ''", "seq > ?"], [self.vehicle_id, after], "seq"
            terms += ["rollout_id = ?"] * bool(self.rollout_id) + ["attempt_id = ?"] * bool(self.attempt_id)
            values += [value for value in (self.rollout_id, self.attempt_id) if value]
        elif self.rollout_id:
            # In the index's own order: sorted by place alone, PostgreSQL may read the whole chain for one page.
            terms = ["(rollout_id, seq) > (?, ?)", "rollout_id <= ?", "rollout_id <> ''"]
            values, order = [self.rollout_id, after, self.rollout_id], "rollout_id, seq"
        else:
            terms, values, order = ["seq > ?"], [after], "seq"
        if self.decisions_only:
            terms.append("vehicle_id = ''")
        return " AND ".join(terms), order, values


class LedgerReader:
    """One ledger, seen from a process that does not write it. Opened when first asked; blocking work happens on
    a thread of its own.

    Args:
        place: A file of SQLite, or the URL of a PostgreSQL database.
        busy_timeout_s: How long to wait for a lock. Readers wait for nobody but a recovery.

    Raises:
        LedgerBrokenError: The URL cannot be read, or its driver is missing.
    """

    def __init__(self, place: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self._database = database_at(place, busy_timeout_s=busy_timeout_s)
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-read")

    async def entries(self, wanted: EntryFilter, *, after: int, count: int) -> Sequence[Recorded]:
        """Entries in order, as they are on the disk now.

        Args:
            wanted: Which.
            after: Only those beyond this place; 0 for all.
            count: At most so many.

        Raises:
            LedgerUnavailableError: there is no ledger yet, or it cannot be read now.
            LedgerBrokenError: it is damaged or foreign.
        """
        with self._database.explained():
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._entries, wanted, after, count)

    async def archived(self) -> int:
        """How many of the oldest entries are in archives, and here no more.

        Raises:
            LedgerUnavailableError: there is no ledger yet, or it cannot be read now.
            LedgerBrokenError: it is damaged or foreign.
        """
        with self._database.explained():
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: beginning(self._opened())[0])

    async def close(self) -> None:
        """Let go of the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _entries(self, wanted: EntryFilter, after: int, count: int) -> Sequence[Recorded]:
        query, values = query_of(wanted, after=after, count=count)
        return [Recorded(seq, Row(*columns).entry(), own) for seq, *columns, own in self._opened().rows(query, values)]

    def _opened(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.open_reading()
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def query_of(wanted: EntryFilter, *, after: int, count: int) -> tuple[str, list[object]]:
    """The one query for a page, in order; and its values."""
    condition, order, values = wanted.condition(after)
    query = f"SELECT seq, {COLUMNS}, hash FROM entries WHERE {condition} ORDER BY {order} LIMIT ?"  # noqa: S608 - our own words
    return query, [*values, count]
