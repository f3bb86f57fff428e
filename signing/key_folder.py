"""Keys of roles in a folder: files, and files that say where a key is, a token or a service.

A role's keys are `<role>.pem`, `<role>-2.pem`, ...; in the place of any of them `<role>.uri` may stand, one line with a
securesystemslib signer URI, with the public key beside it as `<role>.pub`. Whoever signs by itself (publications, the
renewal, the Director's signer) finds its keys here and does not know the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from securesystemslib.signer import Key, Signer, SSlibKey
from tuf.api.metadata import Root

from signing.errors import KeyFileError
from signing.files import write_atomically
from signing.key_names import labels
from signing.key_sources import scheme_of, signer_at
from signing.keys import Secret, environment_secret, load_signer, public_key_from_pem, signer_of_file, write_public


def signers_of(folder: Path, role: str, root: Root, secret: Secret = environment_secret) -> list[Signer]:
    """The keys in a folder that a root gives a role.

    The root decides: a key that waits for its root is not used yet, one that was taken away is used no more.

    Args:
        folder: Holds key files.
        role: Whose.
        root: In force.
        secret: Asked for the password or PIN of keys that are used.

    Raises:
        KeyFileError: None of that role's keys is there, or one cannot be opened.
    """
    return signers_among(folder, role, [root.keys[keyid] for keyid in root.roles[role].keyids], secret)


def signers_among(folder: Path, role: str, keys: Sequence[Key], secret: Secret = environment_secret) -> list[Signer]:
    """The keys in a folder that are among those of a role.

    Args:
        folder: Holds key files.
        role: Whose.
        keys: That it has.
        secret: Asked for the password or PIN of keys that are used.

    Raises:
        KeyFileError: As of `signers_of`.
    """
    wanted = {key.keyid for key in keys}
    paths = _paths(folder, role)
    found = [signer for path in paths if (signer := _signer_among(path, wanted, secret)) is not None]
    if found:
        return found
    if not paths:
        return [load_signer(folder, role, secret)]  # which says that there is none
    names = ", ".join(path.name for path in paths)
    raise KeyFileError(
        f"the key in {folder / role}.pem is not the {role} key of this repository's root; looked at {names}; "
        f"bring {labels(keys)}"
    )


def refer(folder: Path, role: str, uri: str, key: Key) -> Path:
    """Have a role's signatures made by a token or a service: `<role>.uri`, or the next number that is free.

    Args:
        folder: Holds key files.
        role: Whose.
        uri: Of the signer.
        key: Its public half, which is written beside.

    Returns:
        The file that was written; an earlier one of the same key is replaced.

    Raises:
        KeyFileError: No signer URI that securesystemslib knows.
    """
    if not scheme_of(uri) or not uri.isprintable():
        raise KeyFileError(f"{uri!r} is no signer URI that securesystemslib knows, such as hsm:2?label=TOKEN")
    names = [role, *(f"{role}-{number}" for number in range(2, 100))]
    path = next(path for name in names if _is_free(path := folder / f"{name}.uri", key))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_public(path, key)
    write_atomically(path, f"{uri}\n".encode(), mode=0o600)
    return path


def _paths(folder: Path, role: str) -> list[Path]:
    """Files of a role's keys, the unnumbered ones first."""
    first = [folder / f"{role}{suffix}" for suffix in (".pem", ".uri")]
    numbered = sorted([*folder.glob(f"{role}-*.pem"), *folder.glob(f"{role}-*.uri")])
    return [path for path in (*first, *numbered) if path.exists()]


def _is_free(path: Path, key: Key) -> bool:
    if path.with_suffix(".pem").exists():
        return False
    public = _public_beside(path)
    return public is None or public.keyid == key.keyid


def _signer_among(path: Path, wanted: set[str], secret: Secret) -> Signer | None:
    """The signer of a file; None when it is not among the wanted, for which no password is asked where it is known."""
    public = _public_beside(path)
    if public is not None and public.keyid not in wanted:
        return None
    if path.suffix == ".uri":
        if public is None:
            raise KeyFileError(f"{path} says where a key is, and {path.with_suffix('.pub').name} is missing beside it")
        return signer_at(_uri(path), secret, public)
    signer = signer_of_file(path, secret)
    return signer if signer.public_key.keyid in wanted else None


def _public_beside(path: Path) -> SSlibKey | None:
    public = path.with_suffix(".pub")
    return public_key_from_pem(public.read_bytes(), name=str(public)) if public.exists() else None


def _uri(path: Path) -> str:
    try:
        uri = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise KeyFileError(f"cannot read {path}, which says where a key is") from exc
    if not scheme_of(uri):
        raise KeyFileError(f"{path} holds {uri[:80]!r}, no signer URI that securesystemslib knows")
    return uri
