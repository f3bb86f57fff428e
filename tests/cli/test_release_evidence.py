"""Evidence at the command line: what `release publish` asks for, what `release attest` mends, what people are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outrider.v1.release_pb2 import CreateReleaseRequest, Evidence, ListReleasesResponse, Release
from outrider.v1.rollout_pb2 import ListRolloutsResponse
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Snapshot, Targets, Timestamp

from signing.attestation import with_attesters
from signing.ceremony import DataFolder
from signing.director import AssignedImage
from signing.image_repo import ImageRepository, TargetInfo
from signing.ingest_gate import IngestGate
from signing.keys import save_signer
from signing.release_facts import read_notes
from tests.cli.answers import a_release, ago
from tests.cli.conftest import Outcome, Outrider
from tests.cli.server import FLEET_TIME, OperatorServer
from tests.cli.test_release import installation  # noqa: F401 - a fixture
from tests.evidence import believe, evidence_fields, without_attesters

HARDWARE = "acme-gw-2"


class Ground:
    """An installation with a release file, and a server that takes what it is told."""

    def __init__(self, server: OperatorServer, outrider: Outrider, data: Path) -> None:
        self.server, self.outrider, self.data = server, outrider, data
        self.repository = ImageRepository(data / "image-repo")
        server.will_answer("ListRollouts", ListRolloutsResponse())
        server.will_answer("CreateRelease", self.register)
        server.will_answer("ListReleases", lambda _: ListReleasesResponse(releases=self.registered))
        self.registered: list[Release] = []
        believe(data)

    def register(self, request: CreateReleaseRequest) -> Release:
        """What the server does with a release that it is told of."""
        self.registered.append(a_release(request.release.version, images=request.release.images))
        return self.registered[-1]

    def file(self, version: str = "1.1.0", *, counter: int = 2, evidence: bool = True, extra: str = "") -> Path:
        """A release file with one image."""
        image = self.data / f"{version}.img"
        image.write_bytes(version.encode())
        fields = f", {evidence_fields(image)}" if evidence else ""
        path = self.data / f"{version}.yaml"
        path.write_text(
            f"version: {version}\n{extra}images:\n"
            f"  - {{file: {image.name}, hardware_id: {HARDWARE}, release_counter: {counter}{fields}}}\n"
        )
        return path

    def publish(self, path: Path, *options: str) -> Outcome:
        """Publish it, without a way back unless there is one to try."""
        return self.outrider("release", "publish", path, "--no-deltas", *options)

    def faults(self) -> list[str | None]:
        """Of every listed image: why the Director would not assign it."""
        gate = IngestGate(self.data / "image-repo")
        return [gate.fault(assigned(info)) for info in self.repository.listed()]

    def replace_attest_key(self) -> None:
        """As a ceremony does after a theft: another key vouches from now on, and lies where it is used."""
        fresh, metadata = CryptoSigner.generate_ecdsa(), self.repository.metadata
        targets = metadata.load("targets", Targets)
        with_attesters(targets, [fresh.public_key])
        snapshot, timestamp = metadata.load("snapshot", Snapshot), metadata.load("timestamp", Timestamp)
        metadata.release(targets, snapshot, timestamp, self.data / "keys" / "image", FLEET_TIME)
        save_signer(fresh, self.data / "keys" / "image" / "attest-2.pem")


def assigned(info: TargetInfo) -> AssignedImage:
    return AssignedImage(info.path, info.length, info.sha256, info.hardware_id, info.release_counter, ())


@pytest.fixture
def ground(server: OperatorServer, outrider: Outrider, installation: Path) -> Ground:  # noqa: F811
    return Ground(server, outrider, installation)


def test_image_without_evidence_is_not_signed_and_the_answer_says_what_to_do(ground: Ground) -> None:
    """The first thing that somebody new meets: two ways on, in one line."""
    outcome = ground.publish(ground.file(evidence=False))
    assert outcome.exit_code == 2
    assert "has no evidence" in outcome.stderr
    assert "provenance, sbom and tests" in outcome.stderr
    assert "--without-evidence" in outcome.stderr
    assert ground.repository.listed() == []
    assert not ground.server.asked("CreateRelease")


def test_evidence_comes_in_and_the_gate_lets_the_image_through(ground: Ground) -> None:
    """Digests in the signed targets, documents beside the images, a summary of them."""
    path = ground.file()
    assert ground.publish(path, "--no-revert").exit_code == 0
    [info] = ground.repository.listed()
    assert set(info.evidence) == {"provenance", "sbom", "tests", "summary"}
    assert ground.repository.evidence(info.evidence["sbom"]) == (ground.data / "1.1.0.img.cdx.json").read_bytes()
    assert ground.faults() == [None]


def test_publishing_again_makes_no_new_summary(ground: Ground) -> None:
    """A repetition signs nothing: every signature is fetched by every vehicle."""
    path = ground.file()
    ground.publish(path, "--no-revert")
    before = ground.repository.versions()
    assert ground.publish(path, "--no-revert").exit_code == 0
    assert ground.repository.versions() == before


def test_builder_that_the_policy_does_not_name_is_refused(ground: Ground) -> None:
    """Without a policy nobody is believed; the message names the builder to allow."""
    (ground.data / "ingest.yaml").unlink()
    outcome = ground.publish(ground.file())
    assert outcome.exit_code == 4
    assert "https://outrider.invalid/agent-sim, which is not among the allowed builders (none)" in outcome.stderr
    assert "ingest.yaml" in outcome.stderr
    assert ground.repository.listed() == []


def test_failed_test_stops_the_publication(ground: Ground) -> None:
    """What failed is named."""
    path = ground.file()
    report = ground.data / "1.1.0.img.tests.json"
    statement = json.loads(report.read_text())
    statement["predicate"]["failedTests"] = ["brakes-hold"]
    report.write_text(json.dumps(statement))
    outcome = ground.publish(path)
    assert outcome.exit_code == 4
    assert "1 of its tests failed: brakes-hold" in outcome.stderr
    assert ground.repository.listed() == []


def test_person_vouches_with_a_reason_that_is_signed(ground: Ground) -> None:
    """A trial needs one option more; who looks later sees it."""
    path = ground.file(evidence=False)
    assert ground.publish(path, "--no-revert", "--without-evidence", "trying it out").exit_code == 0
    [info] = ground.repository.listed()
    shown = IngestGate(ground.data / "image-repo").summary(info.path, HARDWARE)
    assert shown is not None
    assert (shown[0].waived, shown[0].level) == ("trying it out", "SLSA_BUILD_LEVEL_UNEVALUATED")
    assert ground.publish(path, "--no-revert").exit_code == 0, "repeated, it stands as it was vouched for"


def test_policy_without_waivers_lets_nobody_vouch(ground: Ground) -> None:
    """In production nothing gets by the pipeline."""
    (ground.data / "ingest.yaml").write_text("waivers: false\n")
    outcome = ground.publish(ground.file(evidence=False), "--without-evidence", "just this once")
    assert outcome.exit_code == 4
    assert "allows no waivers" in outcome.stderr
    assert ground.repository.listed() == []


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("builder: []\n", "1:1", "unknown field `builder`"),
        ("builders: [{keys: [ci.pub]}]\n", "1:12", "`id` is missing"),
        ("builders: [{id: 'https://ci x'}]\n", "1:17", "is not a URI"),
        ("builders: [{id: https://ci, keys: [gone.pub]}]\n", "1:36", "gone.pub cannot be read"),
        ("builders: [{id: https://ci, keys: []}]\n", "1:35", "no key stands here"),
        ("waivers: perhaps\n", "1:10", "is not one of true, false"),
        ("\n", "1:1", "the file is empty"),
    ],
)
def test_faults_of_the_policy_name_line_and_column(text: str, place: str, words: str, ground: Ground) -> None:
    """A policy that is read otherwise than it was meant believes the wrong people."""
    (ground.data / "ingest.yaml").write_text(text)
    outcome = ground.publish(ground.file())
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[0].startswith(f"{ground.data / 'ingest.yaml'}:{place}: ")
    assert words in outcome.stderr


def test_way_back_has_the_evidence_of_the_bytes_that_it_brings_back(ground: Ground) -> None:
    """The same bytes, vouched for under another path: nobody needs a pipeline at 3 a.m."""
    assert ground.publish(ground.file()).exit_code == 0
    assert ground.publish(ground.file("1.2.0", counter=3)).exit_code == 0
    by_version = {info.version: info for info in ground.repository.listed()}
    assert by_version["1.2.0-revert"].evidence == by_version["1.1.0"].evidence
    assert ground.faults() == [None, None, None]


def test_installation_from_before_goes_on_and_attests_when_it_is_ready(ground: Ground) -> None:
    """Nothing is asked until somebody is named; then what is listed needs a word, and one command gives it."""
    without_attesters(DataFolder(ground.data))
    path = ground.file(evidence=False)
    assert ground.publish(path, "--no-revert").exit_code == 0
    assert ground.faults() == [None]
    assert "names nobody" in ground.outrider("release", "attest").stderr
    ground.replace_attest_key()
    assert ground.faults() == ["no verification summary is listed with it"]
    outcome = ground.outrider("release", "attest")
    assert outcome.exit_code == 4
    assert "nobody vouches" in outcome.stderr
    refused = ground.publish(ground.file("1.2.0", counter=3))
    assert "outrider release attest 1.1.0" in refused.stderr, "no way back to what nobody vouches for"
    assert ground.outrider("release", "attest", "--without-evidence", "built before").exit_code == 0
    assert ground.faults() == [None]
    assert ground.publish(ground.file("1.2.0", counter=3)).exit_code == 0


def test_attest_judges_the_stored_evidence_again_after_a_key_was_replaced(ground: Ground) -> None:
    """A stolen key's word is worth nothing; the documents are, and are judged by the policy of today."""
    assert ground.publish(ground.file(), "--no-revert").exit_code == 0
    before = ground.repository.listed()[0].evidence
    ground.replace_attest_key()
    assert "must sign" in (ground.faults()[0] or "")
    outcome = ground.outrider("release", "attest", "-o", "json")
    assert outcome.json["attested"] == [f"{HARDWARE}-1.1.0.img"]
    after = ground.repository.listed()[0].evidence
    assert {kind: after[kind] for kind in ("provenance", "sbom", "tests")} == {
        kind: before[kind] for kind in ("provenance", "sbom", "tests")
    }
    assert ground.faults() == [None]
    assert ground.outrider("release", "attest", "-o", "json").json["attested"] == []


