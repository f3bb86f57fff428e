"""The verification summary of an image: a signed word that its evidence was judged, which the Director asks for.

Owns the form of the summary (an SLSA verification summary in a DSSE envelope), whose keys count, and what it must say
of an image. The keys are those of the role `attest` in the Image repository's own targets: offline keys say who may
vouch for images, and an orchestrator cannot. It is a role without paths: nobody looks for a target there, so it has no
file, and vehicles do not hear of it. Pure.
Source: SLSA 1.1, Verification Summary Attestation v1; in-toto Statement v1; DSSE v1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Targets

from signing.errors import EvidenceError, KeyFileError
from signing.evidence import KINDS, PAYLOAD_TYPE, STATEMENT, read_envelope, read_object, signed_by, statement_of
from signing.key_sources import did_not_sign
from signing.names import SHA256_PATTERN
from signing.versions import format_time, parse_time

ATTEST = "attest"
"""The role."""
SUMMARY = "summary"
"""Its place in an image's evidence, beside the kinds of `evidence`."""
SUMMARY_TYPE = "https://slsa.dev/verification_summary/v1"
SUMMARY_MAX_BYTES = 16 * 1024
LEVEL_SIGNED = "SLSA_BUILD_LEVEL_2"
LEVEL_UNSIGNED = "SLSA_BUILD_LEVEL_1"
LEVEL_WAIVED = "SLSA_BUILD_LEVEL_UNEVALUATED"
WAIVER_MAX = 200
"""Characters of a waiver's reason."""

_WAIVED = "urn:outrider:waived"
_RESOURCE = "urn:outrider:hardware:"


@dataclass(frozen=True, slots=True)
class Attesters:
    """Who may vouch for images."""

    keys: tuple[Key, ...]
    threshold: int
    """How many of them must have signed."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a verification summary says."""

    sha256: str
    """Of the image, hex."""
    hardware_id: str
    """That it is for."""
    verifier: str
    """Who judged, a URI."""
    verified_at: datetime
    """Fleet time, UTC."""
    policy_sha256: str
    """Hex digest of the policy that it was judged by."""
    inputs: Mapping[str, str]
    """Hex digests of the evidence, by kind; empty where it was waived."""
    level: str
    """SLSA build level that was reached."""
    waived: str = ""
    """Why a person vouches without evidence; empty when there is evidence."""


def attesters_of(targets: Targets) -> Attesters | None:
    """Who may vouch for images, by the Image repository's own targets; None when nobody was ever named."""
    delegations = targets.delegations
    role = (delegations.roles or {}).get(ATTEST) if delegations is not None else None
    if delegations is None or role is None:
        return None
    keys = tuple(delegations.keys[keyid] for keyid in role.keyids if keyid in delegations.keys)
    return Attesters(keys, role.threshold)


def with_attesters(targets: Targets, keys: Sequence[Key], threshold: int = 1) -> None:
    """Let these keys, and no others, vouch for images. Who publishes the targets has to sign that.

    Args:
        targets: Changed.
        keys: At least `threshold`.
        threshold: How many must sign.
    """
    delegations = targets.delegations or Delegations({}, {})
    roles = {name: role for name, role in (delegations.roles or {}).items() if name != ATTEST}
    roles[ATTEST] = DelegatedRole(ATTEST, [key.keyid for key in keys], threshold=threshold, terminating=False, paths=[])
    used = {keyid for role in roles.values() for keyid in role.keyids}
    known = {**delegations.keys, **{key.keyid: key for key in keys}}
    targets.delegations = Delegations({keyid: key for keyid, key in known.items() if keyid in used}, roles)


def sign_summary(summary: Summary, signers: Sequence[Signer]) -> bytes:
    """The envelope of a summary, signed.

    Raises:
        KeyFileError: A token or a service did not sign.
    """
    statement = {
        "_type": STATEMENT,
        "predicateType": SUMMARY_TYPE,
        "subject": [{"digest": {"sha256": summary.sha256}}],
        "predicate": {
            "verifier": {"id": summary.verifier},
            "timeVerified": format_time(summary.verified_at),
            "resourceUri": f"{_RESOURCE}{summary.hardware_id}",
            "policy": {"uri": "urn:outrider:ingest", "digest": {"sha256": summary.policy_sha256}},
            "inputAttestations": [
                {"uri": f"urn:outrider:evidence:{kind}", "digest": {"sha256": digest}}
                for kind, digest in sorted(summary.inputs.items())
            ],
            "verificationResult": "PASSED",
            "verifiedLevels": [summary.level],
            "slsaVersion": "1.1",
            **({_WAIVED: summary.waived} if summary.waived else {}),
        },
    }
    envelope = Envelope(_json(statement), PAYLOAD_TYPE, {})
    for signer in signers:
        try:
            envelope.sign(signer)
        except Exception as exc:  # what tokens and services raise is not documented
            raise KeyFileError(did_not_sign(signer, exc)) from exc
    return _json(envelope.to_dict())


