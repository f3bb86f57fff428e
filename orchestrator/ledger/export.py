"""Entries as a file: JSON Lines that anybody can read, compressed where the name ends in `.gz`.

The first line says what the file is, then comes an entry a line with its place and both hashes, and the last line says
how many there were: a file that was cut short shows. Entries that follow each other form a piece of the chain, which
can be followed without any database. Owns the format; leaves what is chosen and what becomes of it to others.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator.ledger.chain import CHAINED, beginning, meta, noted_end
from orchestrator.ledger.database import database_at
from orchestrator.ledger.entry import Row, canonical
from orchestrator.ledger.errors import LedgerBrokenError
from orchestrator.ledger.heads import SignedHead
from orchestrator.ledger.reader import EntryFilter
from orchestrator.ledger.verify import ChainedRow, HeadWatch, VerifyReport, chained, counted, verify_chain
from signing.files import write_pieces_atomically

TYPE = "outrider-ledger-export"
VERSION = 1
_GZIP = 16 + zlib.MAX_WBITS
"""For zlib: with the header and the trailer of a gzip file."""


@dataclass(frozen=True, slots=True)
class Export:
    """A file with entries, of which the first line was read."""

    path: Path
    dataset_id: str
    """Of the store that feeds the ledger."""
    selection: Mapping[str, str]
    """What was chosen, by field; empty when every entry from the first to the last is there."""
    after: int
    """Place before the first entry."""
    after_hash: bytes
    """Hash of the entry there: what a whole piece of the chain follows."""
    last: int
    """Place of the last entry."""

    def rows(self) -> Iterator[ChainedRow]:
        """Its entries, in order; whether they are what was written is for `verify_chain` to say.

        Raises:
            LedgerBrokenError: a line is no entry, or the file was cut short.
        """
        number, left = 0, None
        for place, document in enumerate(_lines(self.path), start=1):
            if left is not None:
                raise _unreadable(self.path, f"line {place} follows its last line")
            if "seq" in document:
                number += 1
                yield _row(self.path, place, document)
            elif place > 1:
                left = document.get("entries")
        if left != number:
            raise _unreadable(self.path, f"it was cut short after {number} entries")


def write_export(
    path: Path,
    rows: Iterable[ChainedRow],
    *,
    dataset_id: str,
    selection: Mapping[str, str] | None = None,
    after: tuple[int, bytes],
    last: int,
) -> int:
    """Write a file, readable by its owner only; it is there whole, on the disk, or not at all.

    Args:
        path: must not exist.
        rows: in order.
        dataset_id: of the store that feeds the ledger.
        selection: what was chosen, by field; None for every entry.
        after: place and hash before the first.
        last: place of the last.

    Returns:
        How many entries it has.

    Raises:
        LedgerBrokenError: the file exists.
        OSError: it cannot be written.
    """
    if path.exists():
        raise LedgerBrokenError(f"{path} exists: name another file, nothing is written over")
    head = {"type": TYPE, "version": VERSION, "dataset_id": dataset_id, "selection": dict(selection or {})}
    head |= {"after": after[0], "after_hash": after[1].hex(), "last": last}
    number = 0

    def lines() -> Iterator[bytes]:
        nonlocal number
        yield _line(head)
        for row in rows:
            number += 1
            yield _line(_document(row))
        yield _line({"entries": number})

    # Its owner's only, as the ledger is.
    write_pieces_atomically(path, _gzipped(lines()) if _is_gzip(path) else lines(), mode=0o600)
    return number


def read_export(path: Path) -> Export:
    """A file's first line.

    Raises:
        LedgerBrokenError: it is no such file.
    """
    head = next(_lines(path), {})
    try:
        if head["type"] != TYPE or head["version"] != VERSION:
            raise _unreadable(path, f"type {head['type']!r} of version {head['version']!r}")
        after_hash = bytes.fromhex(head["after_hash"])
        return Export(path, head["dataset_id"], head["selection"], int(head["after"]), after_hash, int(head["last"]))
    except (KeyError, TypeError, ValueError) as exc:
        raise _unreadable(path, f"its first line lacks {exc}") from exc


def joined(paths: Sequence[Path]) -> Sequence[Export]:
    """Files that make one piece of the chain, in its order.

    Raises:
        LedgerBrokenError: one is no export of every entry, or one between two is missing.
    """
    files = sorted((read_export(path) for path in paths), key=lambda file: file.after)
    for file in files:
        if file.selection:
            raise LedgerBrokenError(
                f"{file.path}: has only chosen entries ({_told(file.selection)}), which are no chain"
            )
    for one, other in pairwise(files):
        if one.last != other.after:
            raise LedgerBrokenError(
                f"{one.path} ends at entry {one.last}, {other.path} begins after {other.after}: give what is between, "
                "and each entry once"
            )
    return files


def export_ledger(
    source: Path | str,
    path: Path,
    wanted: EntryFilter,
    *,
    busy_timeout_s: float = 30.0,
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Write entries into a file as they are at this moment, while the ledger may be written; nothing is removed.

    Args:
        source: a file of SQLite, or the URL of a PostgreSQL database.
        path: must not exist.
        wanted: which entries.
        busy_timeout_s: how long to wait for a lock.
        progress: told now and then how many were written.

    Returns:
        How many entries it has.

    Raises:
        LedgerError: the ledger cannot be read, or the file exists.
        OSError: the file cannot be written.
    """
    database = database_at(source, busy_timeout_s=busy_timeout_s)
    with database.explained():
        reading = database.open_reading()
        try:
            with reading.snapshot():
                condition, order, values = wanted.condition(0)
                query = f"{CHAINED} WHERE {condition} ORDER BY {order}"
                return write_export(
                    path,
                    counted(chained(reading.stream(query, values)), progress),
                    dataset_id=meta(reading, "dataset_id"),
                    selection=wanted.named(),
                    after=beginning(reading),
                    last=noted_end(reading)[0],
                )
        finally:
            reading.close()


