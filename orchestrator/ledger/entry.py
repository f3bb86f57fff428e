"""One entry of the ledger, its canonical form, and the hash that chains it to the one before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.ledger.errors import LedgerEntryError

COLUMNS = "stream, entry_id, kind, at, rollout_id, vehicle_id, attempt_id, data, blob"
"""Of the table, as `Row` has its fields."""
GENESIS = b"\x00" * 32
"""What stands for the hash before the first entry."""

_POSITION = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One thing that happened, as it came from a journal."""

    stream: str
    """Journal it stood in."""
    entry_id: str
    """Position there, `<ms>-<n>`; rises. With the stream it names the entry for ever."""
    kind: str
    """Past tense, for example `rollout_created`."""
    at: int
    """Fleet time, milliseconds since the Unix epoch."""
    data: Mapping[str, object]
    """What happened, as JSON; `rollout_id`, `vehicle_id` and `attempt_id` in it are indexed."""
    blob: bytes = b""
    """Bytes that are evidence by themselves, for example a signed manifest."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry in its place in the ledger."""

    seq: int
    """From 1, without holes."""
    entry: LedgerEntry
    hash: bytes
    """SHA-256 over the hash before it and this entry."""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as a row of the table: what is hashed is what is stored."""

    stream: str
    entry_id: str
    kind: str
    at: int
    rollout_id: str
    vehicle_id: str
    attempt_id: str
    data: str
    """Canonical JSON."""
    blob: bytes

    def hash_after(self, prev_hash: bytes, seq: int) -> bytes:
        """SHA-256(previous hash || canonical row): changes with any field, with the place and with any row before."""
        fields = (
            *(seq, self.stream, self.entry_id, self.kind, self.at),
            *(self.rollout_id, self.vehicle_id, self.attempt_id, self.data, hashlib.sha256(self.blob).hexdigest()),
        )
        return hashlib.sha256(prev_hash + canonical(fields).encode("utf-8")).digest()

    def values(self) -> tuple[object, ...]:
        """The row as the table has its columns."""
        return (
            *(self.stream, self.entry_id, self.kind, self.at),
            *(self.rollout_id, self.vehicle_id, self.attempt_id, self.data, self.blob),
        )

    def entry(self) -> LedgerEntry:
        """The entry that it was made from."""
        data = json.loads(self.data)
        return LedgerEntry(self.stream, self.entry_id, self.kind, self.at, data, self.blob)


def canonical(value: object) -> str:
    """The one way to write a value as JSON: keys sorted, no spaces, no NaN.

    Raises:
        LedgerEntryError: JSON has no way to write it.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise LedgerEntryError(f"not recordable as JSON: {exc}") from exc


def row_of(entry: LedgerEntry) -> Row:
    """The row for an entry.

    Raises:
        LedgerEntryError: no stream, kind or position, or data that JSON cannot hold.
    """
    if not entry.stream or not entry.kind:
        raise LedgerEntryError(f"entry {entry.stream or '?'} {entry.entry_id}: stream and kind must not be empty")
    position(entry.entry_id)
    ids = {}
    for name in ("rollout_id", "vehicle_id", "attempt_id"):
        value = entry.data.get(name) or ""
        if not isinstance(value, str):
            raise LedgerEntryError(f"entry {entry.stream} {entry.entry_id}: {name} is {value!r}, text expected")
        ids[name] = value
    data = canonical(dict(entry.data))
    return Row(entry.stream, entry.entry_id, entry.kind, entry.at, data=data, blob=entry.blob, **ids)


def position(entry_id: str) -> tuple[int, int]:
    """A position in a stream as numbers that compare as the stream runs.

    Raises:
        LedgerEntryError: it is not `<ms>-<n>`.
    """
    if not _POSITION.fullmatch(entry_id):
        raise LedgerEntryError(f"entry id {entry_id!r}: <ms>-<n> expected, with numbers")
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
