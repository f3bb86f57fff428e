"""Private keys of the two repositories and of control units: made, stored with mode 0600, loaded as signers.

Which key signs what is in `roots`, `image_repo` and `director`. A file may be encrypted; its password comes from the
environment where no person is asked. Hardware tokens and cloud KMS take the place of files in `key_sources`; which of
the keys in a folder sign for a role is `key_folder`'s matter.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from signing.errors import KeyFileError, SigningError
from signing.files import write_atomically
from signing.names import RepositoryName
from signing.quorums import Quorums, key_names

Secret = Callable[[str], str]
"""Gives the password or PIN of what it is asked for, a key in words."""
PASSWORD_VARIABLE = "OUTRIDER_KEY_PASSWORD"  # noqa: S105 - the name of a variable
PASSWORD_FILE_VARIABLE = "OUTRIDER_KEY_PASSWORD_FILE"  # noqa: S105 - the name of a variable
PASSWORD_MIN = 12
"""Fewest characters: what encrypts a key file is only as slow to guess as its password is long."""

_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"
_OFFLINE_ROLES = {"director": ("root",), "image": ("root", "targets", "attest")}


def generate_keys(folder: Path, repository: RepositoryName, quorums: Quorums) -> None:
    """Make the keys of a repository, `<folder>/<role>.pem` and so on.

    Offline roles get P-256, which hardware tokens have; online roles get Ed25519, whose signatures are deterministic.

    Args:
        folder: Created with mode 0700 if need be.
        repository: Whose.
        quorums: How many of each role.

    Raises:
        KeyFileError: A key stands there already.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for role, quorum in quorums.items():
        offline = role in _OFFLINE_ROLES[repository]
        for name in key_names(role, quorum):
            save_signer(
                CryptoSigner.generate_ecdsa() if offline else CryptoSigner.generate_ed25519(), folder / f"{name}.pem"
            )


def generate_ecu_key() -> CryptoSigner:
    """A new P-256 key as a control unit has it."""
    return CryptoSigner.generate_ecdsa()


def environment_secret(what: str) -> str:
    """The password that the environment gives to programs that nobody watches.

    Raises:
        KeyFileError: It gives none.
    """
    if password := os.environ.get(PASSWORD_VARIABLE):
        return password
    path = os.environ.get(PASSWORD_FILE_VARIABLE)
    if not path:
        raise KeyFileError(f"{what} is encrypted: set {PASSWORD_FILE_VARIABLE} to a file with its password")
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyFileError(
            f"cannot read the password of {what} from {path}, which {PASSWORD_FILE_VARIABLE} names"
        ) from exc


def save_signer(signer: CryptoSigner, path: Path, *, password: str = "") -> None:
    """Write a private key as PKCS#8 PEM, mode 0600; encrypted, with its public half beside it, if there is a password.

    Raises:
        KeyFileError: The file exists: a key is never overwritten. Or the password is too short.
    """
    if not password:
        write_private(path, signer.private_bytes)
        return
    if len(password) < PASSWORD_MIN:
        raise KeyFileError(f"the password has {len(password)} characters, at least {PASSWORD_MIN} are needed")
    private = load_pem_private_key(signer.private_bytes, None)
    write_private(
        path,
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password.encode())),
    )
    write_public(path, signer.public_key)


def write_public(path: Path, key: Key) -> None:
    """Write the public half of the key at `path` beside it, `.pub`: it is found without the password."""
    value = load_der_public_key(key_value(key))
    write_atomically(path.with_suffix(".pub"), value.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


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


def load_signer(folder: Path, role: str, secret: Secret = environment_secret) -> CryptoSigner:
    """The signer of a role, from `<folder>/<role>.pem`.

    Raises:
        KeyFileError: Missing, not readable, no key of a supported kind, or encrypted under another password.
    """
    return signer_of_file(folder / f"{role}.pem", secret)


def signer_of_file(path: Path, secret: Secret = environment_secret) -> CryptoSigner:
    """The signer of a key file, encrypted or not.

    Raises:
        KeyFileError: As of `load_signer`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise KeyFileError(f"no key at {path}; `outrider keys init` makes keys, or bring that role's key here") from exc
    except OSError as exc:
        raise KeyFileError(f"cannot read the key at {path}: {exc.strerror}") from exc
    return signer_from_pem(data, name=str(path), secret=secret)


def signer_from_pem(data: bytes, *, name: str = "key", secret: Secret = environment_secret) -> CryptoSigner:
    """The signer of a PKCS#8 PEM; `secret` is asked only if it is encrypted.

    Raises:
        KeyFileError: No key of a supported kind, or another password; `name` says which file the message is about.
    """
    password = secret(name).encode() if _ENCRYPTED in data else None
    try:
        return CryptoSigner(load_pem_private_key(data, password))
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if password is not None:
            raise KeyFileError(f"the password does not open {name}, or the file is damaged; try again") from exc
        raise KeyFileError(f"{name} holds no PKCS#8 private key of a supported kind ({exc})") from exc


def public_key_from_pem(data: bytes, *, name: str = "key") -> SSlibKey:
    """A public key of a SubjectPublicKeyInfo in PEM.

    Raises:
        KeyFileError: Not such a key.
    """
    try:
        key = SSlibKey.from_crypto(load_pem_public_key(data))
        key_value(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, SigningError) as exc:
        raise KeyFileError(f"{name} holds no P-256 or Ed25519 public key in PEM ({exc})") from exc
    return key


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
