"""Reads the description of a release: the YAML file that `outrider release publish` takes.

Owns its fields, defaults and faults. Leaves signing to `signing.image_repo` and registration to the server, which check
again what they are responsible for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import semver
import yaml

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.inputs import read_text
from orchestrator.cli.yaml_file import Faults, compose, integer_of, items_of, mapping_of, text_of

FIELDS = ("version", "notes", "images")
IMAGE_FIELDS = ("file", "hardware_id", "path", "release_counter")


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


def read_release(path: Path) -> ReleaseFile:
    """Read and check a release file; image files are looked for beside it.

    Raises:
        BadInputError: every fault with line and column.
    """
    faults = Faults(str(path))
    node = compose(read_text(path), faults)
    release = release_of(node, path.parent, faults) if node is not None else None
    if faults.lines or release is None:
        number = len(faults.lines)
        raise BadInputError(
            f"{path} has {number} fault{'s' if number != 1 else ''}; nothing was signed or registered",
            remedy="correct the lines named above",
            details=faults.lines,
        )
    return release


def release_of(node: yaml.Node, folder: Path, faults: Faults) -> ReleaseFile:
    """The release that a document describes; faults are noted, and stand for what was not usable."""
    values = mapping_of(node, FIELDS, ("version", "images"), faults)
    version = text_of(values.get("version"), "version", faults)
    if version and not semver.Version.is_valid(version):
        faults.add(values["version"], f"`{version}` is no semantic version", "for example 1.4.0")
    items = items_of(values.get("images"), "images", faults)
    if "images" in values and isinstance(values["images"], yaml.SequenceNode) and not items:
        faults.add(values["images"], "`images` is empty", "list at least one image")
    images = [image_of(item, version, folder, faults) for item in items]
    for name in ("hardware_id", "path"):
        note_repetitions(items, [getattr(image, name) for image in images], name, faults)
    return ReleaseFile(version, text_of(values.get("notes"), "notes", faults), images)


def image_of(node: yaml.Node, version: str, folder: Path, faults: Faults) -> ImageFile:
    """One item of `images`."""
    values = mapping_of(node, IMAGE_FIELDS, ("file", "hardware_id", "release_counter"), faults)
    hardware_id = text_of(values.get("hardware_id"), "hardware_id", faults)
    name = text_of(values.get("file"), "file", faults)
    file = folder / name
    if name and not file.is_file():
        faults.add(values["file"], f"image file {file} does not exist", "paths count from the folder of this file")
    return ImageFile(
        file=file,
        hardware_id=hardware_id,
        path=text_of(values.get("path"), "path", faults, f"{hardware_id}-{version}{file.suffix}"),
        release_counter=integer_of(values.get("release_counter"), "release_counter", faults, minimum=1),
    )


def note_repetitions(nodes: Sequence[yaml.Node], values: Sequence[str], name: str, faults: Faults) -> None:
    """Note each image whose `name` an earlier image has already."""
    for index, value in enumerate(values):
        if value and value in values[:index]:
            faults.add(nodes[index], f"`{name}` {value} has an image already", "keep one image for each")
