"""The Image repository as a folder of static files: which images exist, and who released them.

Owns `<path>/targets/<sha256>.<name>`, `<path>/evidence/<sha256>.json`, and what `<path>/metadata` says
(`image_metadata` signs and writes it). Readers need no lock; writers take the folder's. Only the keys that a step needs
are loaded; the orchestrator reads this folder and reaches none of the keys. What may be published is `publication`'s
matter, serving the files the web edge's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from tuf.api.metadata import Snapshot, TargetFile, Targets, Timestamp

from signing.attestation import ATTEST, Attesters, attesters_of, with_attesters
from signing.deltas import Delta, is_delta, read_delta
from signing.errors import ImageRefusedError, SigningError, VerificationError
from signing.fetched_images import FetchedImages
from signing.files import exclusive, write_atomically
from signing.image_metadata import SNAPSHOT_LIFE, TARGETS_LIFE, TIMESTAMP_LIFE, ImageMetadata, past_half_life
from signing.image_store import FolderStore, ImageStore
from signing.key_names import named
from signing.keys import load_signer
from signing.match import read_shall_match
from signing.names import SHA256_PATTERN, image_file_name
from signing.publication import (
    NewDelta,
    NewImage,
    TargetInfo,
    check_deltas,
    check_publication,
    delta_entry,
    entry_to_list,
    evidence_of,
    images_in,
    new_entry,
    target_info,
    with_useful_deltas,
)
from signing.quorums import IMAGE, Quorums, key_names
from signing.roots import first_root
from signing.tuf_client import IMAGE_CAPS, HeldFiles, RefreshError, TrustedFiles, refresh
from signing.versions import MetadataVersions, require_utc

__all__ = ["SNAPSHOT_LIFE", "TARGETS_LIFE", "TIMESTAMP_LIFE", "ImageRepository", "NewDelta", "NewImage", "TargetInfo"]


class ImageRepository:
    """One Image repository.

    Args:
        path: Its folder.
        images: Where the bytes of images lie; None for `<path>/targets`.
    """

    def __init__(self, path: Path, images: ImageStore | None = None) -> None:
        self._path = path
        self.metadata = ImageMetadata(path)
        """Its metadata files; who writes them holds the folder's lock."""
        self.images = images or FolderStore(path / "targets")
        """Where the bytes of images lie."""
        self.fetched = FetchedImages(path / "fetched", self.images)
        """What of them is needed as files."""
        self._evidence = path / "evidence"

    @classmethod
    def create(cls, path: Path, keys_folder: Path, now: datetime, quorums: Quorums = IMAGE) -> ImageRepository:
        """Make an empty repository with root version 1.

        Args:
            path: Its folder; created if need be.
            keys_folder: Holds the keys of all roles; without one of `attest` nobody has to vouch for images.
            now: Fleet time, UTC.
            quorums: How many keys each role has, and how many must sign.

        Raises:
            SigningError: There is one already.
            KeyFileError: A key is missing.
        """
        repository = cls(path)
        if repository.metadata.folder.exists():
            raise SigningError(f"{path} holds an Image repository already; nothing was changed")
        root = first_root(keys_folder, now, quorums)
        repository.metadata.folder.mkdir(parents=True)
        (path / "targets").mkdir(exist_ok=True)
        write_atomically(repository.metadata.folder / "1.root.json", root)
        targets = Targets(version=1)
        if (keys_folder / f"{ATTEST}.pem").exists():
            names = key_names(ATTEST, quorums[ATTEST])
            keys = [named(load_signer(keys_folder, name).public_key, name) for name in names]
            with_attesters(targets, keys, quorums[ATTEST].threshold)
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
        past half of their life are signed anew by any publication. What a supplier lists already is not listed twice.

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
            supplied = self._supplied()
            entries = [new_entry(image) for image in images]
            check_publication(images, entries, supplied | current.targets)
            found = {
                image.path: entry_to_list(image, entry, (supplied | current.targets).get(image.path))
                for image, entry in zip(images, entries, strict=True)
            }
            fresh = {path: entry for path, entry in found.items() if path not in supplied}
            check_deltas(deltas, supplied | current.targets | fresh)
            short = {delta.path: delta_entry(delta) for delta in deltas if delta.path not in current.targets}
            wanted = with_useful_deltas(current.targets | fresh | short, supplied)
            files = {image.path: image.file for image in images} | {delta.path: delta.file for delta in deltas}
            for path, entry in (fresh | short).items():
                if path in wanted:
                    self._take_in(files[path], entry)
            for image in images:
                self._keep_evidence(image)
            beside = [path for path, entry in found.items() if path in supplied and self._keep_beside(images, entry)]
            if wanted != current.targets or past_half_life(current, now):
                current.targets = wanted
                snapshot, timestamp = (
                    self.metadata.load("snapshot", Snapshot),
                    self.metadata.load("timestamp", Timestamp),
                )
                self.metadata.release(current, snapshot, timestamp, keys_folder, now)
            elif beside:
                # Who keeps verdicts looks again when the timestamp is another.
                self.metadata.sign(self.metadata.load("timestamp", Timestamp), keys_folder, now)
            return [target_info(path, entry, current.version) for path, entry in found.items()]

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
        """Where the bytes of a published image are; from a bucket they are fetched first.

        Raises:
            ImageStoreError: The bucket cannot be read.
        """
        return self.fetched.file(image_file_name(path, sha256))

    def evidence(self, sha256: str) -> bytes | None:
        """A file that stands behind an image, by its hex digest; None when it is missing or was changed."""
        if not SHA256_PATTERN.fullmatch(sha256):
            return None
        try:
            data = (self._evidence / f"{sha256}.json").read_bytes()
        except FileNotFoundError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def evidence_of(self, target: TargetFile) -> Mapping[str, str]:
        """Hex digests of the files that stand behind an image, by kind.

        A supplier's list is the supplier's, so that what we took in with its image stands beside it, unsigned: the
        summary among it is signed, and says what else there is.
        """
        return evidence_of(target) or self._beside(target)

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
        """When each of the four files expires, and each supplier's list, fleet time.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        files = {role: self.metadata.current(role) for role in ("root", "snapshot", "timestamp")}
        return {role: file.signed.expires for role, file in (files | self.metadata.listings()).items()}

    def take_in(self, entries: Sequence[TargetFile], folder: Path | None) -> None:
        """Store the bytes of images that a supplier lists; those that are here already are left as they are.

        Args:
            entries: As they are signed.
            folder: Where the files are, by the last part of their paths; None where none is brought.

        Raises:
            ImageRefusedError: A file is not there, or has other bytes.
        """
        for entry in entries:
            name = entry.path.rpartition("/")[2]
            if self.images.size(image_file_name(entry.path, entry.hashes["sha256"])) == entry.length:
                continue
            file = folder / name if folder else None
            if file is None or not file.is_file():
                raise ImageRefusedError(f"the image {entry.path!r} is not here: bring {name} and say in which folder")
            if file.stat().st_size != entry.length:
                raise ImageRefusedError(f"{file} has {file.stat().st_size} bytes, {entry.length} were signed")
            self._take_in(file, entry)

    def verified_target(self, path: str, now: datetime, hardware_ids: Sequence[str] = ()) -> TargetInfo | None:
        """What image the repository lists under `path`, after verifying it as a vehicle would, from root version 1 on.

        Args:
            path: Target path.
            now: Fleet time, UTC.
            hardware_ids: What the image is for, so that suppliers are asked for their own hardware only.

        Returns:
            The entry, or None when none is listed.

        Raises:
            VerificationError: The repository would be refused by vehicles.
            SigningError: It is missing.
        """
        trusted = self._verified(now, {path: tuple(hardware_ids)})
        found = trusted.found[path]
        return target_info(path, found, trusted.targets.version) if found and not is_delta(path) else None

    def verified_targets(self, now: datetime) -> list[TargetInfo]:
        """All images that vehicles find, verified as by `verified_target`; none of a supplier that they refuse.

        Args:
            now: Fleet time, UTC.

        Raises:
            VerificationError: The repository would be refused by vehicles.
            SigningError: It is missing.
        """
        targets = self._verified(now).targets
        images = dict(images_in(targets.targets))
        for role, file in self.metadata.listings().items():
            if role == Targets.type:
                continue
            listed = file.signed.targets.items()
            try:
                paths = {path: read_shall_match(path, target).hardware_ids for path, target in listed}
                found = self._verified(now, paths).found
            except VerificationError:
                continue  # `keys status` and /metrics tell of a list that has expired
            images |= {path: target for path, target in found.items() if target is not None}
        return [target_info(path, target, targets.version) for path, target in images.items()]

    def listed(self) -> list[TargetInfo]:
        """All images of the lists on which the next publication builds, whether they have expired or not.

        Raises:
            SigningError: The repository is missing or damaged.
        """
        targets = self.metadata.load("targets", Targets)
        images = images_in(self._supplied() | targets.targets).items()
        infos = ((target, target_info(path, target, targets.version)) for path, target in images)
        return [replace(info, evidence=self.evidence_of(target)) for target, info in infos]

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

    def _verified(self, now: datetime, find: Mapping[str, tuple[str, ...]] = MappingProxyType({})) -> TrustedFiles:
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
                find=find,
            )
        except RefreshError as exc:
            raise exc.reason from exc

    def _supplied(self) -> dict[str, TargetFile]:
        """What suppliers list, by path."""
        listings = self.metadata.listings()
        listings.pop(Targets.type)
        return {path: entry for file in listings.values() for path, entry in file.signed.targets.items()}

    def _keep_evidence(self, image: NewImage) -> None:
        for data in image.documents:
            self._evidence.mkdir(exist_ok=True)
            kept = self._evidence / f"{hashlib.sha256(data).hexdigest()}.json"
            if not kept.exists() or kept.read_bytes() != data:
                write_atomically(kept, data)

    def _keep_beside(self, images: Sequence[NewImage], entry: TargetFile) -> bool:
        """Note what stands behind a supplier's image; whether that is news."""
        image = next(image for image in images if image.path == entry.path)
        digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in image.evidence.items()}
        if not digests or digests == self._beside(entry):
            return False
        self._evidence.mkdir(exist_ok=True)
        write_atomically(self._beside_file(entry), json.dumps(digests, sort_keys=True).encode())
        return True

    def _beside(self, target: TargetFile) -> Mapping[str, str]:
        try:
            value = json.loads(self._beside_file(target).read_bytes())
        except (FileNotFoundError, ValueError, VerificationError):
            return {}
        return value if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()) else {}

    def _beside_file(self, target: TargetFile) -> Path:
        hardware_id = read_shall_match(target.path, target).hardware_ids[0]
        return self._evidence / f"of-{target.hashes['sha256']}-{hardware_id}.json"

    def _take_in(self, file: Path, entry: TargetFile) -> None:
        sha256 = entry.hashes["sha256"]
        self.images.put(image_file_name(entry.path, sha256), file, sha256)
