"""The metadata files of the Image repository, `<path>/metadata/*.json`: read, versioned, signed and written.

Readers need no lock: every file appears whole, and whatever a file refers to is there before it. Writers hold the
folder's lock, which is the caller's matter, as is what the files say. Which keys sign is what the newest root says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from signing.change import published_bytes
from signing.errors import KeyFileError, SigningError
from signing.files import write_atomically
from signing.keys import Secret, environment_secret, signers_of
from signing.names import METADATA_NAME_PATTERN
from signing.roots import root_versions
from signing.tuf_client import keys_rotated
from signing.versions import next_version, require_utc

TARGETS_LIFE = timedelta(days=90)
SNAPSHOT_LIFE = timedelta(days=7)
TIMESTAMP_LIFE = timedelta(hours=24)
AHEAD_MAX = timedelta(days=30)
"""How far versions of honest files may be ahead of the clock: so many more were signed than there were minutes."""

_LIVES: Mapping[str, timedelta] = {"targets": TARGETS_LIFE, "snapshot": SNAPSHOT_LIFE, "timestamp": TIMESTAMP_LIFE}
_S = TypeVar("_S", Root, Targets, Snapshot, Timestamp)


class ImageMetadata:
    """The metadata of one Image repository.

    Args:
        path: The repository's folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.folder = path / "metadata"

    def content(self, name: str) -> bytes | None:
        """The exact bytes of a file, or None when there is no such file."""
        if not METADATA_NAME_PATTERN.fullmatch(name):
            return None
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def current(self, role: str) -> Metadata[Any]:
        """The file of a role that readers see now, with its signatures.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        if role == "timestamp":
            return self._file("timestamp.json")
        if role == "root":
            return self._file(f"{self.root_version()}.root.json")
        timestamp: Timestamp = self._file("timestamp.json").signed
        snapshot = self._file(f"{timestamp.snapshot_meta.version}.snapshot.json")
        if role == "snapshot":
            return snapshot
        return self._file(f"{snapshot.signed.meta['targets.json'].version}.targets.json")

    def load(self, role: str, kind: type[_S]) -> _S:
        """What the file of a role says that readers see now.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        signed = self.current(role).signed
        if not isinstance(signed, kind):
            raise SigningError(f"the {role} in {self.folder} is {signed.type} metadata")
        return signed

    def root_version(self) -> int:
        """The version of the newest root; 0 when there is none."""
        return max(root_versions(self.folder), default=0)

    def release(
        self, targets: Targets, snapshot: Snapshot, timestamp: Timestamp, keys_folder: Path, now: datetime
    ) -> None:
        """Sign and write all three; each refers to the one before it."""
        snapshot.meta["targets.json"] = self.sign(targets, keys_folder, now)
        timestamp.snapshot_meta = self.sign(snapshot, keys_folder, now)
        self.sign(timestamp, keys_folder, now)

    def sign(self, signed: Targets | Snapshot | Timestamp, keys_folder: Path, now: datetime) -> MetaFile:
        """Sign and write one file under its next version; what it refers to is written already.

        Raises:
            KeyFileError: A key that is needed is missing.
        """
        return self._sign(signed, self._signers(signed.type, keys_folder, self.current("root").signed), now)

    def adopt(
        self,
        before: Root,
        root: Metadata[Root],
        targets: Metadata[Targets] | None,
        keys_folder: Path,
        now: datetime,
        *,
        secret: Secret = environment_secret,
    ) -> tuple[str, ...]:
        """Take over a root that was signed elsewhere, with targets if they were, and sign what is signed online anew.

        The timestamp is written last, right behind the root: who reads in between refuses what it gets and reads again.
        Cut short, it is simply repeated.

        Args:
            before: The root before, whose keys sign the new one.
            root: The root from now on; may be the one in force.
            targets: New ones; None leaves those that are published.
            keys_folder: Holds the keys of snapshot and timestamp that `root` names.
            now: Fleet time, UTC.
            secret: Asked for encrypted keys.

        Returns:
            The roles that were signed anew by keys in the folder.

        Raises:
            KeyFileError: A key that is needed is missing; nothing was changed.
        """
        now, after = require_utc(now), root.signed
        due = self._due(before, after, targets is not None)
        signers = {role: self._signers(role, keys_folder, after, secret) for role in due}
        snapshot, timestamp = self.load("snapshot", Snapshot), self.load("timestamp", Timestamp)
        if keys_rotated(before, after):
            self._forget_fast_forward(snapshot, timestamp, now)
        if targets is not None:
            snapshot.meta["targets.json"] = self._write(targets, published_bytes(targets, after))
        if "snapshot" in due:
            timestamp.snapshot_meta = self._sign(snapshot, signers["snapshot"], now)
        self._write(root, published_bytes(root, before))
        if "timestamp" in due:
            self._sign(timestamp, signers["timestamp"], now)
        return due

    def _due(self, before: Root, after: Root, targets_too: bool) -> tuple[str, ...]:
        """What is to be signed online once `after` is in force: each file that it, or one it refers to, changes."""
        if targets_too or keys_rotated(before, after) or not self._holds("snapshot", after):
            return ("snapshot", "timestamp")
        return () if self._holds("timestamp", after) else ("timestamp",)

    def _holds(self, role: str, root: Root) -> bool:
        file = self.current(role)
        return root.get_verification_result(role, file.signed_bytes, file.signatures).verified

    def _signers(
        self, role: str, keys_folder: Path, root: Root, secret: Secret = environment_secret
    ) -> list[CryptoSigner]:
        signers, needed = signers_of(keys_folder, role, root, secret), root.roles[role].threshold
        if len(signers) < needed:
            raise KeyFileError(
                f"{role} of the Image repository takes {needed} keys, {len(signers)} of them in {keys_folder}: bring "
                "the others here"
            )
        return signers[:needed]

    def _sign(self, signed: Targets | Snapshot | Timestamp, signers: list[CryptoSigner], now: datetime) -> MetaFile:
        signed.version = next_version(max(signed.version, self._highest(signed.type)), now)
        signed.expires = now + _LIVES[signed.type]
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return self._write(metadata, metadata.to_bytes(JSONSerializer(compact=True)))

    def _write(self, file: Metadata[Any], data: bytes) -> MetaFile:
        version, role = file.signed.version, file.signed.type
        write_atomically(self.folder / ("timestamp.json" if role == "timestamp" else f"{version}.{role}.json"), data)
        return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _forget_fast_forward(self, snapshot: Snapshot, timestamp: Timestamp, now: datetime) -> None:
        """Start again from the clock where a thief of the old keys has driven versions up, as vehicles do.

        The thief's snapshots are moved to `<path>/set-aside`, for evidence: their names would be in the way.
        """
        plausible = next_version(0, now + AHEAD_MAX)
        for signed in (snapshot, timestamp):
            if signed.version > plausible:
                signed.version = 0
        for version in [version for version in self._versions("snapshot") if version > plausible]:
            aside = self._path / "set-aside"
            aside.mkdir(exist_ok=True)
            name = f"{version}.snapshot.json"
            write_atomically(aside / name, (self.folder / name).read_bytes())
            (self.folder / name).unlink()

    def _highest(self, role: str) -> int:
        """The highest version of `role` in the folder, listed or not: a publication may have been cut short."""
        return 0 if role == "timestamp" else max(self._versions(role), default=0)

    def _versions(self, role: str) -> list[int]:
        names = (path.name for path in self.folder.glob(f"*.{role}.json"))
        return [int(name.partition(".")[0]) for name in names if METADATA_NAME_PATTERN.fullmatch(name)]

    def _file(self, name: str) -> Metadata[Any]:
        data = self.content(name)
        if data is None:
            raise SigningError(f"{self.folder / name} is missing; `outrider keys init` makes a repository")
        try:
            metadata: Metadata[Any] = Metadata.from_bytes(data)
        except RepositoryError as exc:
            raise SigningError(f"{self.folder / name} is damaged: {exc}") from exc
        if metadata.signed.type != name.removesuffix(".json").rpartition(".")[2]:
            raise SigningError(f"{self.folder / name} is {metadata.signed.type} metadata")
        return metadata


def past_half_life(signed: Signed, now: datetime) -> bool:
    """Whether a file of a role that signs by itself is due."""
    return now >= signed.expires - _LIVES[signed.type] / 2
