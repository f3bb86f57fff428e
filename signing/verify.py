"""Full verification as a vehicle's Primary does it: both repositories, their match, and time that never goes back.

TUF's own rules are python-tuf's (`tuf_client`), Uptane's additions are `match`, persistence is `held`; this module
puts them in order. All or nothing: a bundle that fails any check leaves what is held as it was, except for new roots,
which rest on offline keys alone. Downloading files and images, and deciding when to install, is the agent's business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from signing.deltas import Delta, delta_path, read_delta
from signing.errors import AttackCode, MissingFileError, VerificationError
from signing.held import Held, load_held, save_held
from signing.match import (
    InstalledImage,
    VerifiedImage,
    bound_to,
    check_bound,
    check_counters,
    check_director_targets,
    check_match,
    check_pinned,
    read_shall_match,
)
from signing.roots import check_delegation_keys, check_root_keys
from signing.time_floor import CLOCK_SLACK, believed_time
from signing.tuf_client import (
    DIRECTOR_CAPS,
    FAST_FORWARDED,
    IMAGE_CAPS,
    Caps,
    HeldFile,
    HeldFiles,
    RefreshError,
    TrustedFiles,
    keys_rotated,
    parse_offered,
    refresh,
)
from signing.versions import MetadataVersions

__all__ = ["InstalledImage", "PrimaryVerifier", "VerifiedBundle", "VerifiedImage", "check_image"]

Repository = Literal["director", "image"]
Files = Mapping[tuple[str, str], bytes]

MAX_FILES = 128
"""Most files that one verification takes."""

_CAPS: Mapping[str, Caps] = {"director": DIRECTOR_CAPS, "image": IMAGE_CAPS}


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """What the vehicle may install; no images means nothing to do."""

    images: tuple[VerifiedImage, ...]
    """By path."""


class PrimaryVerifier:
    """Verifies for one vehicle, and holds what it verified across restarts.

    Args:
        folder: Where to hold metadata; created if need be. No other verifier may use it.
        vehicle_id: This vehicle.
        ecus: Its control units: hardware id by serial.
        director_root: The provisioned Director root.
        image_root: The provisioned Image root.
        durable: False saves the wait for the disk; what is held then survives the process, not the machine.

    Raises:
        HeldMetadataError: What is held cannot be read.
        VerificationError: A provisioned root would let one key count twice.
    """

    def __init__(
        self,
        folder: Path,
        *,
        vehicle_id: str,
        ecus: Mapping[str, str],
        director_root: bytes,
        image_root: bytes,
        durable: bool = True,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._vehicle_id = vehicle_id
        self._ecus = dict(ecus)
        self._bootstrap = {"director": director_root, "image": image_root}
        self._durable = durable
        self._held = load_held(folder)
        self._saved_floor = self._held.time_floor
        self._trusted: dict[str, TrustedFiles] = {}
        self._provisioned = {name: _provisioned_version(root) for name, root in self._bootstrap.items()}

    def versions(self) -> tuple[MetadataVersions, MetadataVersions]:
        """The versions held: Director, Image. The root is at least the provisioned one."""
        return self._versions("director"), self._versions("image")

    def for_secondaries(self) -> dict[str, bytes]:
        """What a Primary passes on to its Secondaries: the Director's roots and targets that are held, by name.

        Roots begin above the provisioned one; a Secondary that has been away longer than the Primary needs them all.
        """
        held = self._held.director
        above = self._provisioned["director"]
        files = {f"{version}.root.json": content for version, content in held.roots.items() if version > above}
        if targets := held.roles.get("targets"):
            files[f"{targets.version}.targets.json"] = targets.content
        return files

    def verify(self, files: Files, *, now: datetime, installed: Mapping[str, InstalledImage]) -> VerifiedBundle:
        """Verify what the Director assigns to this vehicle against what the Image repository released.

        Args:
            files: New metadata by (repository, name); absent ones are taken from what is held.
            now: Fleet time, UTC.
            installed: What each control unit runs, by serial.

        Returns:
            The images to install on which control units. What was verified is held from now on.

        Raises:
            MissingFileError: A file is needed that was neither given nor held; `completion` can get it.
            VerificationError: Something was refused; the code says what it looks like.
            HeldMetadataError: The disk failed.
        """
        now = believed_time(now, self._held.time_floor)
        self._check_offered(files)
        director = self._refresh("director", files, now, {})
        assignment = self._check_director(director)
        image = self._image_repository(files, now, director.targets, assignment)
        released = image.found if image else {}
        for entry in assignment:
            check_match(entry, director.targets.targets[entry.path], released.get(entry.path))
            check_counters(entry, installed)
        self._keep(director, image, now)
        return VerifiedBundle(images=assignment)

    def deltas(self, image: VerifiedImage, at_hand: Collection[str]) -> tuple[Delta, ...]:
        """Signed ways to an image that was just verified, from images that are at hand, the smallest first.

        Only what was looked at to verify the image is searched: a delta is never a reason to fetch or to refuse
        anything, and whoever signed it, what comes out is judged as the image is (see `deltas.apply_delta`).

        Args:
            image: Of the last verified bundle.
            at_hand: Hex digests of images that the vehicle has, such as those in its slots.
        """
        trusted = self._trusted.get("image")
        found: dict[str, Delta] = {}
        for from_sha256 in at_hand:
            path = delta_path(from_sha256, image.sha256)
            for targets in trusted.listings if trusted else ():
                target = targets.targets.get(path)
                delta = read_delta(path, target) if target is not None else None
                if delta is not None and delta.length < image.length:
                    found.setdefault(path, delta)
        return tuple(sorted(found.values(), key=lambda delta: delta.length))

    def _check_offered(self, files: Files) -> None:
        if len(files) > MAX_FILES:
            raise VerificationError(AttackCode.ENDLESS_DATA, f"{len(files)} files in one answer, at most {MAX_FILES}")
        for (repository, name), content in files.items():
            if repository not in _CAPS:
                raise VerificationError(AttackCode.MALFORMED, f"{repository[:80]!r} is no repository")
            signed = parse_offered(name, content, _CAPS[repository])
            if repository == "director" and not name.endswith("root.json"):
                check_bound(name, signed.get("vehicleId"), self._vehicle_id)

    def _check_director(self, director: TrustedFiles) -> tuple[VerifiedImage, ...]:
        for signed in (director.timestamp, director.snapshot, director.targets):
            check_bound(signed.type, bound_to(signed), self._vehicle_id)
        return check_director_targets(director.targets, self._ecus)

    def _image_repository(
        self, files: Files, now: datetime, assigned: Targets, assignment: tuple[VerifiedImage, ...]
    ) -> TrustedFiles | None:
        """Refresh the Image repository where it matters: images are assigned, or it sent something."""
        if not assignment and not any(repository == "image" for repository, _ in files):
            return None
        find = {path: read_shall_match(path, target).hardware_ids for path, target in assigned.targets.items()}
        return self._refresh("image", files, now, find)

    def _refresh(
        self, repository: Repository, files: Files, now: datetime, find: Mapping[str, tuple[str, ...]]
    ) -> TrustedFiles:
        """Verify one repository; skipped when the very same bytes were verified before and nothing has expired."""
        held = self._held_files(repository)
        known = self._trusted.get(repository)
        if known and now < known.expires and find.items() <= known.sought.items() and not self._news(repository, files):
            return known
        try:
            trusted = refresh(
                bootstrap=self._bootstrap[repository],
                held=held,
                offered=lambda name: files.get((repository, name)) or held.named(name),
                caps=_CAPS[repository],
                now=now,
                find=find,
            )
        except RefreshError as exc:
            self._check_roots(exc.roots)
            self._keep_roots(repository, exc.roots)
            if exc.missing:
                raise MissingFileError(repository, exc.missing, exc.reason.message) from exc
            raise exc.reason from exc
        self._check_roots(trusted.held.roots)
        check_pinned(trusted.timestamp)
        for targets in trusted.delegators:
            check_delegation_keys(targets)
        return trusted

    def _news(self, repository: Repository, files: Files) -> bool:
        """Whether `files` could change anything: a next root, or another timestamp."""
        held = self._held_files(repository)
        next_root = f"{self._versions(repository).root + 1}.root.json"
        timestamp = files.get((repository, "timestamp.json"))
        return (repository, next_root) in files or (timestamp is not None and timestamp != held.named("timestamp.json"))

    def _check_roots(self, roots: Mapping[int, bytes]) -> None:
        checked = {*self._held.director.roots.values(), *self._held.image.roots.values(), *self._bootstrap.values()}
        for content in roots.values():
            if content not in checked:
                check_root_keys(Metadata[Root].from_bytes(content).signed)

    def _versions(self, repository: Repository) -> MetadataVersions:
        versions = self._held_files(repository).versions()
        return replace(versions, root=max(versions.root, self._provisioned[repository]))

    def _held_files(self, repository: Repository) -> HeldFiles:
        return self._held.director if repository == "director" else self._held.image

    def _keep(self, director: TrustedFiles, image: TrustedFiles | None, now: datetime) -> None:
        held = Held(director=director.held, image=image.held if image else self._held.image, time_floor=now)
        changed = held.director != self._held.director or held.image != self._held.image
        if changed or now - self._saved_floor >= CLOCK_SLACK:
            save_held(self._folder, held, durable=self._durable)
            self._saved_floor = now
        self._held = held
        self._trusted["director"] = director
        if image:
            self._trusted["image"] = image

    def _keep_roots(self, repository: Repository, roots: Mapping[int, bytes]) -> None:
        """Keep new roots of a refresh that failed later: so a long chain of rotations is walked in steps."""
        if max(roots) <= self._versions(repository).root:
            return
        self._trusted.pop(repository, None)  # it was verified with keys that may be revoked now
        files = HeldFiles(roots=roots, roles=self._roles_after(repository, roots))
        held = replace(self._held, director=files) if repository == "director" else replace(self._held, image=files)
        save_held(self._folder, held, durable=self._durable)
        self._held = held

    def _roles_after(self, repository: Repository, roots: Mapping[int, bytes]) -> Mapping[str, HeldFile]:
        """What stays held once `roots` are; the versions that a vehicle tells are of files that it can still use."""
        files = self._held_files(repository)
        before = files.roots[max(files.roots)] if files.roots else self._bootstrap[repository]
        old, new = (Metadata[Root].from_bytes(content).signed for content in (before, roots[max(roots)]))
        if not keys_rotated(old, new):
            return files.roles
        return {role: file for role, file in files.roles.items() if role not in FAST_FORWARDED}


@lru_cache(maxsize=16)
def _provisioned_version(content: bytes) -> int:
    """The version of a provisioned root whose keys are in order; a fleet in one process shares its roots."""
    try:
        root = Metadata[Root].from_bytes(content).signed
    except RepositoryError as exc:
        raise VerificationError(AttackCode.MALFORMED, f"the provisioned root is not root metadata: {exc}") from exc
    check_root_keys(root)
    return root.version


def check_image(image: VerifiedImage, content: bytes) -> None:
    """Compare downloaded bytes with what was verified.

    Raises:
        VerificationError: ENDLESS_DATA when longer, ARBITRARY when shorter or different.
    """
    if len(content) > image.length:
        raise VerificationError(
            AttackCode.ENDLESS_DATA, f"{image.path!r}: {len(content)} bytes, {image.length} were signed"
        )
    if len(content) < image.length:
        raise VerificationError(
            AttackCode.ARBITRARY, f"{image.path!r}: {len(content)} bytes, {image.length} were signed"
        )
    if hashlib.sha256(content).hexdigest() != image.sha256:
        raise VerificationError(AttackCode.ARBITRARY, f"{image.path!r}: the bytes are not those that were signed")
