"""The Image repository as a folder of static files: which images exist, and who released them.

Owns `<path>/targets/<sha256>.<name>`, `<path>/evidence/<sha256>.json`, and what `<path>/metadata` says
(`image_metadata` signs and writes it). Readers need no lock; writers take the folder's. Only the keys that a step needs
are loaded; the orchestrator reads this folder and reaches none of the keys. What may be published is `publication`'s
matter, serving the files the web edge's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Snapshot, TargetFile, Targets, Timestamp

from signing.attestation import ATTEST, Attesters, attesters_of, with_attesters
from signing.deltas import Delta, is_delta, read_delta
from signing.errors import ImageRefusedError, SigningError
from signing.files import copy_atomically, exclusive, write_atomically
from signing.image_metadata import SNAPSHOT_LIFE, TARGETS_LIFE, TIMESTAMP_LIFE, ImageMetadata, past_half_life
from signing.key_names import named
from signing.keys import load_signer
from signing.names import SHA256_PATTERN, image_file_name
from signing.publication import (
    NewDelta,
    NewImage,
    TargetInfo,
    check_deltas,
    check_publication,
    delta_entry,
    entry_to_list,
    image_fault,
    images_in,
    signed_fields,
    target_info,
    with_useful_deltas,
)
from signing.roots import first_root
from signing.tuf_client import IMAGE_CAPS, HeldFiles, RefreshError, TrustedFiles, refresh
from signing.versions import MetadataVersions, require_utc

__all__ = ["SNAPSHOT_LIFE", "TARGETS_LIFE", "TIMESTAMP_LIFE", "ImageRepository", "NewDelta", "NewImage", "TargetInfo"]


class ImageRepository:
    """One Image repository.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.metadata = ImageMetadata(path)
        """Its metadata files; who writes them holds the folder's lock."""
        self._targets = path / "targets"
        self._evidence = path / "evidence"

    @classmethod
    def create(cls, path: Path, keys_folder: Path, now: datetime) -> ImageRepository:
        """Make an empty repository with root version 1.

        Args:
            path: Its folder; created if need be.
            keys_folder: Holds the keys of all roles; without one of `attest` nobody has to vouch for images.
            now: Fleet time, UTC.

        Raises:
            SigningError: There is one already.
            KeyFileError: A key is missing.
        """
        repository = cls(path)
        if repository.metadata.folder.exists():
            raise SigningError(f"{path} holds an Image repository already; nothing was changed")
        root = first_root(keys_folder, now)
        repository.metadata.folder.mkdir(parents=True)
        repository._targets.mkdir(exist_ok=True)
        write_atomically(repository.metadata.folder / "1.root.json", root)
        targets = Targets(version=1)
        if (keys_folder / f"{ATTEST}.pem").exists():
            with_attesters(targets, [named(load_signer(keys_folder, ATTEST).public_key, ATTEST)])
        with exclusive(path):
            repository.metadata.release(
                targets, Snapshot(version=1), Timestamp(version=1), keys_folder, require_utc(now)
            )
        return repository

    def publish(
        self, images: Sequence[NewImage], keys_folder: Path, now: datetime, *, deltas: Sequence[NewDelta] = ()
    ) -> list[TargetInfo]:
        """Take in images and sign them; images first, then targets, snapshot, timestamp.

        Publishing the same again changes nothing, so a publication that was cut short is simply repeated; but targets
        past half of their life are signed anew by any publication.

        Args:
            images: What to publish; all of it or nothing is listed.
            keys_folder: Holds the keys of targets, snapshot and timestamp.
            now: Fleet time, UTC.
            deltas: Other ways to these images; those that are listed already stay as they are.

        Returns:
            What the repository lists now, one for each of `images`.

        Raises:
            ImageRefusedError: An odd name, other bytes under a path that is taken, a lower release counter, a delta
                between images that are not listed.
            KeyFileError: A key is missing.
        """
        now = require_utc(now)
        with exclusive(self._path):
            current = self.metadata.load("targets", Targets)
            entries = [self._entry(image) for image in images]
            check_publication(images, entries, current)
            fresh = {
                image.path: entry_to_list(image, entry, current.targets.get(image.path))
                for image, entry in zip(images, entries, strict=True)
            }
            check_deltas(deltas, current.targets | fresh)
            short = {delta.path: delta_entry(delta) for delta in deltas if delta.path not in current.targets}
            wanted = with_useful_deltas(current.targets | fresh | short)
            files = {image.path: image.file for image in images} | {delta.path: delta.file for delta in deltas}
            for path, entry in (fresh | short).items():
                if path in wanted:
                    self._take_in(files[path], entry)
            for image in images:
                self._keep_evidence(image)
            if wanted != current.targets or past_half_life(current, now):
                current.targets = wanted
                snapshot, timestamp = (
                    self.metadata.load("snapshot", Snapshot),
                    self.metadata.load("timestamp", Timestamp),
                )
                self.metadata.release(current, snapshot, timestamp, keys_folder, now)
            return [target_info(image.path, current.targets[image.path], current.version) for image in images]

    def renew(self, keys_folder: Path, now: datetime) -> tuple[str, ...]:
        """Sign timestamp and snapshot again where half of their life is over. Targets and root need offline keys.

        Args:
            keys_folder: Holds the keys of timestamp and snapshot; the latter is read only when due.
            now: Fleet time, UTC.

        Returns:
            The roles that were signed again, each under a higher version.

        Raises:
            KeyFileError: A key that is needed is missing.
        """
        now = require_utc(now)
        with exclusive(self._path):
            snapshot, timestamp = self.metadata.load("snapshot", Snapshot), self.metadata.load("timestamp", Timestamp)
            renewed = []
            if past_half_life(snapshot, now):
                timestamp.snapshot_meta = self.metadata.sign(snapshot, keys_folder, now)
                renewed.append("snapshot")
            if renewed or past_half_life(timestamp, now):
                self.metadata.sign(timestamp, keys_folder, now)
                renewed.append("timestamp")
            return tuple(renewed)

    def metadata_file(self, name: str) -> bytes | None:
        """The exact bytes of a metadata file, or None when there is no such file."""
        return self.metadata.content(name)

    def image_file(self, path: str, sha256: str) -> Path:
        """Where the bytes of a published image are."""
        return self._targets / image_file_name(path, sha256)

    def evidence(self, sha256: str) -> bytes | None:
        """A file that stands behind an image, by its hex digest; None when it is missing or was changed."""
        if not SHA256_PATTERN.fullmatch(sha256):
            return None
        try:
            data = (self._evidence / f"{sha256}.json").read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def attesters(self) -> Attesters | None:
        """Who may vouch for images, by the targets that readers see now; None when nobody was ever named.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        return attesters_of(self.metadata.load("targets", Targets))

    def versions(self) -> MetadataVersions:
        """The versions that a reader finds now.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        timestamp, snapshot = self.metadata.load("timestamp", Timestamp), self.metadata.load("snapshot", Snapshot)
        return MetadataVersions(
            root=self.metadata.root_version(),
            timestamp=timestamp.version,
            snapshot=snapshot.version,
            targets=snapshot.meta["targets.json"].version,
        )

    def expiries(self) -> dict[str, datetime]:
        """When each of the four files expires, fleet time.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        return {
            role: self.metadata.current(role).signed.expires for role in ("root", "targets", "snapshot", "timestamp")
        }

    def verified_target(self, path: str, now: datetime) -> TargetInfo | None:
        """What image the repository lists under `path`, after verifying it as a vehicle would, from root version 1 on.

        Args:
            path: Target path.
            now: Fleet time, UTC.

        Returns:
            The entry, or None when none is listed.

        Raises:
            VerificationError: The repository would be refused by vehicles.
            SigningError: It is missing.
        """
        trusted = self._verified(now, path)
        found = trusted.found[path]
        return target_info(path, found, trusted.targets.version) if found and not is_delta(path) else None

    def verified_targets(self, now: datetime) -> list[TargetInfo]:
        """All images that the repository's own targets list, verified as by `verified_target`; without delegated ones.

        Args:
            now: Fleet time, UTC.

        Raises:
            VerificationError: The repository would be refused by vehicles.
            SigningError: It is missing.
        """
        targets = self._verified(now).targets
        return [target_info(path, target, targets.version) for path, target in images_in(targets.targets).items()]

    def listed(self) -> list[TargetInfo]:
        """All images that the targets list on which the next publication builds, whether they have expired or not.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        targets = self.metadata.load("targets", Targets)
        return [target_info(path, target, targets.version) for path, target in images_in(targets.targets).items()]

    def verified_deltas(self, now: datetime) -> list[Delta]:
        """All deltas that the repository's own targets list, verified likewise.

        Args:
            now: Fleet time, UTC.

        Raises:
            VerificationError: The repository would be refused by vehicles.
            SigningError: It is missing.
        """
        listed = self._verified(now).targets.targets.items()
        return [delta for path, target in listed if (delta := read_delta(path, target)) is not None]

    def _verified(self, now: datetime, *find: str) -> TrustedFiles:
        bootstrap = self.metadata_file("1.root.json")
        if bootstrap is None:
            raise SigningError(f"{self._path} holds no Image repository")
        try:
            return refresh(
                bootstrap=bootstrap,
                held=HeldFiles(),
                offered=self.metadata_file,
                caps=IMAGE_CAPS,
                now=require_utc(now),
                find=dict.fromkeys(find, ()),
            )
        except RefreshError as exc:
            raise exc.reason from exc

    def _entry(self, image: NewImage) -> TargetFile:
        if fault := image_fault(image):
            raise ImageRefusedError(f"image {image.path[:80]!r}: {fault}")
        try:
            entry = TargetFile.from_file(image.path, str(image.file), ["sha256"])
        except OSError as exc:
            raise ImageRefusedError(f"image {image.path!r}: cannot read {image.file}: {exc.strerror}") from exc
        entry.unrecognized_fields["custom"] = signed_fields(image)
        return entry

    def _keep_evidence(self, image: NewImage) -> None:
        for data in image.documents:
            self._evidence.mkdir(exist_ok=True)
            kept = self._evidence / f"{hashlib.sha256(data).hexdigest()}.json"
            if not kept.exists() or kept.read_bytes() != data:
                write_atomically(kept, data)

    def _take_in(self, file: Path, entry: TargetFile) -> None:
        stored = self._targets / image_file_name(entry.path, entry.hashes["sha256"])
        if not stored.exists():
            copy_atomically(file, stored)
            _check_stored(stored, entry)


def _check_stored(stored: Path, entry: TargetFile) -> None:
    """The source may have changed between hashing and copying."""
    with stored.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.hashes["sha256"]:
        stored.unlink()
        raise ImageRefusedError(f"{entry.path!r} changed while it was published; nothing was listed")
