"""The client of the signer: whatever answers at the socket, its caller gets files or an error that it knows."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import pytest

from signing.director import Assignment, DirectorVersions, Renewal, SnapshotPin
from signing.errors import SignerUnavailableError
from signing.signer_client import SignerClient
from tests.signing.uptane_simulator import NOW

ASSIGNMENT = Assignment("veh-1", ())
VERSIONS = DirectorVersions(7, NOW, 9, NOW)


def framed(value: object) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


@pytest.mark.parametrize("answer", [b"", framed(b"{}"), framed(b"[]"), framed({"files": 1}), struct.pack(">I", 2**31)])
async def test_a_stranger_at_the_socket_is_no_signer(socket_path: Path, client: SignerClient, answer: bytes):
    """Whatever answers there, the caller gets an error it knows, and no files."""

    async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(stranger, str(socket_path)):
        with pytest.raises(SignerUnavailableError):
            await client.director_files(ASSIGNMENT, VERSIONS)


async def test_connections_are_used_again(socket_path: Path, client: SignerClient):
    """A handshake of its own for every vehicle's poll would double the work."""
    connections = 0

    async def signer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while header := await reader.read(4):
            await reader.readexactly(struct.unpack(">I", header)[0])
            writer.write(framed({"files": {}}))

    async with await asyncio.start_unix_server(signer, str(socket_path)):
        for _ in range(5):
            assert await client.director_files(ASSIGNMENT, VERSIONS) == {}
        assert connections == 1
        with pytest.raises(SignerUnavailableError, match="no timestamp alone"):
            await client.director_timestamp(Renewal("veh-1", 10, NOW, SnapshotPin(7, 400, "ab" * 32)))
        await client.close()


async def test_a_silent_signer_is_given_up(socket_path: Path):
    """A vehicle's poll must not hang on a signer that hangs."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    client = SignerClient(socket_path, timeout_s=0.05)
    async with await asyncio.start_unix_server(silent, str(socket_path)):
        with pytest.raises(SignerUnavailableError, match=r"within 0\.05 s"):
            await client.director_files(ASSIGNMENT, VERSIONS)
        assert client._idle == [], "its late answer must not be taken for that of a later request"


async def test_no_signer_at_all_is_said(socket_path: Path, client: SignerClient):
    """The path is in the message: the first thing to look at."""
    with pytest.raises(SignerUnavailableError, match=str(socket_path)):
        await client.director_files(ASSIGNMENT, VERSIONS)
