"""Reads the description of a release: the YAML file that `outrider release publish` takes.

Owns its fields, defaults and faults. Leaves YAML and its places to the engine's reader of plan files, signing to
`signing.image_repo` and registration to the server; both check again what they are responsible for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.cli.inputs import faulty, read_text
from orchestrator.engine.plan import readers as read
from orchestrator.engine.plan import words
from orchestrator.engine.plan.nodes import Place, PlanError, PlanFault, compose
from orchestrator.model.ids import VEHICLE_ID_PATTERN, ReleaseVersion
from signing.evidence import EVIDENCE_MAX_BYTES, KINDS
from signing.names import SUPPLIER_PATTERN
from signing.release_facts import LIST_MAX, RXSWIN_PATTERN

FIELDS = ("version", "notes", "requires", "conflicts", "rxswin", "safety_relevant", "revert_to", "images")
IMAGE_FIELDS = ("file", "supplier", "hardware_id", "path", "release_counter", *KINDS)
COUNTER_MAX = 2**31 - 1
LANGUAGE_PATTERN = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
"""As BCP 47 writes languages, for example `de` or `pt-BR`."""
NOTES_EXAMPLE = "a text, or texts by language such as {en: Better brakes, de: Bessere Bremsen}"
IMAGE_EXAMPLE = "an image such as {file: gw.img, hardware_id: acme-gw-2, release_counter: 11}"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of a release, not yet signed."""

    file: Path
    """Where its bytes are; of a supplier's image its path, for people."""
    hardware_id: str
    """Which control units it fits."""
    path: str
    """Target path in the Image repository; default `<hardware_id>-<version><suffix of the file>`."""
    release_counter: int
    """Never lower than what a control unit ran before; at least 1. Of a supplier's image: what the supplier signed."""
    evidence: Mapping[str, Path] = field(default_factory=dict)
    """Files that stand behind it, by kind: all of `KINDS`, or none."""
    supplier: str = ""
    """Who has signed it already, under `path`; empty for an image of our own."""


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A release as described."""

    version: str
    """Semantic version."""
    notes: str
    """What changes, for people; where there are several languages, in the first of them."""
    images: Sequence[ImageFile]
    """At least one; one a hardware id."""
    notes_by_language: Mapping[str, str] = field(default_factory=dict)
    """The same by language; empty where there is one text only."""
    requires: str = ""
    """Comparisons with the release that a vehicle runs; empty: it may follow any."""
    conflicts: tuple[str, ...] = ()
    """Releases that it must not follow."""
    rxswin: tuple[str, ...] = ()
    """Regulatory identifiers that a vehicle has with it."""
    safety_relevant: bool | None = None
    """None when the file does not say."""
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
        raise faulty(path, exc.faults) from exc
    if faults:
        raise faulty(path, sorted(faults))
    return release


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
    empty: Mapping[str, str] = {}
    notes = read.take(fields, "notes", notes_of, empty)
    return ReleaseFile(
        version=version,
        notes=next(iter(notes.values()), ""),
        images=images,
        notes_by_language=notes if "" not in notes else {},
        requires=read.take(fields, "requires", words.comparisons, ""),
        conflicts=read.take(fields, "conflicts", CONFLICTS, ()),
        rxswin=read.take(fields, "rxswin", RXSWIN, ()),
        safety_relevant=read.truth(fields["safety_relevant"]) if "safety_relevant" in fields else None,
        revert_to=revert_to,
    )


CONFLICTS = read.different(read.several(words.release, "a list of versions such as [1.0.3]", most=LIST_MAX))
RXSWIN = read.different(
    read.several(read.matching(RXSWIN_PATTERN, "an RXSWIN"), "a list such as [R79 SWIN 0042-01]", most=LIST_MAX)
)


def notes_of(place: Place) -> Mapping[str, str] | None:
    """Reader of notes by language; of one text, under no language."""
    if not place.mapping:
        text = place.scalar(NOTES_EXAMPLE)
        return None if text is None else {"": text}
    entries = place.entries(NOTES_EXAMPLE) or {}
    for language, at in entries.items():
        if not LANGUAGE_PATTERN.fullmatch(language):
            at.fault(f"`{language[:40]}` is no language", "write a tag such as de or pt-BR")
    found = {language: at.scalar("a text") for language, at in entries.items()}
    return {language: text for language, text in found.items() if text is not None}


def image_of(place: Place, version: str, folder: Path) -> ImageFile:
    """One item of `images`."""
    fields = place.fields(IMAGE_FIELDS, IMAGE_EXAMPLE)
    if "supplier" in fields:
        return supplied_image_of(place, fields, folder)
    require(place, fields, ("file", "hardware_id", "release_counter"))
    hardware_id = read.take(fields, "hardware_id", read.matching(VEHICLE_ID_PATTERN, "a hardware id"), "")
    name = read.take(fields, "file", text_of, "")
    file = folder / name
    if name and not file.is_file():
        fields["file"].fault(f"image file {file} does not exist", "paths count from the folder of this file")
    return ImageFile(
        file=file,
        hardware_id=hardware_id,
        evidence=evidence_of(place, fields, folder),
        path=read.take(fields, "path", text_of, f"{hardware_id}-{version}{file.suffix}" if hardware_id else ""),
        release_counter=read.take(fields, "release_counter", read.count(1, COUNTER_MAX), 1),
    )


def evidence_of(place: Place, fields: Mapping[str, Place], folder: Path) -> Mapping[str, Path]:
    """The files that stand behind an image: all of them, or none."""
    named = {kind: folder / name for kind in KINDS if (name := read.take(fields, kind, text_of, ""))}
    for kind, file in named.items():
        if not file.is_file():
            fields[kind].fault(f"{kind} file {file} does not exist", "paths count from the folder of this file")
        elif file.stat().st_size > EVIDENCE_MAX_BYTES[kind]:
            most = EVIDENCE_MAX_BYTES[kind]
            fields[kind].fault(f"{kind} file {file} has more than {most} bytes", f"bring one of at most {most} bytes")
    if named:
        require(place, fields, KINDS)
    return named


def supplied_image_of(place: Place, fields: Mapping[str, Place], folder: Path) -> ImageFile:
    """One item of `images` that a supplier has signed: what the supplier says of it counts."""
    require(place, fields, ("hardware_id", "path"))
    for name in ("file", "release_counter"):
        if name in fields:
            fields[name].fault(f"`{name}` of a supplier's image is what the supplier signed", "remove it")
    path = read.take(fields, "path", text_of, "")
    return ImageFile(
        file=Path(path),
        hardware_id=read.take(fields, "hardware_id", read.matching(VEHICLE_ID_PATTERN, "a hardware id"), ""),
        path=path,
        release_counter=0,
        evidence=evidence_of(place, fields, folder),
        supplier=read.take(fields, "supplier", read.matching(SUPPLIER_PATTERN, "a supplier"), ""),
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