def read_summary(data: bytes, attesters: Attesters) -> tuple[Summary, Sequence[Key]]:
    """What a summary says, and who signed it.

    Args:
        data: The envelope.
        attesters: Whose word counts.

    Raises:
        EvidenceError: It is no summary, does not say PASSED, or too few of these keys have signed it.
    """
    if len(data) > SUMMARY_MAX_BYTES:
        raise EvidenceError(f"its summary has {len(data)} bytes, at most {SUMMARY_MAX_BYTES} are read")
    envelope = read_envelope(read_object(data, "its summary"), "its summary")
    signers = signed_by(envelope, attesters.keys, attesters.threshold)
    if not signers:
        known = ", ".join(sorted(key.keyid[:8] for key in attesters.keys)) or "none"
        by = ", ".join(sorted(keyid[:8] for keyid in envelope.signatures)) or "nobody"
        raise EvidenceError(
            f"its summary is signed by {by}; {attesters.threshold} of the {ATTEST} keys ({known}) must sign"
        )
    statement = read_object(envelope.payload, "the statement in its summary")
    try:
        sha256 = statement["subject"][0]["digest"]["sha256"]
        predicate = statement_of(statement, kind=SUMMARY, predicate_type=SUMMARY_TYPE, sha256=sha256)
        return _summary(sha256, predicate), signers
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as exc:
        raise EvidenceError(f"its summary is signed, but malformed ({exc!r})") from exc


def summary_fault(summary: Summary, *, sha256: str, hardware_id: str, evidence: Mapping[str, str]) -> str | None:
    """Why a summary does not vouch for an image; None when it does.

    Args:
        summary: Whose signatures were verified.
        sha256: Of the image, hex.
        hardware_id: That the image is for.
        evidence: Hex digests by kind, as signed with the image; the summary's own does not count.
    """
    if summary.sha256 != sha256:
        return f"its summary is about {summary.sha256}, the image has sha256 {sha256}"
    if summary.hardware_id != hardware_id:
        return f"its summary is for hardware {summary.hardware_id}, the image for {hardware_id}"
    listed = {kind: digest for kind, digest in evidence.items() if kind in KINDS}
    if summary.inputs != listed:
        return "its summary was made from other evidence than is listed with the image"
    if not summary.waived and set(listed) != set(KINDS):
        return "its summary was made without all of its evidence"
    return None


def _summary(sha256: str, predicate: Mapping[str, Any]) -> Summary:
    if predicate["verificationResult"] != "PASSED":
        raise EvidenceError("its summary says that it did not pass")
    resource, waived = predicate["resourceUri"], predicate.get(_WAIVED, "")
    if not resource.startswith(_RESOURCE) or not isinstance(waived, str):
        raise ValueError("the resource or the waiver is odd")
    inputs = {each["uri"].rpartition(":")[2]: each["digest"]["sha256"] for each in predicate["inputAttestations"]}
    for digest in (sha256, *inputs.values(), predicate["policy"]["digest"]["sha256"]):
        if not SHA256_PATTERN.fullmatch(digest):
            raise ValueError("a digest is odd")
    (level,) = predicate["verifiedLevels"]
    if level not in (LEVEL_SIGNED, LEVEL_UNSIGNED, LEVEL_WAIVED) or (level == LEVEL_WAIVED) != bool(waived):
        raise ValueError("the level is odd")
    return Summary(
        sha256=sha256,
        hardware_id=resource.removeprefix(_RESOURCE),
        verifier=predicate["verifier"]["id"],
        verified_at=parse_time(predicate["timeVerified"]),
        policy_sha256=predicate["policy"]["digest"]["sha256"],
        inputs=inputs,
        level=level,
        waived=waived,
    )


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
