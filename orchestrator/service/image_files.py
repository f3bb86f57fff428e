"""The Image repository's metadata as vehicles get it over gRPC: read from its folder, kept in memory, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Timestamp

log = structlog.get_logger()

REFRESH_S = 1.0
TIMESTAMP = "timestamp.json"
TARGETS = "targets.json"


class HeldVersions(Protocol):
    """Versions that a vehicle holds."""

    @property
    def root(self) -> int: ...  # noqa: D102 - named by the protocol's docstring
    @property
    def timestamp(self) -> int: ...  # noqa: D102


class ImageFiles:
    """Serves the current metadata files of one Image repository folder.

    Args:
        metadata: folder with `timestamp.json`, `<n>.snapshot.json`, `<n>.targets.json` and `<n>.root.json`.
    """

    def __init__(self, metadata: Path) -> None:
        self._metadata = metadata
        self._files: dict[str, bytes] = {}
        self._roots: dict[int, bytes] = {}
        self._timestamp_version = 0
        self._targets_version = 0

    def refresh(self) -> None:
        """Read the folder again if its timestamp changed. Blocking; small files.

        Raises:
            OSError: the folder cannot be read.
            ValueError: a file is not metadata.
        """
        timestamp = (self._metadata / TIMESTAMP).read_bytes()
        if timestamp == self._files.get(TIMESTAMP):
            return
        version, files = current_files(self._metadata, timestamp)
        self._roots = {int(path.name.split(".")[0]): path.read_bytes() for path in self._metadata.glob("*.root.json")}
        self._files = files
        self._timestamp_version = version
        self._targets_version = max(int(name.split(".")[0]) for name in files if name.endswith(f".{TARGETS}"))

    async def cover(self, targets_version: int) -> None:
        """Read the folder again if what is served is older than these targets.

        A vehicle that is assigned an image which the targets it is sent do not list takes that for an attack.

        Args:
            targets_version: That a release was checked against when it was registered.
        """
        if self._targets_version < targets_version:
            await self._refreshed()

    async def run(self) -> None:
        """Refresh for ever; a folder being written or unreadable leaves the last good state."""
        while True:
            await self._refreshed()
            await asyncio.sleep(REFRESH_S)

    async def _refreshed(self) -> None:
        try:
            await asyncio.to_thread(self.refresh)
        except (OSError, ValueError, RepositoryError) as error:
            log.warning("image_repository_unreadable", error=str(error))

    def newer_than(self, held: HeldVersions) -> Mapping[str, bytes]:
        """Every current file, when the vehicle's timestamp is older, and every newer root."""
        roots = {f"{number}.root.json": content for number, content in self._roots.items() if number > held.root}
        return roots | (self._files if held.timestamp < self._timestamp_version else {})

    def named(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Files by name; unknown names are absent."""
        roots = {f"{number}.root.json": content for number, content in self._roots.items()}
        everything = self._files | roots
        return {name: everything[name] for name in names if name in everything}


def current_files(metadata: Path, timestamp: bytes) -> tuple[int, dict[str, bytes]]:
    """Follow timestamp to snapshot to targets; the version of the timestamp and the files by name.

    Raises:
        OSError: a file that is listed cannot be read.
        ValueError: a file is not metadata.
    """
    files = {TIMESTAMP: timestamp}
    signed = Metadata[Timestamp].from_bytes(timestamp).signed
    snapshot_name = f"{signed.snapshot_meta.version}.snapshot.json"
    files[snapshot_name] = (metadata / snapshot_name).read_bytes()
    for name, meta in Metadata[Snapshot].from_bytes(files[snapshot_name]).signed.meta.items():
        versioned = f"{meta.version}.{name}"
        files[versioned] = (metadata / versioned).read_bytes()
    return signed.version, files
