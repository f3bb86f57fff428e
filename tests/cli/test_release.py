"""`outrider release` and `outrider image-repo`, on real repositories with real keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from outrider.v1.release_pb2 import CreateReleaseRequest, ListReleasesResponse, Release
from outrider.v1.rollout_pb2 import ListRolloutsResponse

from agent_sim.evidence import SUFFIXES
from orchestrator import settings
from signing.image_repo import ImageRepository
from tests.cli.answers import a_release
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, TRUST_DOMAIN, OperatorServer, Refused
from tests.evidence import believe, evidence_fields

RELEASE = """\
version: 1.1.0
notes: Better brakes
images:
  - {file: gw.img, hardware_id: acme-gw-2, release_counter: 11, GW}
  - {file: brake.bin, hardware_id: acme-brake-2, release_counter: 7, path: brakes-1.1.0.bin, BRAKE}
""".replace("GW", ", ".join(f"{kind}: gw.img{suffix}" for kind, suffix in SUFFIXES.items())).replace(
    "BRAKE", ", ".join(f"{kind}: brake.bin{suffix}" for kind, suffix in SUFFIXES.items())
)


@pytest.fixture
def installation(data: Path, outrider: Outrider) -> Path:
    """The data folder with real repositories, dated before the server's fleet time."""
    (data / "operators").rename(data.parent / "issued")
    (data / settings.FILE_NAME).write_text(
        f'trust_domain = "{TRUST_DOMAIN}"\nfleet_origin = {FLEET_TIME - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}\n'
    )
    outcome = outrider("keys", "init", "--data", data)
    assert outcome.exit_code == 0, outcome.stderr
    (data / "operators").rename(data.parent / "made")
    (data.parent / "issued").rename(data / "operators")
    return data


@pytest.fixture
def release(installation: Path) -> Path:
    path = installation / "release.yaml"
    path.write_text(RELEASE, encoding="utf-8")
    (installation / "gw.img").write_bytes(b"gateway" * 100)
    (installation / "brake.bin").write_bytes(b"brake" * 50)
    believe(installation)
    for name in ("gw.img", "brake.bin"):
        evidence_fields(installation / name)
    return path


def register(request: CreateReleaseRequest) -> Release:
    return a_release(request.release.version, images=request.release.images, notes=request.release.notes)


def test_publish_signs_by_fleet_time_and_registers_what_was_signed(
    server: OperatorServer, release: Path, outrider: Outrider
) -> None:
    """What the server hears is what stands in the signed metadata, dated by the clock that vehicles go by."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    server.will_answer("CreateRelease", register)
    outcome = outrider("release", "publish", release, "--reason", "recall 7")
    assert outcome.exit_code == 0, outcome.stderr
    [request] = server.asked("CreateRelease")
    assert (request.release.version, request.release.notes, request.reason) == ("1.1.0", "Better brakes", "recall 7")
    repository = ImageRepository(release.parent / "image-repo")
    for image in request.release.images:
        target = repository.verified_target(image.path, FLEET_TIME)
        assert target is not None
        assert (target.length, target.sha256, target.hardware_id, target.release_counter) == (
            image.length_bytes,
            image.sha256,
            image.hardware_id,
            image.release_counter,
        )
    assert [image.path for image in request.release.images] == ["acme-gw-2-1.1.0.img", "brakes-1.1.0.bin"]
    assert "acme-brake-2" in outcome.stdout


def test_publish_twice_signs_once(server: OperatorServer, release: Path, outrider: Outrider) -> None:
    """After a lost answer the command is simply repeated."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    server.will_answer("CreateRelease", register)
    repository = ImageRepository(release.parent / "image-repo")
    outrider("release", "publish", release)
    versions = repository.versions()
    assert outrider("release", "publish", release).exit_code == 0
    assert repository.versions() == versions


def test_publish_without_a_server_signs_nothing(installation: Path, release: Path, outrider: Outrider) -> None:
    """A release that is signed but unknown to the orchestrator, dated by the wrong clock, helps nobody."""
    (installation / "endpoints.json").unlink()
    versions = ImageRepository(installation / "image-repo").versions()
    assert outrider("release", "publish", release).exit_code == 5
    assert ImageRepository(installation / "image-repo").versions() == versions


