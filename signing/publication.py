"""What may be published: images on their way into the Image repository, and as its targets list them. Pure.

Owns which names, counters and bytes are refused before a key signs them, and how long deltas stay listed. Leaves files,
locks and signatures to `image_repo`, what undoes what to `reverts`, and which deltas there are to `delta_offers`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile

from signing.attestation import SUMMARY
from signing.deltas import delta_fields, delta_path, is_delta, read_delta
from signing.errors import ImageRefusedError
from signing.evidence import KINDS
from signing.match import read_shall_match
from signing.names import NAME_PATTERN, SHA256_PATTERN, VERSION_MAX, target_path_fault
from signing.release_facts import NO_FACTS, ReleaseFacts, facts_fault, facts_fields, facts_of

EVIDENCE = "evidence"
"""Field of what is signed with an image: digests of the files that stand behind it, by kind."""

DELTAS_KEPT_TO = 4
"""Images of each hardware id, the highest release counters first, to which deltas stay listed: every vehicle pays some
hundred bytes for each of them whenever targets change."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to publish."""

    path: str
    """Target path, for example `acme/gw-2-1.1.0.img`."""
    file: Path
    """Where its bytes are now."""
    hardware_id: str
    """What it is built for."""
    release_counter: int
    """Never lower than that of an earlier image for this hardware id."""
    version: str
    """Of the release that it belongs to."""
    reverts: str = ""
    """Version of the release that it undoes; empty for others."""
    sha256: str = ""
    """Hex digest that the bytes must have; empty where whoever publishes vouches for the file."""
    facts: ReleaseFacts = NO_FACTS
    """Of its release."""
    evidence: Mapping[str, bytes] = field(default_factory=dict)
    """Files by kind: those of `evidence.KINDS`, and the summary. Empty keeps what is listed for the same image."""
    notes: bytes = b""
    """The file whose digest is in `facts`; empty when there is none."""

    @property
    def documents(self) -> Sequence[bytes]:
        """What is kept beside its bytes."""
        return [*self.evidence.values(), *([self.notes] if self.notes else [])]


@dataclass(frozen=True, slots=True)
class NewDelta:
    """A delta to publish, between two images that are listed or will be with it."""

    from_sha256: str
    """Hex digest of the image that vehicles have."""
    to_sha256: str
    """Of the image that it leads to."""
    from_length: int
    """Bytes."""
    to_length: int
    file: Path
    """Where its bytes are now."""

    @property
    def path(self) -> str:
        """Its target path."""
        return delta_path(self.from_sha256, self.to_sha256)


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """An image as the Image repository's targets list it."""

    path: str
    length: int
    """Bytes."""
    sha256: str
    """Hex digest."""
    hardware_id: str
    release_counter: int
    targets_version: int
    """Version of the targets metadata that lists it."""
    version: str = ""
    """Of the release that it was published with; empty when none is signed."""
    reverts: str = ""
    """Version of the release that it undoes; empty for others."""
    facts: ReleaseFacts = NO_FACTS
    """Of its release."""
    evidence: Mapping[str, str] = field(default_factory=dict)
    """Hex digests of the files that stand behind it, by kind."""

    def again(self, file: Path) -> NewImage:
        """The same image, to be published anew.

        Args:
            file: Where its bytes are.
        """
        return NewImage(
            path=self.path,
            file=file,
            hardware_id=self.hardware_id,
            release_counter=self.release_counter,
            version=self.version,
            reverts=self.reverts,
            sha256=self.sha256,
            facts=self.facts,
        )


def signed_fields(image: NewImage) -> Mapping[str, Any]:
    """What is signed with an image beside its length and hash."""
    fields: dict[str, Any] = {
        "shallMatch": {"hardwareIds": [image.hardware_id], "releaseCounter": image.release_counter},
        "version": image.version,
        **facts_fields(image.facts),
    }
    if image.reverts:
        fields["reverts"] = image.reverts
    if image.evidence:
        fields[EVIDENCE] = {kind: hashlib.sha256(data).hexdigest() for kind, data in sorted(image.evidence.items())}
    return fields


