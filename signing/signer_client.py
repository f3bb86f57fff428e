"""The orchestrator's side of the signer: a small pool of connections, each carrying one request at a time.

Requests are pure, so one that met a connection which died in between is repeated once on a fresh one. A signer that
is away costs one error a request and nothing else: the next request connects again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from signing import canonical
from signing.director import Assignment, DirectorVersions, Renewal
from signing.errors import SignerRefusedError, SignerUnavailableError
from signing.signer_wire import (
    REPLY_MAX_BYTES,
    REQUEST_MAX_BYTES,
    FrameError,
    frame,
    read_frame,
    renewal_value,
    request_value,
)

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class SignerClient:
    """Asks the signer process for Director files. Belongs to one event loop.

    Args:
        socket_path: Where the signer listens.
        timeout_s: Machine time that one request may take, waiting for a connection included.
        connections: Most connections at a time.
    """

    def __init__(self, socket_path: Path, timeout_s: float = 2.0, *, connections: int = 4) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def director_files(self, assignment: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
        """The files that `signing.director.director_files` makes, made in the signer.

        Raises:
            SignerUnavailableError: No answer in time; repeat later.
            SignerRefusedError: The signer refuses this request.
        """
        return await self._files(request_value(assignment, versions))

    async def director_timestamp(self, renewal: Renewal) -> bytes:
        """The timestamp that `signing.director.director_timestamp` makes, made in the signer.

        Raises:
            SignerUnavailableError: No answer in time, or one without a timestamp; repeat later.
            SignerRefusedError: The signer refuses this request.
        """
        files = await self._files(renewal_value(renewal))
        if "timestamp.json" not in files:
            raise SignerUnavailableError("what answers at the signer's socket signs no timestamp alone; restart it")
        return files["timestamp.json"]

    async def close(self) -> None:
        """Close idle connections; a later request opens a new one."""
        while self._idle:
            await _close(self._idle.pop())

    async def _files(self, value: dict[str, Any]) -> dict[str, bytes]:
        request = frame(value)
        if len(request) > REQUEST_MAX_BYTES:
            raise SignerRefusedError(f"the request has {len(request)} bytes, at most {REQUEST_MAX_BYTES}")
        try:
            async with asyncio.timeout(self._timeout_s), self._slots:
                reply = await self._ask(request)
        except TimeoutError as exc:
            raise SignerUnavailableError(f"the signer did not answer within {self._timeout_s} s") from exc
        except (OSError, asyncio.IncompleteReadError, FrameError) as exc:
            raise SignerUnavailableError(f"no signer at {self._path}: {exc}") from exc
        return _files(reply)

    async def _ask(self, request: bytes) -> bytes:
        while self._idle:
            try:
                return await self._exchange(self._idle.pop(), request)
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # the signer was restarted since this connection was last used
        return await self._exchange(await asyncio.open_unix_connection(str(self._path)), request)

    async def _exchange(self, connection: _Connection, request: bytes) -> bytes:
        """One request and its reply; a connection that did not finish both is never used again."""
        reader, writer = connection
        finished = False
        try:
            writer.write(request)
            await writer.drain()
            reply = await read_frame(reader, REPLY_MAX_BYTES)
            finished = True
        finally:
            if finished:
                self._idle.append(connection)
            else:
                writer.close()
        return reply


async def _close(connection: _Connection) -> None:
    writer = connection[1]
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        return  # it was gone already


def _files(reply: bytes) -> dict[str, bytes]:
    try:
        value: Any = canonical.decode(reply)
        error = value.get("error")
        if error is None:
            return {name: content.encode() for name, content in value["files"].items()}
        message = f"the signer refused: {error['message']}"
    except (canonical.JsonFormError, AttributeError, KeyError, TypeError) as exc:
        raise SignerUnavailableError(f"what answers at the signer's socket is no signer ({exc})") from exc
    raise SignerRefusedError(message)
