"""Builders of evidence and of images that somebody vouches for."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from agent_sim.evidence import BUILDER, evidence_of
from signing.attestation import LEVEL_UNSIGNED, SUMMARY, Summary, sign_summary
from signing.evidence import Builder, Policy
from signing.image_repo import NewImage
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
