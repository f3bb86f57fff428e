"""The Image repository: what is published stays, what readers find is whole, and vehicles would accept it."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from signing import image_metadata as image_metadata_module
from signing import image_store as image_store_module
from signing.ceremony import DataFolder
from signing.errors import AttackCode, ImageRefusedError, KeyFileError, SigningError, VerificationError
from signing.image_repo import ImageRepository, NewImage
from tests.signing.uptane_simulator import NOW


@pytest.fixture
def repository(data: DataFolder) -> ImageRepository:
    return ImageRepository(data.image_repo)


def an_image(folder: Path, path: str = "acme/gw-1.1.0.img", content: bytes = b"gateway", **changes) -> NewImage:
    file = folder / hashlib.sha256(path.encode() + content).hexdigest()
    file.write_bytes(content)
    fields = {"hardware_id": "acme-gw-1", "release_counter": 2, "version": "1.1.0"} | changes
    return NewImage(path, file, **fields)


def state(data: DataFolder) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(data.image_repo.rglob("*")) if p.is_file()}


@pytest.mark.uptane("I1", "I3")
def test_a_published_image_is_found_verified_and_whole(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """From the file of a build to what the orchestrator registers a release by."""
    (info,) = repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    assert (info.length, info.sha256) == (7, hashlib.sha256(b"gateway").hexdigest())
    assert (info.hardware_id, info.release_counter) == ("acme-gw-1", 2)
    assert repository.image_file(info.path, info.sha256).read_bytes() == b"gateway"
    assert (data.image_repo / "targets" / f"{info.sha256}.gw-1.1.0.img").exists()
    assert repository.verified_target(info.path, NOW) == info
    assert repository.verified_target("acme/other.img", NOW) is None
    assert repository.versions().targets == info.targets_version


def test_a_new_repository_is_empty_and_verifies(data: DataFolder, repository: ImageRepository):
    """Vehicles poll before the first release exists."""
    assert repository.verified_target("acme/x.img", NOW) is None
    assert repository.versions().root == 1


def test_a_repository_is_not_made_twice(data: DataFolder):
    """A second root version 1 would split the fleet."""
    before = state(data)
    with pytest.raises(SigningError, match="already"):
        ImageRepository.create(data.image_repo, data.image_keys, NOW)
    assert state(data) == before


def test_publishing_the_same_again_changes_nothing(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """A pipeline that is run twice, or that was cut short after the end, is harmless."""
    first = repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    before = state(data)
    assert repository.publish([an_image(tmp_path)], data.image_keys, NOW + timedelta(days=1)) == first
    assert state(data) == before


@pytest.mark.uptane("I3")
@pytest.mark.parametrize(
    "changes",
    [{"content": b"other"}, {"release_counter": 3}, {"hardware_id": "acme-gw-2"}, {"version": "1.1.1"}],
    ids=str,
)
def test_a_path_never_changes_its_meaning(
    data: DataFolder, repository: ImageRepository, tmp_path: Path, changes: dict[str, object]
):
    """I3: write once by unique name; a vehicle may be half way through the old one."""
    repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    before = state(data)
    with pytest.raises(ImageRefusedError, match="choose another path"):
        repository.publish([an_image(tmp_path, **changes)], data.image_keys, NOW)
    assert state(data) == before


@pytest.mark.uptane("A7")
def test_a_lower_release_counter_is_refused(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """A7: what every vehicle would refuse as a rollback is refused here, for its own hardware only."""
    repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    lower = an_image(tmp_path, "acme/gw-1.0.9.img", b"old", release_counter=1)
    with pytest.raises(ImageRefusedError, match="1 is lower than 2"):
        repository.publish([lower], data.image_keys, NOW)
    other = an_image(tmp_path, "acme/brake-1.img", b"brake", release_counter=1, hardware_id="acme-brake-1")
    same = an_image(tmp_path, "acme/gw-1.1.1.img", b"fix", release_counter=2)
    assert len(repository.publish([other, same], data.image_keys, NOW)) == 2


@pytest.mark.uptane("A27")
@pytest.mark.parametrize("path", ["../evil.img", "/etc/passwd", "a/../../b", "", "a\\b", "a//b", ".x", "x" * 200])
def test_a_path_that_could_leave_the_folder_is_refused(
    data: DataFolder, repository: ImageRepository, tmp_path: Path, path: str
):
    """A27: refused at ingest, before a byte is copied."""
    before = state(data)
    with pytest.raises(ImageRefusedError):
        repository.publish([an_image(tmp_path, path)], data.image_keys, NOW)
    assert state(data) == before


@pytest.mark.uptane("A30")
@pytest.mark.parametrize(
    "changes",
    [
        {"hardware_id": "a b"},
        {"release_counter": -1},
        {"release_counter": True},
        {"release_counter": 2**31},
        {"version": ""},
        {"version": "1\n"},
    ],
    ids=str,
)
def test_odd_fields_are_refused(
    data: DataFolder, repository: ImageRepository, tmp_path: Path, changes: dict[str, object]
):
    """A30: what is signed offline lives for months; it has to be plain."""
    with pytest.raises(ImageRefusedError):
        repository.publish([an_image(tmp_path, **changes)], data.image_keys, NOW)


def test_one_refused_image_keeps_all_of_them_out(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """A release is a set; half of one must not be installable."""
    before = state(data)
    good, bad = an_image(tmp_path), an_image(tmp_path, "acme/b.img", version="")
    with pytest.raises(ImageRefusedError):
        repository.publish([good, bad], data.image_keys, NOW)
    with pytest.raises(ImageRefusedError, match="twice"):
        repository.publish([good, good], data.image_keys, NOW)
    missing = NewImage("acme/c.img", tmp_path / "gone", "acme-gw-1", 2, "1")
    with pytest.raises(ImageRefusedError, match="cannot read"):
        repository.publish([missing], data.image_keys, NOW)
    assert state(data) == before


@pytest.mark.parametrize("cut", ["targets.json", "snapshot.json", "timestamp.json"])
def test_a_publication_that_is_cut_short_is_invisible_and_can_be_repeated(
    data: DataFolder, repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
):
    """Pitfall 19: images, targets, snapshot, timestamp, in this order; cut anywhere, readers find the state before."""
    before, image = repository.versions(), an_image(tmp_path)
    write = image_metadata_module.write_atomically

    def failing(path: Path, content: bytes, **arguments: object) -> None:
        if path.name.endswith(cut):
            raise OSError(5, "power lost")
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(image_metadata_module, "write_atomically", failing)
        with pytest.raises(OSError, match="power lost"):
            repository.publish([image], data.image_keys, NOW)
    assert repository.versions() == before
    assert repository.verified_target(image.path, NOW) is None
    (info,) = repository.publish([image], data.image_keys, NOW)
    assert repository.verified_target(image.path, NOW) == info
    unseen = cut != "targets.json"
    assert repository.versions().targets == before.targets + 1 + unseen, "a version that was on disk is not used again"


def test_two_publications_at_once_both_arrive(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """Two pipelines on one folder: each waits for the other, neither loses the other's images."""
    images = [an_image(tmp_path, f"acme/{number}.img", b"%d" % number) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda image: ImageRepository(data.image_repo).publish([image], data.image_keys, NOW), images))
    assert all(repository.verified_target(image.path, NOW) for image in images)


