"""Deltas to the images of releases, as the Image repository lists them, and what they save.

Nothing is kept: deltas may be added to a release later and dropped when newer ones replace it. Vehicles look them up by
themselves and verify them, so what stands here is only shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.release import Release
from signing.errors import SigningError
from signing.image_repo import ImageRepository

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReleaseDelta:
    """A delta to an image of a release."""

    hardware_id: str
    """Which control units both images fit."""
    from_release: str
    """Version of the release that it starts from."""
    length_bytes: int
    """Of the delta."""
    image_length_bytes: int
    """Of the image that it leads to."""
    path: str
    """Target path of the delta."""
    sha256: str
    """Of the delta, hex."""


def savings(repository: ImageRepository, now: datetime) -> Mapping[tuple[str, str], int]:
    """What deltas save a vehicle with all images of both releases, in bytes. Blocking: the repository is verified.

    Args:
        repository: The Image repository.
        now: Fleet time.

    Returns:
        By the release that deltas lead to, and the release they start from.

    Raises:
        SigningError: The repository does not verify.
    """
    images = repository.verified_targets(now)
    saved: Counter[tuple[str, str]] = Counter()
    for delta in repository.verified_deltas(now):
        # An image may belong to several releases: to one, and to what undoes the next.
        for start in {image.version for image in images if image.sha256 == delta.from_sha256}:
            for to in (image for image in images if image.sha256 == delta.to_sha256):
                saved[to.version, start] += to.length - delta.length
    return saved


def deltas_to(
    releases: Sequence[Release], repository: ImageRepository, now: datetime
) -> Mapping[ReleaseVersion, Sequence[ReleaseDelta]]:
    """Deltas by release. Blocking: the repository is verified.

    Args:
        releases: To whose images.
        repository: The Image repository; one that does not verify has none, because vehicles would use none.
        now: Fleet time.

    Returns:
        For each release its deltas by hardware id and release they start from.
    """
    try:
        listed = repository.verified_deltas(now)
        # What undoes a release has the bytes of an earlier one, whose name says more.
        images = sorted(repository.verified_targets(now), key=lambda image: not image.reverts)
    except SigningError as error:
        log.warning("image_repository_invalid", error=str(error))
        return {release.version: () for release in releases}
    origin = {image.sha256: image.version for image in images}
    found: dict[ReleaseVersion, Sequence[ReleaseDelta]] = {}
    for release in releases:
        deltas = [
            ReleaseDelta(
                hardware_id=image.hardware_id,
                from_release=origin.get(delta.from_sha256, ""),
                length_bytes=delta.length,
                image_length_bytes=image.length_bytes,
                path=delta.path,
                sha256=delta.sha256,
            )
            for image in release.images
            for delta in listed
            if delta.to_sha256 == image.sha256
        ]
        found[release.version] = sorted(deltas, key=lambda delta: (delta.hardware_id, delta.from_release))
    return found
