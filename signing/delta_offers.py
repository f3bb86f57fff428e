"""Which deltas are offered with new images: between which, and whether one saves enough to be worth its listing.

Everything rests on what the Image repository's keys have signed before and on the bytes that lie there: from which
releases is told from outside, and a wrong answer leads to deltas that nobody uses. The making is `deltas`' matter,
signing `image_repo`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from signing.deltas import IMAGE_BYTES_MAX, delta_path, make_delta
from signing.errors import ImageRefusedError
from signing.image_repo import ImageRepository, NewDelta, NewImage, TargetInfo

IMAGE_BYTES_MIN = 64 * 1024
"""Shorter images have no deltas: the listing costs every vehicle some hundred bytes."""
SAVING_RATIO_MIN = 0.3
"""A delta that saves a smaller share of the image is not kept."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A delta that could be made."""

    image: NewImage
    """What it leads to."""
    sha256: str
    """Hex digest of its bytes."""
    length: int
    """Of the image, bytes."""
    base: TargetInfo
    """What it starts from."""

    @property
    def path(self) -> str:
        """Target path of the delta."""
        return delta_path(self.base.sha256, self.sha256)


def possible_offers(images: Sequence[NewImage], listed: Sequence[TargetInfo]) -> list[Offer]:
    """Every delta from an image that is listed to one of these, for the same hardware id; the longest images first.

    Args:
        images: To be published.
        listed: What is signed, see `ImageRepository.verified_targets`.

    Raises:
        ImageRefusedError: An image cannot be read.
    """
    found: dict[str, Offer] = {}
    for image in images:
        try:
            length = image.file.stat().st_size
            if not IMAGE_BYTES_MIN <= length <= IMAGE_BYTES_MAX:
                continue
            with image.file.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as exc:
            raise ImageRefusedError(f"image {image.path!r}: cannot read {image.file}: {exc.strerror}") from exc
        for base in listed:
            if base.hardware_id == image.hardware_id and base.sha256 != sha256 and base.length <= IMAGE_BYTES_MAX:
                offer = Offer(image, sha256, length, base)
                found.setdefault(f"{offer.path} {base.version}", offer)
    return sorted(found.values(), key=lambda offer: -offer.length)


def offers_from(offers: Sequence[Offer], versions: Sequence[str], signed: Sequence[str]) -> list[Offer]:
    """Those that start from one of these releases and are not signed yet.

    Args:
        offers: See `possible_offers`.
        versions: Of releases; the first ones first.
        signed: Paths of deltas that are listed.
    """
    wanted: dict[str, Offer] = {}
    for version in versions:
        for offer in offers:
            if offer.base.version == version and offer.path not in signed:
                wanted.setdefault(offer.path, offer)
    return list(wanted.values())


def make_offer(offer: Offer, repository: ImageRepository, folder: Path) -> NewDelta | None:
    """Make a delta.

    Args:
        offer: Which.
        repository: Where the old image's bytes are; compared with what was signed.
        folder: Where its file goes.

    Returns:
        The delta; None when it would save too little.

    Raises:
        ImageRefusedError: The old image's bytes are gone or are others.
        OSError: A file cannot be read or written.
    """
    source = repository.image_file(offer.base.path, offer.base.sha256)
    try:
        base = source.read_bytes()
    except FileNotFoundError as exc:
        raise ImageRefusedError(f"{source} is gone: no delta from release {offer.base.version}") from exc
    if hashlib.sha256(base).hexdigest() != offer.base.sha256:
        raise ImageRefusedError(f"{source} does not hold the bytes that were signed")
    content = make_delta(base, offer.image.file.read_bytes())
    if len(content) > offer.length * (1 - SAVING_RATIO_MIN):
        return None
    file = folder / f"{offer.sha256}.{offer.base.sha256}.zst"
    file.write_bytes(content)
    return NewDelta(
        from_sha256=offer.base.sha256,
        to_sha256=offer.sha256,
        from_length=offer.base.length,
        to_length=offer.length,
        file=file,
    )
