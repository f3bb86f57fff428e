"""The Image repository's metadata as vehicles get it over gRPC: read from its folder, kept in memory, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp

from orchestrator.model.ids import ReleaseVersion
from orchestrator.service.director import HeldVersions
from signing.roots import root_versions

log = structlog.get_logger()

REFRESH_S = 1.0
TIMESTAMP = "timestamp.json"


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
        self._covered = set[ReleaseVersion]()

    def refresh(self) -> None:
        """Read the folder again if its timestamp changed. Blocking; small files.

        Raises:
            OSError: the folder cannot be read.
            ValueError: a file is not metadata.
            RepositoryError: a file is damaged, or its keys are not those of the newest root (yet).
        """
        timestamp = (self._metadata / TIMESTAMP).read_bytes()
        next_root = self._metadata / f"{max(self._roots, default=0) + 1}.root.json"
        if timestamp == self._files.get(TIMESTAMP) and not next_root.exists():
            return
        version, files = current_files(self._metadata, timestamp)
        roots = {
            number: (self._metadata / f"{number}.root.json").read_bytes() for number in root_versions(self._metadata)
        }
        # A root is published a moment before the timestamp by its keys: what is served must be the one or the other.
        signed = Metadata[Timestamp].from_bytes(timestamp)
        newest = Metadata[Root].from_bytes(roots[max(roots)]).signed
        newest.verify_delegate(Timestamp.type, signed.signed_bytes, signed.signatures)
        self._roots = roots
        self._files = files
        self._timestamp_version = version

    async def cover(self, release: ReleaseVersion) -> None:
        """Read the folder again before the first vehicle is assigned a release, which was registered behind it.

        A vehicle that is assigned an image which the files that it is sent do not list takes that for an attack.

        Args:
            release: That is assigned.
        """
        if release not in self._covered and await self._refreshed():
            self._covered.add(release)

    async def run(self) -> None:
        """Refresh for ever; a folder being written or unreadable leaves the last good state."""
        while True:
            await self._refreshed()
            await asyncio.sleep(REFRESH_S)

    async def _refreshed(self) -> bool:
        try:
            await asyncio.to_thread(self.refresh)
        except (OSError, ValueError, RepositoryError) as error:
            log.warning("image_repository_unreadable", error=str(error))
            return False
        return True

    def newer_than(self, held: HeldVersions) -> Mapping[str, bytes]:
        """Every newer root, and every current file when its timestamp is older, or forgotten behind a root."""
        roots = {f"{number}.root.json": content for number, content in self._roots.items() if number > held.root}
        return roots | (self._files if roots or held.timestamp < self._timestamp_version else {})

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
