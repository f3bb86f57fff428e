"""Where the bytes of images lie: a folder, or a bucket of an S3-compatible service. Content-addressed, written once.

Owns names, put-if-absent and the errors of both. A name begins with the digest of its bytes, so that whoever stores
an image twice, or at once with somebody else, stores the same. What is listed is `image_repo`'s matter: bytes that
nobody lists harm nobody, and every reader compares them with what was signed. Buckets are reached by obstore, which
the extra `s3` brings; address and credentials come from the environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...).
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from signing.errors import ImageRefusedError, ImageStoreError
from signing.files import copy_atomically, write_atomically

PUT_MAX_BYTES = 5 * 1024**3
"""Longest object that S3 takes in one request, and only one request can be conditional."""
PIECE_BYTES = 4 * 1024 * 1024
"""Of a bucket's object that is read in one request."""
_RETRIES: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class ImageStore(Protocol):
    """Holds images by names that begin with the digest of their bytes."""

    def size(self, name: str) -> int | None:
        """Bytes of an image; None when it is not here.

        Raises:
            ImageStoreError: The store cannot be asked.
        """

    def put(self, name: str, file: Path, sha256: str) -> None:
        """Take in a file, unless its name is taken.

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
            if stored.exists():
                return
            stored.parent.mkdir(parents=True, exist_ok=True)
            copy_atomically(file, stored)
            try:
                check_digest(stored, sha256, file)
            except ImageRefusedError:
                stored.unlink()
                raise

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


class BucketStore:
    """Images in a bucket of an S3-compatible service.

    Args:
        url: `s3://bucket/prefix`; any other that obstore knows works if its service has conditional writes.

    Raises:
        ImageStoreError: obstore is not installed, or the URL is none.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._obstore = importlib.import_module("obstore")
            self._errors = importlib.import_module("obstore.exceptions")
            from_url: Callable[..., Any] = importlib.import_module("obstore.store").from_url
        except ImportError as exc:
            raise ImageStoreError(f"{url} needs the extra `s3`: pip install 'outrider[s3]'") from exc
        with self._bucket_errors(""):
            self._store = from_url(url, client_options=_client_options(), retry_config=_RETRIES)

    def size(self, name: str) -> int | None:
        """See `ImageStore`."""
        try:
            with self._bucket_errors(name):
                return int(self._obstore.head(self._store, name)["size"])
        except _AbsentError:
            return None

    def put(self, name: str, file: Path, sha256: str) -> None:
        """See `ImageStore`. The digest is taken before, as what is in a bucket cannot be taken back unseen."""
        try:
            content = file.read_bytes() if file.stat().st_size <= PUT_MAX_BYTES else None
        except OSError as exc:
            raise ImageRefusedError(f"cannot read {file}: {exc.strerror}") from exc
        if content is None:
            raise ImageRefusedError(
                f"{file} is longer than {PUT_MAX_BYTES} bytes, which is the most that S3 takes at once"
            )
        if hashlib.sha256(content).hexdigest() != sha256:
            raise _other_bytes(file)
        with self._bucket_errors(name):
            try:
                self._obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except self._errors.AlreadyExistsError:
                if (size := self.size(name)) != len(content):
                    raise ImageStoreError(
                        f"{self.url} holds {size} bytes under {name}, {len(content)} belong there: somebody else "
                        "writes there; remove that object and publish again"
                    ) from None

    def read(self, name: str, start: int, length: int) -> bytes:
        """See `ImageStore`."""
        with self._bucket_errors(name):
            return bytes(self._obstore.get_range(self._store, name, start=start, length=length))

    def write(self, name: str, content: bytes) -> None:
        """See `ImageStore`."""
        with self._bucket_errors(name):
            self._obstore.put(self._store, name, content)

    @contextmanager
    def _bucket_errors(self, name: str) -> Iterator[None]:
        """What a service answers, with what a person can do about it."""
        try:
            yield
        except (FileNotFoundError, self._errors.NotFoundError) as exc:
            if self._has_no_bucket():
                raise ImageStoreError(
                    f"{self.url}: there is no such bucket; make it, or correct the setting `images`"
                ) from exc
            raise _AbsentError(f"{self.url} has no {name}") from exc
        except (PermissionError, self._errors.PermissionDeniedError, self._errors.UnauthenticatedError) as exc:
            raise ImageStoreError(
                f"{self.url}: access was denied; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of somebody who may "
                "read, list and write there"
            ) from exc
        except (self._errors.BaseError, OSError, ValueError) as exc:
            raise ImageStoreError(
                f"{self.url} cannot be reached or used ({_first_line(exc)}); look at AWS_ENDPOINT_URL, AWS_REGION and "
                "the network, then repeat: nothing is stored twice"
            ) from exc

    def _has_no_bucket(self) -> bool:
        """Whether more than the object is missing: an answer to HEAD has no words that would tell."""
        try:
            next(iter(self._obstore.list(self._store, chunk_size=1)), None)
        except (self._errors.BaseError, OSError) as exc:
            return "NoSuchBucket" in str(exc)
        return False


class _AbsentError(ImageStoreError):
    """No such object."""


def check_digest(stored: Path, sha256: str, source: Path) -> None:
    """Compare stored bytes with what was signed.

    Raises:
        ImageRefusedError: They are others.
    """
    with stored.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
            raise _other_bytes(source)


def _other_bytes(file: Path) -> ImageRefusedError:
    return ImageRefusedError(f"{file} is not what was signed, or changed while it was published; nothing was listed")


def _client_options() -> dict[str, Any]:
    """Time-outs; and plain HTTP where somebody names such an address, as to a service on the same machine.

    Images are public, and compared with what was signed; credentials are never sent, requests are signed by them.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    return {"connect_timeout": "5s", "timeout": "60s", "allow_http": endpoint.startswith("http://")}


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:200]


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ImageStoreError(f"{exc.filename}: {exc.strerror}; see to it that this user may read and write") from exc
