"""A copy of the Image repository for any web server or CDN: images under their digests, then metadata, timestamp last.

Whoever reads while it is written finds the old or the new state, never half of one: what a file refers to is there
before it. Copies nothing that no vehicle asks for; keys, evidence and files that nobody lists stay at home.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Snapshot, TargetFile

from signing.errors import ImageStoreError
from signing.files import exclusive
from signing.image_repo import ImageRepository
from signing.image_store import ImageStore
from signing.names import image_file_name, tuf_file_name
from signing.roots import root_versions


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export did."""

    images: int
    """Images and deltas that are listed."""
    copied: int
    """Files of these that were not there yet."""
    metadata: tuple[str, ...]
    """Metadata files, in the order in which they were written."""


def export(repository: ImageRepository, path: Path, to: ImageStore) -> Exported:
    """Copy a repository to where a web server reads it, or bring an earlier copy up to date.

    Args:
        repository: What is copied.
        path: Its folder, which nobody writes meanwhile.
        to: Gets `targets/<sha256>.<name>`, also in the folders of the image's path as TUF clients ask for it, and
            `metadata/<name>.json`.

    Raises:
        ImageStoreError: An image is gone, or one of both places cannot be read or written.
        SigningError: The repository is damaged.
    """
    with exclusive(path):
        listings = repository.metadata.listings()
        targets = [target for file in listings.values() for target in file.signed.targets.values()]
        copied = sum(_copy(repository, target, to) for target in targets)
        files = _metadata_names(repository)
        for name in files:
            content = repository.metadata_file(name)
            if content is None:
                raise ImageStoreError(f"{name} is missing in the Image repository: restore it from a backup")
            to.write(f"metadata/{name}", content)
    return Exported(images=len(targets), copied=copied, metadata=tuple(files))


def _metadata_names(repository: ImageRepository) -> list[str]:
    """Every file that a client may ask for, each behind what it refers to."""
    snapshot = repository.metadata.load("snapshot", Snapshot)
    listings = [f"{meta.version}.{name}" for name, meta in snapshot.meta.items()]
    roots = [f"{version}.root.json" for version in root_versions(repository.metadata.folder)]
    return [*listings, f"{snapshot.version}.snapshot.json", *roots, "timestamp.json"]


def _copy(repository: ImageRepository, target: TargetFile, to: ImageStore) -> int:
    sha256 = target.hashes["sha256"]
    names = {f"targets/{image_file_name(target.path, sha256)}", f"targets/{tuf_file_name(target.path, sha256)}"}
    wanted = [name for name in sorted(names) if to.size(name) != target.length]
    if wanted:
        with repository.fetched.lent(image_file_name(target.path, sha256)) as file:
            if not file.is_file():
                raise ImageStoreError(
                    f"the image {target.path!r} is gone: restore it from a backup, or publish it again"
                )
            for name in wanted:
                to.put(name, file, sha256)
    return len(wanted)
