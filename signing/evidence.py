"""Evidence for an image: where it was built, what it is made of, and that it was tested. Read and judged; pure.

Owns the three forms that are taken in, their caps, and what each has to say of the image. Which builders are believed
is the caller's policy; what comes of it, a summary that is signed, is the matter of `attestation`.
Source: in-toto Statement v1, test-result v0.1; SLSA Provenance v1; CycloneDX 1.4 to 1.6.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as UnverifiedError
from securesystemslib.signer import Key

from signing.errors import EvidenceError

KINDS = ("provenance", "sbom", "tests")
"""What an image needs."""
EVIDENCE_MAX_BYTES: Mapping[str, int] = {"provenance": 1 << 20, "sbom": 16 << 20, "tests": 4 << 20}

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BOM_VERSIONS = ("1.4", "1.5", "1.6")
_TEXT_MAX = 1024


@dataclass(frozen=True, slots=True)
class Builder:
    """A builder that is believed."""

    builder_id: str
    """As provenance names it, a URI."""
    keys: tuple[Key, ...] = ()
    """One of which must have signed its provenance; without keys an unsigned statement is taken."""
    build_types: tuple[str, ...] = ()
    """What it may have done, URIs; empty: anything."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose evidence is believed."""

    builders: Mapping[str, Builder]
    """By id."""
    waivers: bool
    """Whether a person may vouch for an image that has no evidence."""
    sha256: str
    """Hex digest of the policy as it was written."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the evidence for an image says."""

    builder: str
    """Id of who built it."""
    signed: bool
    """Whether the builder's key signed that."""
    build_type: str
    component: str
    """What the image is called in its bill of materials, with its version if that says one."""
    components: int
    """How many parts are listed there."""
    tests_passed: int
    tests_warned: int


def describe_evidence(files: Mapping[str, bytes], *, sha256: str) -> Evidence:
    """What evidence says that was judged before, by whatever policy.

    Args:
        files: As of `judge_evidence`.
        sha256: Of the image, hex.

    Raises:
        EvidenceError: As of `judge_evidence`, whoever built the image.
    """
    return _judged(files, sha256, None)


def judge_evidence(files: Mapping[str, bytes], *, sha256: str, policy: Policy) -> Evidence:
    """Read and judge what stands behind an image.

    Args:
        files: By kind, one of each of `KINDS`.
        sha256: Of the image, hex.
        policy: Whose evidence is believed.

    Raises:
        EvidenceError: Something is missing, malformed, about another image, by an unknown builder, or tells of a
            failure.
    """
    return _judged(files, sha256, policy)


def _judged(files: Mapping[str, bytes], sha256: str, policy: Policy | None) -> Evidence:
    for kind in KINDS:
        if kind not in files:
            raise EvidenceError(f"there is no {kind} for it")
        if len(files[kind]) > EVIDENCE_MAX_BYTES[kind]:
            raise EvidenceError(f"its {kind} has {len(files[kind])} bytes, at most {EVIDENCE_MAX_BYTES[kind]} are read")
    built = _provenance(files["provenance"], sha256)
    component, components = _bill_of_materials(files["sbom"], sha256)
    passed, warned = _test_result(files["tests"], sha256)
    signed = built.envelope is not None if policy is None else _check_builder(built, policy)
    return Evidence(
        builder=built.builder_id,
        signed=signed,
        build_type=built.build_type,
        component=component,
        components=components,
        tests_passed=passed,
        tests_warned=warned,
    )


def statement_of(value: Mapping[str, Any], *, kind: str, predicate_type: str, sha256: str) -> Mapping[str, Any]:
    """The predicate of an in-toto statement about an image.

    Raises:
        EvidenceError: It is no such statement, or about something else.
    """
    if value.get("_type") != STATEMENT:
        raise EvidenceError(f"its {kind} is no in-toto statement: `_type` has to be {STATEMENT}")
    if value.get("predicateType") != predicate_type:
        raise EvidenceError(f"its {kind} is of type {_shown(value.get('predicateType'))}, not {predicate_type}")
    subjects = [_object(each, f"a subject of its {kind}") for each in _list(value.get("subject"), f"subject of {kind}")]
    digests = [_object(each.get("digest", {}), f"a digest of its {kind}").get("sha256") for each in subjects]
    if sha256 not in digests:
        about = ", ".join(_shown(each) for each in digests) or "nothing"
        raise EvidenceError(f"its {kind} is about {about}, the image has sha256 {sha256}")
    return _object(value.get("predicate"), f"the predicate of its {kind}")


def read_object(data: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object that two readers understand alike.

    Raises:
        EvidenceError: Not JSON in UTF-8, a name twice in one object, NaN, nested too deeply, no object.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            raise EvidenceError(f"{what} has a name twice in one object: readers would disagree on it")
        return value

    def refuse(text: str) -> Any:
        raise EvidenceError(f"{what} has the number {text}, which is no JSON")

    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs, parse_constant=refuse)
    except RecursionError as exc:
        raise EvidenceError(f"{what} is nested too deeply") from exc
    except ValueError as exc:
        raise EvidenceError(f"{what} is not JSON in UTF-8 ({exc})") from exc
    return _object(value, what)


