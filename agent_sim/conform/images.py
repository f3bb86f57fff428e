"""The image server of one scenario: HTTPS with Range, and with the faults that a mirror can have.

Owns bytes on the wire. The agent must trust none of it, so every fault here is one that happens to honest people too.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from aiohttp import web

from agent_sim.clock import machine_ms
from agent_sim.conform.tape import SeenDownload, Tape
from agent_sim.conform.world import World

_CHUNK = 32 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
ENDLESS_BYTES = 64 * 1024 * 1024
"""After so many bytes beyond the signed length an endless answer gives up."""


class ImageFault(StrEnum):
    """What is wrong with an answer."""

    NONE = "none"
    RESET = "reset"
    """The connection breaks half way through what was asked for."""
    SHORT = "short"
    """Half of the bytes, and a length that says that this was all."""
    FLIPPED = "flipped"
    """The right length, one bit wrong."""
    ENDLESS = "endless"
    """More bytes than were signed, and no end."""
    MISSING = "missing"
    """404."""
    BUSY = "busy"
    """503."""


class ImageServer:
    """Serves images.

    Args:
        world: what was released, and the server's certificate.
        tape: where downloads are recorded.
    """

    def __init__(self, world: World, tape: Tape) -> None:
        self._world = world
        self._tape = tape
        self._port = 0
        self._runner: web.AppRunner | None = None
        self.extra: Mapping[str, bytes] = {}
        """Images beside the released ones."""
        self.fault = ImageFault.NONE
        self.times: int | None = None
        """How many more answers have the fault; None: all."""
        self.ranges = True
        """False: Range is not supported, every answer is 200 and whole."""
        self.pause_s = 0.0
        """Between two chunks of 32 KiB: a slow link."""

    @property
    def base_url(self) -> str:
        """What directives name."""
        return f"https://127.0.0.1:{self._port}/targets"

    async def start(self) -> None:
        """Come up; on the same port as before."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.TemporaryDirectory() as folder:
            chain, key = Path(folder) / "chain.pem", Path(folder) / "key.pem"
            chain.write_bytes(self._world.server_chain)
            key.touch(mode=0o600)
            key.write_bytes(self._world.server_key)
            context.load_cert_chain(chain, key)
        app = web.Application()
        app.router.add_get("/{folder}/{name}", self._get)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=context).start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go down; connections break."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        content = self.extra.get(name) or self._world.images.get(name)
        wanted = _RANGE.fullmatch(request.headers.get("Range", "")) if self.ranges else None
        offset = int(wanted[1]) if wanted else 0
        asked = _RANGE.match(request.headers.get("Range", ""))
        seen = SeenDownload(name, machine_ms(), int(asked[1]) if asked else 0, self._tape.boot)
        self._tape.add(seen)
        fault = self._strike()
        if content is None or request.match_info["folder"] != "targets" or fault is ImageFault.MISSING:
            raise web.HTTPNotFound
        if fault is ImageFault.BUSY:
            raise web.HTTPServiceUnavailable(headers={"Retry-After": "1"})
        if offset >= len(content):
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{len(content)}"})
        headers = {"Accept-Ranges": "bytes"} if self.ranges else {}
        if wanted:
            headers["Content-Range"] = f"bytes {offset}-{len(content) - 1}/{len(content)}"
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        response.content_type = "application/octet-stream"
        try:
            await self._send(request, response, content[offset:], fault, seen)
        except ConnectionError:
            # The reader went away, or was killed: how much was sent is on the tape, and that is all there is to it.
            self._tape.touch()
        return response

    def _strike(self) -> ImageFault:
        if self.fault is ImageFault.NONE or self.times == 0:
            return ImageFault.NONE
        if self.times is not None:
            self.times -= 1
        return self.fault

    async def _send(
        self, request: web.Request, response: web.StreamResponse, body: bytes, fault: ImageFault, seen: SeenDownload
    ) -> None:
        if fault is ImageFault.FLIPPED:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault is ImageFault.SHORT:
            body = body[: len(body) // 2]
        if fault is ImageFault.ENDLESS:
            response.headers.pop("Content-Range", None)
            response.enable_chunked_encoding()
            body += bytes(ENDLESS_BYTES)
        else:
            response.content_length = len(body)
        ends_at = len(body) // 2 if fault is ImageFault.RESET else len(body)
        await response.prepare(request)
        for at in range(0, ends_at, _CHUNK):
            chunk = body[at : min(at + _CHUNK, ends_at)]
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the reader is gone")
            await response.write(chunk)
            seen.sent += len(chunk)
            self._tape.touch()
            # Also without a pause: the loop has to hear that the reader went away.
            await asyncio.sleep(self.pause_s)
        if fault is ImageFault.RESET and request.transport is not None:
            request.transport.abort()
        else:
            await response.write_eof()
