"""Copies a whole ledger from one place to another, from either database to either, and proves it on the way.

What arrives has the same entries in the same places with the same hashes: a chain that does not hold is not copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.ledger.chain import CHAINED, INSERT, beginning, note
from orchestrator.ledger.database import Connection, database_at
from orchestrator.ledger.entry import GENESIS
from orchestrator.ledger.errors import LedgerBrokenError
from orchestrator.ledger.verify import chained

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied."""

    dataset_id: str
    """Of the store that feeds it; empty when none did yet."""
    entries: int
    head_hash: str
    """Of the last entry, hex."""


def copy_ledger(source: Path | str, target: Path | str, *, busy_timeout_s: float = 30.0) -> Copied:
    """Copy as it is at this moment, while it may be written.

    Raises:
        LedgerBrokenError: the source's chain does not hold, or the target has entries already.
        LedgerUnavailableError: one of them cannot be reached.
    """
    of_source = database_at(source, busy_timeout_s=busy_timeout_s)
    of_target = database_at(target, busy_timeout_s=busy_timeout_s)
    with of_source.explained():
        reading = of_source.open_reading()
        try:
            with of_target.explained():
                writing = of_target.open()
                try:
                    with reading.snapshot(), writing.writing():
                        return _copy(reading, writing, of_source.name, of_target.name)
                finally:
                    writing.close()
        finally:
            reading.close()


def holds(place: Path | str, entries: int, head_hash: str, *, busy_timeout_s: float = 30.0) -> bool:
    """Whether the ledger in a place begins with so many entries, of which the last has that hash.

    Raises:
        LedgerBrokenError: what is there cannot be used.
        LedgerUnavailableError: it cannot be reached.
    """
    database = database_at(place, busy_timeout_s=busy_timeout_s)
    with database.explained():
        opened = database.open()
        try:
            found = next(opened.rows("SELECT hash FROM entries WHERE seq = ?", (entries,)), None)
        finally:
            opened.close()
    return found is not None and bytes(found[0]).hex() == head_hash


def _copy(reading: Connection, writing: Connection, source: str, target: str) -> Copied:
    if next(writing.rows("SELECT seq FROM entries LIMIT 1"), None) is not None:
        raise LedgerBrokenError(f"ledger {target}: it has entries already; name an empty one")
    notes = dict(reading.rows("SELECT name, value FROM meta WHERE name <> 'version'"))
    # First: the guard of what is added at the end asks them where the chain begins.
    note(writing, **notes)
    seq, last = beginning(reading)
    batch: list[tuple[object, ...]] = []
    for found in chained(reading.stream(f"{CHAINED} ORDER BY seq")):
        if found.seq != seq + 1 or found.row.hash_after(last, found.seq) != found.hash:
            raise LedgerBrokenError(
                f"ledger {source}: entry {seq + 1} is not what was written; `outrider ledger verify` says more"
            )
        batch.append((found.seq, *found.row.values(), last, found.hash))
        seq, last = found.seq, found.hash
        if len(batch) == BATCH:
            writing.run_many(INSERT, batch)
            batch = []
    if (str(seq), last.hex()) != (notes.get("head_seq", "0"), notes.get("head_hash", GENESIS.hex())):
        raise LedgerBrokenError(
            f"ledger {source}: it does not end where it was left; `outrider ledger verify` says more"
        )
    writing.run_many(INSERT, batch)
    writing.run_many("INSERT INTO marks (stream, entry_id) VALUES (?, ?)", [*reading.rows("SELECT * FROM marks")])
    return Copied(notes.get("dataset_id", ""), seq, last.hex())
