"""`outrider release publish` makes deltas from what the fleet runs, and `release show` says what they save."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path

import pytest
from outrider.v1.fleet_pb2 import CountVehiclesResponse, VehicleCount
from outrider.v1.release_pb2 import Delta, ListReleasesResponse

from signing.image_repo import ImageRepository
from tests.cli.answers import a_release
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, OperatorServer
from tests.cli.test_release import installation  # noqa: F401 - a fixture
from tests.cli.test_way_back import HARDWARE, Publisher
from tests.evidence import believe, evidence_fields

COMMON = random.Random(1).randbytes(100_000)


class LargePublisher(Publisher):
    """Publishes images that are long enough for deltas, and alike."""

    def __call__(self, version: str, counter: int, *options: str, content: bytes = COMMON):
        file = self.folder / f"{version}.yaml"
        image = self.folder / f"{version}.img"
        image.write_bytes(content + version.encode())
        believe(self.folder)
        file.write_text(
            f"version: {version}\nimages:\n"
            f"  - {{file: {version}.img, hardware_id: {HARDWARE}, release_counter: {counter}, "
            f"{evidence_fields(image)}}}\n"
        )
        return self.outrider("release", "publish", file, "--no-revert", *options)

    def runs(self, **vehicles: int) -> None:
        """How many vehicles prove which release, `v1_1_0=5`; `v=3` prove none."""
        counts = [
            VehicleCount(values={"installed": name.removeprefix("v").replace("_", ".")}, count=count)
            for name, count in vehicles.items()
        ]
        self.server.will_answer("CountVehicles", CountVehiclesResponse(counts=counts))

    def deltas(self) -> set[tuple[str, str]]:
        """(from version, to version) of every delta that is signed."""
        repository = ImageRepository(self.folder / "image-repo")
        names = {target.sha256: target.version for target in repository.verified_targets(FLEET_TIME)}
        found = repository.verified_deltas(FLEET_TIME)
        return {(names[delta.from_sha256], names[delta.to_sha256]) for delta in found}


@pytest.fixture
def publish(server: OperatorServer, outrider: Outrider, installation: Path) -> LargePublisher:  # noqa: F811
    return LargePublisher(server, outrider, installation)


def test_deltas_are_made_from_what_most_vehicles_run(publish: LargePublisher) -> None:
    """Most first, four at most, and none from what only the factory knows."""
    versions = [f"1.{minor}.0" for minor in range(1, 7)]
    for counter, version in enumerate(versions, start=1):
        assert publish(version, counter, "--no-deltas").exit_code == 0
    publish.runs(v=900, v1_1_0=5, v1_2_0=50, v1_3_0=1, v1_4_0=40, v1_5_0=30, v9_9_9=70, v1_6_0=2)
    outcome = publish("2.0.0", 20)
    assert outcome.exit_code == 0, outcome.stderr
    assert publish.deltas() == {("1.2.0", "2.0.0"), ("1.4.0", "2.0.0"), ("1.5.0", "2.0.0")}
    [request] = publish.server.asked("CountVehicles")
    assert list(request.group_by) == ["installed"]


def test_releases_to_start_from_can_be_named(publish: LargePublisher) -> None:
    """Who knows better than the manifests says so, and the server is not asked."""
    publish("1.1.0", 1)
    publish("1.2.0", 2, "--no-deltas")
    outcome = publish("1.3.0", 3, "--delta-from", "1.1.0", "--delta-from", "1.2.0")
    assert outcome.exit_code == 0, outcome.stderr
    assert publish.deltas() == {("1.1.0", "1.3.0"), ("1.2.0", "1.3.0")}
    assert not publish.server.asked("CountVehicles")


def test_release_that_was_never_signed_is_no_start(publish: LargePublisher) -> None:
    """A slip of the keyboard must not become a release without deltas; nothing is signed."""
    publish("1.1.0", 1)
    outcome = publish("1.2.0", 2, "--delta-from", "1.0.9")
    assert outcome.exit_code == 2
    assert "--delta-from 1.0.9" in outcome.stderr
    assert "signed are: 1.1.0" in outcome.stderr
    assert len(publish.known) == 1


def test_naming_releases_and_wanting_no_deltas_is_refused(publish: LargePublisher) -> None:
    """One of both is a mistake, and nobody knows which."""
    outcome = publish("1.1.0", 1, "--delta-from", "1.0.0", "--no-deltas")
    assert outcome.exit_code == 2
    assert "contradict each other" in outcome.stderr


def test_delta_that_cannot_be_made_does_not_stop_a_release(publish: LargePublisher) -> None:
    """An urgent release must go out; vehicles fetch the whole image, and the person hears why."""
    publish("1.1.0", 1)
    [old] = (publish.folder / "image-repo" / "targets").iterdir()
    old.unlink()
    outcome = publish("1.2.0", 2, "--delta-from", "1.1.0")
    assert outcome.exit_code == 0, outcome.stderr
    assert "No delta from 1.1.0" in outcome.stderr
    assert "Vehicles fetch the whole image" in outcome.stderr
    assert [release.version for release in publish.known] == ["1.1.0", "1.2.0"]


def test_metadata_that_ran_out_does_not_wait_for_deltas(publish: LargePublisher) -> None:
    """Publishing is what mends it."""
    publish("1.1.0", 1)
    timestamp = publish.folder / "image-repo" / "metadata" / "timestamp.json"
    signed = json.loads(timestamp.read_bytes())
    signed["signed"]["expires"] = f"{FLEET_TIME - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    timestamp.write_text(json.dumps(signed))
    outcome = publish("1.2.0", 2, "--delta-from", "1.1.0")
    assert outcome.exit_code == 0, outcome.stderr
    assert "No deltas: the Image repository does not verify as it is" in outcome.stderr


def test_delta_that_saves_too_little_is_said(publish: LargePublisher) -> None:
    """Who waits for a saving learns why there is none."""
    publish("1.1.0", 1)
    outcome = publish("1.2.0", 2, "--delta-from", "1.1.0", content=random.Random(2).randbytes(100_000))
    assert outcome.exit_code == 0
    assert "would save less than 30 %" in outcome.stderr
    assert publish.deltas() == set()


def test_image_without_possible_deltas_asks_for_nothing(publish: LargePublisher) -> None:
    """Small images and the first release have no deltas, named or not."""
    publish("1.1.0", 1, content=b"small")
    outcome = publish("1.2.0", 2, "--delta-from", "1.1.0", content=b"tiny")
    assert outcome.exit_code == 0
    assert "No deltas from 1.1.0: images below 64 KiB" in outcome.stderr


def a_delta(origin: str, length_bytes: int) -> Delta:
    return Delta(hardware_id="acme-gw-2", from_release=origin, length_bytes=length_bytes, image_length_bytes=123456)


def test_show_says_what_each_delta_saves(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """What a release costs the fleet in bytes is seen before it is rolled out."""
    release = a_release(deltas=[a_delta("1.0.0", 1234), a_delta("1.0.1", 12), a_delta("", 61728)])
    server.will_answer("GetRelease", release)
    lines = [" ".join(line.split()) for line in outrider("release", "show", "1.1.0").stdout.splitlines()]
    assert "acme-gw-2 1.0.0 1 234 123 456 99 %" in [line.replace(",", " ") for line in lines]
    assert any(line.startswith("acme-gw-2 1.0.1 12 ") and line.endswith(" 99.9 %") for line in lines), lines
    assert any("an image of no release" in line and line.endswith(" 50 %") for line in lines), lines


def test_list_says_what_deltas_save_at_best(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """One line a release: from the best origin, and a dash where there are none."""
    release = a_release("1.2.0", notes="", deltas=[a_delta("1.0.0", 61728), a_delta("1.1.0", 30864)])
    server.will_answer("ListReleases", ListReleasesResponse(releases=[release, a_release(notes="")]))
    newer, older = outrider("release", "show").stdout.rstrip().splitlines()[-2:]
    assert newer.split()[-2:] == ["75", "%"]
    assert older.split()[-1] == "-"