def verify_exports(
    paths: Sequence[Path],
    *,
    keys: Sequence[Ed25519PublicKey] = (),
    kept: SignedHead | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> VerifyReport:
    """Whether files that make one piece of the chain are what was written, without any ledger.

    Args:
        paths: in any order, at least one.
        keys: those that may have signed heads; without any, signatures are not looked at.
        kept: a head that was kept elsewhere: the piece has to go through it.
        progress: told now and then how many entries were followed, of how many.

    Raises:
        LedgerBrokenError: one is no such file, or one between two is missing.
    """
    files = joined(paths)
    begin, last = (files[0].after, files[0].after_hash), files[-1].last
    heads = HeadWatch(dataset_id=files[0].dataset_id, keys=keys, kept=kept, of_a_piece=True)
    rows = counted(chain(*(file.rows() for file in files)), lambda done: progress(done, last - begin[0]))
    return verify_chain(rows, begin=begin, head_seq=last, head_hash=None, heads=heads)


def _document(found: ChainedRow) -> Mapping[str, object]:
    row = found.row
    document: dict[str, object] = {
        "seq": found.seq,
        "stream": row.stream,
        "entry_id": row.entry_id,
        "kind": row.kind,
        "at": row.at,
        "rollout_id": row.rollout_id,
        "vehicle_id": row.vehicle_id,
        "attempt_id": row.attempt_id,
        # Read by people and their tools as what it is; written the one way again, it has the bytes that were hashed.
        "data": json.loads(row.data),
        "prev_hash": found.prev_hash.hex(),
        "hash": found.hash.hex(),
    }
    return document | ({"blob": base64.b64encode(row.blob).decode()} if row.blob else {})


def _row(path: Path, place: int, document: Mapping[str, Any]) -> ChainedRow:
    try:
        row = Row(
            stream=document["stream"],
            entry_id=document["entry_id"],
            kind=document["kind"],
            at=document["at"],
            rollout_id=document["rollout_id"],
            vehicle_id=document["vehicle_id"],
            attempt_id=document["attempt_id"],
            data=canonical(document["data"]),
            blob=base64.b64decode(document.get("blob", ""), validate=True),
        )
        prev_hash, own = bytes.fromhex(document["prev_hash"]), bytes.fromhex(document["hash"])
        return ChainedRow(document["seq"], row, prev_hash, own)
    except (KeyError, TypeError, ValueError) as exc:
        raise _unreadable(path, f"line {place} is no entry ({exc})") from exc


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with gzip.open(path) if _is_gzip(path) else path.open("rb") as file:
            for place, line in enumerate(file, start=1):
                document = json.loads(line)
                if not isinstance(document, dict):
                    raise _unreadable(path, f"line {place} is no object")
                yield document
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        raise _unreadable(path, str(exc)) from exc


def _is_gzip(path: Path) -> bool:
    return path.suffix == ".gz"


def _line(document: Mapping[str, object]) -> bytes:
    return canonical(document).encode("ascii") + b"\n"


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _unreadable(path: Path, why: str) -> LedgerBrokenError:
    return LedgerBrokenError(f"{path}: this is no whole export of a ledger: {why}")


def _told(selection: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in selection.items())
