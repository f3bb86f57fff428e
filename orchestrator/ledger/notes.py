"""Notes of archives: a signed entry that says which entries left the database, into which file, by whom and why.

Without it a chain that begins in the middle is one whose beginning somebody took away. Leaves the file to `export` and
the removal to `archive`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator.ledger.entry import LedgerEntry, canonical
from orchestrator.ledger.heads import HeadSigner, is_signed

ARCHIVE_STREAM = "ledger-archive"
"""No journal has that name, and no mark is kept of it."""
ARCHIVE_KIND = "ledger_archived"
TYPE = "outrider-ledger-archived"


@dataclass(frozen=True, slots=True)
class Note:
    """What was archived."""

    dataset_id: str
    """Of the store that feeds the ledger."""
    first: int
    """Place of the first entry in the file."""
    last: int
    """Place of the last."""
    hash: str
    """Of the last, hex: the entry that stays first follows it."""
    file: str
    """Name of the file, without its folder."""
    sha256: str
    """Of the file's bytes, hex."""
    actor: str
    """Who did it."""
    reason: str
    """Why."""

    def content(self) -> bytes:
        """What is signed."""
        return canonical({"type": TYPE, **asdict(self)}).encode()


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A note, and who says so."""

    note: Note
    key_id: str
    signature: bytes

    def entry(self, at: int) -> LedgerEntry:
        """The entry of the ledger, at a fleet time."""
        data = {
            "signed": json.loads(self.note.content()),
            "key_id": self.key_id,
            "signature": self.signature.hex(),
            "actor": self.note.actor,
            "reason": self.note.reason,
        }
        return LedgerEntry(ARCHIVE_STREAM, f"{self.note.last}-0", ARCHIVE_KIND, at, data)

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether that key signed exactly this."""
        return is_signed(self.note.content(), self.signature, key)


def signed_note(note: Note, signer: HeadSigner) -> SignedNote:
    """A note, signed by the ledger's own key."""
    return SignedNote(note, signer.key_id, signer.sign(note.content()))


def read_note(document: Mapping[str, Any]) -> SignedNote:
    """A signed note from an entry's data.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        body = dict(document["signed"])
        if body.pop("type") != TYPE:
            raise ValueError(f"{TYPE!r} expected")
        note = Note(**body)
        if not (isinstance(note.first, int) and isinstance(note.last, int)):
            raise ValueError("places are numbers")
        return SignedNote(note, str(document["key_id"]), bytes.fromhex(document["signature"]))
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no signed note of an archive ({exc})") from exc
