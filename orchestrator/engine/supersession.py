"""Supersession: which releases are newer than another, so that nobody is sent back by accident.

Owns the comparison, by release counter and never by version: an ECU refuses an image of a lower counter than it ran
before, whatever its version says, and a revert brings an earlier version under higher counters.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.release import Release


def newer_than(version: ReleaseVersion, releases: Iterable[Release]) -> frozenset[ReleaseVersion]:
    """Releases that cannot be followed by a release.

    One is newer as soon as for any hardware that both have images for its counter is higher: there the older one would
    be refused as a rollback.

    Args:
        version: Of the older one; nothing is newer than one that is not registered.
        releases: Every registered one.
    """
    registered = tuple(releases)
    ours = next((release for release in registered if release.version == version), None)
    if ours is None:
        return frozenset()
    counters = {image.hardware_id: image.release_counter for image in ours.images}
    return frozenset(
        release.version
        for release in registered
        if any(
            image.release_counter > counters.get(image.hardware_id, image.release_counter) for image in release.images
        )
    )
