"""Whether a ledger is what was written: every row, its place, its hash, and the end of the chain."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator.ledger.entry import GENESIS, Row
from orchestrator.ledger.heads import HEAD_KIND, STREAM, SignedHead, read_head
from orchestrator.ledger.notes import ARCHIVE_KIND, ARCHIVE_STREAM, SignedNote, read_note

PROGRESS_ROWS = 5000


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found."""

    entries: int
    """Rows that were found good, from the first on that was looked at."""
    head_hash: str
    """Hash of the last good row, hex: note it elsewhere, and a later rewriting of everything up to it shows."""
    broken_seq: int | None = None
    """Place of the first row that is not what was written, 0 for the note of the end itself; None when all are."""
    reason: str = ""
    """What is wrong with it, for people."""

    archived: int = 0
    """Rows before the first that was looked at: they lie in archives that were not given."""
    heads: int = 0
    """Signed heads that were found good."""
    signatures_checked: bool = False
    """Whether their signatures were looked at, as a key was at hand."""

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


def chained(rows: Iterable[tuple[Any, ...]]) -> Iterator[ChainedRow]:
    """Rows of a query that begins with `chain.CHAINED`."""
    for seq, *values, prev_hash, own in rows:
        yield ChainedRow(seq, Row(*values), prev_hash, own)


def counted(rows: Iterable[ChainedRow], progress: Callable[[int], None]) -> Iterator[ChainedRow]:
    """The same rows; now and then it is told how many went by."""
    for number, row in enumerate(rows, start=1):
        yield row
        if number % PROGRESS_ROWS == 0:
            progress(number)


class HeadWatch:
    """Watches a chain go by for what heads say of it: those in it, and one that was kept elsewhere.

    Args:
        dataset_id: Of the ledger.
        keys: Those that may have signed; without any, signatures are not looked at.
        kept: Kept elsewhere; its own signature is looked at as well.
        of_a_piece: Files are looked at, not a ledger: a piece of the chain, which may begin anywhere.
    """

    def __init__(
        self,
        *,
        dataset_id: str = "",
        keys: Sequence[Ed25519PublicKey] = (),
        kept: SignedHead | None = None,
        of_a_piece: bool = False,
    ) -> None:
        self._dataset_id = dataset_id
        self._keys = keys
        self._kept = kept
        self._of_a_piece = of_a_piece
        self._archived_to = 0
        self.found = 0

    @property
    def checks_signatures(self) -> bool:
        """Whether there is a key to check by."""
        return bool(self._keys)

    def fault(self, found: ChainedRow) -> str:
        """What is wrong with a row that the chain itself finds good; empty when nothing is."""
        if self._kept is not None and found.seq == self._kept.head.seq and found.hash.hex() != self._kept.head.hash:
            return f"row {found.seq} is not the one that the head kept elsewhere names: the ledger was rewritten"
        if (found.row.stream, found.row.kind) == (ARCHIVE_STREAM, ARCHIVE_KIND):
            return self._archive_fault(found)
        if found.row.stream != STREAM or found.row.kind != HEAD_KIND:
            return ""
        try:
            signed = read_head(json.loads(found.row.data))
        except ValueError as exc:
            return f"row {found.seq} is no signed head: {exc}"
        self.found += 1
        if (signed.head.seq, signed.head.hash) != (found.seq - 1, found.prev_hash.hex()):
            return f"the head in row {found.seq} names another end of the chain than the row before it"
        return self._signature_fault(signed, f"the head in row {found.seq}")

    def fault_of_beginning(self, begin: tuple[int, bytes]) -> str:
        """What is wrong with where the chain began, once it has gone by."""
        if begin[0] > self._archived_to and not self._of_a_piece:
            return f"the first {begin[0]} rows are missing, and no signed entry says that they were archived"
        return ""

    def fault_of_kept(self, begin: tuple[int, bytes], last_seq: int) -> str:
        """What is wrong with the head kept elsewhere, once the chain has gone by."""
        if self._kept is None:
            return ""
        head = self._kept.head
        if head.dataset_id != self._dataset_id:
            of = self._dataset_id or "none"
            return f"the head kept elsewhere is of data set {head.dataset_id}, this ledger of {of}"
        if head.seq < begin[0] or (head.seq == begin[0] and head.hash != begin[1].hex()):
            return f"the head kept elsewhere names entry {head.seq}, which was archived: give the archive as well"
        if head.seq > last_seq:
            return f"the head kept elsewhere names entry {head.seq}: rows after {last_seq} are missing"
        return self._signature_fault(self._kept, "the head kept elsewhere")

    def _archive_fault(self, found: ChainedRow) -> str:
        try:
            signed = read_note(json.loads(found.row.data))
        except ValueError as exc:
            return f"row {found.seq} is no note of an archive: {exc}"
        self._archived_to = max(self._archived_to, signed.note.last)
        return self._signature_fault(signed, f"the note of an archive in row {found.seq}")

    def _signature_fault(self, signed: SignedHead | SignedNote, which: str) -> str:
        if self._keys and not any(signed.signed_by(key) for key in self._keys):
            return f"{which} was not signed by a key of this ledger (it names key {signed.key_id[:16]})"
        return ""


def verify_chain(
    rows: Iterable[ChainedRow],
    *,
    head_seq: int,
    head_hash: str | None,
    heads: HeadWatch | None = None,
    begin: tuple[int, bytes] = (0, GENESIS),
) -> VerifyReport:
    """Follow the chain from the first row to the recorded head.

    Args:
        rows: In order of seq.
        head_seq: Where the last append ended; 0 when there was none.
        head_hash: Hash there, hex; None when nobody noted it.
        heads: Watches for signed heads.
        begin: Place and hash of the row before the first; what came before was archived.
    """
    heads = heads or HeadWatch()
    expected, last = begin[0] + 1, begin[1]

    def told(broken_seq: int | None = None, reason: str = "") -> VerifyReport:
        good = expected - 1 - begin[0]
        checked = heads.checks_signatures
        return VerifyReport(good, last.hex(), broken_seq, reason, begin[0], heads.found, checked)

    for found in rows:
        if reason := _fault(found, expected, last) or heads.fault(found):
            return told(expected, reason)
        expected, last = expected + 1, found.hash
    if expected - 1 != head_seq:
        reason = (
            f"the chain ends at {expected - 1}, the last append ended at {head_seq}: rows are missing or were added"
        )
        return told(min(expected, head_seq + 1), reason)
    if head_seq and head_hash is not None and last.hex() != head_hash:
        return told(head_seq, "the chain ends with another hash than the last append")
    if reason := heads.fault_of_beginning(begin):
        return told(1, reason)
    if reason := heads.fault_of_kept(begin, head_seq):
        return told(head_seq, reason)
    return told()


def _fault(found: ChainedRow, expected: int, last: bytes) -> str:
    if found.seq != expected:
        return f"row {expected} is missing, row {found.seq} follows"
    if found.prev_hash != last:
        return f"row {found.seq} does not follow the row before it"
    if found.row.hash_after(last, found.seq) != found.hash:
        return f"row {found.seq} ({found.row.stream} {found.row.entry_id}) was changed after it was written"
    return ""
