"""A hostile Director and a hostile mirror, for the real agent to meet on real sockets.

The Director has stolen all online keys and nothing else; the mirror serves what it likes, as fast as it likes; the
network between them may change every answer. TLS is intact in these runs, and worth nothing: whoever holds its end
is the attacker.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from outrider.v1 import vehicle_pb2
from securesystemslib.signer import CryptoSigner

from signing import canonical
from signing.director import DirectorSigners
from signing.versions import format_time
from tests.agent_sim.wire_orchestrator import Served, WireOrchestrator

REPOSITORIES = {"director": vehicle_pb2.REPOSITORY_DIRECTOR, "image": vehicle_pb2.REPOSITORY_IMAGE}
Files = dict[tuple[str, str], bytes]
Network = Callable[[str, Files], Files]
"""Changes the metadata of an answer, by vehicle; what it returns is what arrives."""
Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class HostileDirector:
    """Signs whatever its owner likes, with the online keys of one Director."""

    signers: Mapping[str, CryptoSigner]
    """By role: `targets`, `snapshot`, `timestamp`."""

    @classmethod
    def with_keys_of(cls, honest: DirectorSigners) -> HostileDirector:
        """After a theft of the signer's keys."""
        return cls({"targets": honest.targets, "snapshot": honest.snapshot, "timestamp": honest.timestamp})

    def files(
        self,
        vehicle_id: str,
        targets: Mapping[str, Any],
        *,
        version: int,
        now: datetime,
        life: timedelta = timedelta(days=1),
        extra: Mapping[str, Any] = {},
    ) -> Files:
        """All three files, without a check of anything.

        Args:
            vehicle_id: Whom they are bound to.
            targets: Entries by path, as they stand in the file.
            version: Of all three.
            now: Fleet time of signing.
            life: Of all three.
            extra: More fields of the signed targets.
        """

        def signed(role: str, fields: Mapping[str, Any]) -> bytes:
            head = {"_type": role, "spec_version": "1.0.31", "version": version, "vehicleId": vehicle_id}
            payload = canonical.encode(head | {"expires": format_time(now + life)} | fields)
            signature = canonical.encode([self.signers[role].sign(payload).to_dict()])
            return b'{"signatures":' + signature + b',"signed":' + payload + b"}"

        def pinned(content: bytes) -> dict[str, Any]:
            hashes = {"sha256": hashlib.sha256(content).hexdigest()}
            return {"version": version, "length": len(content), "hashes": hashes}

        listed = signed("targets", {"targets": dict(targets)} | dict(extra))
        snapshot = signed("snapshot", {"meta": {"targets.json": pinned(listed)}})
        timestamp = signed("timestamp", {"meta": {"snapshot.json": pinned(snapshot)}})
        return {
            ("director", f"{version}.targets.json"): listed,
            ("director", f"{version}.snapshot.json"): snapshot,
            ("director", "timestamp.json"): timestamp,
        }


def entry(content: bytes, hardware_id: str, counter: int, serials: Sequence[str]) -> dict[str, Any]:
    """An entry of the Director's targets for any bytes and any control units."""
    return {
        "length": len(content),
        "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
        "custom": {
            "shallMatch": {"hardwareIds": [hardware_id], "releaseCounter": counter},
            "ecuIdentifiers": {serial: {"hardwareId": hardware_id} for serial in serials},
        },
    }


@dataclass
class HostileMirror:
    """Serves images its own way: `answer` is one of the functions below, or a test's own."""

    answer: Answer | None = None
    """None: as an honest mirror."""
    served: list[int] = field(default_factory=list)
    """Bytes written in each dishonest answer."""

    async def swapped(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """Other bytes of the same length."""
        return await self._send(request, [bytes(byte ^ 1 for byte in content)], length=len(content))

    async def longer(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """The right bytes, and then more."""
        return await self._send(request, [content, b"!"], length=len(content) + 1)

    async def endless(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """The right bytes, and then never an end."""
        return await self._send(request, [content, *[bytes(64 * 1024)] * 4096])

    async def truncated(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """Half of it, under the length of all of it."""
        return await self._send(request, [content[: len(content) // 2]], length=len(content))

    async def slow(self, request: web.Request, content: bytes) -> web.StreamResponse:
        """A few bytes at a time, never so late that a connection would be given up for it."""
        return await self._send(request, [content[at : at + 16] for at in range(0, len(content), 16)], pause_s=0.05)

    async def _send(
        self, request: web.Request, pieces: Sequence[bytes], *, length: int | None = None, pause_s: float = 0.0
    ) -> web.StreamResponse:
        """Answer from the first byte on, whatever part was asked for."""
        response = web.StreamResponse()
        if length is not None:
            response.content_length = length
        self.served.append(0)
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the vehicle hung up
            for piece in pieces:
                await response.write(piece)
                self.served[-1] += len(piece)
                if pause_s:
                    await asyncio.sleep(pause_s)
        if request.transport is not None and length is not None and self.served[-1] < length:
            request.transport.abort()
        return response


class HostileOrchestrator(WireOrchestrator):
    """The small orchestrator of these tests in the hands of an attacker; honest until a test sets a part."""

    def __init__(self, folder: Path, fleet_csv: str, *, scale: float) -> None:
        super().__init__(folder, fleet_csv, scale=scale)
        self.director = HostileDirector.with_keys_of(self.signers)
        self.mirror = HostileMirror()
        self.network: Network = lambda vehicle_id, files: files

    def metadata(self, vehicle_id: str, served: Served) -> list[vehicle_pb2.MetadataFile]:
        """What arrives at the vehicle."""
        names = {number: name for name, number in REPOSITORIES.items()}
        honest = {(names[file.repository], file.name): file.content for file in super().metadata(vehicle_id, served)}
        return [
            vehicle_pb2.MetadataFile(repository=REPOSITORIES[repository], name=name, content=content)
            for (repository, name), content in self.network(vehicle_id, honest).items()
        ]

    async def serve_image(self, request: web.Request) -> web.StreamResponse:
        """An image, or what the mirror makes of it."""
        if self.mirror.answer is None:
            return await super().serve_image(request)
        content = (self.data.image_repo / "targets" / request.match_info["name"]).read_bytes()
        return await self.mirror.answer(request, content)
