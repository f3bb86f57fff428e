"""The ledger: takes each journal entry once, tells stories from them, and proves that nobody changed one.

Owns the chain and the marks, on whichever database `database` opens. Leaves to the service what an entry means and when
the journal is trimmed. Two writers are harmless: each batch is one transaction that shuts others out and finds what
they have written. A failed or doubtful `append` is simply repeated.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator.ledger.chain import (
    CHAINED,
    archived_marks,
    beginning,
    end_of,
    extend,
    is_beyond,
    meta,
    note,
    noted_end,
)
from orchestrator.ledger.database import Connection, database_at
from orchestrator.ledger.entry import LedgerEntry, Row, position, row_of
from orchestrator.ledger.errors import LedgerBrokenError
from orchestrator.ledger.export import joined
from orchestrator.ledger.heads import HEAD_KIND, STREAM, Head, HeadSigner, SignedHead, position_of, read_head, sealed
from orchestrator.ledger.verify import HeadWatch, VerifyReport, chained, counted, verify_chain

T = TypeVar("T")

_SAME = "SELECT kind, at, data, blob FROM entries WHERE stream = ? AND entry_id = ?"
_LAST_DECISION = """SELECT entry_id, kind, at, data, blob FROM entries
WHERE stream = ? AND kind <> 'counter_repaired' ORDER BY seq DESC LIMIT 1"""
_SET_MARK = (
    "INSERT INTO marks (stream, entry_id) VALUES (?, ?) ON CONFLICT (stream) DO UPDATE SET entry_id = excluded.entry_id"
)
_STATE_ENTRIES = """SELECT attempt_id, entry_id, kind, data FROM entries
WHERE rollout_id = ? AND rollout_id <> '' AND kind IN ('attempt_granted', 'attempt_changed', 'attempt_corrected')
ORDER BY seq"""


_NEWEST_HEAD = "SELECT data FROM entries WHERE stream = ? AND kind = ? ORDER BY seq DESC LIMIT 1"


class Ledger:
    """One ledger. Blocking work happens on two threads of its own: one writes, one tells and verifies.

    Args:
        place: A file of SQLite, or the URL of a PostgreSQL database; its tables are made when they are not there.
        busy_timeout_s: How long an append waits for another process's.

    Raises:
        LedgerError: it cannot be used; the message has the remedy.
    """

    def __init__(self, place: Path | str, *, busy_timeout_s: float = 5.0) -> None:
        self._database = database_at(place, busy_timeout_s=busy_timeout_s)
        with self._database.explained():
            self._writing = self._database.open()
            self._reading = self._database.open_reading()
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
        return await self._write(lambda: _marks(self._writing))

    async def last_decision(self, stream: str) -> LedgerEntry | None:
        """The last one of a rollout's stream; None when there is none, or it is in an archive."""
        return await self._write(lambda: self._last_decision(stream))

    async def dataset_id(self) -> str:
        """The data set that feeds this ledger; empty before `set_dataset_id`."""
        return await self._write(lambda: meta(self._writing, "dataset_id"))

    async def set_dataset_id(self, dataset_id: str) -> None:
        """Bind this ledger to a data set, once and for all.

        Raises:
            LedgerBrokenError: it is bound to another one.
        """
        await self._write(lambda: self._bind(dataset_id))

    async def seal(self, *, day: int, at: int, signer: HeadSigner) -> SignedHead | None:
        """Sign the end of the chain as the head of a day that is over, as its next entry; once a day, whoever asks.

        Args:
            day: Days since the Unix epoch.
            at: Fleet time now.
            signer: The ledger's own key.

        Returns:
            The head; None when that day has one, or when there is nothing to sign yet.
        """
        return await self._write(lambda: self._seal(day, at, signer))

    async def newest_head(self) -> SignedHead | None:
        """The head that was signed last."""
        return await self._read(self._newest_head)

    async def verify(
        self,
        *,
        keys: Sequence[Ed25519PublicKey] = (),
        kept: SignedHead | None = None,
        archives: Sequence[Path] = (),
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> VerifyReport:
        """Whether every row is what was written; reads the whole ledger as it is at the start.

        Args:
            keys: Those that may have signed heads; without any, signatures are not looked at.
            kept: A head that was kept elsewhere: the chain has to go through it.
            archives: Files of what was archived, in any order: the chain has to come out of them.
            progress: Told now and then how many rows were followed, of how many.

        Raises:
            LedgerBrokenError: A file is no archive, or one is missing between two.
        """
        return await self._read(lambda: self._verify(keys, kept, archives, progress))

    async def attempt_states(self, rollout_id: str) -> Mapping[str, str]:
        """The latest state of each attempt of a rollout, by attempt id, replayed from what was recorded."""
        return await self._read(lambda: _latest(self._states(rollout_id)))

    async def outcomes(self, rollout_id: str) -> Mapping[str, int]:
        """How many attempts of a rollout are in each state, replayed from what was recorded."""
        return Counter((await self.attempt_states(rollout_id)).values())

    async def permitted(self, rollout_id: str) -> int:
        """How many attempts of a rollout ever had a permit, by what was recorded."""

        def with_permit() -> int:
            changes = self._states(rollout_id)
            return len({change.attempt_id for change in changes if change.changed_to == "permitted"})

        return await self._read(with_permit)

    async def close(self) -> None:
        """Finish what is being written and let go of the database."""
        # The writer last: only who may write takes SQLite's log into the file when the last one leaves.
        await self._read(self._reading.close)
        await self._write(self._writing.close)
        self._writer.shutdown(wait=False)
        self._reader.shutdown(wait=False)

    async def _write(self, work: Callable[[], T]) -> T:
        return await self._on(self._writer, work)

    async def _read(self, work: Callable[[], T]) -> T:
        return await self._on(self._reader, work)

    async def _on(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with self._database.explained():
            return await asyncio.get_running_loop().run_in_executor(executor, work)

    def _append(self, rows: Sequence[Row]) -> Mapping[str, int]:
        with self._writing.writing():
            end = end_of(self._writing, self._database.name)
            marks = _marks(self._writing)
            new = self._new(rows, marks)
            for row in new:
                if is_beyond(row.entry_id, marks.get(row.stream, "")):
                    marks[row.stream] = row.entry_id
            extend(self._writing, end, new)
            self._writing.run_many(_SET_MARK, marks.items())
        return Counter(row.kind for row in new)

    def _new(self, rows: Sequence[Row], marks: Mapping[str, str]) -> Sequence[Row]:
        """Those that do not stand yet, here or in an archive, each once."""
        archived = archived_marks(self._writing)
        new: dict[tuple[str, str], Row] = {}
        for row in rows:
            twin = new.get((row.stream, row.entry_id))
            if twin is not None and twin != row:
                raise self._taken(row, twin.kind)
            if twin is not None or not is_beyond(row.entry_id, archived.get(row.stream, "")):
                continue
            if is_beyond(row.entry_id, marks.get(row.stream, "")) or not self._stands(row):
                new[row.stream, row.entry_id] = row
        return list(new.values())

    def _stands(self, row: Row) -> bool:
        found = next(self._writing.rows(_SAME, (row.stream, row.entry_id)), None)
        if found is not None and found != (row.kind, row.at, row.data, row.blob):
            raise self._taken(row, found[0])
        return found is not None

    def _last_decision(self, stream: str) -> LedgerEntry | None:
        found = next(self._writing.rows(_LAST_DECISION, (stream,)), None)
        if found is None:
            return None
        entry_id, kind, at, data, blob = found
        return LedgerEntry(stream, entry_id, kind, at, json.loads(data), blob)

    def _taken(self, row: Row, kind: str) -> LedgerBrokenError:
        return LedgerBrokenError(
            f"ledger {self._database.name}: {row.stream} {row.entry_id} is recorded as {kind}, now {row.kind} claims "
            "its place: the store was set back to an earlier state; restore the one that belongs to this ledger"
        )

    def _bind(self, dataset_id: str) -> None:
        with self._writing.writing():
            bound = meta(self._writing, "dataset_id")
            if bound not in ("", dataset_id):
                raise LedgerBrokenError(
                    f"ledger {self._database.name}: belongs to data set {bound}, not to {dataset_id}; give each store "
                    "a ledger of its own"
                )
            note(self._writing, dataset_id=dataset_id)

    def _seal(self, day: int, at: int, signer: HeadSigner) -> SignedHead | None:
        with self._writing.writing():
            seq, last = end = end_of(self._writing, self._database.name)
            place = position_of(day)
            stands = next(self._writing.rows(_SAME, (STREAM, place)), None) is not None
            if stands or not seq or not is_beyond(place, archived_marks(self._writing).get(STREAM, "")):
                return None
            head = sealed(Head(meta(self._writing, "dataset_id"), day, seq, last.hex()), signer)
            extend(self._writing, end, [row_of(head.entry(at))])
        return head

    def _newest_head(self) -> SignedHead | None:
        found = next(self._reading.rows(_NEWEST_HEAD, (STREAM, HEAD_KIND)), None)
        return read_head(json.loads(found[0])) if found else None

    def _verify(
        self,
        keys: Sequence[Ed25519PublicKey],
        kept: SignedHead | None,
        archives: Sequence[Path],
        progress: Callable[[int, int], None],
    ) -> VerifyReport:
        before = joined(archives)
        with self._reading.snapshot():
            head_seq, head_hash = noted_end(self._reading)
            # The newest archive may hold entries that are not removed yet.
            read = before[-1].last if before else 0
            rows = chained(self._reading.stream(f"{CHAINED} WHERE seq > ? ORDER BY seq", (read,)))
            heads = HeadWatch(dataset_id=meta(self._reading, "dataset_id"), keys=keys, kept=kept)
            begin = (before[0].after, before[0].after_hash) if before else beginning(self._reading)
            whole = counted(
                chain(*(each.rows() for each in before), rows), lambda done: progress(done, head_seq - begin[0])
            )
            return verify_chain(whole, begin=begin, head_seq=head_seq, head_hash=head_hash, heads=heads)

    def _states(self, rollout_id: str) -> Sequence[_Change]:
        rows = self._reading.rows(_STATE_ENTRIES, (rollout_id,))
        return [_Change(attempt_id, position(entry_id), kind, data) for attempt_id, entry_id, kind, data in rows]


@dataclass(frozen=True, slots=True)
class _Change:
    """An entry that says in which state an attempt is."""

    attempt_id: str
    position: tuple[int, int]
    kind: str
    data: str

    @property
    def state(self) -> str:
        return "offered" if self.kind == "attempt_granted" else str(json.loads(self.data).get("to") or "")

    @property
    def changed_to(self) -> str:
        return self.state if self.kind == "attempt_changed" else ""


def _latest(changes: Iterable[_Change]) -> Mapping[str, str]:
    latest: dict[str, _Change] = {}
    for change in changes:
        found = latest.get(change.attempt_id)
        # All of an attempt's entries stand on one stream, whose positions say what came last.
        if found is None or change.position > found.position:
            latest[change.attempt_id] = change
    return {attempt_id: change.state for attempt_id, change in latest.items()}


def _marks(connection: Connection) -> dict[str, str]:
    return dict(connection.rows("SELECT stream, entry_id FROM marks"))
