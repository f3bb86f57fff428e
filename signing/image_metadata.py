"""The metadata files of the Image repository, `<path>/metadata/*.json`: read, versioned, signed and written.

Readers need no lock: every file appears whole, and whatever a file refers to is there before it. Writers hold the
folder's lock, which is the caller's matter, as is what the files say. Which keys sign is what the newest root says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from signing.change import published_bytes, root_bytes
from signing.delegations import suppliers_in
from signing.errors import KeyFileError, SigningError
from signing.files import write_atomically
from signing.key_folder import signers_of
from signing.key_sources import did_not_sign
from signing.keys import Secret, environment_secret
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
        listed = snapshot.signed.meta.get(f"{role}.json")
        if listed is None:
            raise SigningError(f"{self.folder} has no list of images of {role}")
        return self._file(f"{listed.version}.{role}.json")

    def listings(self) -> dict[str, Metadata[Targets]]:
        """Every list of images that readers see now, by role: `targets` first, then suppliers in order of trust.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        found: dict[str, Metadata[Targets]] = {}
        to_visit = ["targets"]
        while to_visit:
            role = to_visit.pop(0)
            if role not in found:
                found[role] = self.current(role)
                to_visit += suppliers_in(found[role].signed.delegations)
        return found

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
        listings: Mapping[str, tuple[Metadata[Targets], Collection[str]]],
        keys_folder: Path,
        now: datetime,
        *,
        secret: Secret = environment_secret,
    ) -> tuple[str, ...]:
        """Take over what was signed elsewhere, a root and lists of images, and sign what is signed online anew.

        The timestamp is written last, right behind the root: who reads in between refuses what it gets and reads again.
        Cut short, it is simply repeated.

        Args:
            before: The root before, whose keys sign the new one.
            root: The root from now on; may be the one in force.
            listings: New lists of images, by role, each with the ids of the keys that have a say in it.
            keys_folder: Holds the keys of snapshot and timestamp that `root` names.
            now: Fleet time, UTC.
            secret: Asked for encrypted keys.

        Returns:
            The roles that were signed anew by keys in the folder.

        Raises:
            KeyFileError: A key that is needed is missing; nothing was changed.
        """
        now, after = require_utc(now), root.signed
        due = self._due(before, after, bool(listings))
        signers = {role: self._signers(role, keys_folder, after, secret) for role in due}
        snapshot, timestamp = self.load("snapshot", Snapshot), self.load("timestamp", Timestamp)
        for role, (file, keyids) in listings.items():
            snapshot.meta[f"{role}.json"] = self._write(file, published_bytes(file, keyids), role)
        if keys_rotated(before, after):
            self._forget_fast_forward(snapshot, timestamp, now)
            self._forget_suppliers(snapshot)
        if "snapshot" in due:
            timestamp.snapshot_meta = self._sign(snapshot, signers["snapshot"], now)
        if root.signed_bytes != self.current("root").signed_bytes:  # else it has signatures of the keys before as well
            self._write(root, root_bytes(root, before), "root")
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

    def _signers(self, role: str, keys_folder: Path, root: Root, secret: Secret = environment_secret) -> list[Signer]:
        signers, needed = signers_of(keys_folder, role, root, secret), root.roles[role].threshold
        if len(signers) < needed:
            raise KeyFileError(
                f"{role} of the Image repository takes {needed} keys, {len(signers)} of them in {keys_folder}: bring "
                "the others here"
            )
        return signers[:needed]

    def _sign(self, signed: Targets | Snapshot | Timestamp, signers: list[Signer], now: datetime) -> MetaFile:
        signed.version = next_version(max(signed.version, self._highest(signed.type)), now)
        signed.expires = now + _LIVES[signed.type]
        metadata: Metadata[Any] = Metadata(signed)
        for signer in signers:
            try:
                metadata.sign(signer, append=True)
            except UnsignedMetadataError as exc:  # tokens and services fail in ways of their own
                raise KeyFileError(did_not_sign(signer, exc.__cause__ or exc)) from exc
        return self._write(metadata, metadata.to_bytes(JSONSerializer(compact=True)), signed.type)

    def _write(self, file: Metadata[Any], data: bytes, role: str) -> MetaFile:
        version = file.signed.version
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

    def _forget_suppliers(self, snapshot: Snapshot) -> None:
        """Leave out the lists of suppliers that nobody trusts any more: whoever holds the old snapshot forgets it.

        At any other time vehicles take it for an attack when a file is listed no longer.
        Source: Uptane 2.1.0, Deployment Best Practices, removal of a delegated role.
        """
        trusted, to_visit = set[str](), ["targets"]
        while to_visit:
            role = to_visit.pop(0)
            meta = snapshot.meta.get(f"{role}.json")
            if role in trusted or meta is None:
                continue
            trusted.add(role)
            to_visit += suppliers_in(self._file(f"{meta.version}.{role}.json").signed.delegations)
        snapshot.meta = {name: meta for name, meta in snapshot.meta.items() if name.removesuffix(".json") in trusted}

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
        role = name.removesuffix(".json").rpartition(".")[2]
        if metadata.signed.type != (role if role in ("root", "snapshot", "timestamp") else "targets"):
            raise SigningError(f"{self.folder / name} is {metadata.signed.type} metadata")
        return metadata


def past_half_life(signed: Signed, now: datetime) -> bool:
    """Whether a file of a role that signs by itself is due."""
    return now >= signed.expires - _LIVES[signed.type] / 2
