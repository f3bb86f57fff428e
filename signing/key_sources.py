"""Where a key of a ceremony lives: a file, encrypted or not, a PKCS#11 token, or any securesystemslib signer URI.

Ceremonies name them; for those who sign by themselves a file beside the others says where one is (`key_folder`).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlparse

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, HSMSigner, Key, Signer, SSlibKey

from signing.errors import KeyFileError
from signing.key_names import label
from signing.keys import Secret, public_key_from_pem, signer_of_file

_FILE_SCHEMES = ("file2", "file")
_PRIVATE = b"PRIVATE KEY"


def signer_at(source: str, secret: Secret, key: Key | None = None) -> Signer:
    """The signer of a key.

    Args:
        source: Path of a private key in PEM, or a URI: `hsm:2?label=TOKEN`, `awskms:...`.
        secret: Asked for the password of a file or the PIN of a token.
        key: The public half; needed for services other than tokens, which are not asked for it.

    Raises:
        KeyFileError: There is no such key, it cannot be opened, or a library for it is not installed.
    """
    scheme = scheme_of(source)
    if not scheme:
        return signer_of_file(_path(source), secret)
    if scheme == HSMSigner.SCHEME:
        uri, public = _token_key(source, secret)
        return HSMSigner.from_priv_key_uri(uri, public, lambda _: secret(f"token {source}"))
    if key is None:
        raise KeyFileError(f"say by --as which key of this change {source} is: its name or the start of its id")
    try:
        return Signer.from_priv_key_uri(source, key, secret)
    except Exception as exc:  # what services raise is not documented; securesystemslib says to catch all
        raise KeyFileError(f"no signer at {source}: {type(exc).__name__}: {exc}") from exc


def public_key_at(source: str, secret: Secret) -> SSlibKey:
    """The public half of a key that shall get a role.

    Args:
        source: Path of a public or private key in PEM, or a token's URI; what other services hold is exported by
            their own tools as PEM.
        secret: As of `signer_at`; not needed where the public half lies open.

    Raises:
        KeyFileError: As of `signer_at`.
    """
    scheme = scheme_of(source)
    if scheme == HSMSigner.SCHEME:
        return _token_key(source, secret)[1]
    if scheme:
        raise KeyFileError(f"{source}: export its public key as PEM and name that file; `keys sign` takes the URI")
    path = _path(source)
    beside = path.with_suffix(".pub")
    try:
        data = path.read_bytes()
        if _PRIVATE not in data:
            return public_key_from_pem(data, name=str(path))
        if beside.exists():
            return public_key_from_pem(beside.read_bytes(), name=str(beside))
    except OSError as exc:
        raise KeyFileError(f"cannot read the key at {path}: {exc.strerror}") from exc
    return signer_of_file(path, secret).public_key


def did_not_sign(signer: Signer, fault: BaseException) -> str:
    """What to say when a token or a service fails to sign."""
    return f"{label(signer.public_key)} did not sign ({type(fault).__name__}: {fault}); look at its PIN and connection"


def scheme_of(source: str) -> str:
    """The URI scheme of a source that is no file; empty for files."""
    scheme, colon, _ = source.partition(":")
    return scheme if colon and scheme in SIGNER_FOR_URI_SCHEME and scheme not in _FILE_SCHEMES else ""


def _path(source: str) -> Path:
    scheme, colon, rest = source.partition(":")
    return Path(rest if colon and scheme in _FILE_SCHEMES else source)


def _token_key(source: str, secret: Secret) -> tuple[str, SSlibKey]:
    uri = urlparse(source)
    if uri.path and not uri.path.isdecimal():
        raise KeyFileError(f"{source}: a token's key is `hsm:NUMBER?label=TOKEN`, for example hsm:2?label=root-a")
    try:
        return HSMSigner.import_(
            int(uri.path) if uri.path else None,
            dict(parse_qsl(uri.query)).get("label"),
            lambda _: secret(f"token {source}"),
        )
    except UnsupportedLibraryError as exc:
        raise KeyFileError("tokens need the extra `hsm`: pip install 'outrider[hsm]'") from exc
    except KeyFileError:
        raise
    except Exception as exc:  # python-pkcs11 raises what the token's library says
        raise KeyFileError(
            f"no key at {source} ({type(exc).__name__}: {exc}); set PYKCS11LIB to the token's PKCS#11 library, plug in "
            "the token, and look at number, label and PIN"
        ) from exc
