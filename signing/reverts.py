"""What undoes a release: the images of an earlier one under new paths, with release counters above the new one's.

Vehicles refuse what is older than what they run, and rightly so. The way back is therefore signed in advance, when the
new release is. Everything here rests on what the Image repository's keys have signed before, never on what a server
says: a stolen orchestrator must not be able to choose what offline keys sign. Pure; `image_repo` signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from semver import Version

from signing.errors import ImageRefusedError
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.release_facts import ReleaseFacts

SUFFIX = "revert"

_Catalogue = Mapping[str, Mapping[str, TargetInfo]]


def revert_version(version: str) -> str:
    """The version of the release that undoes `version`: 1.2.0-revert undoes 1.2.0, 1.2.0-rc.1.revert undoes 1.2.0-rc.1.

    It sorts below 1.2.0 and above every 1.1.x, as a pre-release does: `installed: "<1.2.0"` holds of it.

    Args:
        version: A semantic version.
    """
    parsed = Version.parse(version)
    return str(parsed.replace(prerelease=f"{parsed.prerelease}.{SUFFIX}" if parsed.prerelease else SUFFIX))


def earlier_version(images: Sequence[NewImage], listed: Sequence[TargetInfo]) -> str:
    """The release before a new one: the latest that has an image for each of its hardware ids.

    Latest is who has the highest release counters, then the highest version. What undoes a release is none itself.

    Args:
        images: Of the new release.
        listed: What is signed, see `ImageRepository.verified_targets`.

    Returns:
        Its version; empty when there is none.
    """
    own = {image.hardware_id: image.release_counter for image in images}
    new = (_in_order(own), Version.parse(images[0].version))
    found = []
    for version, targets in _catalogue(listed).items():
        if not own.keys() <= targets.keys() or not Version.is_valid(version):
            continue
        counters = {hardware_id: targets[hardware_id].release_counter for hardware_id in own}
        before = (_in_order(counters), Version.parse(version))
        if before < new and all(counters[hardware_id] <= own[hardware_id] for hardware_id in own):
            found.append((before, version))
    return max(found, default=((), ""))[1]


def signed_way_back(version: str, listed: Sequence[TargetInfo]) -> str:
    """Where the release that undoes `version` goes back to, if it is signed already: a publication that is repeated
    repeats it.

    Args:
        version: Of the release that would be undone.
        listed: What is signed, see `ImageRepository.verified_targets`.

    Returns:
        The version whose bytes it has; empty when it is not signed, or by no such bytes.
    """
    back = {target.hardware_id: target.sha256 for target in listed if target.reverts == version}
    for source, targets in _catalogue(listed).items():
        same = {hardware_id: target.sha256 for hardware_id, target in targets.items() if hardware_id in back}
        if back and source != version and same == back:
            return source
    return ""


def revert_images(
    images: Sequence[NewImage], *, to: str, listed: Sequence[TargetInfo], repository: ImageRepository
) -> list[NewImage]:
    """The images that undo a new release.

    Args:
        images: Of the new release.
        to: Version of the release to go back to.
        listed: What is signed, see `ImageRepository.verified_targets`.
        repository: Where the bytes are; compared with what was signed when they are published.

    Returns:
        For each of `images` the bytes of `to`, to be signed under a path of its own with a counter one higher.

    Raises:
        ImageRefusedError: `to` was never signed, or has not exactly one image for a hardware id.
    """
    catalogue = _catalogue(listed)
    if to not in catalogue:
        signed = ", ".join(sorted(catalogue)) or "none"
        raise ImageRefusedError(f"release {to}, to go back to, is not signed here; signed are: {signed}")
    found = []
    for image in images:
        source = catalogue[to].get(image.hardware_id)
        if source is None:
            raise ImageRefusedError(f"release {to}, to go back to, has no image for {image.hardware_id}")
        if sum(target.version == to and target.hardware_id == image.hardware_id for target in listed) > 1:
            raise ImageRefusedError(f"release {to} has several images for {image.hardware_id}: which one is not clear")
        found.append(_undoing(image, source, repository))
    return found


def _undoing(image: NewImage, source: TargetInfo, repository: ImageRepository) -> NewImage:
    version = revert_version(image.version)
    path = PurePosixPath(image.path)
    before, its, after = path.name.rpartition(image.version)
    # Built on the new image's path, which no other release can have; most names say the version somewhere.
    name = f"{before}{version}{after}" if its else f"{path.stem}-{SUFFIX}{path.suffix}"
    return NewImage(
        path=str(path.with_name(name)),
        file=repository.image_file(source.path, source.sha256),
        hardware_id=image.hardware_id,
        release_counter=image.release_counter + 1,
        version=version,
        reverts=image.version,
        sha256=source.sha256,
        # What was signed about these bytes holds of them again; what had to run before them does not.
        facts=ReleaseFacts(rxswin=source.facts.rxswin, safety_relevant=source.facts.safety_relevant),
    )


def _catalogue(listed: Sequence[TargetInfo]) -> _Catalogue:
    """Targets by version and hardware id, without those that undo something."""
    catalogue: dict[str, dict[str, TargetInfo]] = {}
    for target in listed:
        if target.version and not target.reverts:
            catalogue.setdefault(target.version, {})[target.hardware_id] = target
    return catalogue


def _in_order(counters: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(counter for _, counter in sorted(counters.items()))
