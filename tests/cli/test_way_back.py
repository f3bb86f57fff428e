"""`outrider release publish` signs the way back: what it goes by, and when it asks a person instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.v1.release_pb2 import CreateReleaseRequest, ListReleasesResponse, Release
from outrider.v1.rollout_pb2 import ListRolloutsResponse

from signing.image_repo import ImageRepository
from tests.cli.answers import a_release, a_rollout
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, OperatorServer
from tests.cli.test_release import installation  # noqa: F401 - a fixture
from tests.evidence import believe, evidence_fields

HARDWARE = "acme-gw-2"


class Publisher:
    """Publishes releases of one image, one after the other, against a server that has what it was told."""

    def __init__(self, server: OperatorServer, outrider: Outrider, folder: Path) -> None:
        self.server = server
        self.outrider = outrider
        self.folder = folder
        self.known: list[Release] = []
        server.will_answer("ListRollouts", ListRolloutsResponse())
        server.will_answer("ListReleases", lambda _: ListReleasesResponse(releases=self.known))
        server.will_answer("CreateRelease", self.register)

    def register(self, request: CreateReleaseRequest) -> Release:
        release = request.release
        self.known.append(
            a_release(release.version, images=release.images, notes=release.notes, reverts=release.reverts)
        )
        return self.known[-1]

    def __call__(self, version: str, counter: int, *options: str, extra: str = ""):
        file = self.folder / f"{version}.yaml"
        image = self.folder / f"{version}.img"
        image.write_bytes(version.encode() * 100)
        believe(self.folder)
        file.write_text(
            f"version: {version}\n{extra}images:\n"
            f"  - {{file: {version}.img, hardware_id: {HARDWARE}, release_counter: {counter}, "
            f"{evidence_fields(image)}}}\n"
        )
        return self.outrider("release", "publish", file, *options)

    def registered(self) -> list[tuple[str, str, int]]:
        return [(one.version, one.reverts, one.images[0].release_counter) for one in self.known]

    def signed_bytes(self, version: str) -> bytes:
        image = next(one for one in self.known if one.version == version).images[0]
        repository = ImageRepository(self.folder / "image-repo")
        assert repository.verified_target(image.path, FLEET_TIME) is not None
        return repository.image_file(image.path, image.sha256).read_bytes()


@pytest.fixture
def publish(server: OperatorServer, outrider: Outrider, installation: Path) -> Publisher:  # noqa: F811
    return Publisher(server, outrider, installation)


def test_the_release_before_is_signed_as_the_way_back(publish: Publisher) -> None:
    """Nobody needs offline keys at 3 a.m.: they were used when the new release was."""
    first = publish("1.1.0", 11)
    assert "No way back: no release before 1.1.0" in first.stdout
    second = publish("1.2.0", 12)
    assert second.exit_code == 0, second.stderr
    assert publish.registered() == [("1.1.0", "", 11), ("1.2.0", "", 12), ("1.2.0-revert", "1.2.0", 13)]
    assert publish.signed_bytes("1.2.0-revert") == b"1.1.0" * 100
    assert "The way back is 1.2.0-revert: the images of 1.1.0" in " ".join(second.stdout.split())
    assert "Release counters up to 13 are taken" in second.stdout


def test_publishing_again_repeats_the_way_back_as_well(publish: Publisher) -> None:
    """A lost answer is mended by the same command, also when later releases made the choice another."""
    publish("1.1.0", 11)
    publish("1.2.0", 12)
    before = ImageRepository(publish.folder / "image-repo").versions()
    again = publish("1.2.0", 12)
    assert again.exit_code == 0, again.stderr
    assert "the images of 1.1.0" in " ".join(again.stdout.split())
    assert ImageRepository(publish.folder / "image-repo").versions() == before
    assert publish.registered()[3:] == publish.registered()[1:3]


def test_a_person_can_choose_where_to_or_that_there_is_none(publish: Publisher) -> None:
    """In the file, on the command line, or not at all."""
    publish("1.0.0", 10)
    publish("1.1.0", 11, "--no-revert")
    publish("1.2.0", 13, extra="revert_to: 1.0.0\n")
    publish("1.3.0", 15, "--revert-to", "1.1.0")
    assert [version for version, reverts, _ in publish.registered() if reverts] == ["1.2.0-revert", "1.3.0-revert"]
    assert publish.signed_bytes("1.2.0-revert") == b"1.0.0" * 100
    assert publish.signed_bytes("1.3.0-revert") == b"1.1.0" * 100
    declined = publish("1.4.0", 17, "--no-revert")
    assert "No way back was signed" in declined.stdout


@pytest.mark.parametrize(
    ("rollouts", "doubt"),
    [
        ([a_rollout("ABORTED", release="1.2.0")], "was stopped in rollouts/spring-1-1-0"),
        ([a_rollout("HALTED", release="1.2.0")], "was stopped in rollouts/spring-1-1-0"),
        ([a_rollout(release="1.2.0-revert", name="rollouts/back")], "was undone by rollouts/back"),
    ],
    ids=["aborted", "halted", "undone"],
)
def test_a_release_that_was_stopped_is_not_gone_back_to_unasked(publish: Publisher, rollouts: list, doubt: str) -> None:
    """The fix of a bad release must not have the bad one as its way back."""
    publish("1.1.0", 11)
    publish("1.2.0", 12)
    publish.server.answers["ListRollouts"] = [ListRolloutsResponse(rollouts=rollouts)]
    before = ImageRepository(publish.folder / "image-repo").versions()
    refused = publish("1.2.1", 14)
    assert refused.exit_code == 4
    assert f"release 1.2.0, the one before 1.2.1, {doubt}" in refused.stderr
    assert "`--revert-to 1.1.0`" in refused.stderr
    assert ImageRepository(publish.folder / "image-repo").versions() == before
    assert publish("1.2.1", 14, "--revert-to", "1.1.0").exit_code == 0
    assert publish.registered()[-1] == ("1.2.1-revert", "1.2.1", 15)


def test_a_rollout_that_went_well_after_a_stopped_one_settles_the_doubt(publish: Publisher) -> None:
    """The newest rollout of a release says what became of it."""
    publish("1.1.0", 11)
    publish("1.2.0", 12)
    rollouts = [a_rollout("COMPLETED", release="1.2.0"), a_rollout("ABORTED", release="1.2.0")]
    publish.server.answers["ListRollouts"] = [ListRolloutsResponse(rollouts=rollouts)]
    assert publish("1.3.0", 14).exit_code == 0
    assert publish.signed_bytes("1.3.0-revert") == b"1.2.0" * 100


def test_a_way_back_that_was_only_written_down_undid_nothing(publish: Publisher) -> None:
    """A halt may leave a draft behind; until somebody starts it, it says nothing of the release."""
    publish("1.1.0", 11)
    publish("1.2.0", 12)
    rollouts = [
        a_rollout("DRAFT", release="1.2.0-revert", name="rollouts/back"),
        a_rollout("COMPLETED", release="1.2.0"),
    ]
    publish.server.answers["ListRollouts"] = [ListRolloutsResponse(rollouts=rollouts)]
    assert publish("1.3.0", 14).exit_code == 0


def test_a_server_cannot_choose_what_offline_keys_sign(publish: Publisher) -> None:
    """A stolen orchestrator that hides the release before gets a question asked, not older software signed."""
    publish("1.0.0", 10)
    publish("1.1.0", 11)
    publish.known = [release for release in publish.known if release.version == "1.0.0"]
    refused = publish("1.2.0", 13)
    assert refused.exit_code == 4
    assert "release 1.1.0, the one before 1.2.0, is signed, but not registered" in refused.stderr


@pytest.mark.parametrize(
    ("options", "extra", "exit_code", "words"),
    [
        (("--revert-to", "0.9.0"), "", 4, "release 0.9.0, to go back to, is not signed here"),
        (("--revert-to", "1.1.0", "--no-revert"), "", 2, "contradict"),
        ((), "revert_to: 1.2.0\n", 2, "1.2.0 cannot be undone by itself"),
        ((), "revert_to: one\n", 2, "`one` is not a semantic version"),
    ],
)
def test_a_way_back_that_cannot_be_is_refused_before_anything_is_signed(
    publish: Publisher, options: tuple[str, ...], extra: str, exit_code: int, words: str
) -> None:
    """Half a publication would be a release without its way back."""
    publish("1.1.0", 11)
    before = ImageRepository(publish.folder / "image-repo").versions()
    refused = publish("1.2.0", 12, *options, extra=extra)
    assert (refused.exit_code, words in refused.stderr) == (exit_code, True), refused.stderr
    assert ImageRepository(publish.folder / "image-repo").versions() == before
    assert len(publish.known) == 1
