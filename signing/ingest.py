"""Ingest: an image comes in with its evidence, and goes on with a summary that the key of `attest` has signed.

Owns when a summary is made, and when the one that is listed still does. What evidence has to say is `evidence`'s
matter, the form of the summary `attestation`'s, and listing both with the image `image_repo`'s. An image without
evidence comes in on a person's word only, with a reason that is signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from signing.attestation import (
    ATTEST,
    LEVEL_SIGNED,
    LEVEL_UNSIGNED,
    LEVEL_WAIVED,
    SUMMARY,
    WAIVER_MAX,
    Attesters,
    Summary,
    read_summary,
    sign_summary,
    summary_fault,
)
from signing.errors import EvidenceError, KeyFileError
from signing.evidence import KINDS, Policy, judge_evidence
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.key_folder import signers_among
from signing.keys import Secret, environment_secret
from signing.versions import require_utc


@dataclass(frozen=True, slots=True)
class Ingest:
    """Takes images in, for one publication."""

    repository: ImageRepository
    attesters: Attesters
    """Who may vouch, by the repository's targets."""
    policy: Policy
    keys_folder: Path
    """Holds the keys of `attest`; opened only when there is something to sign."""
    verifier: str
    """Who judges, a URI."""
    now: datetime
    """Fleet time, UTC."""
    secret: Secret = environment_secret
    """Asked for encrypted keys."""

    def take_in(
        self, image: NewImage, files: Mapping[str, bytes], listed: Mapping[str, str], *, waiver: str = ""
    ) -> NewImage:
        """The image with its evidence and a summary.

        Args:
            image: To be published.
            files: Its evidence by kind; none where it is waived.
            listed: What is listed with the same image already: a summary that still does is kept, so that a
                publication can be repeated.
            waiver: Why a person vouches for an image without evidence; empty: nobody does.

        Raises:
            EvidenceError: There is none and nobody vouches, it does not pass, or waivers are not allowed.
            KeyFileError: A key of `attest` is missing.
        """
        digest = image.sha256 or digest_of(image.file)
        if not files:
            self._check_waiver(waiver)
            if kept := self.kept(listed, sha256=digest, hardware_id=image.hardware_id):
                return replace(image, evidence=kept)
            return self._signed(image, files, digest, LEVEL_WAIVED, waiver.strip())
        found = judge_evidence(files, sha256=digest, policy=self.policy)
        inputs = {kind: hashlib.sha256(data).hexdigest() for kind, data in files.items()}
        if {kind: listed.get(kind) for kind in KINDS} == inputs and (
            kept := self.kept(listed, sha256=digest, hardware_id=image.hardware_id)
        ):
            return replace(image, evidence=kept)
        return self._signed(image, files, digest, LEVEL_SIGNED if found.signed else LEVEL_UNSIGNED, "")

    def kept(self, listed: Mapping[str, str], *, sha256: str, hardware_id: str) -> Mapping[str, bytes]:
        """Evidence that is listed and whose summary still vouches; empty when it does not."""
        files = stored_evidence(self.repository, listed)
        if SUMMARY not in files or files.keys() != listed.keys():
            return {}
        try:
            summary, _ = read_summary(files[SUMMARY], self.attesters)
        except EvidenceError:
            return {}
        fault = summary_fault(summary, sha256=sha256, hardware_id=hardware_id, evidence=listed)
        return {} if fault else files

    def renewed(self, target: TargetInfo, image: NewImage, *, waiver: str = "") -> NewImage:
        """An image with what stands behind another that has the same bytes, vouched for anew if need be.

        Args:
            target: Listed, with evidence or without.
            image: The same, or what brings it back under another path.
            waiver: As of `take_in`.

        Raises:
            EvidenceError, KeyFileError: As of `take_in`.
        """
        stored = stored_evidence(self.repository, target.evidence)
        if kept := self.kept(target.evidence, sha256=target.sha256, hardware_id=image.hardware_id):
            return replace(image, evidence=kept)
        files = {kind: stored[kind] for kind in KINDS if kind in stored}
        if files and files.keys() != set(KINDS):
            gone = ", ".join(kind for kind in KINDS if kind not in files)
            raise EvidenceError(f"its {gone} is missing in the Image repository or was changed: restore evidence/")
        return self.take_in(image, files, target.evidence, waiver=waiver)

    def _check_waiver(self, waiver: str) -> None:
        if not waiver.strip():
            raise EvidenceError("it has no evidence, and nobody vouches for it without")
        if not self.policy.waivers:
            raise EvidenceError("it has no evidence, and the ingest policy allows no waivers")
        if len(waiver) > WAIVER_MAX or not waiver.isprintable():
            raise EvidenceError(f"the reason of a waiver is one line of at most {WAIVER_MAX} characters")

    def _signed(self, image: NewImage, files: Mapping[str, bytes], digest: str, level: str, waived: str) -> NewImage:
        summary = Summary(
            sha256=digest,
            hardware_id=image.hardware_id,
            verifier=self.verifier,
            verified_at=require_utc(self.now),
            policy_sha256=self.policy.sha256,
            inputs={kind: hashlib.sha256(data).hexdigest() for kind, data in files.items()},
            level=level,
            waived=waived,
        )
        return replace(image, evidence={**files, SUMMARY: sign_summary(summary, self._signers())})

    def _signers(self) -> Sequence[Signer]:
        found = signers_among(self.keys_folder, ATTEST, self.attesters.keys, self.secret)
        if len(found) < self.attesters.threshold:
            raise KeyFileError(
                f"vouching takes {self.attesters.threshold} keys of {ATTEST}, {len(found)} of them in "
                f"{self.keys_folder}: bring the others here"
            )
        return found[: self.attesters.threshold]


def stored_evidence(repository: ImageRepository, listed: Mapping[str, str]) -> Mapping[str, bytes]:
    """The files that are listed with an image, by kind; without those that are missing or were changed."""
    found = {kind: repository.evidence(digest) for kind, digest in listed.items()}
    return {kind: data for kind, data in found.items() if data is not None}


def digest_of(file: Path) -> str:
    """Hex SHA-256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
