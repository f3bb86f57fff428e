"""A vehicle's own identity in a folder: its TLS key, the request that is under way, its certificates, which it shows.

Owns when to enrol and to renew, and that nothing of it is lost: a key and its request are on disk before anybody sees
them, an old certificate stays until a call with the new one was answered. Leaves the calls to the agent, and their
meaning to the server. All times are machine time, for certificates are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import Enum, unique
from pathlib import Path
from typing import Any

from cryptography.x509 import load_pem_x509_certificate

from signing.errors import KeyFileError, NotEnrolledError
from signing.files import write_atomically
from signing.pki import certificate_request, key_pem, new_key

_FILE_NAME = "identity.json"
_FORM = 1
_DUE_SHARE = 2 / 3
"""Of a certificate's life."""
_STRIKES = 3
"""So often in a row a call with the new certificate fails and the next one, with the old, is answered: it is given up.
Once is no proof, for an outage may have ended in between."""
_PAUSE_SHARE = 1 / 100
"""After a new certificate was given up the next renewal waits this share of the old one's life."""


@unique
class Need(Enum):
    """What a vehicle has to do for its identity before anything else."""

    ENROL = "Enroll"
    RENEW = "RenewCertificate"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a vehicle proves itself with, and whom it believes. All PEM."""

    key: bytes
    chain: bytes
    """Leaf first."""
    server_ca: bytes
    """Authorities for the server's certificate on the vehicle port."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A request whose answer is not here yet."""

    key: bytes
    """PEM."""
    csr: bytes
    """DER."""


class VehicleIdentity:
    """The identity of one vehicle.

    After every call with what `shown` says, tell what became of it: `answered` or `unanswered`.

    Args:
        folder: Where it is kept, in one file with mode 0600; nobody else may use it.

    Raises:
        KeyFileError: What is kept cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE_NAME
        self._pending: _Request | None = None
        self._proven: Credentials | None = None
        self._candidate: Credentials | None = None
        self._old_next = False
        self._strikes = 0
        self._pausing = False
        self._pause_until: datetime | None = None
        self._load()

    def need(self, now: datetime) -> Need | None:
        """Whether to enrol or to renew before any other call; None: neither.

        Args:
            now: Machine time, UTC.
        """
        if self._candidate and not _life(self._candidate)[1] > now:
            self._candidate, self._old_next = None, False
        if self._candidate:
            # It is not proven yet. Another one would not be better, and would be asked for before its time.
            self._old_next = self._old_next and self._proven is not None and _life(self._proven)[1] > now
            return None
        if not self._proven or not _life(self._proven)[1] > now:
            return Need.ENROL
        begins, ends = _life(self._proven)
        if self._pausing:
            self._pausing, self._pause_until = False, now + (ends - begins) * _PAUSE_SHARE
        if self._pause_until and now < self._pause_until:
            return None
        return Need.RENEW if now >= begins + (ends - begins) * _DUE_SHARE else None

    def request(self) -> bytes:
        """The certificate request to send, DER: for a new key, kept before it is seen, the same until it is answered.

        Raises:
            OSError: It could not be kept.
        """
        if not self._pending:
            key = new_key()
            self._pending = _Request(key_pem(key), certificate_request(key))
            self._save()
        return self._pending.csr

    def take(self, chain: bytes, server_ca: bytes, now: datetime) -> None:
        """Keep the answer to `request`. It is shown next; what was shown so far stays until this one worked.

        Args:
            chain: The certificate, PEM, leaf first.
            server_ca: Authorities for the vehicle port, PEM.
            now: Machine time, UTC.

        Raises:
            OSError: It could not be kept; the request stands.
        """
        if not self._pending:
            raise NotEnrolledError("a certificate came although none was asked for")
        self._candidate = Credentials(self._pending.key, chain, server_ca)
        if self._proven and not _life(self._proven)[1] > now:
            self._proven = None  # TLS refuses it: it is nothing to fall back to
        self._pending, self._old_next, self._strikes = None, False, 0
        self._save()

    def shown(self) -> Credentials:
        """What the next call shows.

        Raises:
            NotEnrolledError: There is nothing to show.
        """
        shown = self._proven if self._shows_old() else self._candidate
        if not shown:
            raise NotEnrolledError("there is no certificate yet: enrol first")
        return shown

    def answered(self) -> None:
        """The call was answered. A new certificate is proven by it; one that an old one beats again and again is not.

        Raises:
            OSError: It could not be kept.
        """
        if not self._candidate:
            return
        if not self._shows_old():
            self._proven, self._candidate, self._strikes = self._candidate, None, 0
            self._save()
            return
        self._strikes, self._old_next = self._strikes + 1, False
        if self._strikes >= _STRIKES:
            self._candidate, self._strikes, self._pausing = None, 0, True
            self._save()

    def unanswered(self) -> None:
        """The call found nobody, or was refused for who the vehicle is: the other certificate, if any, is next."""
        if self._candidate and self._proven:
            if self._old_next:
                self._strikes = 0  # neither works: that is an outage, and says nothing about the new one
            self._old_next = not self._old_next

    def _shows_old(self) -> bool:
        return not self._candidate or (self._old_next and self._proven is not None)

    def _load(self) -> None:
        try:
            value: dict[str, Any] = json.loads(self._path.read_bytes())
            if value["form"] != _FORM:
                raise KeyFileError(f"{self._path} has form {value['form']}, this version reads form {_FORM}")
            self._pending = _Request(**_bytes(value["pending"])) if value["pending"] else None
            self._proven = Credentials(**_bytes(value["proven"])) if value["proven"] else None
            self._candidate = Credentials(**_bytes(value["candidate"])) if value["candidate"] else None
        except FileNotFoundError:
            return
        except OSError as exc:
            raise KeyFileError(f"cannot read {self._path}: {exc.strerror}") from exc
        except (ValueError, KeyError, TypeError) as exc:
            remedy = "remove it, and enrol again with another token"
            raise KeyFileError(f"{self._path} is damaged ({exc}); {remedy}") from exc

    def _save(self) -> None:
        kept = {"pending": self._pending, "proven": self._proven, "candidate": self._candidate}
        value = {"form": _FORM} | {name: _text(asdict(part)) if part else None for name, part in kept.items()}
        write_atomically(self._path, json.dumps(value).encode(), mode=0o600)


def _life(credentials: Credentials) -> tuple[datetime, datetime]:
    """From when to when its certificate is valid."""
    leaf = load_pem_x509_certificate(credentials.chain)
    return leaf.not_valid_before_utc, leaf.not_valid_after_utc


def _text(part: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in part.items()}


def _bytes(part: Mapping[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value, validate=True) for name, value in part.items()}
