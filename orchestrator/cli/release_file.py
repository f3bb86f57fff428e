"""Reads the description of a release: the YAML file that `outrider release publish` takes.

Owns its fields, defaults and faults. Leaves YAML and its places to the engine's reader of plan files, signing to
`signing.image_repo` and registration to the server; both check again what they are responsible for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.inputs import read_text
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan import words
from orchestrator.engine.plan.nodes import Place, PlanError, PlanFault, compose
from orchestrator.model.ids import VEHICLE_ID_PATTERN, ReleaseVersion

FIELDS = ("version", "notes", "revert_to", "images")
IMAGE_FIELDS = ("file", "hardware_id", "path", "release_counter")
COUNTER_MAX = 2**31 - 1
IMAGE_EXAMPLE = "an image such as {file: gw.img, hardware_id: acme-gw-2, release_counter: 11}"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of a release, not yet signed."""

    file: Path
    """Where its bytes are."""
    hardware_id: str
    """Which control units it fits."""
    path: str
    """Target path in the Image repository; default `<hardware_id>-<version><suffix of the file>`."""
    release_counter: int
    """Never lower than what a control unit ran before; at least 1."""


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A release as described."""

    version: str
    """Semantic version."""
    notes: str
    """What changes, for people."""
    images: Sequence[ImageFile]
    """At least one; one a hardware id."""
    revert_to: str = ""
    """Release to go back to if this one is bad; empty: the one before."""


def read_release(path: Path) -> ReleaseFile:
    """Read and check a release file; image files are looked for beside it.

    Raises:
        BadInputError: names every fault with line and column.
    """
    text = read_text(path)
    faults: list[PlanFault] = []
    try:
        if not text.strip():
            raise PlanError([PlanFault(1, 1, "", "the file is empty", "write at least `version:` and `images:`")])
        release = release_of(Place(node=compose(text), path="", faults=faults), path.parent)
    except PlanError as exc:
        raise refused(path, exc.faults) from exc
    if faults:
        raise refused(path, sorted(faults))
    return release


def refused(path: Path, faults: Sequence[PlanFault]) -> BadInputError:
    """The error that names every fault."""
    return BadInputError(
        f"{path} has {len(faults)} fault{'s' if len(faults) != 1 else ''}; nothing was signed or registered",
        remedy="correct the lines named above",
        details=[f"{path}:{fault.line}:{fault.column}: {fault.message} ({fault.remedy})" for fault in faults],
    )


def release_of(root: Place, folder: Path) -> ReleaseFile:
    """The release that a document describes; where a fault was noted, something stands in for the value."""
    fields = root.fields(FIELDS, "a mapping such as `version: 1.1.0`")
    require(root, fields, ("version", "images"))
    version = read.take(fields, "version", words.release, ReleaseVersion(""))
    items = fields["images"].items("a list of images") if "images" in fields else None
    if items is not None and not items:
        fields["images"].fault("no image stands here", f"write {IMAGE_EXAMPLE}")
    images = [image_of(item, version, folder) for item in items or ()]
    note_repetitions(items or (), [image.hardware_id for image in images], "hardware_id")
    note_repetitions(items or (), [image.path for image in images], "path")
    revert_to = read.take(fields, "revert_to", words.release, ReleaseVersion(""))
    if revert_to and revert_to == version:
        fields["revert_to"].fault(f"{version} cannot be undone by itself", "name an earlier release, or leave it out")
    return ReleaseFile(version, read.take(fields, "notes", text_of, ""), images, revert_to)


def image_of(place: Place, version: str, folder: Path) -> ImageFile:
    """One item of `images`."""
    fields = place.fields(IMAGE_FIELDS, IMAGE_EXAMPLE)
    require(place, fields, ("file", "hardware_id", "release_counter"))
    hardware_id = read.take(fields, "hardware_id", read.matching(VEHICLE_ID_PATTERN, "a hardware id"), "")
    name = read.take(fields, "file", text_of, "")
    file = folder / name
    if name and not file.is_file():
        fields["file"].fault(f"image file {file} does not exist", "paths count from the folder of this file")
    return ImageFile(
        file=file,
        hardware_id=hardware_id,
        path=read.take(fields, "path", text_of, f"{hardware_id}-{version}{file.suffix}" if hardware_id else ""),
        release_counter=read.take(fields, "release_counter", read.count(1, COUNTER_MAX), 1),
    )


def text_of(place: Place) -> str | None:
    """Reader of any text."""
    return place.scalar("a text")


def require(place: Place, fields: Mapping[str, Place], names: Sequence[str]) -> None:
    """Note each of these fields that is missing."""
    for name in names:
        if place.mapping and name not in fields:
            place.fault(f"`{name}` is missing", f"add `{name}:`")


def note_repetitions(places: Sequence[Place], values: Sequence[str], name: str) -> None:
    """Note each image whose `name` an earlier image has already."""
    for index, value in enumerate(values):
        if value and value in values[:index]:
            places[index].fault(f"{name} {value} has an image already", "keep one image for each")