def entry_to_list(image: NewImage, entry: TargetFile, listed: TargetFile | None) -> TargetFile:
    """What is listed for an image from now on: its entry, or the one that stands if it brings nothing new.

    An image stays what it is under its path. What stands behind it may be renewed: a summary by a key that was revoked
    says nothing any more.
    """
    if listed is None or not image_differs(entry, listed):
        return listed if listed is not None and not image.evidence else entry
    return entry


def image_differs(one: TargetFile, other: TargetFile) -> bool:
    """Whether two targets are different images, whatever evidence stands behind them."""
    fields = [{name: value for name, value in (each.custom or {}).items() if name != EVIDENCE} for each in (one, other)]
    return fields[0] != fields[1] or (one.length, one.hashes) != (other.length, other.hashes)


def image_fault(image: NewImage) -> str | None:
    """What is wrong with an image by itself; None when nothing is."""
    if fault := target_path_fault(image.path):
        return fault
    if is_delta(image.path):
        return "names below deltas/ are kept for deltas"
    if not NAME_PATTERN.fullmatch(image.hardware_id):
        return f"{image.hardware_id[:80]!r} is not a hardware id"
    if type(image.release_counter) is not int or not 0 <= image.release_counter <= VERSION_MAX:
        return f"release counter {image.release_counter!r} is not between 0 and {VERSION_MAX}"
    if fault := facts_fault(image.facts):
        return fault
    if image.notes and hashlib.sha256(image.notes).hexdigest() != image.facts.notes_sha256:
        return "its notes are not those whose digest it has"
    if image.evidence and (SUMMARY not in image.evidence or not image.evidence.keys() <= {*KINDS, SUMMARY}):
        return f"its evidence is {', '.join(sorted(image.evidence))}, not a summary and what it was made from"
    for version in (image.version, image.reverts):
        if not version.isascii() or not version.isprintable() or len(version) > 64:
            return f"{version[:80]!r} is not a version"
    return None if image.version else "it has no version"


def new_entry(image: NewImage) -> TargetFile:
    """An image as a target.

    Raises:
        ImageRefusedError: It is odd by itself, or its file cannot be read.
    """
    if fault := image_fault(image):
        raise ImageRefusedError(f"image {image.path[:80]!r}: {fault}")
    try:
        entry = TargetFile.from_file(image.path, str(image.file), ["sha256"])
    except OSError as exc:
        raise ImageRefusedError(f"image {image.path!r}: cannot read {image.file}: {exc.strerror}") from exc
    entry.unrecognized_fields["custom"] = signed_fields(image)
    return entry


def check_publication(
    images: Sequence[NewImage], entries: Sequence[TargetFile], current: Mapping[str, TargetFile]
) -> None:
    """Refuse images that contradict each other or what is listed already.

    Args:
        images: To be published.
        entries: The same as targets, in the same order.
        current: What is listed, by path.

    Raises:
        ImageRefusedError: A path that is taken, a lower release counter, bytes other than the expected ones.
    """
    if len({image.path for image in images}) != len(images):
        raise ImageRefusedError("one path stands twice in this publication")
    highest = highest_counters(current)
    for image, entry in zip(images, entries, strict=True):
        if image.sha256 and image.sha256 != entry.hashes["sha256"]:
            raise ImageRefusedError(
                f"{image.file} does not hold the bytes that were signed: sha256 is not {image.sha256}"
            )
        listed = current.get(image.path)
        if listed is not None and not image_differs(listed, entry):
            continue
        if listed is not None:
            raise ImageRefusedError(f"{image.path!r} was published with other bytes or fields; choose another path")
        if image.release_counter < highest.get(image.hardware_id, 0):
            raise ImageRefusedError(
                f"{image.path!r}: release counter {image.release_counter} is lower than "
                f"{highest[image.hardware_id]}, which {image.hardware_id} has already"
            )


