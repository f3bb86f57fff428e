"""Evidence in `outrider release`: images come in with it, `release attest` vouches anew, people see what there is.

Owns where it is asked for, and the words when it is missing. What it has to say is `signing.evidence`'s matter, and who
may vouch the Image repository's: its targets name the keys of `attest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from outrider.v1.release_pb2 import Evidence, Release
from rich.console import RenderableType

from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.ingest_policy import FILE_NAME, read_policy
from orchestrator.cli.inputs import read_file
from orchestrator.cli.local import settings_of
from orchestrator.cli.release_file import ReleaseFile
from orchestrator.cli.screen import Screen, table
from orchestrator.cli.words import NONE, plain
from signing.attestation import LEVEL_SIGNED
from signing.errors import EvidenceError
from signing.files import write_atomically
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.ingest import Ingest, stored_evidence


def ingest_of(data: Path, repository: ImageRepository, now: datetime) -> Ingest | None:
    """What takes images in; None where the Image repository names nobody who has to vouch."""
    attesters = repository.attesters()
    if attesters is None:
        return None
    return Ingest(
        repository=repository,
        attesters=attesters,
        policy=read_policy(data / FILE_NAME),
        keys_folder=data / "keys" / "image",
        verifier=f"urn:outrider:ingest:{settings_of(data).trust_domain}",
        now=now,
    )


def taken_in(
    screen: Screen,
    ingest: Ingest | None,
    description: ReleaseFile,
    images: Sequence[NewImage],
    listed: Sequence[TargetInfo],
    *,
    waiver: str,
) -> Sequence[NewImage]:
    """The images of a release file, each with its evidence and a summary.

    Args:
        screen: Says it when nobody asks for evidence.
        ingest: What takes them in.
        description: Of the release.
        images: The same, to be published.
        listed: What is listed already.
        waiver: Why a person vouches for images without evidence; empty: nobody does.

    Raises:
        BadInputError: Evidence is missing.
        RefusedError: Evidence does not pass.
    """
    if ingest is None:
        if any(image.evidence for image in description.images):
            screen.note("Evidence is not kept: this Image repository names no key of attest (docs/keys.md).")
        return images
    by_path = {target.path: target.evidence for target in listed}
    found = []
    for image, described in zip(images, description.images, strict=True):
        if not described.evidence and not waiver and not by_path.get(image.path):
            raise BadInputError(
                f"image {described.file.name} has no evidence, and vehicles get none without; nothing was signed",
                remedy="name its provenance, sbom and tests in the release file (docs/cli.md), or vouch for it "
                'yourself: --without-evidence "WHY"',
            )
        files = {kind: read_file(file) for kind, file in described.evidence.items()}
        target = next((each for each in listed if each.path == image.path), None)
        with evidence_errors(described.file.name):
            if not files and target is not None and by_path[image.path]:
                found.append(ingest.renewed(target, image, waiver=waiver))
            else:
                found.append(ingest.take_in(image, files, by_path.get(image.path, {}), waiver=waiver))
    return found


def way_back_taken_in(
    ingest: Ingest | None, back: Sequence[NewImage], listed: Sequence[TargetInfo], *, waiver: str
) -> Sequence[NewImage]:
    """The images that undo a release, with what stands behind the same bytes already.

    Raises:
        RefusedError: Nothing does: a person has to say.
    """
    if ingest is None:
        return back
    found = []
    for image in back:
        same = [each for each in listed if (each.sha256, each.hardware_id) == (image.sha256, image.hardware_id)]
        source = next((each for each in same if each.evidence), same[0])
        with evidence_errors(f"{source.path}, to go back to,", way_back=source.version):
            found.append(ingest.renewed(source, image, waiver=waiver))
    return found


@contextmanager
def evidence_errors(name: str, *, way_back: str = "") -> Iterator[None]:
    """What evidence is refused for, as errors of the command line.

    Args:
        name: Of the image, for people.
        way_back: Version of the release to go back to, if that is what the image is for.
    """
    remedy = f"bring the evidence of the build that made it; whom to believe says {FILE_NAME} (docs/cli.md)"
    if way_back:
        remedy = f"`outrider release attest {way_back}` vouches for it; or publish with --no-revert"
    try:
        yield
    except EvidenceError as exc:
        raise RefusedError(f"image {name}: {exc}; nothing was signed", remedy=remedy) from exc


def attested_anew(
    ingest: Ingest, repository: ImageRepository, targets: Sequence[TargetInfo], *, waiver: str
) -> Sequence[NewImage]:
    """Listed images, each with a summary that counts now.

    Raises:
        RefusedError: There is no evidence for one, or it does not pass any more.
    """
    found = []
    for target in targets:
        image = target.again(repository.image_file(target.path, target.sha256))
        with evidence_errors(f"{target.path} of release {target.version}"):
            found.append(ingest.renewed(target, image, waiver=waiver))
    return found


def written_evidence(
    repository: ImageRepository, targets: Sequence[TargetInfo], folder: Path
) -> tuple[Sequence[Path], Sequence[str]]:
    """Write the documents behind images, `<hardware id>.<kind>.json`; and what is missing, in words.

    Args:
        repository: Where they are.
        targets: The images, of one release.
        folder: Where they go.

    Raises:
        OSError: One cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, missing = [], []
    for target in targets:
        stored = stored_evidence(repository, target.evidence)
        for kind in target.evidence:
            if kind not in stored:
                missing.append(f"{kind} of {target.path}")
                continue
            files.append(folder / f"{target.hardware_id}.{kind}.json")
            write_atomically(files[-1], stored[kind])
        missing += [] if target.evidence else [f"all of {target.path}"]
    return files, missing


def evidence_view(release: Release) -> list[RenderableType]:
    """What stands behind a release, for people."""
    if not any(each.sha256 or each.fault for each in release.evidence):
        return []
    shown = table("evidence for", "built by", "parts list", "tests", "vouched for by", "is assigned")
    for each in release.evidence:
        tests = f"{each.tests_passed} passed" + (f", {each.tests_warned} warned" if each.tests_warned else "")
        parts = f"{each.component}, {each.component_count} parts"
        shown.add_row(
            plain(each.hardware_id),
            plain(_origin(each)),
            plain(parts if each.builder else NONE),
            plain(tests if each.builder else NONE),
            plain(", ".join(each.attested_by) or NONE),
            plain(f"no: {each.fault}" if each.fault else "yes"),
        )
    return [shown]


def _origin(evidence: Evidence) -> str:
    if evidence.missing:
        return f"gone or changed: {', '.join(evidence.missing)}"
    if evidence.waived:
        return f"waived: {evidence.waived}"
    return f"{evidence.builder} (signed)" if evidence.level == LEVEL_SIGNED else evidence.builder or NONE


def said_of(release: Release) -> list[tuple[str, RenderableType]]:
    """What a release says of itself, by name, for people."""
    safety = release.safety_relevant if release.HasField("safety_relevant") else None
    pairs = [
        ("requires", release.requires),
        ("conflicts", ", ".join(release.conflicts)),
        ("RXSWIN", ", ".join(release.rxswin)),
        ("safety", "" if safety is None else "relevant" if safety else "not relevant"),
        *((f"notes, {language}", text) for language, text in sorted(release.notes_by_language.items())),
    ]
    return [(name, plain(text)) for name, text in pairs if text]