def test_attest_of_an_unknown_release_is_not_found(ground: Ground) -> None:
    """A typing error must not look like a release that needs nothing."""
    outcome = ground.outrider("release", "attest", "9.9.9")
    assert outcome.exit_code == 3
    assert "9.9.9" in outcome.stderr


def test_evidence_is_written_for_an_auditor_byte_for_byte(ground: Ground, tmp_path: Path) -> None:
    """What was judged is what is handed over; a document that was changed since is missed and not replaced."""
    ground.publish(ground.file(), "--no-revert")
    out = tmp_path / "audit"
    outcome = ground.outrider("release", "evidence", "1.1.0", "--out", out, "-o", "json")
    assert outcome.exit_code == 0, outcome.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        f"{HARDWARE}.{kind}.json" for kind in ("provenance", "sbom", "summary", "tests")
    ]
    assert (out / f"{HARDWARE}.sbom.json").read_bytes() == (ground.data / "1.1.0.img.cdx.json").read_bytes()
    [info] = ground.repository.listed()
    (ground.data / "image-repo" / "evidence" / f"{info.evidence['sbom']}.json").write_text("{}")
    outcome = ground.outrider("release", "evidence", "1.1.0", "--out", out)
    assert outcome.exit_code == 4
    assert f"sbom of {info.path}" in outcome.stderr
    assert ground.outrider("release", "evidence", "9.9.9", "--out", out).exit_code == 3


