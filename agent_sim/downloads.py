"""Image downloads over HTTPS by range, into a file of the vehicle's own; checked when complete.

Owns bytes on disk: a download goes on from the file's own length. The transport is not trusted: what counts is
`signing.verify.check_image`. Where a signed delta leads there from what stands in a slot, that is fetched instead; on
any fault of it the whole image is.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from concurrent.futures import Executor
from pathlib import Path

import aiohttp

from agent_sim.actions import FetchBroken, ImageFetched, ImageRefused, Input
from agent_sim.car import Download
from agent_sim.clock import machine_ms
from agent_sim.ecu import WantedImage
from agent_sim.flash import Flash
from agent_sim.tally import Tally
from signing.deltas import Delta, apply_delta
from signing.errors import AttackCode, DeltaError, VerificationError
from signing.names import image_file_name
from signing.pace import WINDOW_S, RateFloor
from signing.verify import VerifiedImage, check_image

_CHUNK_BYTES = 64 * 1024
_GAP_TIMEOUT_S = 20.0
_DELTA_MEMORY_BYTES_MAX = 256 * 1024 * 1024
"""What a Primary can spare to apply a delta."""
_DELTA_TRIES_MAX = 5
"""Tries to fetch a delta within an attempt, so that a mirror that lets it trickle cannot keep the image away."""


class _TooSlowError(Exception):
    """The server was below the floor of the rate."""


class _TooLongError(Exception):
    """The server sent more than was signed."""


class Downloads:
    """Downloads for any vehicle.

    Args:
        server_ca: authorities for the image server, PEM.
        flash: what stands in slots.
        executor: where large hashing goes.
        tally: counted into.
        connections_max: connections at once.
        window_s: machine time after which a server that is too slow is given up.
    """

    def __init__(
        self,
        server_ca: str,
        flash: Flash,
        executor: Executor,
        tally: Tally,
        *,
        connections_max: int,
        window_s: float = WINDOW_S,
    ) -> None:
        self._window_s = window_s
        context = ssl.create_default_context(cadata=server_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=connections_max),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_GAP_TIMEOUT_S, sock_read=_GAP_TIMEOUT_S),
            auto_decompress=False,
        )
        self._flash = flash
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
        if received == 0 and (delta := self._best_delta(folder, image)) is not None:
            answer = await self._fetch_delta(folder, download, delta)
            if answer is not None:
                return answer
        try:
            received, slow = await self._fetch_file(download, image.path, image.sha256, image.length, path)
        except _TooLongError:
            return self._refused(path, fetch.token, AttackCode.ENDLESS_DATA)
        if received == image.length:
            return await self._check(path, fetch.token, image)
        self._tally.downloads["broken"] += 1
        return FetchBroken(fetch.token, received, slow=slow)

    async def _fetch_file(
        self, download: Download, name: str, sha256: str, length: int, path: Path
    ) -> tuple[int, bool]:
        """Go on with one file, from the first address that serves.

        Returns:
            How much is there, and whether a server was too slow.
        """
        received, slow = await asyncio.to_thread(_cut, path, length), False
        for base_url in download.fetch.base_urls:
            url = f"{base_url.rstrip('/')}/{image_file_name(name, sha256)}"
            try:
                received = await self._read(url, path, received, length, download.break_at)
            except (aiohttp.ClientError, TimeoutError, _TooSlowError) as error:
                received = await asyncio.to_thread(_cut, path, length)
                slow = slow or isinstance(error, _TooSlowError)
                self._tally.downloads["slow"] += isinstance(error, _TooSlowError)
            if received == length or (download.break_at is not None and received >= download.break_at):
                break
        return received, slow

    # Deltas

    def _best_delta(self, folder: Path, image: WantedImage) -> Delta | None:
        """The smallest delta that can be applied here and was not given up in this attempt."""
        for delta in image.deltas:
            fits = delta.memory_bytes <= _DELTA_MEMORY_BYTES_MAX
            if fits and self._flash.file(delta.from_sha256) and _tries(folder, delta) < _DELTA_TRIES_MAX:
                return delta
        return None

    async def _fetch_delta(self, folder: Path, download: Download, delta: Delta) -> Input | None:
        """Get the image by a delta; None when the whole image has to be fetched instead."""
        path, token, image = folder / delta.sha256, download.fetch.token, download.fetch.image
        had = await asyncio.to_thread(_cut, path, delta.length)
        try:
            received, slow = await self._fetch_file(download, delta.path, delta.sha256, delta.length, path)
        except _TooLongError:
            self._give_up(folder, delta, "refused")
            return None
        if received == had < delta.length:
            # Nobody serves it. Where the link is down, the image does not come either, and both are tried again.
            return None
        if received < delta.length:
            if _note_try(folder, delta) < _DELTA_TRIES_MAX:
                self._tally.downloads["broken"] += 1
                return FetchBroken(token, received, slow=slow)
            self._give_up(folder, delta, "given_up")
            return None
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, self._apply, folder, delta, image)
        except DeltaError:
            self._give_up(folder, delta, "refused")
            return None
        self._tally.deltas["applied"] += 1
        self._tally.bytes_saved += image.length - delta.length
        self._tally.downloads["complete"] += 1
        return ImageFetched(token)

    def _apply(self, folder: Path, delta: Delta, image: WantedImage) -> None:
        """Make the image out of what stands in a slot, in place of the delta."""
        path, base, made = folder / delta.sha256, self._flash.file(delta.from_sha256), folder / f"{image.sha256}.made"
        if base is None or _digest(path) != delta.sha256:
            raise DeltaError("the delta, or what it starts from, is not what was signed")
        apply_delta(
            path,
            base,
            made,
            from_sha256=delta.from_sha256,
            length=image.length,
            sha256=image.sha256,
            memory_bytes_max=_DELTA_MEMORY_BYTES_MAX,
        )
        path.unlink()
        made.replace(folder / image.sha256)
        self._flash.keep(folder / image.sha256, image.sha256)

    def _give_up(self, folder: Path, delta: Delta, outcome: str) -> None:
        """Count it, and do not try it again in this attempt."""
        self._tally.deltas[outcome] += 1
        (folder / delta.sha256).unlink(missing_ok=True)
        while _note_try(folder, delta) < _DELTA_TRIES_MAX:
            pass

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
            floor, since_ms = RateFloor(window_s=self._window_s), machine_ms()
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
                    now_ms = machine_ms()
                    if floor.undercut(len(chunk), (now_ms - since_ms) / 1000) and offset < length:
                        _hang_up(response)
                        raise _TooSlowError
                    since_ms = now_ms
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
        await asyncio.to_thread(self._flash.keep, path, image.sha256)
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tries(folder: Path, delta: Delta) -> int:
    """How often this image was tried by a delta in this attempt: the agent may have been killed in between."""
    path = folder / f"{delta.to_sha256}.tries"
    return path.stat().st_size if path.exists() else 0


def _note_try(folder: Path, delta: Delta) -> int:
    """One try more; returns how many there were."""
    with (folder / f"{delta.to_sha256}.tries").open("ab") as file:
        file.write(b".")
        return file.tell()


def _cut(path: Path, length: int) -> int:
    """Make `path` a file of at most `length` bytes; returns its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        size = file.seek(0, 2)
        if size > length:
            file.truncate(length)
        return min(size, length)
