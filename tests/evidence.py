"""Builders of evidence and of images that somebody vouches for."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from agent_sim.evidence import BUILDER, evidence_of, write_evidence
from agent_sim.evidence import POLICY as FACTORY_POLICY
from signing.attestation import LEVEL_UNSIGNED, SUMMARY, Summary, sign_summary
from signing.ceremony import DataFolder
from signing.evidence import Builder, Policy
from signing.image_repo import ImageRepository, NewImage
from signing.keys import load_signer
from tests.signing.uptane_simulator import NOW

POLICY = Policy(builders={BUILDER: Builder(BUILDER)}, waivers=True, sha256="0" * 64)
"""Believes the simulated factory."""


def some_evidence(image: bytes, *, change: Mapping[str, Callable[[Any], object]] | None = None) -> dict[str, bytes]:
    """Evidence for the bytes of an image, as files by kind.

    Args:
        image: Its bytes.
        change: By kind, what to do to the document before it is written.
    """
    documents = copy.deepcopy(dict(evidence_of(image, name="gw", version="1.1.0")))
    for kind, alter in (change or {}).items():
        alter(documents[kind])
    return {kind: json.dumps(document).encode() for kind, document in documents.items()}


def believe(data: Path) -> None:
    """Let an installation believe the simulated factory."""
    (data / "ingest.yaml").write_text(FACTORY_POLICY, encoding="utf-8")


def without_attesters(data: DataFolder) -> None:
    """Make the Image repository of a data folder one that names nobody who has to vouch, as those from before did."""
    (data.image_keys / "attest.pem").unlink()
    shutil.rmtree(data.image_repo)
    ImageRepository.create(data.image_repo, data.image_keys, NOW)


def evidence_fields(image: Path, *, name: str = "image", version: str = "1.0.0") -> str:
    """Write evidence beside an image; the fields of a release file that name it, as YAML in braces has them."""
    files = write_evidence(image, name=name, version=version)
    return ", ".join(f"{kind}: {file.name}" for kind, file in files.items())


def a_summary(files: Mapping[str, bytes], *, sha256: str, hardware_id: str, **changes: Any) -> Summary:
    """What vouches for an image."""
    fields: dict[str, Any] = {
        "sha256": sha256,
        "hardware_id": hardware_id,
        "verifier": "urn:outrider:ingest:test",
        "verified_at": NOW,
        "policy_sha256": POLICY.sha256,
        "inputs": {kind: hashlib.sha256(data).hexdigest() for kind, data in files.items()},
        "level": LEVEL_UNSIGNED,
    }
    return Summary(**fields | changes)


def vouched_for(image: NewImage, keys: Path | Sequence[CryptoSigner], **changes: Any) -> NewImage:
    """The image with evidence and a summary.

    Args:
        image: To be published.
        keys: Folder with the key of `attest`, or whose signatures to put there instead.
        changes: Of the summary.
    """
    signers = [load_signer(keys, "attest")] if isinstance(keys, Path) else keys
    content = image.file.read_bytes()
    files = some_evidence(content)
    digest = hashlib.sha256(content).hexdigest()
    summary = a_summary(files, **{"sha256": digest, "hardware_id": image.hardware_id} | changes)
    return replace(image, evidence={**files, SUMMARY: sign_summary(summary, signers)})
