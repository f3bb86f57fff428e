"""Evidence for the images of a simulated factory, as a build would hand it over: provenance, parts list, test report.

Owns documents that are small and true of the image they are made for: its digest is computed, its builder is this
program. Leaves what they are worth to whoever takes the image in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

BUILDER = "https://outrider.invalid/agent-sim"
"""Who built it, as the provenance says; an ingest policy has to name it."""
BUILD_TYPE = "https://outrider.invalid/agent-sim/image/v1"
POLICY = f"builders:\n  - id: {BUILDER}\n"
"""An ingest policy for simulations: anybody can write such a provenance."""

_STATEMENT = "https://in-toto.io/Statement/v1"
SUFFIXES: Mapping[str, str] = {"provenance": ".provenance.json", "sbom": ".cdx.json", "tests": ".tests.json"}
"""Behind the name of the image's file, by kind."""


def write_evidence(image: Path, *, name: str, version: str) -> Mapping[str, Path]:
    """Write what stands behind an image beside it.

    Args:
        image: Its file.
        name: Of the software, in its parts list.
        version: Likewise.

    Returns:
        The files by kind, as a release file names them.
    """
    made = evidence_of(image.read_bytes(), name=name, version=version)
    files = {kind: image.with_name(image.name + SUFFIXES[kind]) for kind in made}
    for kind, document in made.items():
        files[kind].write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return files


def evidence_of(image: bytes, *, name: str, version: str) -> Mapping[str, Mapping[str, Any]]:
    """The documents by kind, for the bytes of an image."""
    digest = sha256(image).hexdigest()
    subject = [{"name": name, "digest": {"sha256": digest}}]
    return {
        "provenance": {
            "_type": _STATEMENT,
            "subject": subject,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {"name": name, "version": version},
                    "resolvedDependencies": [],
                },
                "runDetails": {"builder": {"id": BUILDER}},
            },
        },
        "sbom": {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "firmware",
                    "name": name,
                    "version": version,
                    "hashes": [{"alg": "SHA-256", "content": digest}],
                }
            },
            "components": [{"type": "data", "name": f"{name}-pattern", "version": version}],
        },
        "tests": {
            "_type": _STATEMENT,
            "subject": subject,
            "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
            "predicate": {
                "result": "PASSED",
                "configuration": [{"name": name}],
                "passedTests": ["image-is-not-empty"],
                "warnedTests": [],
                "failedTests": [],
            },
        },
    }
