"""Private keys of the two repositories and of control units: made, stored with mode 0600, loaded as signers.

Which key signs what is in `roots`, `image_repo` and `director`. Hardware tokens and cloud KMS take the place of these
files by any other securesystemslib `Signer`; nothing else here knows where a key lives.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from signing.errors import KeyFileError, SigningError

ROOT_ROLES = ("root-1", "root-2", "root-3")
"""Three root keys, of which two must sign."""
DIRECTOR_ROLES = (*ROOT_ROLES, "targets", "snapshot", "timestamp")
IMAGE_ROLES = (*ROOT_ROLES, "targets", "snapshot", "timestamp")
_OFFLINE_ROLES = {"director": frozenset(ROOT_ROLES), "image": frozenset((*ROOT_ROLES, "targets"))}


def generate_keys(folder: Path, repository: str) -> None:
    """Make the six keys of a repository, `<folder>/<role>.pem`.

    Offline roles get P-256, which hardware tokens have; online roles get Ed25519, whose signatures are deterministic.

    Args:
        folder: Created with mode 0700 if need be.
        repository: `director` or `image`.

    Raises:
        KeyFileError: A key stands there already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role in DIRECTOR_ROLES if repository == "director" else IMAGE_ROLES:
        offline = role in _OFFLINE_ROLES[repository]
        save_signer(
            CryptoSigner.generate_ecdsa() if offline else CryptoSigner.generate_ed25519(), folder / f"{role}.pem"
        )


def generate_ecu_key() -> CryptoSigner:
    """A new P-256 key as a control unit has it."""
    return CryptoSigner.generate_ecdsa()


def save_signer(signer: CryptoSigner, path: Path) -> None:
    """Write a private key as PKCS#8 PEM, mode 0600.

    Raises:
        KeyFileError: The file exists: a key is never overwritten.
    """
    write_private(path, signer.private_bytes)


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read.

    Raises:
        KeyFileError: The file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError as exc:
        raise KeyFileError(f"{path} exists; a key is never overwritten: move it away first") from exc
    except OSError as exc:
        raise KeyFileError(f"cannot write {path}: {exc.strerror}") from exc


def load_signer(folder: Path, role: str) -> CryptoSigner:
    """The signer of a role, from `<folder>/<role>.pem`.

    Raises:
        KeyFileError: Missing, not readable, or no key of a supported kind.
    """
    path = folder / f"{role}.pem"
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise KeyFileError(f"no key at {path}; `outrider keys init` makes keys, or bring that role's key here") from exc
    except OSError as exc:
        raise KeyFileError(f"cannot read the key at {path}: {exc.strerror}") from exc
    return signer_from_pem(data, name=str(path))


def signer_from_pem(data: bytes, *, name: str = "key") -> CryptoSigner:
    """The signer of an unencrypted PKCS#8 PEM.

    Raises:
        KeyFileError: No key of a supported kind; `name` says which file the message is about.
    """
    try:
        return CryptoSigner(load_pem_private_key(data, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise KeyFileError(f"{name} holds no unencrypted PKCS#8 private key of a supported kind ({exc})") from exc


def public_key_base64(signer: CryptoSigner) -> str:
    """The public half as the inventory stores it: SubjectPublicKeyInfo, DER in base64."""
    return base64.b64encode(key_value(signer.public_key)).decode()


def key_value(key: Key) -> bytes:
    """What a public key is, whatever id and spelling it goes by: its SubjectPublicKeyInfo in DER.

    Raises:
        SigningError: Not a P-256 or Ed25519 key.
    """
    try:
        if key.keytype == "ed25519" and key.scheme == "ed25519":
            public: object = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.keyval["public"]))
        else:
            public = load_pem_public_key(key.keyval["public"].encode())
    except (ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm) as exc:
        raise SigningError(f"key {key.keyid[:16]} cannot be read ({exc})") from exc
    if isinstance(public, EllipticCurvePublicKey) and not isinstance(public.curve, SECP256R1):
        raise SigningError(f"key {key.keyid[:16]} is on curve {public.curve.name}, not on P-256")
    if not isinstance(public, EllipticCurvePublicKey | Ed25519PublicKey):
        raise SigningError(f"key {key.keyid[:16]} is neither P-256 nor Ed25519")
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def duplicate_key(keys: Iterable[Key]) -> tuple[str, str] | None:
    """Two ids under which one public key stands, or None.

    python-tuf counts ids, so such a key would count twice towards a threshold.

    Raises:
        SigningError: A key that is neither P-256 nor Ed25519.
    """
    seen: dict[bytes, str] = {}
    for key in keys:
        value = key_value(key)
        if value in seen:
            return seen[value], key.keyid
        seen[value] = key.keyid
    return None


def public_key_from_base64(text: str) -> SSlibKey:
    """The inventory's public key, the inverse of `public_key_base64`.

    Raises:
        SigningError: Not such a key.
    """
    try:
        public = load_der_public_key(base64.b64decode(text, validate=True))
        if not isinstance(public, EllipticCurvePublicKey | Ed25519PublicKey):
            raise SigningError("the key is neither P-256 nor Ed25519")
        key = SSlibKey.from_crypto(public)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SigningError(f"not a SubjectPublicKeyInfo in base64 ({exc})") from exc
    key_value(key)
    return key
