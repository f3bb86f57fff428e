"""Where the bytes of images lie: a folder, or a bucket (`bucket_store`). Content-addressed, written once.

Owns the contract of both, and the folder. A name begins with the digest of its bytes, so that whoever stores an image
twice, or at once with somebody else, stores the same. What is listed is `image_repo`'s matter: bytes that nobody lists
harm nobody, and every reader compares them with what was signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from signing.bucket_store import BucketStore
from signing.errors import ImageStoreError
from signing.files import write_atomically, write_pieces_atomically
from signing.image_bytes import file_pieces


class ImageStore(Protocol):
    """Holds images by names that begin with the digest of their bytes."""

    def size(self, name: str) -> int | None:
        """Bytes of an image; None when it is not here.

        Raises:
            ImageStoreError: The store cannot be asked.
        """

    def put(self, name: str, file: Path, sha256: str) -> None:
        """Take in a file, unless its name is taken; in pieces, however long it is.

        Raises:
            ImageRefusedError: The file has other bytes than `sha256` says; nothing was stored under the name.
            ImageStoreError: The store cannot take it.
        """

    def read(self, name: str, start: int, length: int) -> bytes:
        """A part of an image that is here.

        Raises:
            ImageStoreError: It cannot be read.
        """

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file that is not named by its digest, as metadata is.

        Raises:
            ImageStoreError: It could not be written.
        """


def open_store(setting: str, folder: Path) -> ImageStore:
    """The store that the setting `images` names.

    Args:
        setting: A folder, or a URL as `s3://bucket/prefix`; empty for `folder`.
        folder: The default.

    Raises:
        ImageStoreError: A URL that is none, or obstore is not installed.
    """
    if "://" not in setting:
        return FolderStore(Path(setting) if setting else folder)
    return BucketStore(setting)


class FolderStore:
    """Images in a folder.

    Args:
        folder: Made when the first image comes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def size(self, name: str) -> int | None:
        """See `ImageStore`."""
        with _disk_errors():
            path = self.folder / name
            return path.stat().st_size if path.is_file() else None

    def put(self, name: str, file: Path, sha256: str) -> None:
        """See `ImageStore`."""
        stored = self.folder / name
        with _disk_errors():
            if not stored.exists():
                stored.parent.mkdir(parents=True, exist_ok=True)
                write_pieces_atomically(stored, file_pieces(file, sha256))

    def read(self, name: str, start: int, length: int) -> bytes:
        """See `ImageStore`."""
        with _disk_errors(), (self.folder / name).open("rb") as content:
            content.seek(start)
            return content.read(length)

    def write(self, name: str, content: bytes) -> None:
        """See `ImageStore`."""
        path = self.folder / name
        with _disk_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ImageStoreError(f"{exc.filename}: {exc.strerror}; see to it that this user may read and write") from exc
