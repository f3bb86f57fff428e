"""Pins: the release of a rollout is the one that was registered when the rollout was written, to the last digest.

Owns the digest and the comparison. A release never changes in the store; one that is another all the same was swapped
by hand or came back with an old backup, and nobody reviewed it under this rollout's approvals. Source: docs/faults.md,
F12 (Rivian 2023: a wrong build was sent).
"""

from __future__ import annotations

import json
from hashlib import sha256

from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout


def release_sha256(release: Release) -> str:
    """Hex digest over what a release brings: its version, what it undoes, and every image with digest and counter.

    Notes are for people and the date of its registration says nothing about its content: they may be restored
    differently.
    """
    images = [
        [image.path, image.hardware_id, image.length_bytes, image.sha256, image.release_counter]
        for image in sorted(release.images, key=lambda image: (image.hardware_id, image.path))
    ]
    content = [release.version, release.reverts, images]
    return sha256(json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()


def changed(rollout: Rollout, release: Release | None) -> str:
    """Why a rollout's release is not the one that it was written for, for people; empty when it is, or is not pinned.

    Args:
        rollout: With its pin.
        release: The one registered under the plan's version now; None when there is none.
    """
    if not rollout.release_sha256:
        return ""
    version = rollout.plan.release
    if release is None:
        return (
            f"release {version} is not registered any more; the rollout was written for {rollout.release_sha256[:16]}"
        )
    found = release_sha256(release)
    if found == rollout.release_sha256:
        return ""
    return f"release {version} is {found[:16]} now; the rollout was written for {rollout.release_sha256[:16]}"
