"""Signed heads: once a day the end of the chain is signed, so that a copy kept elsewhere pins everything before it.

A head says of which data set it is, how many entries there were, and the hash of the last. Whoever holds one needs
nothing else to see whether a ledger still begins with the same entries; the public half of its key says who signed it.
Leaves to `ledger` where heads stand in the chain, and to whoever serves when a day is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestrator.ledger.entry import LedgerEntry, canonical
from orchestrator.ledger.errors import LedgerBrokenError

STREAM = "ledger"
"""Of what the ledger says about itself. No journal has that name, and no mark is kept of it."""
HEAD_KIND = "ledger_head_signed"
TYPE = "outrider-ledger-head"
DAY_MS = 86_400_000


class HeadSigner(Protocol):
    """A key of the ledger's own."""

    @property
    def key_id(self) -> str:
        """Names the key."""

    def sign(self, content: bytes) -> bytes:
        """An Ed25519 signature."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain at one moment."""

    dataset_id: str
    """Of the store that feeds the ledger."""
    day: int
    """Days since the Unix epoch, fleet time: the day that was over."""
    seq: int
    """Place of the last entry."""
    hash: str
    """Of that entry, hex."""

    def content(self) -> bytes:
        """What is signed."""
        body = {"type": TYPE, "dataset_id": self.dataset_id, "day": self.day, "seq": self.seq, "hash": self.hash}
        return canonical(body).encode()


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head, and who says so."""

    head: Head
    key_id: str
    signature: bytes

    def document(self) -> dict[str, object]:
        """As JSON, for files and for the ledger's own entry."""
        return {"signed": json.loads(self.head.content()), "key_id": self.key_id, "signature": self.signature.hex()}

    def entry(self, at: int) -> LedgerEntry:
        """The entry that follows the one it names."""
        return LedgerEntry(STREAM, position_of(self.head.day), HEAD_KIND, at, self.document())

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        """Whether that key signed exactly this."""
        return is_signed(self.head.content(), self.signature, key)


def is_signed(content: bytes, signature: bytes, key: Ed25519PublicKey) -> bool:
    """Whether a key signed exactly this content."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def position_of(day: int) -> str:
    """Where a day's head stands in its stream: once a day, whoever signs it."""
    return f"{day * DAY_MS}-0"


def read_head(document: Mapping[str, Any]) -> SignedHead:
    """A signed head from JSON.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        body = document["signed"]
        if body["type"] != TYPE:
            raise ValueError(f"type {body['type']!r}, {TYPE!r} expected")
        head = Head(str(body["dataset_id"]), int(body["day"]), int(body["seq"]), str(body["hash"]))
        return SignedHead(head, str(document["key_id"]), bytes.fromhex(document["signature"]))
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no signed head of a ledger ({exc})") from exc


def public_key(pem: bytes) -> Ed25519PublicKey:
    """The public half of a ledger's key.

    Raises:
        ValueError: it is no Ed25519 public key in PEM.
    """
    key = load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("no Ed25519 key")
    return key


def sealed(head: Head, signer: HeadSigner) -> SignedHead:
    """A head, signed.

    Raises:
        LedgerBrokenError: the ledger is bound to no data set, so that nobody could say whose head it is.
    """
    if not head.dataset_id:
        raise LedgerBrokenError("ledger: it belongs to no data set yet; start the orchestrator on its store first")
    return SignedHead(head, signer.key_id, signer.sign(head.content()))