def highest_counters(targets: Mapping[str, TargetFile]) -> Mapping[str, int]:
    """The highest release counter of each hardware id."""
    highest: dict[str, int] = {}
    for path, target in images_in(targets).items():
        match = read_shall_match(path, target)
        for hardware_id in match.hardware_ids:
            highest[hardware_id] = max(highest.get(hardware_id, 0), match.release_counter)
    return highest


def images_in(targets: Mapping[str, TargetFile]) -> Mapping[str, TargetFile]:
    """What is listed without the deltas, by path."""
    return {path: target for path, target in targets.items() if not is_delta(path)}


def delta_entry(delta: NewDelta) -> TargetFile:
    """A delta as a target.

    Raises:
        OSError: Its file cannot be read.
    """
    entry = TargetFile.from_file(delta.path, str(delta.file), ["sha256"])
    entry.unrecognized_fields["custom"] = delta_fields(
        from_sha256=delta.from_sha256,
        to_sha256=delta.to_sha256,
        from_length=delta.from_length,
        to_length=delta.to_length,
    )
    return entry


def check_deltas(deltas: Sequence[NewDelta], targets: Mapping[str, TargetFile]) -> None:
    """Refuse a delta between anything but images that are listed.

    Raises:
        ImageRefusedError: One of both is not.
    """
    known = {(target.hashes["sha256"], target.length) for target in images_in(targets).values()}
    for delta in deltas:
        for end in ((delta.from_sha256, delta.from_length), (delta.to_sha256, delta.to_length)):
            if end not in known:
                raise ImageRefusedError(f"{delta.path!r}: no image of {end[1]} bytes and sha256 {end[0]} is listed")


def with_useful_deltas(targets: Mapping[str, TargetFile], supplied: Mapping[str, TargetFile]) -> dict[str, TargetFile]:
    """Targets without the deltas to images that newer ones have replaced: who still wants one fetches it whole.

    Args:
        targets: The repository's own.
        supplied: What suppliers list, to which there may be deltas as well.
    """
    by_hardware: dict[str, dict[int, set[str]]] = {}
    for path, target in images_in({**supplied, **targets}).items():
        match = read_shall_match(path, target)
        for hardware_id in match.hardware_ids:
            counters = by_hardware.setdefault(hardware_id, {})
            counters.setdefault(match.release_counter, set()).add(target.hashes["sha256"])
    recent: set[str] = set()
    for counters in by_hardware.values():
        recent = recent.union(*(counters[counter] for counter in sorted(counters)[-DELTAS_KEPT_TO:]))
    useful = {}
    for path, target in targets.items():
        delta = read_delta(path, target) if is_delta(path) else None
        if not is_delta(path) or (delta is not None and delta.to_sha256 in recent):
            useful[path] = target
    return useful


def target_info(path: str, target: TargetFile, targets_version: int) -> TargetInfo:
    """A target as listed."""
    match = read_shall_match(path, target)
    return TargetInfo(
        path=path,
        length=target.length,
        sha256=target.hashes["sha256"],
        hardware_id=match.hardware_ids[0],
        release_counter=match.release_counter,
        targets_version=targets_version,
        version=_text(target, "version"),
        reverts=_text(target, "reverts"),
        facts=facts_of(target.custom or {}),
        evidence=evidence_of(target),
    )


def evidence_of(target: TargetFile) -> Mapping[str, str]:
    """Hex digests of what stands behind an image, by kind, as signed with it."""
    value = (target.custom or {}).get(EVIDENCE)
    if not isinstance(value, dict):
        return {}
    return {
        kind: digest
        for kind, digest in value.items()
        if kind in (*KINDS, SUMMARY) and isinstance(digest, str) and SHA256_PATTERN.fullmatch(digest)
    }


def _text(target: TargetFile, field: str) -> str:
    """A text that was signed with a target for people and for the orchestrator; vehicles do not look at it."""
    value = (target.custom or {}).get(field)
    return value if isinstance(value, str) else ""
