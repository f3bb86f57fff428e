"""Archiving: the oldest entries leave the database for a file, proven on both sides, and a signed entry says so.

Owns the order of the steps, each of which may be the last before a crash: the file is written and synced; it is read
back and followed to the entry that stays first; the signed note becomes an entry; only then are rows removed, a few at
a time, so that whoever writes meanwhile is not kept waiting. What a crash left half removed is finished by the next
call. Leaves it to whoever calls how old is old: nothing is ever archived by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
from orchestrator.ledger.entry import canonical, row_of
from orchestrator.ledger.errors import LedgerBrokenError, LedgerError
from orchestrator.ledger.export import read_export, write_export
from orchestrator.ledger.heads import HeadSigner
from orchestrator.ledger.notes import ARCHIVE_KIND, ARCHIVE_STREAM, Note, read_note, signed_note
from orchestrator.ledger.verify import ChainedRow, HeadWatch, chained, counted, verify_chain

REMOVED_AT_ONCE = 2000
_CREATED = "rollout_created"
_OVER = ("rollout_completed", "rollout_aborted", "rollout_superseded")


class NothingToArchiveError(LedgerError):
    """No entry may leave; the message says what keeps the oldest."""


@dataclass(frozen=True, slots=True)
class Archiving:
    """What is asked for."""

    before: int
    """Entries older than this fleet time, milliseconds since the Unix epoch."""
    actor: str
    """Who asks."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What was archived."""

    path: Path
    note: Note
    size_bytes: int
    held_by: str
    """The rollout that is not over and kept younger entries; empty when none did."""


def archive_ledger(
    place: Path | str,
    path: Path,
    asked: Archiving,
    signer: HeadSigner,
    *,
    busy_timeout_s: float = 30.0,
    progress: Callable[[str, int, int], None] = lambda step, done, of: None,
) -> Archived:
    """Move entries that are old, and of no rollout that is not over, into a file; the ledger may be written meanwhile.

    Args:
        place: a file of SQLite, or the URL of a PostgreSQL database.
        path: must not exist.
        asked: how old, by whom, why.
        signer: the ledger's own key.
        busy_timeout_s: how long to wait for another writer.
        progress: told now and then which step it is, and how many entries are done, of how many.

    Raises:
        NothingToArchiveError: nothing was changed.
        LedgerError: the ledger cannot be used, or its chain does not hold; what was not written down is not removed.
        OSError: the file cannot be written; nothing was changed.
    """
    database = database_at(place, busy_timeout_s=busy_timeout_s)
    with database.explained():
        writing, reading = database.open(), database.open_reading()
        try:
            _remove(writing, progress)
            after = beginning(reading)
            last, held_by = _boundary(reading, after[0], asked.before)
            of = last - after[0]
            with reading.snapshot():
                rows = chained(reading.stream(f"{CHAINED} WHERE seq <= ? ORDER BY seq", (last,)))
                told = counted(rows, lambda done: progress("Writing", done, of))
                write_export(path, told, dataset_id=meta(reading, "dataset_id"), after=after, last=last)
            stays = next(chained(reading.rows(f"{CHAINED} WHERE seq = ?", (last,))))
            made = _proven(path, stays, of, lambda done: progress("Proving", done, of), asked)
            with writing.writing():
                end = end_of(writing, database.name)
                # As old as the newest entry: fleet time is not ours to read, and stories run in its order.
                at = int(next(writing.rows("SELECT at FROM entries WHERE seq = ?", (end[0],)))[0])
                extend(writing, end, [row_of(signed_note(made, signer).entry(at))])
            _remove(writing, progress)
        finally:
            reading.close()
            writing.close()
    return Archived(path, made, path.stat().st_size, held_by)


def _boundary(reading: Connection, after: int, before: int) -> tuple[int, str]:
    """Place of the last entry that may leave, and the rollout that keeps younger ones."""
    young = next(reading.rows("SELECT min(seq) FROM entries WHERE at >= ?", (before,)))[0]
    last = noted_end(reading)[0] if young is None else int(young) - 1
    oldest, held_by = last + 1, ""
    for rollout_id in _open_rollouts(reading):
        query = "SELECT seq FROM entries WHERE rollout_id = ? AND rollout_id <> '' ORDER BY rollout_id, seq LIMIT 1"
        first = int(next(reading.rows(query, (rollout_id,)))[0])
        if first < oldest:
            oldest, held_by = first, rollout_id
    if oldest - 1 <= after:
        why = f"rollout {held_by} is not over, and its story is kept whole" if held_by else "no entry is that old"
        raise NothingToArchiveError(f"nothing to archive: {why}")
    return oldest - 1, held_by


def _open_rollouts(reading: Connection) -> Sequence[str]:
    kinds = (_CREATED, *_OVER)
    marks = ",".join("?" * len(kinds))
    query = f"SELECT rollout_id, kind FROM entries WHERE rollout_id <> '' AND vehicle_id = '' AND kind IN ({marks})"  # noqa: S608 - our own words
    seen: dict[str, bool] = {}
    for rollout_id, kind in reading.rows(query, kinds):
        seen[rollout_id] = seen.get(rollout_id, False) or kind in _OVER
    return [rollout_id for rollout_id, over in seen.items() if not over]


def _proven(path: Path, stays: ChainedRow, of: int, progress: Callable[[int], None], asked: Archiving) -> Note:
    """What the file that was written says, read back from the disk.

    Raises:
        LedgerBrokenError: it is not what the database has.
    """
    file = read_export(path)
    begin = file.after, file.after_hash
    report = verify_chain(
        counted(file.rows(), progress),
        begin=begin,
        head_seq=stays.seq,
        head_hash=stays.hash.hex(),
        heads=HeadWatch(of_a_piece=True),
    )
    if not report.ok or report.entries != of:
        raise LedgerBrokenError(
            f"entry {report.broken_seq} is not what was written: {report.reason}; nothing was removed, and {path} is "
            "no archive; `outrider ledger verify` says more"
        )
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    last = stays.seq, stays.hash.hex()
    return Note(file.dataset_id, begin[0] + 1, *last, path.name, digest, asked.actor, asked.reason)


def _remove(writing: Connection, progress: Callable[[str, int, int], None]) -> None:
    """Remove what the newest note says is archived, and is still there."""
    query = "SELECT data FROM entries WHERE stream = ? AND kind = ? ORDER BY seq DESC LIMIT 1"
    found = next(writing.rows(query, (ARCHIVE_STREAM, ARCHIVE_KIND)), None)
    if found is None:
        return
    made = read_note(json.loads(found[0])).note
    of = made.last - made.first + 1
    while (seq := beginning(writing)[0]) < made.last:
        with writing.writing():
            _remove_some(writing, min(made.last, seq + REMOVED_AT_ONCE))
        progress("Removing", seq - made.first + 1, of)


def _remove_some(writing: Connection, last: int) -> None:
    own = next(writing.rows("SELECT hash FROM entries WHERE seq = ?", (last,)), None)
    if own is None:
        raise LedgerBrokenError(f"entry {last} is missing: `outrider ledger verify` says more")
    marks = dict(archived_marks(writing))
    for stream, entry_id in writing.rows("SELECT stream, entry_id FROM entries WHERE seq <= ? ORDER BY seq", (last,)):
        if is_beyond(entry_id, marks.get(stream, "")):
            marks[stream] = entry_id
    note(writing, archived_seq=str(last), archived_hash=own[0].hex(), archived_marks=canonical(marks))
    writing.run("DELETE FROM entries WHERE seq <= ?", (last,))
