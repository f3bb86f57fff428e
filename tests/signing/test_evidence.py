"""Evidence for an image is read whole, believed only from allowed builders, and about nothing but that image."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from agent_sim.evidence import BUILD_TYPE, BUILDER
from signing.errors import EvidenceError
from signing.evidence import EVIDENCE_MAX_BYTES, KINDS, PAYLOAD_TYPE, Builder, Policy, judge_evidence
from tests.evidence import POLICY, some_evidence

IMAGE = b"an image"
DIGEST = hashlib.sha256(IMAGE).hexdigest()
OTHER = hashlib.sha256(b"another").hexdigest()


def judged(files: dict[str, bytes], policy: Policy = POLICY) -> object:
    return judge_evidence(files, sha256=DIGEST, policy=policy)


def signed(data: bytes, *signers: CryptoSigner) -> bytes:
    envelope = Envelope(data, PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return json.dumps(envelope.to_dict()).encode()


def test_good_evidence_says_what_people_want_to_know():
    """Who built it, of what, and that it was tested: shown with the release."""
    found = judge_evidence(some_evidence(IMAGE), sha256=DIGEST, policy=POLICY)
    assert (found.builder, found.signed, found.build_type) == (BUILDER, False, BUILD_TYPE)
    assert (found.component, found.components, found.tests_passed, found.tests_warned) == ("gw 1.1.0", 1, 1, 0)


@pytest.mark.parametrize("version", ["1.4", "1.5", "1.6"])
def test_these_versions_of_cyclonedx_are_read(version: str):
    """What today's generators write."""
    judged(some_evidence(IMAGE, change={"sbom": lambda sbom: sbom.update(specVersion=version)}))


FAULTS: list[tuple[str, Callable[[Any], object], str]] = [
    ("provenance", lambda it: it.update(_type="https://in-toto.io/Statement/v0.1"), "no in-toto statement"),
    ("provenance", lambda it: it.update(predicateType="https://slsa.dev/provenance/v0.2"), "of type"),
    ("provenance", lambda it: it["subject"][0]["digest"].update(sha256=OTHER), OTHER),
    ("provenance", lambda it: it.update(subject=[]), "about nothing"),
    ("provenance", lambda it: it.update(subject="x"), "no list"),
    ("provenance", lambda it: it.update(subject=["x"]), "no JSON object"),
    ("provenance", lambda it: it["predicate"].pop("buildDefinition"), "buildDefinition"),
    ("provenance", lambda it: it["predicate"]["buildDefinition"].pop("externalParameters"), "externalParameters"),
    ("provenance", lambda it: it["predicate"]["runDetails"]["builder"].update(id="https://evil"), "https://evil"),
    ("provenance", lambda it: it["predicate"]["runDetails"]["builder"].update(id="two\nlines"), "text of one line"),
    ("provenance", lambda it: it["predicate"]["runDetails"].pop("builder"), "builder"),
    ("sbom", lambda it: it.update(bomFormat="SPDX"), "`SPDX`"),
    ("sbom", lambda it: it.update(specVersion="1.3"), "`1.3`"),
    ("sbom", lambda it: it.update(specVersion=1.6), "nothing that could be read"),
    ("sbom", lambda it: it.pop("metadata"), "metadata"),
    ("sbom", lambda it: it["metadata"]["component"].pop("name"), "metadata.component"),
    ("sbom", lambda it: it["metadata"]["component"]["hashes"][0].update(content=OTHER), OTHER),
    ("sbom", lambda it: it["metadata"]["component"]["hashes"][0].update(alg="SHA-1"), "no SHA-256"),
    ("sbom", lambda it: it.update(components=[]), "lists no component"),
    ("sbom", lambda it: it.update(components=[{}]), "name of a component"),
    ("tests", lambda it: it["subject"][0]["digest"].update(sha256=OTHER), OTHER),
    ("tests", lambda it: it["predicate"].update(failedTests=["brakes"]), "1 of its tests failed: brakes"),
    ("tests", lambda it: it["predicate"].update(result="FAILED"), "`FAILED`"),
    ("tests", lambda it: it["predicate"].pop("result"), "not PASSED"),
    ("tests", lambda it: it["predicate"].update(passedTests=[]), "no test that passed"),
    ("tests", lambda it: it["predicate"].update(passedTests=[7]), "passedTests"),
]


