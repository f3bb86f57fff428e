"""The way back from a release that is about to be published: which earlier content undoes it.

Owns when that can be told without asking, and the words when it cannot. What is signed is read from the Image
repository; the server is asked only for doubts, never for content: a stolen one must not choose what offline keys sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from outrider.v1.release_pb2 import ListReleasesRequest
from outrider.v1.rollout_pb2 import (
    ROLLOUT_STATUS_ABORTED,
    ROLLOUT_STATUS_APPROVED,
    ROLLOUT_STATUS_DRAFT,
    ROLLOUT_STATUS_HALTED,
    ListRolloutsRequest,
)

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import RefusedError
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.reverts import earlier_version, revert_images, signed_way_back

PAGE_SIZE = 1000


def way_back(
    client: OperatorClient, repository: ImageRepository, images: Sequence[NewImage], *, to: str, now: datetime
) -> tuple[str, Sequence[NewImage]]:
    """The images that undo a release.

    Args:
        client: Of the server, for doubts about the release before.
        repository: The Image repository.
        images: Of the new release.
        to: Where to go back to; empty: what is signed already, or else the release before.
        now: Fleet time.

    Returns:
        The version that they bring back, and the images; empty when no earlier release is signed.

    Raises:
        RefusedError: The release before was stopped, or is not registered: a person has to say.
        SigningError: The repository does not verify, or `to` does not fit.
    """
    listed = repository.verified_targets(now)
    version = images[0].version
    to = to or signed_way_back(version, listed)
    if not to:
        to = earlier_version(images, listed)
        if to and (doubt := doubt_about(client, to)):
            raise refused(version, to, doubt, earlier_version(images, without(to, listed)))
    return (to, revert_images(images, to=to, listed=listed, repository=repository)) if to else ("", ())


def without(version: str, listed: Sequence[TargetInfo]) -> Sequence[TargetInfo]:
    """Targets but those of one release."""
    return [target for target in listed if target.version != version]


def doubt_about(client: OperatorClient, version: str) -> str:
    """Why vehicles should not go back to a release; empty when nothing speaks against it."""
    releases = client.ask(client.releases.ListReleases, ListReleasesRequest(page_size=PAGE_SIZE)).releases
    if not any(release.version == version for release in releases):
        return "is signed, but not registered (publishing its file again would do that)"
    undoing = {release.version for release in releases if release.reverts == version}
    # Newest first: what happened last to a release says what became of it.
    for rollout in client.ask(client.rollouts.ListRollouts, ListRolloutsRequest(page_size=PAGE_SIZE)).rollouts:
        if rollout.status in (ROLLOUT_STATUS_DRAFT, ROLLOUT_STATUS_APPROVED):
            continue
        if rollout.release in undoing:
            return f"was undone by {rollout.name}"
        if rollout.release == version and rollout.status in (ROLLOUT_STATUS_ABORTED, ROLLOUT_STATUS_HALTED):
            return f"was stopped in {rollout.name}"
        if rollout.release == version:
            return ""
    return ""


def refused(version: str, before: str, doubt: str, suggested: str) -> RefusedError:
    """The error that leaves the choice to a person."""
    choice = f"`--revert-to {suggested}` (the release before that)" if suggested else "`--revert-to VERSION`"
    return RefusedError(
        f"release {before}, the one before {version}, {doubt}: where {version} shall go back to is not clear; nothing "
        "was signed",
        remedy=f"say {choice}, or `--no-revert` to publish without a way back",
    )
