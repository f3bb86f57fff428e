"""Vouching: what the Image repository's offline keys say of releases, and whether somebody vouches for their images.

Owns the words of the Director's gate (`signing.ingest_gate`) for whoever wants to know beforehand what the signer will
say: registration, plans, grants. The signer asks again, and believes nobody. Nothing is kept: it is read from the
repository's folder, where it was signed, and never from the store, which a thief could write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.engine.targets import compile_comparisons
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.plan import Plan
from orchestrator.model.release import Image, Release
from signing.director import AssignedImage
from signing.errors import EvidenceError, SigningError
from signing.evidence import KINDS, Evidence, describe_evidence
from signing.image_repo import ImageRepository
from signing.ingest import stored_evidence
from signing.ingest_gate import IngestGate
from signing.key_names import label
from signing.release_facts import NO_FACTS, ReleaseFacts, facts_of, read_notes

REFRESH_S = 1.0
"""How old a look may be, machine time; the signer looks at each request."""
REMEDY = "vouch for it: publish its file with evidence, or `outrider release attest`; docs/cli.md says what evidence is"


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """What stands behind one image."""

    hardware_id: str
    """That it is for."""
    fault: str = ""
    """Why the Director does not assign it; empty when it does."""
    found: Evidence | None = None
    """What its evidence says; None without any."""
    level: str = ""
    """SLSA build level of the summary; empty without a summary."""
    waived: str = ""
    """Why a person vouched without evidence."""
    attested_by: Sequence[str] = ()
    """Keys that signed the summary."""
    attested_at: datetime | None = None
    """Fleet time of the summary."""
    missing: Sequence[str] = ()
    """Documents that are listed and are gone or were changed, by kind; the summary vouches for the image still."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Hex SHA-256 of each document, by kind."""


class Vouching:
    """Says of releases what was signed about them.

    Args:
        repository: The Image repository; None where none is, as in simulations: then nothing is asked.
        gate: Before it.
    """

    def __init__(self, repository: ImageRepository | None, gate: IngestGate | None) -> None:
        self._repository = repository
        self._gate = gate
        self._faults: dict[ReleaseVersion, tuple[Release, str]] = {}
        self._notes: dict[str, Mapping[str, str]] = {}

    async def run(self) -> None:
        """Look anew once a second, for ever."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self.refresh()

    def refresh(self) -> None:
        """Look anew at the repository when next asked."""
        self._faults.clear()

    def fault(self, release: Release | None) -> str:
        """Why no image of a release is assigned, for people; empty when all of them may be.

        It is asked at every poll, so what was found is kept until `refresh`.
        """
        if release is None or self._gate is None:
            return ""
        held = self._faults.get(release.version)
        if held is None or held[0] != release:
            held = self._faults[release.version] = (release, self._fault(release, self._gate))
        return held[1]

    def _fault(self, release: Release, gate: IngestGate) -> str:
        try:
            for path, fault in gate.faults(map(_assigned, release.images)).items():
                return f"image {path} of release {release.version}: {fault}"
        except SigningError as error:
            return str(error)
        return ""

    def facts(self, release: Release) -> ReleaseFacts:
        """What a release says of itself; nothing when its images are not listed."""
        if self._gate is None or not release.images:
            return NO_FACTS
        first = release.images[0]
        try:
            target = self._gate.listed(first.path, first.hardware_id)
        except SigningError:
            return NO_FACTS  # `fault` tells of it, and then nothing is assigned
        return facts_of((target.custom or {}) if target else {})

    def notes(self, release: Release) -> Mapping[str, str]:
        """The notes of a release by language; empty where there is one text only."""
        digest = self.facts(release).notes_sha256
        if not digest or self._repository is None:
            return {}
        if digest not in self._notes:
            data = self._repository.evidence(digest)
            if data is None:
                return {}
            self._notes[digest] = read_notes(data)
        return self._notes[digest]

    def evidence(self, release: Release) -> Sequence[ImageEvidence]:
        """What stands behind each image. Blocking: parts lists are read."""
        if self._gate is None or self._repository is None:
            return ()
        return [self._of_image(image, self._gate, self._repository) for image in release.images]

    def _of_image(self, image: Image, gate: IngestGate, repository: ImageRepository) -> ImageEvidence:
        try:
            target, fault = gate.listed(image.path, image.hardware_id), gate.fault(_assigned(image))
        except SigningError as error:
            return ImageEvidence(image.hardware_id, fault=str(error))
        digests = repository.evidence_of(target) if target else {}
        said = ImageEvidence(image.hardware_id, fault=fault or "", digests=digests)
        shown = gate.summary(image.path, image.hardware_id)
        if shown is not None:
            summary, keys = shown
            said = replace(
                said,
                level=summary.level,
                waived=summary.waived,
                attested_by=[label(key) for key in keys],
                attested_at=summary.verified_at,
            )
        files = stored_evidence(repository, digests)
        said = replace(said, missing=tuple(kind for kind in digests if kind not in files))
        if not all(kind in files for kind in KINDS):
            return said
        try:
            return replace(said, found=describe_evidence(files, sha256=image.sha256))
        except EvidenceError as error:
            return replace(said, fault=said.fault or str(error))


NOTHING_ASKED = Vouching(None, None)
"""Where there is no Image repository."""


def narrowed(plan: Plan, facts: ReleaseFacts) -> Plan:
    """A plan for those vehicles only that its release may follow, by what they have proven to run.

    What a release requires and excludes becomes part of whom the plan is for: counted by the preview, told by
    `vehicle explain`, and looked at whenever a vehicle is granted an attempt.

    Raises:
        TargetError: What was signed cannot be read as comparisons.
    """
    clauses = [plan.target.installed, facts.requires, *(f"!={version}" for version in facts.conflicts)]
    clause = ",".join(each for each in clauses if each.strip())
    compile_comparisons(clause)
    return replace(plan, target=replace(plan.target, installed=clause))


def _assigned(image: Image) -> AssignedImage:
    return AssignedImage(
        image.path, image.length_bytes, image.sha256, image.hardware_id, image.release_counter, ecu_serials=()
    )
