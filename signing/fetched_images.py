"""Bytes of images out of a bucket, as files for those who need one: to make a delta, to sign again, to copy elsewhere.

Owns that they are what their name says, and that they do not stay: what nobody used for a day goes when the next one
comes. Nothing here is lost by removing it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signing.errors import ImageStoreError
from signing.files import write_pieces_atomically
from signing.image_bytes import PIECE_BYTES, proven
from signing.image_store import FolderStore, ImageStore

SHA256_HEX_CHARS = 64
"""With which every name begins."""
KEPT_S = 86_400
"""How much longer than the last one that came an unused file stays, by the folder's own clock."""


class FetchedImages:
    """Files out of a store; of a store that is a folder, the files themselves.

    Args:
        folder: Made when the first one comes.
        store: Where they come from.
    """

    def __init__(self, folder: Path, store: ImageStore) -> None:
        self._folder = folder
        self._store = store

    def file(self, name: str) -> Path:
        """Where the bytes of an image are, for a day at least; nothing is there when the store has none.

        Raises:
            ImageStoreError: The store cannot be read, or has other bytes under that name.
            OSError: They cannot be written here.
        """
        if isinstance(self._store, FolderStore):
            return self._store.folder / name
        fetched = self._folder / name
        if fetched.exists():
            os.utime(fetched)
        else:
            self._fetch(name, fetched)
        return fetched

    @contextmanager
    def lent(self, name: str) -> Iterator[Path]:
        """The same for the while: what has to be fetched for it is removed afterwards."""
        if isinstance(self._store, FolderStore):
            yield self._store.folder / name
            return
        fetched = self._folder / f".lent-{secrets.token_hex(8)}"
        try:
            self._fetch(name, fetched)
            yield fetched
        finally:
            fetched.unlink(missing_ok=True)

    def _fetch(self, name: str, fetched: Path) -> None:
        size = self._store.size(name)
        if size is None:
            return
        self._folder.mkdir(exist_ok=True)
        ranges = (range(at, min(at + PIECE_BYTES, size)) for at in range(0, size, PIECE_BYTES))
        pieces = (self._store.read(name, piece.start, len(piece)) for piece in ranges)
        other = ImageStoreError(
            f"the store of images holds other bytes under {name} than its name says: remove it there"
        )
        write_pieces_atomically(fetched, proven(pieces, name[:SHA256_HEX_CHARS], other), durable=False)
        self._forget_old(fetched.stat().st_mtime)

    def _forget_old(self, now_s: float) -> None:
        for path in self._folder.iterdir():
            # A file that another process has just removed needs no removing.
            if path.exists() and now_s - path.stat().st_mtime > KEPT_S:
                path.unlink(missing_ok=True)
