"""The Director's signer, a process of its own: the only one that holds the Director's online keys.

`python -m signing.signer SOCKET KEYS_FOLDER ROOTS_FOLDER IMAGE_REPOSITORY` serves a unix socket that only its owner may
open, and logs JSON lines on standard error. It keeps nothing: the same request gives the same bytes, so it may be
killed and started at will. It directs no image that the Image repository's keys did not release, or that nobody
vouches for (`ingest_gate`), whoever asks.
Which keys are in force is what the Director's newest root says; after a rotation it takes up the new ones by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from signing.director import DirectorSigners, Renewal, director_files, director_timestamp
from signing.errors import SignerRefusedError, SignerUnavailableError, SigningError
from signing.ingest_gate import IngestGate
from signing.roots import newest_root
from signing.signer_client import SignerClient
from signing.signer_wire import REQUEST_MAX_BYTES, FrameError, frame, read_frame, read_request

__all__ = ["SignerClient", "SignerRefusedError", "SignerUnavailableError", "main", "serve"]

CONNECTIONS_MAX = 64
REQUEST_TIMEOUT_S = 5.0
"""From a request's first byte to its last; a connection without a request may stay open."""
PROBE_TIMEOUT_S = 2.0
"""How long a start waits to learn whether another signer listens."""


def serve(
    socket_path: Path,
    keys_folder: Path,
    roots_folder: Path,
    image_repository: Path,
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Sign until SIGTERM or SIGINT.

    Args:
        socket_path: Where to listen; a socket that a dead signer left behind is replaced.
        keys_folder: Holds `targets.pem`, `snapshot.pem`, `timestamp.pem` and their successors; no other key is read.
        roots_folder: Holds the Director's roots.
        image_repository: Folder of the Image repository; only read.
        ready: Called once requests are taken.

    Raises:
        KeyFileError: A key is missing or unusable.
        SigningError: Another signer listens there.
    """
    keys = _KeysInForce(keys_folder, roots_folder)
    listener = _listen(socket_path)
    ready()
    try:
        asyncio.run(_Server(keys, IngestGate(image_repository)).run(listener))
    finally:
        with contextlib.suppress(FileNotFoundError):
            socket_path.unlink()
    _log("signer_stopped")


class _KeysInForce:
    """The online keys that the newest root names; one look at the disk for each request."""

    def __init__(self, keys_folder: Path, roots_folder: Path) -> None:
        self._keys_folder = keys_folder
        self._roots_folder = roots_folder
        self._load()

    def current(self) -> DirectorSigners:
        """The keys to sign with now.

        Raises:
            SigningError: There is a new root, and a key of it is missing here.
        """
        if self._next_root.exists():
            self._load()
            _log("keys_taken_up", root=self._version)
        return self._signers

    def _load(self) -> None:
        root = newest_root(self._roots_folder).signed
        self._signers = DirectorSigners.load(self._keys_folder, root)
        self._version = root.version
        self._next_root = self._roots_folder / f"{root.version + 1}.root.json"


class _Server:
    """Answers requests, one at a time on each connection."""

    def __init__(self, keys: _KeysInForce, gate: IngestGate) -> None:
        self._keys = keys
        self._gate = gate
        self._open = 0

    async def run(self, listener: socket.socket) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        server = await asyncio.start_unix_server(self._connection, sock=listener, limit=REQUEST_MAX_BYTES + 64)
        _log("signer_started", socket=listener.getsockname(), pid=os.getpid())
        await stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= CONNECTIONS_MAX:
            _log("connection_refused", open=self._open)
            writer.close()
            return
        self._open += 1
        try:
            await self._answer_all(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has left
        except TimeoutError:
            _log("connection_dropped", cause="the peer neither sends nor reads in time")
        finally:
            self._open -= 1
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first = await reader.readexactly(1)
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    data = await read_frame(reader, REQUEST_MAX_BYTES, first=first)
            except FrameError as exc:
                _log("request_refused", cause=str(exc))
                writer.write(_error("malformed", exc))
                await asyncio.wait_for(writer.drain(), REQUEST_TIMEOUT_S)
                return
            writer.write(self._answer(data))
            await asyncio.wait_for(writer.drain(), REQUEST_TIMEOUT_S)

    def _answer(self, data: bytes) -> bytes:
        try:
            files = self._signed(data)
        except FrameError as exc:
            _log("request_refused", cause=str(exc))
            return _error("malformed", exc)
        except SigningError as exc:
            _log("request_refused", cause=str(exc))
            return _error("refused", exc)
        return frame({"files": {name: content.decode() for name, content in files.items()}})

    def _signed(self, data: bytes) -> dict[str, bytes]:
        request, signers = read_request(data), self._keys.current()
        if isinstance(request, Renewal):
            return {"timestamp.json": director_timestamp(signers, request)}
        assignment, versions = request
        for path, fault in self._gate.faults(assignment.images).items():
            raise SignerRefusedError(f"image {path[:80]} is not directed: {fault}")
        return director_files(signers, assignment, versions)


def _error(code: str, exc: Exception) -> bytes:
    message = "".join(char for char in str(exc)[:500] if char.isprintable())
    return frame({"error": {"code": code, "message": message.encode("ascii", "replace").decode()}})


def _listen(path: Path) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)  # the socket is born with mode 0600
    try:
        listener.bind(str(path))
        listener.listen(CONNECTIONS_MAX)
    except OSError as exc:
        listener.close()
        raise SigningError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    finally:
        os.umask(umask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else is left alone."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise SigningError(f"{path} exists and is no socket; choose another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError as exc:
            raise SigningError(f"cannot tell who listens on {path}: {exc}") from exc
    raise SigningError(f"another signer listens on {path}; stop it first")


def _log(event: str, **facts: Any) -> None:
    sys.stderr.write(json.dumps({"event": event, "process": "signer", **facts}) + "\n")
    sys.stderr.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the signer from the command line; the exit status is 0 after SIGTERM, 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m signing.signer", description="Signs Director files on request.")
    parser.add_argument("socket", type=Path, metavar="SOCKET", help="unix socket to serve")
    parser.add_argument("keys_folder", type=Path, metavar="KEYS_FOLDER", help="folder with the online Director keys")
    parser.add_argument("roots_folder", type=Path, metavar="ROOTS_FOLDER", help="folder with the Director's roots")
    parser.add_argument(
        "image_repository", type=Path, metavar="IMAGE_REPOSITORY", help="folder of the Image repository"
    )
    options = parser.parse_args(arguments)
    try:
        serve(options.socket, options.keys_folder, options.roots_folder, options.image_repository)
    except SigningError as exc:
        _log("signer_failed", cause=str(exc))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
