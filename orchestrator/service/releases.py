"""Use cases of releases: register what the Image repository's keys have signed. The orchestrator cannot make one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from semver import Version

from orchestrator.clock import FleetClock
from orchestrator.model.ids import FleetTime, ReleaseVersion
from orchestrator.model.release import Image, Release
from orchestrator.service.director import to_datetime
from orchestrator.service.errors import InvalidInputError, NotFoundError, StateError, Violation
from orchestrator.service.release_deltas import ReleaseDelta, deltas_to
from orchestrator.service.vouching import NOTHING_ASKED, REMEDY, ImageEvidence, Vouching
from orchestrator.store.base import FleetStore, JournalEntry
from signing.errors import SigningError
from signing.image_repo import ImageRepository, TargetInfo
from signing.release_facts import NO_FACTS, ReleaseFacts

IMAGES_MAX = 64
NOTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Said:
    """What a release says of itself, as it was signed."""

    facts: ReleaseFacts = NO_FACTS
    notes: Mapping[str, str] = field(default_factory=dict)
    """By language; empty where there is one text only."""


@dataclass(frozen=True, slots=True)
class ReleaseDesk:
    """Serves operators in what concerns releases."""

    store: FleetStore
    repository: ImageRepository
    clock: FleetClock
    vouching: Vouching = NOTHING_ASKED

    async def create(self, release: Release, *, actor: str, reason: str) -> Release:
        """Register a release after each of its images was found, verified, in the Image repository.

        Raises:
            InvalidInputError: the release contradicts itself.
            StateError: an image is not signed there or differs, nobody vouches for it, the version exists with other
                images, or the release does not undo what it says.
        """
        faults = release_faults(release)
        if faults:
            raise InvalidInputError(
                f"the release has {len(faults)} faults", reason="RELEASE_INVALID", violations=faults
            )
        if release.reverts:
            check_undoes(release, await self.store.releases())
        now = FleetTime(self.clock.now())
        version = await asyncio.to_thread(self._check_images, release, to_datetime(now))
        self.vouching.refresh()  # it was signed a moment ago
        if fault := self.vouching.fault(release):
            raise StateError(fault, reason="RELEASE_UNATTESTED", remedy=REMEDY)
        checked = replace(release, created_at=now, targets_version=version)
        entry = JournalEntry(
            stream="fleet",
            entry_id="",
            kind="release_created",
            at=now,
            data={
                "actor": actor,
                "reason": reason,
                "release": release.version,
                "images": {image.path: image.sha256 for image in release.images},
                "targets_version": version,
                "reverts": release.reverts,
            },
        )
        stored = await self.store.create_release(checked, entry)
        if (stored.images, stored.reverts) != (release.images, release.reverts):
            raise StateError(
                f"release {release.version} exists with other images, or undoes another release",
                reason="RELEASE_IMMUTABLE",
                remedy="publish it under a new version",
            )
        return stored

    def _check_images(self, release: Release, now: datetime) -> int:
        version = 0
        for image in release.images:
            try:
                target = self.repository.verified_target(image.path, now, [image.hardware_id])
            except SigningError as error:
                raise StateError(
                    f"the Image repository does not verify: {error}",
                    reason="IMAGE_REPOSITORY_INVALID",
                    remedy="renew or publish it: `outrider image-repo renew`",
                ) from error
            check_image(image, target, reverts=release.reverts)
            version = target.targets_version if target else version
        return version

    async def get(self, version: str) -> Release:
        """One release.

        Raises:
            NotFoundError: it was never registered.
        """
        for release in await self.store.releases():
            if release.version == version:
                return release
        raise NotFoundError(
            f"release {version} is not registered",
            reason="RELEASE_UNKNOWN",
            remedy="`outrider release show` lists those that are",
        )

    async def list(self) -> Sequence[Release]:
        """All releases, newest first."""
        return await self.store.releases()

    async def deltas(self, releases: Sequence[Release]) -> Mapping[ReleaseVersion, Sequence[ReleaseDelta]]:
        """Deltas to the images of each of these releases, as the Image repository lists them now."""
        now = to_datetime(FleetTime(self.clock.now()))
        return await asyncio.to_thread(deltas_to, releases, self.repository, now)

    def said(self, release: Release) -> Said:
        """What was signed about a release beside its images."""
        return Said(self.vouching.facts(release), self.vouching.notes(release))

    async def evidence(self, release: Release) -> Sequence[ImageEvidence]:
        """What stands behind the images of a release."""
        return await asyncio.to_thread(self.vouching.evidence, release)


def check_undoes(release: Release, registered: Sequence[Release]) -> None:
    """Compare a release that undoes another with that one.

    Raises:
        StateError: the other is not registered, is undone by a third already, or would not be undone wholly; a vehicle
            would refuse a release counter that is not higher.
    """
    undone = next((other for other in registered if other.version == release.reverts), None)
    if undone is None:
        raise StateError(
            f"release {release.version} undoes {release.reverts}, which is not registered",
            reason="RELEASE_UNKNOWN",
            remedy="`outrider release publish` registers both",
        )
    for other in registered:
        if other.reverts == release.reverts and other.version != release.version:
            raise StateError(
                f"release {release.reverts} is undone by {other.version} already",
                reason="REVERT_EXISTS",
                remedy=f"plan a rollout of {other.version}, or publish other content as a release of its own",
            )
    for image in undone.images:
        back = release.image_for(image.hardware_id)
        if back is None or back.release_counter <= image.release_counter:
            found = f"release counter {back.release_counter}" if back else "no image"
            raise StateError(
                f"release {release.version} has {found} for {image.hardware_id}, {release.reverts} has release counter "
                f"{image.release_counter}: vehicles could not go back",
                reason="REVERT_IMPOSSIBLE",
                remedy="publish it with `outrider release publish`, which signs a way back for every image",
            )


def check_image(image: Image, target: TargetInfo | None, *, reverts: ReleaseVersion) -> None:
    """Compare an image with what the repository has signed.

    Args:
        image: As it is to be registered.
        target: As it is signed; None when it is not.
        reverts: What its release says it undoes: signed as well, because it decides where vehicles go back to.

    Raises:
        StateError: it is not there, or differs; both values are named.
    """
    remedy = "publish the image with `outrider release publish`, which signs it"
    if target is None:
        raise StateError(
            f"image {image.path} is not in the Image repository's signed targets",
            reason="IMAGE_UNSIGNED",
            remedy=remedy,
        )
    wanted = (image.length_bytes, image.sha256, image.hardware_id, image.release_counter, reverts)
    signed = (target.length, target.sha256, target.hardware_id, target.release_counter, target.reverts)
    names = ("length", "sha256", "hardware id", "release counter", "undone release")
    for name, given, found in zip(names, wanted, signed, strict=True):
        if given != found:
            raise StateError(
                f"image {image.path}: {name} is {given or 'none'}, but {found or 'none'} is signed",
                reason="IMAGE_MISMATCH",
                remedy=remedy,
            )


def release_faults(release: Release) -> list[Violation]:
    """What is wrong with a release by itself."""
    faults = []
    if not Version.is_valid(release.version):
        faults.append(Violation("version", f"`{release.version}` is no semantic version, for example 1.4.0"))
    if release.reverts and (not Version.is_valid(release.reverts) or release.reverts == release.version):
        faults.append(Violation("reverts", f"`{release.reverts}` is no version of another release"))
    if not 1 <= len(release.images) <= IMAGES_MAX:
        faults.append(Violation("images", f"has {len(release.images)} images, 1 to {IMAGES_MAX} are possible"))
    hardware = [image.hardware_id for image in release.images]
    faults += [
        Violation("images", f"hardware id {hardware_id} has more than one image")
        for hardware_id in sorted({name for name in hardware if hardware.count(name) > 1})
    ]
    if len(release.notes) > NOTES_MAX:
        faults.append(Violation("notes", f"{len(release.notes)} characters, at most {NOTES_MAX} are possible"))
    return faults


def version_of(name: str) -> ReleaseVersion:
    """The version in a resource name `releases/{version}`.

    Raises:
        InvalidInputError: it is no such name.
    """
    prefix, _, version = name.partition("/")
    if prefix != "releases" or not version:
        raise InvalidInputError(f"name must be releases/VERSION, not `{name}`", reason="NAME_MALFORMED")
    return ReleaseVersion(version)