def test_facts_and_notes_are_signed_with_each_image(ground: Ground) -> None:
    """RXSWIN, what it may follow, safety and the words for owners, in every language."""
    extra = (
        "notes: {en: Better, de: Besser}\nrequires: '>=1.0.0'\nconflicts: [1.0.3]\n"
        "rxswin: [R79 SWIN 0042-01]\nsafety_relevant: true\n"
    )
    assert ground.publish(ground.file(extra=extra), "--no-revert").exit_code == 0
    [info] = ground.repository.listed()
    assert (info.facts.requires, info.facts.conflicts) == (">=1.0.0", ("1.0.3",))
    assert (info.facts.rxswin, info.facts.safety_relevant) == (("R79 SWIN 0042-01",), True)
    notes = ground.repository.evidence(info.facts.notes_sha256)
    assert notes is not None
    assert read_notes(notes) == {"de": "Besser", "en": "Better"}
    assert ground.server.asked("CreateRelease")[0].release.notes == "Better"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("requires: newer\n", "is not a semantic version"),
        ("conflicts: [1.0]\n", "is not a semantic version"),
        ("conflicts: [1.0.3, 1.0.3]\n", "listed twice"),
        ("rxswin: ['R79\tX']\n", "is not an RXSWIN"),
        ("safety_relevant: maybe\n", "is not one of true, false"),
        ("notes: {english: Better}\n", "is no language"),
    ],
)
def test_faults_of_what_a_release_says_are_named(extra: str, words: str, ground: Ground) -> None:
    """What is signed cannot be taken back: it is checked first."""
    outcome = ground.publish(ground.file(extra=extra))
    assert outcome.exit_code == 2
    assert words in outcome.stderr
    assert ground.repository.listed() == []


def test_show_tells_who_built_tested_and_vouched(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """What an approver looks at before the wave."""
    good = Evidence(
        hardware_id="acme-gw-2",
        builder="https://ci.example/x",
        level="SLSA_BUILD_LEVEL_2",
        component="gw 1.1.0",
        component_count=42,
        tests_passed=17,
        tests_warned=1,
        attested_by=["attest (12345678)"],
        attest_time=ago(days=1),
        sha256={"sbom": "ab" * 32},
    )
    bad = Evidence(hardware_id="acme-bcm-1", fault="no verification summary is listed with it")
    waived = Evidence(hardware_id="acme-cam-1", waived="from before", sha256={"summary": "cd" * 32})
    gone = Evidence(hardware_id="acme-lid-1", missing=["sbom"], sha256={"sbom": "cd" * 32})
    answer = a_release(
        evidence=[good, bad, waived, gone], rxswin=["R79 SWIN 1"], requires=">=1.0.0", safety_relevant=False
    )
    server.will_answer("GetRelease", answer)
    shown = " ".join(outrider("release", "show", "1.1.0").stdout.split())
    for words in (
        "https://ci.example/x (signed)",
        "gw 1.1.0, 42 parts",
        "17 passed, 1 warned",
        "attest (12345678) yes",
        "no: no verification summary is listed with it",
        "waived: from before",
        "gone or changed: sbom",
        "RXSWIN R79 SWIN 1",
        "requires >=1.0.0",
        "safety not relevant",
    ):
        assert words in shown
