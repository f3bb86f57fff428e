"""Bytes of images on their way from one place to another: in pieces, and no end without the digest that was signed.

Owns that nobody takes in or hands on a whole image by mistake, however long it is: who writes these pieces keeps
nothing when they end in an error. Leaves where they come from and go to to the stores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from signing.errors import ImageRefusedError

PIECE_BYTES = 1024 * 1024
"""Held in memory at a time."""


def file_pieces(file: Path, sha256: str) -> Iterator[bytes]:
    """The bytes of a file that is being taken in.

    Raises:
        ImageRefusedError: At the end: they are not those of `sha256`. Or the file cannot be read.
    """
    refusal = ImageRefusedError(f"{file} is not what was signed, or changed while it was published; nothing was listed")
    try:
        with file.open("rb") as content:
            yield from proven(iter(lambda: content.read(PIECE_BYTES), b""), sha256, refusal)
    except OSError as exc:
        raise ImageRefusedError(f"cannot read {file}: {exc.strerror}") from exc


def proven(pieces: Iterable[bytes], sha256: str, otherwise: Exception) -> Iterator[bytes]:
    """Hand on pieces, and raise `otherwise` in place of an end when together they are not those of `sha256`."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != sha256:
        raise otherwise