def read_envelope(value: Mapping[str, Any], what: str) -> Envelope:
    """A DSSE envelope around a statement.

    Raises:
        EvidenceError: It is none.
    """
    if value.get("payloadType") != PAYLOAD_TYPE:
        raise EvidenceError(f"{what} is no signed statement: `payloadType` has to be {PAYLOAD_TYPE}")
    try:
        return Envelope.from_dict({**value, "signatures": [{**each} for each in value["signatures"]]})
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise EvidenceError(f"{what} is a damaged DSSE envelope ({exc})") from exc


def signed_by(envelope: Envelope, keys: Sequence[Key], threshold: int) -> Sequence[Key]:
    """The keys that signed an envelope; empty when they are fewer than `threshold`."""
    try:
        return tuple(envelope.verify(list(keys), threshold).values())
    except (UnverifiedError, ValueError):
        return ()


@dataclass(frozen=True, slots=True)
class _Built:
    """What provenance says."""

    builder_id: str
    build_type: str
    envelope: Envelope | None
    """With its signatures; None of an unsigned statement."""


def _provenance(data: bytes, sha256: str) -> _Built:
    value = read_object(data, "its provenance")
    envelope = read_envelope(value, "its provenance") if "payload" in value else None
    if envelope is not None:
        value = read_object(envelope.payload, "the statement in its provenance")
    predicate = statement_of(value, kind="provenance", predicate_type=PROVENANCE, sha256=sha256)
    run = _object(predicate.get("runDetails"), "runDetails of its provenance")
    builder_id = _text(_object(run.get("builder"), "builder of its provenance").get("id"), "the builder's id")
    definition = _object(predicate.get("buildDefinition"), "buildDefinition of its provenance")
    build_type = _text(definition.get("buildType"), "buildType of its provenance")
    _object(definition.get("externalParameters"), "externalParameters of its provenance")
    return _Built(builder_id, build_type, envelope)


def _check_builder(built: _Built, policy: Policy) -> bool:
    """Refuse a builder that is not believed; whether its key had to sign, and did."""
    builder = policy.builders.get(built.builder_id)
    if builder is None:
        known = ", ".join(sorted(policy.builders)) or "none"
        raise EvidenceError(f"it was built by {built.builder_id}, which is not among the allowed builders ({known})")
    if builder.build_types and built.build_type not in builder.build_types:
        allowed = ", ".join(builder.build_types)
        raise EvidenceError(f"it was built as {built.build_type}; of {built.builder_id} {allowed} is allowed")
    if builder.keys and (built.envelope is None or not signed_by(built.envelope, builder.keys, 1)):
        raise EvidenceError(f"its provenance is not signed by a key of {built.builder_id}")
    return bool(builder.keys)


def _bill_of_materials(data: bytes, sha256: str) -> tuple[str, int]:
    value = read_object(data, "its sbom")
    if value.get("bomFormat") != "CycloneDX" or value.get("specVersion") not in BOM_VERSIONS:
        raise EvidenceError(
            f"its sbom is {_shown(value.get('bomFormat'))} {_shown(value.get('specVersion'))}; CycloneDX "
            f"{', '.join(BOM_VERSIONS)} in JSON is read"
        )
    metadata = _object(value.get("metadata"), "metadata of its sbom")
    subject = _object(metadata.get("component"), "metadata.component of its sbom")
    name = _text(subject.get("name"), "the name of metadata.component in its sbom")
    hashes = [_object(each, "a hash in its sbom") for each in _list(subject.get("hashes"), "hashes in its sbom")]
    digests = [each.get("content") for each in hashes if each.get("alg") == "SHA-256"]
    if sha256 not in digests:
        found = ", ".join(_shown(each) for each in digests) or "no SHA-256"
        raise EvidenceError(f"its sbom is about {name} with {found}, the image has sha256 {sha256}")
    components = [_object(each, "a component") for each in _list(value.get("components"), "components of its sbom")]
    for each in components:
        _text(each.get("name"), "the name of a component in its sbom")
    if not components:
        raise EvidenceError("its sbom lists no component: it says nothing of what the image is made of")
    version = subject.get("version")
    return f"{name} {version}" if isinstance(version, str) and 0 < len(version) <= _TEXT_MAX else name, len(components)


def _test_result(data: bytes, sha256: str) -> tuple[int, int]:
    value = read_object(data, "its test report")
    predicate = statement_of(value, kind="test report", predicate_type=TEST_RESULT, sha256=sha256)
    passed, warned, failed = (
        [_text(each, f"a name in {field}") for each in _list(predicate.get(field, []), field)]
        for field in ("passedTests", "warnedTests", "failedTests")
    )
    if failed:
        raise EvidenceError(f"{len(failed)} of its tests failed: {', '.join(failed[:5])}")
    if predicate.get("result") not in ("PASSED", "WARNED"):
        raise EvidenceError(f"the result of its tests is {_shown(predicate.get('result'))}, not PASSED or WARNED")
    if not passed:
        raise EvidenceError("its test report names no test that passed")
    return len(passed), len(warned)


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise EvidenceError(f"{what} is missing, or is no JSON object")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise EvidenceError(f"{what} is missing, or is no list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _TEXT_MAX:
        raise EvidenceError(f"{what} is missing, or is no text of one line")
    return value


def _shown(value: object) -> str:
    return f"`{value[:80]}`" if isinstance(value, str) and value.isprintable() else "nothing that could be read"
