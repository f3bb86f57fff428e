"""The Image repository over HTTPS: image bytes by range, and metadata.

Owns names, ranges, caching and caps. Serves nothing but regular files of that folder. Leaves trust to the vehicle,
which verifies every byte against signed metadata: a mirror or a CDN may do this as well.
Source: RFC 9110, Range Requests and Conditional Requests; RFC 8246, immutable responses.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import structlog
from aiohttp import web
from aiohttp.web_request import BaseRequest

from orchestrator.telemetry import Metrics
from signing.errors import ImageStoreError
from signing.image_bytes import PIECE_BYTES
from signing.image_store import FolderStore, ImageStore
from signing.names import METADATA_NAME_PATTERN

TRANSFERS_MAX = 256
"""Images sent at once; who comes beyond is asked to come back."""
RETRY_AFTER_S = 5
CHUNK_BYTES = 262_144
METADATA_BYTES_MAX = 16_777_216
STALL_S = 60.0
"""Machine time a reader may take for one chunk, before the connection is given to somebody else."""

log = structlog.get_logger()

_TARGET = re.compile(r"([0-9a-f]{64})\.[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_DELTA = re.compile(r"[0-9a-f]{64}\.[0-9a-f]{64}\.zst")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def build_images_app(
    image_repository: Path,
    metrics: Metrics,
    *,
    images: ImageStore | None = None,
    transfers_max: int = TRANSFERS_MAX,
    stall_s: float = STALL_S,
) -> web.Application:
    """The application for the image port.

    Args:
        image_repository: Folder with `targets/<sha256>.<name>` and `metadata/<name>.json`.
        metrics: Counted into.
        images: Where images are; None for the folder's `targets`.
        transfers_max: Images sent at once.
        stall_s: Machine time a reader may take for one chunk.
    """
    store = images or FolderStore(image_repository / "targets")
    handlers = _Images(image_repository, store, metrics, transfers_max, stall_s)
    app = web.Application(client_max_size=1024)
    app.add_routes(
        [
            web.get("/targets/{name}", handlers.target),
            web.get("/targets/{folders:.+}/{name}", handlers.target),  # as TUF clients ask; the digest says it all
            web.get("/metadata/{name}", handlers.metadata),
        ]
    )
    return app


class _Images:
    """Handlers of the image port."""

    def __init__(self, folder: Path, store: ImageStore, metrics: Metrics, transfers_max: int, stall_s: float) -> None:
        self._store = store
        self._metadata = folder / "metadata"
        self._metrics = metrics
        self._transfers = 0
        self._transfers_max = transfers_max
        self._stall_s = stall_s

    async def target(self, request: web.Request) -> web.StreamResponse:
        """An image or a range of it. Its name carries its digest, so it may be cached for ever."""
        name = _TARGET.fullmatch(request.match_info["name"])
        if name is None:
            raise web.HTTPNotFound
        if self._transfers >= self._transfers_max:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER_S)})
        self._transfers += 1
        try:
            content = await asyncio.to_thread(open_content, self._store, name.group())
            with content:
                return await self._send(request, content, f'"{name.group(1)}"')
        except ImageStoreError as error:
            log.warning("image_store_unavailable", error=str(error))
            raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER_S)}) from error
        finally:
            self._transfers -= 1

    async def metadata(self, request: web.Request) -> web.StreamResponse:
        """A metadata file as it is now; a cache has to ask again each time."""
        name = request.match_info["name"]
        if METADATA_NAME_PATTERN.fullmatch(name) is None:
            raise web.HTTPNotFound
        content = await asyncio.to_thread(_read, self._metadata, name)
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if matches(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type="application/json", headers=headers)

    async def _send(self, request: web.Request, content: Content, tag: str) -> web.StreamResponse:
        size = content.size
        headers = {"ETag": tag, "Cache-Control": "public, max-age=31536000, immutable", "Accept-Ranges": "bytes"}
        if matches(request, tag):
            return web.Response(status=304, headers=headers)
        wanted = wanted_range(request.headers.get("Range", ""), size)
        if wanted is not None and request.headers.get("If-Range", tag) == tag:
            if not wanted:
                raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
            response = web.StreamResponse(status=206, headers=headers)
        else:
            wanted = range(size)
            response = web.StreamResponse(headers=headers)
        response.content_type = "application/octet-stream"
        response.content_length = len(wanted)
        try:
            await response.prepare(request)
            if request.method != "HEAD":
                await self._copy(request.match_info["name"], content, wanted, response)
        except ImageStoreError as error:
            log.warning("image_store_unavailable", error=str(error))
            self._broken(request, "gone")
        except (ConnectionError, TimeoutError) as error:
            # Tunnels and garages: the vehicle comes back and asks for the rest. Nothing is wrong here.
            self._broken(request, "stalled" if isinstance(error, TimeoutError) else "gone")
        return response

    def _broken(self, request: web.Request, reason: str) -> None:
        """A download ended early, and the connection with it: the bytes that were promised must not seem to come."""
        self._metrics.downloads_broken.labels(reason=reason).inc()
        log.debug("download_broken", image=request.match_info["name"], reason=reason)
        if request.transport is not None:
            request.transport.abort()

    async def _copy(self, name: str, content: Content, wanted: range, response: web.StreamResponse) -> None:
        kind = "delta" if _DELTA.fullmatch(name) else "image"
        at = wanted.start
        while at < wanted.stop:
            chunk = await asyncio.to_thread(content.read, at, min(content.piece_bytes, wanted.stop - at))
            if not chunk:
                # Images are never rewritten; if one shrinks all the same, the length that was promised must not come.
                raise EOFError("image ended early")
            async with asyncio.timeout(self._stall_s):
                await response.write(chunk)
            self._metrics.image_bytes.labels(kind=kind).inc(len(chunk))
            at += len(chunk)


class Content(Protocol):
    """An image that is being sent; a context that closes it."""

    size: int
    """Bytes."""
    piece_bytes: int
    """Of one read."""

    def read(self, start: int, length: int) -> bytes:
        """A part of it."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


