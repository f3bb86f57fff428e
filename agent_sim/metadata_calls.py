"""All current metadata of a repository by FetchMetadata, for a vehicle whose poll brought too little.

Owns which names to ask for: each file says what the next one is called. Nothing is believed here: names are hints, and
what came is verified as if a poll had brought it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.messages import MetadataFile, MetadataVersions, Repository

NAMES_PER_CALL_MAX = 16
_ROOTS_MAX = 32
"""A longer chain of rotations is walked in more than one try."""
_ROLES_MAX = 64
_WIRE = {Repository.DIRECTOR: pb.REPOSITORY_DIRECTOR, Repository.IMAGE: pb.REPOSITORY_IMAGE}


class MetadataReader:
    """Reads metadata as one vehicle.

    Args:
        fetch: makes a call.
    """

    def __init__(self, fetch: Callable[[pb.FetchMetadataRequest], Awaitable[pb.FetchMetadataResponse]]) -> None:
        self._call = fetch

    async def read(self, repository: Repository, held: MetadataVersions) -> list[MetadataFile]:
        """Roots above the one held, then timestamp, snapshot, and every targets file that the snapshot names.

        Raises:
            AioRpcError: a call failed, or a file that another one names does not exist.
        """
        roots = await self._roots(repository, held.root)
        try:
            return roots + await self._chain(repository)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            # Signed anew between two calls: what the timestamp named is gone, a later one is there.
            return roots + await self._chain(repository)

    async def _chain(self, repository: Repository) -> list[MetadataFile]:
        files: list[MetadataFile] = []
        names: Sequence[str] = ("timestamp.json",)
        while names:
            found = await self._fetch(repository, names)
            files += found
            names = _names_in(found[0].content) if len(found) == 1 else ()
        return files

    async def _roots(self, repository: Repository, held: int) -> list[MetadataFile]:
        files: list[MetadataFile] = []
        for version in range(held + 1, held + 1 + _ROOTS_MAX):
            try:
                files += await self._fetch(repository, (f"{version}.root.json",))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                break
        return files

    async def _fetch(self, repository: Repository, names: Sequence[str]) -> list[MetadataFile]:
        files = []
        for first in range(0, len(names), NAMES_PER_CALL_MAX):
            request = pb.FetchMetadataRequest(
                repository=_WIRE[repository], names=names[first : first + NAMES_PER_CALL_MAX]
            )
            response = await self._call(request)
            files += [MetadataFile(repository, file.name, file.content) for file in response.files]
        return files


def _names_in(content: bytes) -> tuple[str, ...]:
    """Names of the files that a timestamp or a snapshot lists; none when it is anything else."""
    try:
        signed: Any = json.loads(content)["signed"]
        if signed["_type"] not in ("timestamp", "snapshot"):
            return ()
        return tuple(f"{int(meta['version'])}.{name}" for name, meta in sorted(signed["meta"].items())[:_ROLES_MAX])
    except (ValueError, KeyError, TypeError, AttributeError):
        # Verification will say what is wrong with it.
        return ()