@pytest.mark.parametrize(("kind", "change", "words"), FAULTS)
def test_a_fault_in_evidence_is_refused_and_named(kind: str, change: Callable[[Any], object], words: str):
    """One flaw, and the image is not taken in; the message says which document and what in it."""
    with pytest.raises(EvidenceError, match=words):
        judged(some_evidence(IMAGE, change={kind: change}))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_evidence_is_refused(kind: str):
    """A line that somebody deleted must not go unnoticed."""
    files = some_evidence(IMAGE)
    del files[kind]
    with pytest.raises(EvidenceError, match=f"no {kind}"):
        judged(files)


@pytest.mark.parametrize("kind", KINDS)
def test_evidence_above_its_cap_is_not_read(kind: str):
    """Parsing is work; what is too long is refused unread."""
    with pytest.raises(EvidenceError, match="at most"):
        judged(some_evidence(IMAGE) | {kind: b" " * (EVIDENCE_MAX_BYTES[kind] + 1)})


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"null", b'{"a":NaN}', b'{"a":1,"a":2}', b"[" * 100_000, b'{"a":' * 100_000],
    ids=["empty", "utf-8", "list", "null", "nan", "twice", "deep list", "deep object"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_json_is_refused_as_such(kind: str, data: bytes):
    """Whatever others wrote ends as an error with words, never as a crash."""
    with pytest.raises(EvidenceError):
        judged(some_evidence(IMAGE) | {kind: data})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
PLACES: list[tuple[str, Callable[[Any, Any], object]]] = [
    ("provenance", lambda it, value: it.update(subject=value)),
    ("provenance", lambda it, value: it["subject"].insert(0, value)),
    ("provenance", lambda it, value: it.update(predicate=value)),
    ("provenance", lambda it, value: it["predicate"]["runDetails"].update(builder=value)),
    ("provenance", lambda it, value: it.update(payload=value, payloadType=PAYLOAD_TYPE, signatures=value)),
    ("sbom", lambda it, value: it.update(metadata=value)),
    ("sbom", lambda it, value: it["metadata"]["component"].update(hashes=value)),
    ("sbom", lambda it, value: it.update(components=value)),
    ("tests", lambda it, value: it["subject"][0].update(digest=value)),
    ("tests", lambda it, value: it.update(predicate=value)),
]


@given(place=st.sampled_from(PLACES), value=JSON)
def test_odd_values_anywhere_are_an_error_with_words(place: tuple[str, Callable[[Any, Any], object]], value: object):
    """Hostile evidence must not crash whoever publishes: it is judged, one way or the other."""
    kind, put = place
    with contextlib.suppress(EvidenceError):
        judged(some_evidence(IMAGE, change={kind: lambda it: put(it, value)}))


def test_a_builder_with_keys_is_believed_by_its_signature_only():
    """Anybody can write its name; the statement inside is judged as an unsigned one is."""
    ours, theirs = CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()
    policy = Policy({BUILDER: Builder(BUILDER, keys=(ours.public_key,))}, waivers=False, sha256="0" * 64)
    files = some_evidence(IMAGE)
    good = files | {"provenance": signed(files["provenance"], ours)}
    assert judge_evidence(good, sha256=DIGEST, policy=policy).signed
    for bad in (
        files["provenance"],
        signed(files["provenance"]),
        signed(files["provenance"], theirs),
        signed(files["provenance"], ours).replace(b"payloadType", b"payloadtype"),
    ):
        with pytest.raises(EvidenceError, match="signed"):
            judged(files | {"provenance": bad}, policy)
    other = some_evidence(b"another")["provenance"]
    with pytest.raises(EvidenceError, match="is about"):
        judged(files | {"provenance": signed(other, ours)}, policy)


def test_a_build_type_that_is_not_allowed_is_refused():
    """The right builder may have been asked for the wrong thing."""
    policy = Policy({BUILDER: Builder(BUILDER, build_types=("https://release",))}, waivers=False, sha256="0" * 64)
    with pytest.raises(EvidenceError, match="https://release is allowed"):
        judged(some_evidence(IMAGE), policy)