class _FileContent:
    """An image in a folder, open from the first byte to the last."""

    piece_bytes = CHUNK_BYTES

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class _BucketContent:
    """An image in a bucket, asked for piece by piece."""

    piece_bytes = PIECE_BYTES

    def __init__(self, store: ImageStore, name: str, size: int) -> None:
        self._store, self._name, self.size = store, name, size

    def read(self, start: int, length: int) -> bytes:
        return self._store.read(self._name, start, length)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""


def open_content(store: ImageStore, name: str) -> Content:
    """An image to be sent.

    Raises:
        web.HTTPNotFound: there is none of that name.
        ImageStoreError: the store cannot be asked.
    """
    if isinstance(store, FolderStore):
        return _FileContent(open_regular(store.folder, name))
    size = store.size(name)
    if size is None:
        raise web.HTTPNotFound
    return _BucketContent(store, name, size)


def open_regular(folder: Path, name: str) -> BinaryIO:
    """Open a regular file that lies directly in a folder; links are not followed.

    Raises:
        web.HTTPNotFound: there is none of that name.
    """
    try:
        # Without O_NONBLOCK a pipe of that name would hang the thread.
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise web.HTTPNotFound from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise web.HTTPNotFound
    return os.fdopen(descriptor, "rb")


def _read(folder: Path, name: str) -> bytes:
    with open_regular(folder, name) as file:
        content = file.read(METADATA_BYTES_MAX + 1)
    if len(content) > METADATA_BYTES_MAX:
        raise web.HTTPInternalServerError(text=f"{name}: more than {METADATA_BYTES_MAX} bytes")
    return content


def matches(request: BaseRequest, tag: str) -> bool:
    """Whether the caller holds what `tag` names already (If-None-Match)."""
    held = request.headers.get("If-None-Match", "")
    return held == "*" or tag in [each.strip().removeprefix("W/") for each in held.split(",")]


def wanted_range(header: str, size: int) -> range | None:
    """The bytes that a Range header asks for; None means all: there is no such header, or one that we may ignore.

    Several ranges in one request are ignored, as RFC 9110 allows: nobody who downloads in order needs them.

    Returns:
        Positions within `range(size)`; empty when none of what is asked for exists.
    """
    asked = _RANGE.fullmatch(header.replace(" ", ""))
    if asked is None:
        return None
    first, last = asked.groups()
    if not first:
        return range(max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1 if last else size, size))
