"""A whole installation whose images lie in a bucket: published, downloaded by range, copied for a CDN, backed up."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from signing.bucket_store import PART_BYTES
from tests.processes import (
    PRIMARY_HARDWARE,
    SECONDARY_HARDWARE,
    ImageSpec,
    Installation,
    an_installation,
    eventually,
    run_cli,
)
from tests.s3_server import a_bucket, an_s3_server, open_to_readers
from tests.vehicles import AVehicle, enrolled, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PLAN = """\
name: spring
release: 1.2.0
holdout: 0%
waves: [{name: all, soak: 0s}]
"""
RANGE_BYTES = 3_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with an_s3_server() as address:
        yield address


@pytest.fixture(scope="module")
def bucket(server: str) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        yield a_bucket(server, "fleet-images", environment)


@pytest.fixture(scope="module")
def house(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two releases; nothing in it depends on which test comes first."""
    with an_installation(tmp_path_factory.mktemp("bucket"), images=f"{bucket}/fleet") as running:
        for counter, version in ((11, "1.1.0"), (12, "1.2.0")):
            long = f"gateway {version} ".encode() * (PART_BYTES // 10)
            short = f"body {version}".encode()
            images = [ImageSpec(PRIMARY_HARDWARE, long), ImageSpec(SECONDARY_HARDWARE, short)]
            running.publish(version, release_counter=counter, images=images)
        yield running


def download(house: Installation, name: str, length: int) -> bytes:
    """An image from the image port, range by range as a vehicle with a bad link gets it."""
    pieces = []
    for start in range(0, length, RANGE_BYTES):
        end = min(start + RANGE_BYTES, length) - 1
        status, piece = house.get_image(f"/targets/{name}", f"bytes={start}-{end}")
        assert (status, len(piece)) == (206, end + 1 - start)
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.uptane("I1", "I3")
def test_an_update_whose_images_never_lay_on_the_servers_disk(house: Installation, tmp_path: Path) -> None:
    """Who publishes and who serves meet in the bucket; a vehicle notices no difference."""
    assert list((house.data / "image-repo" / "targets").iterdir()) == []
    [vehicle] = enrolled(house, AVehicle("v-1"))
    vehicle.provision(house, tmp_path / "v-1")
    vehicle.check_in()
    vehicle.attest()
    house.must("rollout", "start", house.write("spring.yaml", PLAN), "--yes")
    attempt_id = offered(vehicle).attempt_id
    images = vehicle.verify().images
    assert max(image.length for image in images) > PART_BYTES, "of several parts"
    for image in images:
        content = download(house, f"{image.sha256}.{image.path.rpartition('/')[2]}", image.length)
        assert sha256(content).hexdigest() == image.sha256
    vehicle.check_in(vehicle.event(attempt_id, "DOWNLOAD_FINISHED"))
    assert vehicle.authorize(attempt_id).WhichOneof("answer") == "permit"
    vehicle.install(images)
    assert vehicle.attest().installed_release == "1.2.0"
    eventually(lambda: house.metric("outrider_image_bytes_total") > PART_BYTES, what="what was sent is counted")


@pytest.mark.uptane("I1", "M15")
def test_a_bucket_serves_a_tuf_client_by_itself(house: Installation, server: str, bucket: str, tmp_path: Path) -> None:
    """What is exported to a bucket is a repository that needs no server of ours, for any client of TUF."""
    done = house.must("image-repo", "export", f"{bucket}/mirror")
    assert done["images"] >= 4
    name = bucket.removeprefix("s3://")
    open_to_readers(server, name)
    address = f"{server}/{name}/mirror"
    client = Updater(
        str(tmp_path / "client"),
        f"{address}/metadata/",
        target_dir=str(tmp_path),
        target_base_url=f"{address}/targets/",
        bootstrap=(house.data / "provisioning" / "image-root.json").read_bytes(),
    )
    client.refresh()
    release = house.must("release", "show", "1.2.0")
    for image in release["images"]:
        target = client.get_targetinfo(image["path"])
        assert target is not None
        got = Path(client.download_target(target, str(tmp_path / "got")))
        assert sha256(got.read_bytes()).hexdigest() == image["sha256"]


def test_a_bucket_is_examined_and_told_by_backup_and_restore(house: Installation, bucket: str, tmp_path: Path) -> None:
    """A backup without images must say so; after a restore the same bucket serves them."""
    told = {item["check"]: item["level"] for item in house.must("doctor")["findings"]}
    assert (told["images"], told["images bucket"]) == ("ok", "ok")
    file = tmp_path / "outrider.backup"
    taken = house.must("backup", file)
    assert (taken["images"], taken["images_at"]) == (False, f"{bucket}/fleet")
    assert taken["size_bytes"] < PART_BYTES, "nothing that was fetched to sign again is in it"
    restored = run_cli("--data", tmp_path / "new", "restore", file)
    assert restored.exit_code == 0, restored.stderr
    assert f"Images lie in {bucket}/fleet: outrider doctor" in restored.stdout
    told = {
        item["check"]: item
        for item in run_cli("--data", tmp_path / "new", "--output", "json", "doctor").json["findings"]
    }
    assert told["images"]["level"] == "ok", told["images"]
