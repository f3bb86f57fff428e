"""Image downloads over HTTPS by range, into a file of the vehicle's own; checked when complete.

Owns bytes on disk: a download goes on from the file's own length. The transport is not trusted: what counts is
`signing.verify.check_image`.
"""

from __future__ import annotations

import asyncio
import ssl
from concurrent.futures import Executor
from pathlib import Path

import aiohttp

from agent_sim.actions import FetchBroken, ImageFetched, ImageRefused, Input
from agent_sim.car import Download
from agent_sim.ecu import WantedImage
from agent_sim.tally import Tally
from signing.errors import AttackCode, VerificationError
from signing.names import image_file_name
from signing.verify import VerifiedImage, check_image

_CHUNK_BYTES = 64 * 1024
_GAP_TIMEOUT_S = 20.0


class _TooLongError(Exception):
    """The server sent more than was signed."""


class Downloads:
    """Downloads for any vehicle.

    Args:
        server_ca: authorities for the image server, PEM.
        executor: where large hashing goes.
        tally: counted into.
        connections_max: connections at once.
    """

    def __init__(self, server_ca: str, executor: Executor, tally: Tally, *, connections_max: int) -> None:
        context = ssl.create_default_context(cadata=server_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=connections_max),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_GAP_TIMEOUT_S, sock_read=_GAP_TIMEOUT_S),
            auto_decompress=False,
        )
        self._executor = executor
        self._tally = tally

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def fetch(self, folder: Path, download: Download) -> Input:
        """Fetch on from where the file ends, from the first address that serves.

        Raises:
            OSError: this machine's disk failed.
        """
        fetch, image = download.fetch, download.fetch.image
        path = folder / image.sha256
        # What lies here counts, also when the agent was killed before it heard of it: the digest judges it in the end.
        received = await asyncio.to_thread(_cut, path, image.length)
        self._tally.downloads["started"] += 1
        if received == image.length:
            return await self._check(path, fetch.token, image)
        for base_url in fetch.base_urls:
            url = f"{base_url.rstrip('/')}/{image_file_name(image.path, image.sha256)}"
            try:
                received = await self._read(url, path, received, image.length, download.break_at)
            except (aiohttp.ClientError, TimeoutError):
                received = path.stat().st_size
            except _TooLongError:
                return self._refused(path, fetch.token, AttackCode.ENDLESS_DATA)
            if received == image.length:
                return await self._check(path, fetch.token, image)
            if download.break_at is not None and received >= download.break_at:
                break
        self._tally.downloads["broken"] += 1
        return FetchBroken(fetch.token, received)

    async def _read(self, url: str, path: Path, offset: int, length: int, break_at: int | None) -> int:
        """Append to `path` until the end, or until the link breaks; returns how much is there."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._session.get(url, headers=headers) as response:
            if response.status not in (200, 206):
                return offset
            if offset and response.status == 206:
                self._tally.downloads["resumed"] += 1
            elif offset:
                offset = _cut(path, 0)
            with path.open("ab") as file:
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    kept = chunk if break_at is None else chunk[: max(0, break_at - offset)]
                    file.write(kept)
                    offset += len(kept)
                    self._tally.bytes_downloaded += len(kept)
                    if offset > length:
                        _hang_up(response)
                        raise _TooLongError
                    if len(kept) < len(chunk):
                        break
        return offset

    async def _check(self, path: Path, token: int, image: WantedImage) -> Input:
        signed = VerifiedImage(
            path=image.path,
            length=image.length,
            sha256=image.sha256,
            hardware_id=image.hardware_id,
            release_counter=image.release_counter,
            ecu_serials=image.ecu_serials,
        )
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._executor, _check_file, path, signed)
        except VerificationError as error:
            return self._refused(path, token, error.code)
        self._tally.downloads["complete"] += 1
        return ImageFetched(token)

    def _refused(self, path: Path, token: int, code: AttackCode) -> ImageRefused:
        path.unlink(missing_ok=True)
        self._tally.downloads["refused"] += 1
        return ImageRefused(token, code.value)


def _hang_up(response: aiohttp.ClientResponse) -> None:
    """Cut the connection: closing it in good order would read on until the server has said all."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def discard(folder: Path) -> None:
    """Forget every download in `folder`."""
    if folder.is_dir():
        for path in folder.iterdir():
            path.unlink(missing_ok=True)


def _check_file(path: Path, image: VerifiedImage) -> None:
    check_image(image, path.read_bytes())


def _cut(path: Path, length: int) -> int:
    """Make `path` a file of at most `length` bytes; returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        size = file.seek(0, 2)
        if size > length:
            file.truncate(length)
        return min(size, length)
