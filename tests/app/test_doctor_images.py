"""The doctor on the bytes of images: what is listed lies there, and a bucket can be relied on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.core import set_initial_no_auth_action_count

from orchestrator.app.doctor import CHECKS, Finding, Level, Patient, examine
from orchestrator.clock import MachineClock
from signing.bucket_store import INCOMING, BucketStore
from signing.ceremony import DataFolder, initialise
from signing.image_repo import ImageRepository, NewImage
from signing.image_store import open_store
from tests.s3_server import a_bucket, an_s3_server
from tests.signing.uptane_simulator import NOW

LISTED = "each of 1 images and deltas that are listed is there"


def found(data: DataFolder) -> dict[str, Finding]:
    [wanted] = [each for each in CHECKS if each.name == "images"]
    return {item.check: item for item in examine(Patient(data.path, machine=MachineClock()), checks=[wanted])}


def publish(data: DataFolder, folder: Path, setting: str = "") -> None:
    (data.path / "outrider.toml").write_text(f'images = "{setting}"\n')
    (folder / "a.img").write_bytes(b"image")
    repository = ImageRepository(data.image_repo, open_store(setting, data.image_repo / "targets"))
    repository.publish([NewImage("a.img", folder / "a.img", "acme-gw-2", 2, "1.1.0")], data.image_keys, NOW)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return initialise(tmp_path / "data", trust_domain="test.outrider.invalid", now=NOW)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with an_s3_server() as address:
        yield address


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    return a_bucket(server, tmp_path.name.replace("_", "-").lower(), monkeypatch)


def test_an_image_that_is_gone_is_found(data: DataFolder, tmp_path: Path) -> None:
    """Signed and registered, and no vehicle can fetch it: better told here than by a fleet that tries."""
    publish(data, tmp_path)
    assert found(data)["images"].cause == LISTED
    [image] = (data.image_repo / "targets").iterdir()
    image.unlink()
    told = found(data)["images"]
    assert told.level is Level.ERROR
    assert "1 of 1 images and deltas that are listed are not there, or have another length: a.img" in told.cause
    assert "outrider release publish" in told.remedy
    publish(data, tmp_path)
    assert found(data)["images"].level is Level.OK, "the remedy mends it"


def test_a_bucket_that_works_has_nothing_wrong(data: DataFolder, tmp_path: Path, bucket: str) -> None:
    """Tried with real requests, and nothing of them stays."""
    publish(data, tmp_path, bucket)
    told = found(data)
    assert {item.level for item in told.values()} == {Level.OK}
    assert told["images"].cause == f"{LISTED} in {bucket}"
    BucketStore(bucket).write(f"{INCOMING}left", b"part")
    assert found(data)["images bucket"].level is Level.WARNING


def test_a_bucket_that_may_only_be_read_is_enough_to_serve(data: DataFolder, tmp_path: Path, bucket: str) -> None:
    """The server should not have the right to write; the doctor must not ask for it."""
    publish(data, tmp_path, bucket)

    @set_initial_no_auth_action_count(1)
    def act() -> dict[str, Finding]:
        return found(data)

    assert {name: item.level for name, item in act().items()} == {"images": Level.OK, "images bucket": Level.SKIPPED}


def test_a_bucket_that_is_not_there_is_an_error_with_its_remedy(data: DataFolder, tmp_path: Path, bucket: str) -> None:
    """One line; not one for each image."""
    publish(data, tmp_path, bucket)
    (data.path / "outrider.toml").write_text('images = "s3://nowhere-at-all/fleet"\n')
    [told] = found(data).values()
    assert told.level is Level.ERROR
    assert "there is no such bucket" in told.cause
    assert "correct the setting `images`" in told.remedy