def test_publish_where_the_keys_are_not_says_where_to_go(
    server: OperatorServer, installation: Path, release: Path, outrider: Outrider
) -> None:
    """Signing keys live offline; the machine that has not got them says so."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    (installation / "keys" / "image" / "targets.pem").unlink()
    outcome = outrider("release", "publish", release)
    assert outcome.exit_code == 1
    assert "targets.pem" in outcome.stderr
    assert not server.asked("CreateRelease")


def test_a_lower_release_counter_is_refused_before_registration(
    server: OperatorServer, release: Path, outrider: Outrider
) -> None:
    """A rollback by accident is caught where the release is made."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    server.will_answer("CreateRelease", register)
    outrider("release", "publish", release)
    (release.parent / "gw.img").write_bytes(b"older")
    evidence_fields(release.parent / "gw.img")
    release.write_text(RELEASE.replace("1.1.0", "1.2.0").replace("release_counter: 11", "release_counter: 10"))
    outcome = outrider("release", "publish", release)
    assert outcome.exit_code == 4
    assert "10" in outcome.stderr
    assert "11" in outcome.stderr
    assert len(server.asked("CreateRelease")) == 1


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (RELEASE.replace("notes", "note"), "2:1", "unknown field `note`"),
        (RELEASE.replace("1.1.0\n", "1.1\n", 1), "1:10", "`1.1` is not a semantic version"),
        (RELEASE.replace("release_counter: 7", "release_counter: seven"), "5:67", "`seven` is not a whole number"),
        (RELEASE.replace("gw.img", "gone.img", 1), "4:12", "gone.img does not exist"),
        (RELEASE.replace("hardware_id: acme-gw-2, ", ""), "4:5", "`hardware_id` is missing"),
        (RELEASE.replace("acme-brake-2", "acme-gw-2"), "5:5", "hardware_id acme-gw-2 has an image already"),
        ("version: 1.1.0\nimages: []\n", "2:9", "no image stands here"),
        ("version: 1.1.0\n", "1:1", "`images` is missing"),
        ("version: 1.1.0\nimages: {", "2:10", "not YAML"),
        ("\n", "1:1", "the file is empty"),
        ("- 1\n", "1:1", "a list where a mapping"),
    ],
)
def test_faults_of_a_release_file_name_line_and_column(
    text: str, place: str, words: str, server: OperatorServer, release: Path, outrider: Outrider
) -> None:
    """The file is checked before anything is signed or asked."""
    release.write_text(text, encoding="utf-8")
    outcome = outrider("release", "publish", release)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[0].startswith(f"{release}:{place}: ")
    assert words in outcome.stderr.splitlines()[0]
    assert outcome.stderr.splitlines()[-1].startswith(f"error: {release} has 1 fault; nothing was signed")
    assert not server.requests


def test_show_lists_all_or_one(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Without a version: what there is; with one: every image with its digest."""
    server.will_answer("ListReleases", ListReleasesResponse(releases=[a_release("1.1.0"), a_release("1.0.0")]))
    server.will_answer("GetRelease", a_release("1.1.0"))
    listed = outrider("release", "show").stdout
    assert "1.1.0" in listed
    assert "1.0.0" in listed
    one = outrider("release", "show", "1.1.0").stdout
    assert "ab" * 32 in one
    assert "123,456" in one
    assert server.asked("GetRelease")[0].name == "releases/1.1.0"


def test_show_of_an_unknown_release_is_not_found(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """The server's own remedy reaches the person."""
    server.will_answer("GetRelease", Refused(grpc.StatusCode.NOT_FOUND, "no release 9.9.9", remedy="list them"))
    outcome = outrider("release", "show", "9.9.9")
    assert (outcome.exit_code, outcome.stderr) == (3, "error: no release 9.9.9 -> list them\n")


def test_renew_signs_only_what_is_due(server: OperatorServer, installation: Path, outrider: Outrider) -> None:
    """Every signature raises a version that every vehicle fetches: none is made without need."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    outcome = outrider("image-repo", "renew", "-o", "json")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.json == {"signed": [], "fleet_time": "2031-04-05T06:07:08+00:00"}


def test_renew_signs_by_fleet_time_when_due(
    server: OperatorServer, installation: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fleet time runs far ahead of this machine's date here: what it says is due, is due."""
    monkeypatch.setattr("tests.cli.server.FLEET_TIME", FLEET_TIME + timedelta(days=300))
    server.will_answer("ListRollouts", ListRolloutsResponse())
    before = ImageRepository(installation / "image-repo").versions()
    outcome = outrider("image-repo", "renew")
    assert outcome.exit_code == 0, outcome.stderr
    after = ImageRepository(installation / "image-repo").versions()
    assert after.timestamp > before.timestamp
    assert after.targets == before.targets
    assert "re-signed" in outcome.stdout


def test_renew_without_a_server_goes_by_this_machines_date_and_says_so(installation: Path, outrider: Outrider) -> None:
    """The job must not depend on the orchestrator that it is kept apart from."""
    (installation / "endpoints.json").unlink()
    outcome = outrider("image-repo", "renew")
    assert outcome.exit_code == 0
    assert outcome.stderr == "no orchestrator answers: signing by this machine's date\n"
