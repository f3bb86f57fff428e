"""One image from wherever it is served: by Range over HTTPS, going on where it was, never more than was signed.

The transport is not trusted: an address may be a mirror, and every byte is judged by the verified length and digest.
A broken answer is a broken link, which says nothing about the image. When to try again is the caller's business.
Source: Uptane 2.1.0, Full verification, download of images; docs/agent-protocol.md, Images.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import IO

from signing.errors import AttackCode, VerificationError
from signing.names import image_file_name
from signing.pace import RateFloor

_PIECE_BYTES = 64 * 1024
_TIMEOUT_S = 30.0
"""Machine time, for each wait on the network."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """What one try came to."""

    complete: bool
    """Whether all of it is here, on disk, and is what was signed."""
    received_bytes: int
    """How much came in this time."""
    slow: bool = False
    """Whether a mirror was given up because it was too slow: to be reported in the next manifest."""


def retrieve(
    *,
    path: str,
    length: int,
    sha256: str,
    bases: Sequence[str],
    file: Path,
    tls: ssl.SSLContext,
    meanwhile: Callable[[], bool] = lambda: True,
    now_s: Callable[[], float] | None = None,
) -> Retrieval:
    """Go on with the download of an image, from the first of `bases` that serves.

    Args:
        path: Target path of the image.
        length: Its signed length in bytes.
        sha256: Its signed digest, hex.
        bases: Addresses, in the order in which to try them; those that are not HTTPS are passed over.
        file: Where its bytes are; what is there already is not fetched again.
        tls: Whom the servers' certificates have to be of.
        meanwhile: Called after each piece; False ends this try. Its exceptions pass through, and lose no byte.
        now_s: The machine's monotonic clock, seconds, to give up mirrors that are too slow; None: they are not.

    Returns:
        What came of it. An incomplete one is no fault of the image: try again later.

    Raises:
        VerificationError: ENDLESS_DATA or ARBITRARY; the file is gone.
        OSError: The disk failed.
    """
    had = file.stat().st_size if file.exists() else 0
    opener, stopped, slow = _https_only(tls), False, False
    with file.open("ab") as into:
        for base in bases:
            if stopped or into.tell() >= length:
                break
            pieces = _pieces(opener, f"{base}/{image_file_name(path, sha256)}", into.tell())
            watched = _Watched(pieces, now_s) if now_s else None
            stopped = not _append(into, watched or pieces, length, meanwhile)
            slow = slow or (watched is not None and watched.slow)
        have = into.tell()
        os.fsync(into.fileno())
    if have >= length and not stopped:
        _check(file, path=path, length=length, sha256=sha256)
    return Retrieval(have == length and not stopped, max(have - had, 0), slow)


class _Watched(Iterator[tuple[bool, bytes]]):
    """Pieces until they come too slowly; only the waiting for them counts, not what is done meanwhile."""

    def __init__(self, pieces: Iterator[tuple[bool, bytes]], now_s: Callable[[], float]) -> None:
        self._pieces, self._now_s = pieces, now_s
        self._floor = RateFloor()
        self.slow = False

    def __next__(self) -> tuple[bool, bytes]:
        if self.slow:
            raise StopIteration
        since_s = self._now_s()
        anew, piece = next(self._pieces)
        self.slow = self._floor.undercut(len(piece), self._now_s() - since_s)
        return anew, piece


def _append(into: IO[bytes], pieces: Iterator[tuple[bool, bytes]], length: int, meanwhile: Callable[[], bool]) -> bool:
    """Write pieces, one byte more than was signed at most; False when `meanwhile` said so."""
    for anew, piece in pieces:
        if anew:
            into.seek(0)
            into.truncate()
        into.write(piece[: length + 1 - into.tell()])
        into.flush()
        if not meanwhile():
            return False
        if into.tell() > length:
            break
    return True


def _pieces(opener: urllib.request.OpenerDirector, url: str, start: int) -> Iterator[tuple[bool, bytes]]:
    """What `url` serves from byte `start` on, each with whether it begins anew; ends where the link breaks."""
    try:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})  # noqa: S310 - see _https_only
        with opener.open(request, timeout=_TIMEOUT_S) as reply:
            anew = reply.status != HTTPStatus.PARTIAL_CONTENT
            part = reply.headers["Content-Range"] or ""
            if not anew and part and not part.startswith(f"bytes {start}-"):
                return  # another part than was asked for: of use to nobody. Who does not say is judged by the digest
            while piece := reply.read1(_PIECE_BYTES):  # what there is: a slow server must not be waited for unseen
                yield anew, piece
                anew = False
    except (OSError, HTTPException, ValueError):
        return  # a broken link, a refusal, or no address at all: the next one, or later


def _https_only(tls: ssl.SSLContext) -> urllib.request.OpenerDirector:
    """An opener that knows no other scheme, whatever an address says or redirects to: no file, no plain HTTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPSHandler(context=tls),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _check(file: Path, *, path: str, length: int, sha256: str) -> None:
    """Compare what is here with what was signed, and discard it when it differs."""
    have = file.stat().st_size
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if have == length and digest == sha256:
        return
    file.unlink()
    if have > length:
        raise VerificationError(AttackCode.ENDLESS_DATA, f"{path!r}: more bytes than the {length} that were signed")
    raise VerificationError(AttackCode.ARBITRARY, f"{path!r}: the bytes are not those that were signed")
