"""Signs the ledger's head once a day of fleet time, by a key of the ledger's own.

Owns the key's place (`keys/ledger` in the data folder) and when a day is over. The key is made when first needed: it
belongs to this orchestrator alone, no ceremony knows it, and installations from before get one. Whoever has the
machine has it; what a thief cannot change is a head that was kept elsewhere, so the newest lies in a file for that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import structlog
from securesystemslib.signer import CryptoSigner

from orchestrator.app.installation import Installation, write_atomically
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.ledger import Ledger, LedgerError
from orchestrator.ledger.heads import DAY_MS, SignedHead
from signing.errors import SigningError
from signing.keys import save_signer, signer_of_file, write_public

log = structlog.get_logger()

LOOK_S = 5.0


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
    """The ledger's key; made, with its public half beside it, when there is none.

    Raises:
        SigningError: it cannot be read or written.
    """
    path = installation.ledger_key
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        signer = CryptoSigner.generate_ed25519()
        save_signer(signer, path)
        write_public(path, signer.public_key)
        remedy = "keep a copy of this file where whoever runs the orchestrator cannot write"
        log.info("ledger_key_made", path=str(path.with_suffix(".pub")), remedy=remedy)
    return LedgerKey(signer_of_file(path))


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
        write_atomically(installation.ledger_head, json.dumps(head.document(), indent=2) + "\n")
        log.info("ledger_head_signed", entries=head.head.seq, hash=head.head.hash)
    return head


def public_keys(installation: Installation) -> list[Path]:
    """Public halves that lie in the data folder: of this key, and of those before it."""
    return sorted(installation.ledger_key.parent.glob("*.pub"))
