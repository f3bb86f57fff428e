"""Whether a ledger is what was written: every row, its place, its hash, and the end of the chain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.ledger.entry import GENESIS, Row


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found."""

    entries: int
    """Rows that were found good, from the first on."""
    head_hash: str
    """Hash of the last good row, hex: note it elsewhere, and a later rewriting of everything up to it shows."""
    broken_seq: int | None = None
    """Place of the first row that is not what was written, 0 for the note of the end itself; None when all are."""
    reason: str = ""
    """What is wrong with it, for people."""

    @property
    def ok(self) -> bool:
        """Whether every row is what was written."""
        return self.broken_seq is None


@dataclass(frozen=True, slots=True)
class ChainedRow:
    """A row as it was found."""

    seq: int
    row: Row
    prev_hash: bytes
    hash: bytes


def verify_chain(rows: Iterable[ChainedRow], *, head_seq: int, head_hash: str) -> VerifyReport:
    """Follow the chain from the first row to the recorded head.

    Args:
        rows: In order of seq.
        head_seq: Where the last append ended; 0 when there was none.
        head_hash: Hash there, hex.
    """
    expected, last = 1, GENESIS
    for found in rows:
        if reason := _fault(found, expected, last):
            return VerifyReport(expected - 1, last.hex(), expected, reason)
        expected, last = expected + 1, found.hash
    if expected - 1 != head_seq:
        reason = (
            f"the chain ends at {expected - 1}, the last append ended at {head_seq}: rows are missing or were added"
        )
        return VerifyReport(expected - 1, last.hex(), min(expected, head_seq + 1), reason)
    if head_seq and last.hex() != head_hash:
        return VerifyReport(expected - 1, last.hex(), head_seq, "the chain ends with another hash than the last append")
    return VerifyReport(expected - 1, last.hex())


def _fault(found: ChainedRow, expected: int, last: bytes) -> str:
    if found.seq != expected:
        return f"row {expected} is missing, row {found.seq} follows"
    if found.prev_hash != last:
        return f"row {found.seq} does not follow the row before it"
    if found.row.hash_after(last, found.seq) != found.hash:
        return f"row {found.seq} ({found.row.stream} {found.row.entry_id}) was changed after it was written"
    return ""
