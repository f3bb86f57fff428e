"""Images in a bucket of an S3-compatible service, reached by obstore, which the extra `s3` brings.

Owns put-if-absent in one request or in parts, and the errors of a service with their remedies. Address and credentials
come from the environment (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...). What is in parts is put under a name of its
own first and copied by the service, as only a copy of known bytes can be both in parts and conditional.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from signing.errors import AccessDeniedError, ImageRefusedError, ImageStoreError
from signing.image_bytes import file_pieces

PUT_MAX_BYTES = 5 * 1024**3
"""Longest object that S3 copies in one request, and only so a copy can be conditional."""
PART_BYTES = 8 * 1024 * 1024
"""Of one request of a long put; shorter images are put by one request."""
PARTS_AT_ONCE = 2
INCOMING = "incoming/"
"""Where parts come together, below the prefix. Nobody is pointed there; whoever dies meanwhile leaves it behind."""
ANSWER_S = 60
"""Machine time for one request, of reading and of one part."""
COPY_S = 600
"""Machine time for one request that writes: the service copies gibibytes by itself."""
_RETRIES: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}


class BucketStore:
    """Images in a bucket of an S3-compatible service; see `image_store.ImageStore`.

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
        options = _conditional_copy() if url.startswith("s3://") else {}
        with self._errors_told(""):
            self._store, self._writer = (
                from_url(url, client_options=_client_options(timeout_s), retry_config=_RETRIES, **options)
                for timeout_s in (ANSWER_S, COPY_S)
            )

    def size(self, name: str) -> int | None:
        """Bytes of an image; None when it is not here."""
        try:
            with self._errors_told(name):
                return int(self._obstore.head(self._store, name)["size"])
        except _AbsentError:
            return None

    def put(self, name: str, file: Path, sha256: str) -> None:
        """Take in a file, unless its name is taken; a long one in parts, of which some MiB are in memory."""
        try:
            length = file.stat().st_size
        except OSError as exc:
            raise ImageRefusedError(f"cannot read {file}: {exc.strerror}") from exc
        if length > PUT_MAX_BYTES:
            raise ImageRefusedError(f"{file} has {length} bytes, {PUT_MAX_BYTES} are the most that S3 copies at once")
        held = self.size(name)
        if held is None:
            try:
                self._put_if_absent(name, file_pieces(file, sha256), in_parts=length > PART_BYTES)
            except _TakenError:
                held = self.size(name)
        if held not in (None, length):
            raise ImageStoreError(
                f"{self.url} holds {held} bytes under {name}, {length} belong there: somebody else writes there; "
                "remove that object and publish again"
            )

    def read(self, name: str, start: int, length: int) -> bytes:
        """A part of an image that is here."""
        with self._errors_told(name):
            return bytes(self._obstore.get_range(self._store, name, start=start, length=length))

    def write(self, name: str, content: bytes) -> None:
        """Replace a small file that is not named by its digest."""
        with self._errors_told(name):
            self._obstore.put(self._writer, name, content)

    def prove_conditional_writes(self) -> None:
        """Try what a publication relies on: that a name is taken once. Leaves nothing behind.

        Raises:
            AccessDeniedError: These credentials may not write.
            ImageStoreError: The bucket cannot be used, or a taken name is written again.
        """
        name = f"{INCOMING}probe-{secrets.token_hex(8)}"
        for in_parts in (False, True):
            try:
                self._put_if_absent(name, iter((b"probe",)), in_parts=in_parts)
                with suppress(_TakenError):
                    self._put_if_absent(name, iter((b"probe",)), in_parts=in_parts)
                    raise ImageStoreError(
                        f"{self.url} writes again under a name that is taken: it does not heed If-None-Match"
                        f"{' of a copy' if in_parts else ''}, so that publishers could overwrite each other; use a "
                        "service with conditional writes (AWS_COPY_IF_NOT_EXISTS says how it copies on a condition)"
                    )
            finally:
                self._remove(name)

    def left_behind(self) -> int:
        """How many puts were cut short and left their parts, under `INCOMING`.

        Raises:
            ImageStoreError: The bucket cannot be asked.
        """
        with self._errors_told(INCOMING):
            return sum(len(some) for some in self._obstore.list(self._store, INCOMING))

    def _put_if_absent(self, name: str, pieces: Iterator[bytes], *, in_parts: bool) -> None:
        if not in_parts:
            with self._errors_told(name):
                self._obstore.put(self._writer, name, b"".join(pieces), mode="create", use_multipart=False)
            return
        incoming = f"{INCOMING}{secrets.token_hex(8)}"
        try:
            with self._errors_told(name):
                parts = {"use_multipart": True, "chunk_size": PART_BYTES, "max_concurrency": PARTS_AT_ONCE}
                self._obstore.put(self._writer, incoming, pieces, **parts)
                self._obstore.copy(self._writer, incoming, name, overwrite=False)
        finally:
            self._remove(incoming)

    def _remove(self, name: str) -> None:
        """Clean up; where that may not be done, what we leave is listed nowhere and told by the doctor."""
        with suppress(ImageStoreError), self._errors_told(name):
            self._obstore.delete(self._writer, name)

    @contextmanager
    def _errors_told(self, name: str) -> Iterator[None]:
        """What a service answers, with what a person can do about it."""
        try:
            yield
        except self._errors.AlreadyExistsError as exc:
            raise _TakenError(f"{self.url} has {name} already") from exc
        except (FileNotFoundError, self._errors.NotFoundError) as exc:
            if self._has_no_bucket():
                raise ImageStoreError(
                    f"{self.url}: there is no such bucket; make it, or correct the setting `images`"
                ) from exc
            raise _AbsentError(f"{self.url} has no {name}") from exc
        except (PermissionError, self._errors.PermissionDeniedError, self._errors.UnauthenticatedError) as exc:
            raise AccessDeniedError(
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


class _TakenError(ImageStoreError):
    """There is an object of that name."""


def _conditional_copy() -> dict[str, str]:
    """How a service copies on a condition: as Amazon's, unless the environment names another way."""
    return {"copy_if_not_exists": os.environ.get("AWS_COPY_IF_NOT_EXISTS", "multipart")}


def _client_options(timeout_s: int) -> dict[str, Any]:
    """Time-outs; and plain HTTP where somebody names such an address, as to a service on the same machine.

    Images are public, and compared with what was signed; credentials are never sent, requests are signed by them.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    return {"connect_timeout": "5s", "timeout": f"{timeout_s}s", "allow_http": endpoint.startswith("http://")}


def _first_line(exc: Exception) -> str:
    return str(exc).partition("\n")[0][:200]