@pytest.mark.uptane("K2", "I2")
def test_publishing_needs_three_keys_and_no_root_key(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """The root keys are on tokens in a safe on the day of a release."""
    for number in (1, 2, 3):
        (data.image_keys / f"root-{number}.pem").unlink()
    repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    (data.image_keys / "targets.pem").unlink()
    with pytest.raises(KeyFileError, match=r"targets\.pem"):
        repository.publish([an_image(tmp_path, "acme/b.img")], data.image_keys, NOW)


@pytest.mark.uptane("I2")
def test_a_key_of_another_repository_is_refused_before_it_signs(
    data: DataFolder, repository: ImageRepository, tmp_path: Path
):
    """A mixed-up folder would put a timestamp in place that no vehicle accepts."""
    shutil.copyfile(data.director_keys / "timestamp.pem", data.image_keys / "timestamp.pem")
    before = state(data)
    with pytest.raises(KeyFileError, match="not the timestamp key"):
        repository.renew(data.image_keys, NOW + timedelta(hours=13))
    assert state(data) == before


@pytest.mark.uptane("K2")
def test_a_timestamp_is_renewed_at_half_life_with_its_own_key(data: DataFolder, repository: ImageRepository):
    """The renewing job runs elsewhere and holds the timestamp key, the snapshot's only when that is due."""
    for path in data.image_keys.iterdir():
        if path.stem != "timestamp":
            path.unlink()
    before = repository.versions()
    assert repository.renew(data.image_keys, NOW + timedelta(hours=11)) == ()
    assert repository.versions() == before
    assert repository.renew(data.image_keys, NOW + timedelta(hours=12)) == ("timestamp",)
    after = repository.versions()
    assert after.timestamp > before.timestamp
    assert (after.snapshot, after.targets) == (before.snapshot, before.targets)
    assert repository.verified_target("acme/x.img", NOW + timedelta(hours=35)) is None


def test_a_snapshot_is_renewed_at_half_life_with_a_timestamp_for_it(data: DataFolder, repository: ImageRepository):
    """Renewed in time, nothing of the repository is ever expired but what needs offline keys."""
    before = repository.versions()
    now = NOW + timedelta(days=3.5)
    assert repository.renew(data.image_keys, now) == ("snapshot", "timestamp")
    after = repository.versions()
    assert after.snapshot > before.snapshot
    assert repository.verified_target("acme/x.img", now + timedelta(hours=23)) is None
    expiries = repository.expiries()
    assert expiries["snapshot"] == now + timedelta(days=7)
    assert expiries["targets"] == NOW + timedelta(days=90)
    assert expiries["root"] == NOW + timedelta(days=365)


@pytest.mark.uptane("A9")
def test_a_month_of_daily_renewals_never_leaves_a_gap(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """A9: a job that runs twice a day keeps every vehicle from seeing an expired file."""
    (info,) = repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    for half_days in range(60):
        now = NOW + timedelta(hours=12 * half_days)
        assert repository.verified_target(info.path, now) == info
        repository.renew(data.image_keys, now)


def test_an_expired_repository_is_refused_like_a_vehicle_would(data: DataFolder, repository: ImageRepository):
    """A release must not be registered from a repository that vehicles refuse."""
    with pytest.raises(VerificationError) as caught:
        repository.verified_target("acme/x.img", NOW + timedelta(hours=24))
    assert caught.value.code is AttackCode.FREEZE


@pytest.mark.uptane("A1")
def test_a_manipulated_repository_is_refused(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """A1: whoever can write to the folder cannot release anything."""
    (info,) = repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    name = f"{info.targets_version}.targets.json"
    path = data.image_repo / "metadata" / name
    value = json.loads(path.read_bytes())
    value["signed"]["targets"][info.path]["length"] += 1
    path.write_bytes(json.dumps(value, separators=(",", ":")).encode())
    with pytest.raises(VerificationError) as caught:
        repository.verified_target(info.path, NOW)
    assert caught.value.code is AttackCode.ARBITRARY


@pytest.mark.uptane("A27")
@pytest.mark.parametrize("name", ["../../keys/image/targets.pem", "/etc/passwd", "timestamp.json/..", "", ".lock", "x"])
def test_only_metadata_is_served(repository: ImageRepository, name: str):
    """A27: names come from the network."""
    assert repository.metadata_file(name) is None


@pytest.mark.uptane("I1")
def test_metadata_is_served_as_it_was_signed(data: DataFolder, repository: ImageRepository):
    """Pitfall 12: the exact bytes, or the hashes in the next file do not hold."""
    names = [path.name for path in (data.image_repo / "metadata").iterdir()]
    assert len(names) == 4
    for name in names:
        assert repository.metadata_file(name) == (data.image_repo / "metadata" / name).read_bytes()
        Metadata.from_bytes(repository.metadata_file(name) or b"")
    assert repository.metadata_file("99.root.json") is None


def test_what_is_published_can_be_read_by_a_web_server(data: DataFolder, repository: ImageRepository, tmp_path: Path):
    """Files of a static repository are public; only the keys are not."""
    repository.publish([an_image(tmp_path)], data.image_keys, NOW)
    files = [path for path in data.image_repo.rglob("*.*") if path.is_file() and path.name != ".lock"]
    assert len(files) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}


def test_a_missing_repository_is_said(tmp_path: Path):
    """One line with the remedy."""
    with pytest.raises(SigningError, match="holds no Image repository"):
        ImageRepository(tmp_path).verified_target("x", NOW)
    with pytest.raises(SigningError, match="keys init"):
        ImageRepository(tmp_path).versions()


def test_a_file_that_changes_while_it_is_copied_is_not_listed(
    data: DataFolder, repository: ImageRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is signed is what is stored, not what was there a moment ago."""
    image, before = an_image(tmp_path), repository.versions()
    pieces = image_store_module.file_pieces

    def changed(file: Path, sha256: str) -> Iterator[bytes]:
        file.write_bytes(b"changed")
        return pieces(file, sha256)

    image.file.write_bytes(b"gateway, first")
    monkeypatch.setattr(image_store_module, "file_pieces", changed)
    with pytest.raises(ImageRefusedError, match="changed while"):
        repository.publish([image], data.image_keys, NOW)
    assert repository.versions() == before
    assert not any(path.is_file() for path in (data.image_repo / "targets").iterdir())
