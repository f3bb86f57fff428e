"""Signs the ledger's head once a day of fleet time, by a key of the ledger's own.

Owns the key's place (`keys/ledger` in the data folder) and when a day is over. The key is made when first needed: it
belongs to this orchestrator alone, no ceremony knows it, and installations from before get one. Another one is made
where it was lost; public halves stay under names of their own, as what a lost key signed is signed still. Whoever has
the machine has it; what a thief cannot change is a head that was kept elsewhere, so the newest lies in a file for that.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import structlog
from securesystemslib.signer import CryptoSigner, Key

from orchestrator.app.installation import PRIVATE, Installation
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.ledger import Ledger, LedgerError
from orchestrator.ledger.heads import DAY_MS, SignedHead
from signing.errors import KeyFileError, SigningError
from signing.files import write_atomically
from signing.keys import public_key_from_pem, save_signer, signer_of_file, write_public

log = structlog.get_logger()

LOOK_S = 5.0
NAME_DIGITS = 16
"""Of a key's id, in the name of its public half; as many as `ledger head` shows."""


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """The ledger's key, in memory."""

    signer: CryptoSigner

    @property
    def key_id(self) -> str:
        """As securesystemslib derives it from the public half."""
        return str(self.signer.public_key.keyid)

    def sign(self, content: bytes) -> bytes:
        """An Ed25519 signature."""
        return bytes.fromhex(self.signer.sign(content).signature)


def open_key(installation: Installation) -> LedgerKey:
    """The ledger's key; made when there is none. Its public half lies beside it, and that of each one before it.

    Raises:
        SigningError: it cannot be read or written.
        OSError: a public half cannot.
    """
    path = installation.ledger_key
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_signer(CryptoSigner.generate_ed25519(), path)
        remedy = "keep a copy of this file where whoever runs the orchestrator cannot write"
        log.info("ledger_key_made", path=str(path.with_suffix(".pub")), remedy=remedy)
    key = LedgerKey(signer_of_file(path))
    _lay_public(path, key.signer.public_key)
    return key


def _lay_public(path: Path, key: Key) -> None:
    """See that a key's public half lies beside it, and under a name that no other key has; so does what lay there."""
    public, lies_there = path.with_suffix(".pub"), ""
    if public.exists():
        with contextlib.suppress(KeyFileError):  # What cannot be read as a key proves nothing: it is replaced.
            there = public_key_from_pem(public.read_bytes())
            lies_there = str(there.keyid)
            _lay_by_name(path, there)
    _lay_by_name(path, key)
    if lies_there != key.keyid:
        write_public(path, key)


def _lay_by_name(path: Path, key: Key) -> None:
    named = path.with_name(f"{path.stem}-{key.keyid[:NAME_DIGITS]}.pub")
    if not named.exists():
        write_public(named, key)


async def seal_days(installation: Installation, ledger: Ledger, clock: FleetClock, machine: MachineClock) -> None:
    """Look for ever whether a day is over; the head of yesterday is signed as soon as today is there."""
    sealed_day = -1
    while True:
        yesterday = clock.now() // DAY_MS - 1
        if yesterday > sealed_day:
            try:
                await seal_day(installation, ledger, yesterday, at=clock.now())
                sealed_day = yesterday
            except (LedgerError, SigningError, OSError) as error:
                log.warning("ledger_head_unsigned", error=str(error))
        await machine.sleep(LOOK_S)


async def seal_day(installation: Installation, ledger: Ledger, day: int, *, at: int) -> SignedHead | None:
    """Sign the head of a day, unless it has one, and lay the newest where it can be fetched.

    Raises:
        LedgerError: the ledger does not take it now.
        SigningError: the key cannot be used.
        OSError: the file cannot be written.
    """
    head = await ledger.seal(day=day, at=at, signer=open_key(installation))
    if head is not None:
        write_atomically(installation.ledger_head, f"{json.dumps(head.document(), indent=2)}\n".encode(), mode=PRIVATE)
        log.info("ledger_head_signed", entries=head.head.seq, hash=head.head.hash)
    return head


def public_keys(installation: Installation) -> list[Path]:
    """Public halves that lie in the data folder: of this key, and of those before it."""
    return sorted(installation.ledger_key.parent.glob("*.pub"))
