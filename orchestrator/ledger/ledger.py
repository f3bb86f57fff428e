"""The ledger on SQLite: takes each journal entry once, tells stories from them, and proves that nobody changed one.

Owns transactions, the chain and the marks. Leaves to the service what an entry means and when the journal is trimmed.
Two writers are harmless: each batch is one immediate transaction that finds what the other has written. A failed or
doubtful `append` is simply repeated.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from orchestrator.ledger.entry import GENESIS, LedgerEntry, Recorded, Row, position, row_of
from orchestrator.ledger.errors import LedgerBrokenError, explained
from orchestrator.ledger.schema import connect, transaction
from orchestrator.ledger.verify import ChainedRow, VerifyReport, verify_chain

T = TypeVar("T")

_COLUMNS = "stream, entry_id, kind, at, rollout_id, vehicle_id, attempt_id, data, blob"
_INSERT = f"INSERT INTO entries (seq, {_COLUMNS}, prev_hash, hash) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"  # noqa: S608 - a constant
_SAME = "SELECT kind, at, data, blob FROM entries WHERE stream = ? AND entry_id = ?"
_SET_META = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_SET_MARK = (
    "INSERT INTO marks (stream, entry_id) VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET entry_id = excluded.entry_id"
)
_STATE_ENTRIES = """SELECT attempt_id, entry_id, kind, coalesce(json_extract(data, '$.to'), '') FROM entries
WHERE rollout_id = ? AND kind IN ('attempt_granted', 'attempt_changed', 'attempt_corrected') ORDER BY seq"""

_PERMITTED = """SELECT count(DISTINCT attempt_id) FROM entries
WHERE rollout_id = ? AND kind = 'attempt_changed' AND json_extract(data, '$.to') = 'permitted'"""


class Ledger:
    """One ledger file. Blocking work happens on two threads of its own: one writes, one tells and verifies.

    Args:
        path: The file; made when it is not there.
        busy_timeout_s: How long an append waits for another process's.

    Raises:
        LedgerError: the file cannot be used; the message has the remedy.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        with explained(path):
            self._writing = connect(path, busy_timeout_s=busy_timeout_s)
            self._reading = connect(path, busy_timeout_s=busy_timeout_s)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ledger-write")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="ledger-read")

    async def append(self, entries: Sequence[LedgerEntry]) -> Mapping[str, int]:
        """Write entries, each once by (stream, entry_id), with the marks, in one transaction.

        Args:
            entries: In the order of their streams; some or all may have been written before.

        Returns:
            How many were new, by kind.

        Raises:
            LedgerEntryError: one cannot be recorded; none is.
            LedgerUnavailableError: disk full or busy; none is, repeat later.
            LedgerBrokenError: the file is damaged or was tampered with, or another entry stands in the place of one.
        """
        rows = [row_of(entry) for entry in entries]
        return await self._write(lambda: self._append(rows)) if rows else {}

    async def mark(self, stream: str) -> str:
        """The highest position of a stream that was written; empty when none."""
        return (await self.marks()).get(stream, "")

    async def marks(self) -> Mapping[str, str]:
        """The highest position written, by stream."""
        return await self._write(lambda: dict(self._writing.execute("SELECT stream, entry_id FROM marks")))

    async def dataset_id(self) -> str:
        """The data set that feeds this ledger; empty before `set_dataset_id`."""
        return await self._write(lambda: _meta(self._writing, "dataset_id"))

    async def set_dataset_id(self, dataset_id: str) -> None:
        """Bind this ledger to a data set, once and for all.

        Raises:
            LedgerBrokenError: it is bound to another one.
        """
        await self._write(lambda: self._bind(dataset_id))

    async def verify(self) -> VerifyReport:
        """Whether every row is what was written; reads the whole ledger as it is at the start."""
        return await self._read(self._verify)

    async def rollout_story(self, rollout_id: str) -> Sequence[Recorded]:
        """Decisions and actions on a rollout as a whole, in order; what happened to single vehicles is left out."""
        return await self._read(lambda: self._recorded("rollout_id = ? AND vehicle_id = ''", rollout_id))

    async def vehicle_history(self, vehicle_id: str) -> Sequence[Recorded]:
        """All that is recorded about a vehicle, in order, its manifests included."""
        return await self._read(lambda: self._recorded("vehicle_id = ?", vehicle_id))

    async def attempt_states(self, rollout_id: str) -> Mapping[str, str]:
        """The latest state of each attempt of a rollout, by attempt id, replayed from what was recorded."""
        return await self._read(lambda: self._attempt_states(rollout_id))

    async def outcomes(self, rollout_id: str) -> Mapping[str, int]:
        """How many attempts of a rollout are in each state, replayed from what was recorded."""
        return Counter((await self.attempt_states(rollout_id)).values())

    async def permitted(self, rollout_id: str) -> int:
        """How many attempts of a rollout ever had a permit, by what was recorded."""
        return await self._read(lambda: int(self._reading.execute(_PERMITTED, (rollout_id,)).fetchone()[0]))

    async def close(self) -> None:
        """Finish what is being written and let go of the file."""
        await self._write(self._writing.close)
        await self._read(self._reading.close)
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    async def _write(self, work: Callable[[], T]) -> T:
        return await self._on(self._writer, work)

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._on(self._reader, work)

    async def _on(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with explained(self._path):
            return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _append(self, rows: Sequence[Row]) -> Mapping[str, int]:
        written: Counter[str] = Counter()
        with transaction(self._writing):
            seq, last = self._head()
            marks = dict(self._writing.execute("SELECT stream, entry_id FROM marks"))
            for row in rows:
                if not _beyond(row.entry_id, marks.get(row.stream, "")) and self._stands(row):
                    continue
                seq, previous = seq + 1, last
                last = row.hash_after(previous, seq)
                self._writing.execute(_INSERT, (seq, *_values(row), previous, last))
                written[row.kind] += 1
                if _beyond(row.entry_id, marks.get(row.stream, "")):
                    marks[row.stream] = row.entry_id
            self._writing.executemany(_SET_MARK, marks.items())
            self._writing.executemany(_SET_META, [("head_seq", str(seq)), ("head_hash", last.hex())])
        return written

    def _head(self) -> tuple[int, bytes]:
        """Where the chain ends; refuses to build on an end that is not the one we left."""
        found = self._writing.execute("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        seq, last = found or (0, GENESIS)
        left = _head_seq(self._writing), _meta(self._writing, "head_hash") or GENESIS.hex()
        if (seq, last.hex()) != left:
            raise LedgerBrokenError(
                f"ledger {self._path}: its end ({seq}) is not the one that was written ({left[0]}): rows were removed, "
                "changed or added; stop, keep a copy for evidence and restore the last backup"
            )
        return seq, last

    def _stands(self, row: Row) -> bool:
        found = self._writing.execute(_SAME, (row.stream, row.entry_id)).fetchone()
        if found is not None and found != (row.kind, row.at, row.data, row.blob):
            raise LedgerBrokenError(
                f"ledger {self._path}: {row.stream} {row.entry_id} is recorded as {found[0]}, now {row.kind} claims "
                "its place: the store was set back to an earlier state; restore the one that belongs to this ledger"
            )
        return found is not None

    def _bind(self, dataset_id: str) -> None:
        with transaction(self._writing):
            bound = _meta(self._writing, "dataset_id")
            if bound not in ("", dataset_id):
                raise LedgerBrokenError(
                    f"ledger {self._path}: belongs to data set {bound}, not to {dataset_id}; give each store a ledger "
                    "of its own"
                )
            self._writing.execute(_SET_META, ("dataset_id", dataset_id))

    def _verify(self) -> VerifyReport:
        self._reading.execute("BEGIN")
        try:
            head_seq = _head_seq(self._reading)
            rows = self._reading.execute(f"SELECT seq, {_COLUMNS}, prev_hash, hash FROM entries ORDER BY seq")  # noqa: S608
            chained = (ChainedRow(seq, Row(*values), prev, own) for seq, *values, prev, own in rows)
            return verify_chain(chained, head_seq=head_seq, head_hash=_meta(self._reading, "head_hash"))
        finally:
            self._reading.execute("COMMIT")

    def _recorded(self, where: str, value: str) -> Sequence[Recorded]:
        query = f"SELECT seq, {_COLUMNS}, hash FROM entries WHERE {where} ORDER BY seq"  # noqa: S608 - our own words
        return [
            Recorded(seq, Row(*values).entry(), own) for seq, *values, own in self._reading.execute(query, (value,))
        ]

    def _attempt_states(self, rollout_id: str) -> Mapping[str, str]:
        latest: dict[str, tuple[tuple[int, int], str]] = {}
        for attempt_id, entry_id, kind, state in self._reading.execute(_STATE_ENTRIES, (rollout_id,)):
            found = (position(entry_id), "offered" if kind == "attempt_granted" else state)
            # All of an attempt's entries stand on one stream, whose positions say what came last.
            latest[attempt_id] = max(found, latest.get(attempt_id, found))
        return {attempt_id: state for attempt_id, (_, state) in latest.items()}


def _values(row: Row) -> tuple[object, ...]:
    return (
        *(row.stream, row.entry_id, row.kind, row.at, row.rollout_id, row.vehicle_id, row.attempt_id),
        *(row.data, row.blob),
    )


def _beyond(entry_id: str, mark: str) -> bool:
    return not mark or position(entry_id) > position(mark)


def _meta(connection: sqlite3.Connection, name: str) -> str:
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else ""


def _head_seq(connection: sqlite3.Connection) -> int:
    """Where the last append ended; -1, which no chain matches, when somebody wrote nonsense there."""
    value = _meta(connection, "head_seq") or "0"
    return int(value) if value.isascii() and value.isdigit() else -1
