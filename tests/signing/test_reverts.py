"""What undoes a release: chosen from what was signed, of the bytes that were signed, and accepted by vehicles."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from semver import Version

from signing.ceremony import DataFolder
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files
from signing.errors import AttackCode, ImageRefusedError, VerificationError
from signing.image_repo import ImageRepository, NewImage, TargetInfo
from signing.reverts import earlier_version, revert_images, revert_version
from signing.verify import InstalledImage, PrimaryVerifier, VerifiedBundle, check_image
from tests.signing.uptane_simulator import NOW

GATEWAY, BRAKE = "acme-gw-1", "acme-brake-1"


@pytest.fixture
def repository(data: DataFolder) -> ImageRepository:
    return ImageRepository(data.image_repo)


def some_images(folder: Path, version: str, counter: int, *hardware_ids: str) -> list[NewImage]:
    images = []
    for hardware_id in hardware_ids or (GATEWAY, BRAKE):
        file = folder / f"{hardware_id}-{version}.img"
        file.write_bytes(f"{hardware_id} {version}".encode())
        images.append(NewImage(f"acme/{file.name}", file, hardware_id, counter, version))
    return images


def listed(version: str, counter: int, *hardware_ids: str, reverts: str = "") -> list[TargetInfo]:
    return [
        TargetInfo(f"{name}-{version}", 1, "00" * 32, name, counter, 1, version, reverts)
        for name in hardware_ids or (GATEWAY, BRAKE)
    ]


def undo(repository: ImageRepository, images: Sequence[NewImage], to: str) -> list[NewImage]:
    return revert_images(images, to=to, listed=repository.verified_targets(NOW), repository=repository)


@pytest.mark.parametrize(
    ("version", "undone_by"),
    [("1.2.0", "1.2.0-revert"), ("1.2.0-rc.1", "1.2.0-rc.1.revert"), ("1.2.0+b7", "1.2.0-revert+b7")],
)
def test_the_version_says_what_it_undoes_and_sorts_above_what_was_before(version: str, undone_by: str) -> None:
    """At 3 a.m. the name has to be enough, and the next plan's `installed: "<..."` has to hold of it."""
    assert revert_version(version) == undone_by
    assert Version.parse("1.1.9") < Version.parse(undone_by) < Version.parse("1.2.0")


@pytest.mark.parametrize(
    ("signed", "expected"),
    [
        ([], ""),
        (listed("1.0.0", 1) + listed("1.1.0", 2), "1.1.0"),
        (listed("1.1.0", 2) + listed("1.1.0-revert", 3, reverts="1.1.0") + listed("1.0.0", 1), "1.1.0"),
        (listed("1.1.0", 2, GATEWAY) + listed("1.0.0", 1), "1.0.0"),
        (listed("1.0.0", 4) + listed("1.1.0", 4), "1.1.0"),
        (listed("1.0.0", 1) + listed("1.3.0", 9) + listed("1.2.5", 5), "1.0.0"),
        (listed("1.0.0", 1) + listed("1.2.0", 5), "1.0.0"),
        (listed("", 1) + listed("spring", 2), ""),
    ],
    ids=[
        "nothing signed",
        "the latest",
        "no revert",
        "all hardware",
        "equal counters",
        "only earlier ones",
        "not itself",
        "no version",
    ],
)
def test_the_release_before_is_the_latest_signed_for_all_hardware(
    signed: list[TargetInfo], expected: str, tmp_path: Path
) -> None:
    """What vehicles ran before, as far as signatures can tell."""
    assert earlier_version(some_images(tmp_path, "1.2.0", 5), signed) == expected


def test_the_bytes_before_are_signed_under_new_paths_and_higher_counters(
    data: DataFolder, repository: ImageRepository, tmp_path: Path
) -> None:
    """A vehicle that came back is told apart from one that never left: by path, not by digest."""
    before = repository.publish(some_images(tmp_path, "1.1.0", 11), data.image_keys, NOW)
    images = some_images(tmp_path, "1.2.0", 12)
    published = repository.publish([*images, *undo(repository, images, "1.1.0")], data.image_keys, NOW)[2:]
    assert [info.path for info in published] == [
        "acme/acme-gw-1-1.2.0-revert.img",
        "acme/acme-brake-1-1.2.0-revert.img",
    ]
    assert [info.sha256 for info in published] == [info.sha256 for info in before]
    assert {(info.version, info.reverts, info.release_counter) for info in published} == {("1.2.0-revert", "1.2.0", 13)}
    assert sorted(repository.verified_targets(NOW), key=lambda info: info.path)[1].reverts == "1.2.0"


@pytest.mark.parametrize(
    ("path", "undoing"),
    [
        ("gw-1.2.0.img", "gw-1.2.0-revert.img"),
        ("acme/1.2.0/gw.img", "acme/1.2.0/gw-revert.img"),
        ("gw-1.2.0", "gw-1.2.0-revert"),
        ("firmware", "firmware-revert"),
    ],
)
def test_paths_follow_the_new_image(
    path: str, undoing: str, data: DataFolder, repository: ImageRepository, tmp_path: Path
) -> None:
    """Whatever names people give, the undoing image has one of its own."""
    repository.publish(some_images(tmp_path, "1.1.0", 1, GATEWAY), data.image_keys, NOW)
    new = NewImage(path, tmp_path / "any", GATEWAY, 2, "1.2.0")
    assert [image.path for image in undo(repository, [new], "1.1.0")] == [undoing]


def test_bytes_that_are_not_those_that_were_signed_are_refused(
    data: DataFolder, repository: ImageRepository, tmp_path: Path
) -> None:
    """Who can write to the folder of a server must not get the offline keys to sign what they put there."""
    for info in repository.publish(some_images(tmp_path, "1.1.0", 11), data.image_keys, NOW):
        repository.image_file(info.path, info.sha256).write_bytes(b"evil")
    images = some_images(tmp_path, "1.2.0", 12)
    versions = repository.versions()
    with pytest.raises(ImageRefusedError, match="does not hold the bytes that were signed"):
        repository.publish([*images, *undo(repository, images, "1.1.0")], data.image_keys, NOW)
    assert repository.versions() == versions


def test_what_cannot_be_gone_back_to_is_named(data: DataFolder, repository: ImageRepository, tmp_path: Path) -> None:
    """The message says what there is instead."""
    repository.publish(some_images(tmp_path, "1.1.0", 11, GATEWAY), data.image_keys, NOW)
    images = some_images(tmp_path, "1.2.0", 12)
    with pytest.raises(ImageRefusedError, match=r"1\.0\.0, to go back to, is not signed here; signed are: 1\.1\.0"):
        undo(repository, images, "1.0.0")
    with pytest.raises(ImageRefusedError, match=r"1\.1\.0, to go back to, has no image for acme-brake-1"):
        undo(repository, images, "1.1.0")
    twice = NewImage("other.img", some_images(tmp_path, "1.1.1", 1, GATEWAY)[0].file, GATEWAY, 11, "1.1.0")
    repository.publish([twice], data.image_keys, NOW)
    with pytest.raises(ImageRefusedError, match="several images"):
        undo(repository, images[:1], "1.1.0")


class Primary:
    """A real verifier, assigned what a test says."""

    def __init__(self, data: DataFolder, folder: Path) -> None:
        self._data = data
        self._signers = DirectorSigners.load(data.director_keys)
        self._version = 0
        self._verifier = PrimaryVerifier(
            folder,
            vehicle_id="veh-1",
            ecus={"P-1": GATEWAY},
            director_root=(data.provisioning / "director-root.json").read_bytes(),
            image_root=(data.provisioning / "image-root.json").read_bytes(),
        )
        self.installed: dict[str, InstalledImage] = {}

    def assigned(self, info: TargetInfo, now: datetime) -> VerifiedBundle:
        """Verify that assignment, and run it."""
        self._version += 1
        image = AssignedImage(info.path, info.length, info.sha256, GATEWAY, info.release_counter, ("P-1",))
        versions = DirectorVersions(self._version, now, self._version, now)
        files = director_files(self._signers, Assignment("veh-1", (image,)), versions)
        offered = {("director", name): content for name, content in files.items()}
        metadata = self._data.image_repo / "metadata"
        offered |= {("image", path.name): path.read_bytes() for path in metadata.iterdir()}
        bundle = self._verifier.verify(offered, now=now, installed=self.installed)
        self.installed = {"P-1": InstalledImage(info.path, info.release_counter)}
        return bundle


@pytest.mark.uptane("A7")
def test_a_vehicle_goes_back_by_the_revert_release_alone(
    data: DataFolder, repository: ImageRepository, tmp_path: Path
) -> None:
    """A7 stays an attack: the old release is refused as a rollback, its bytes under the higher counter are not."""
    (old,) = repository.publish(some_images(tmp_path, "1.1.0", 11, GATEWAY), data.image_keys, NOW)
    images = some_images(tmp_path, "1.2.0", 12, GATEWAY)
    new, back = repository.publish([*images, *undo(repository, images, "1.1.0")], data.image_keys, NOW)
    primary = Primary(data, tmp_path / "held")
    primary.assigned(new, NOW)
    with pytest.raises(VerificationError) as refused:
        primary.assigned(old, NOW + timedelta(minutes=1))
    assert refused.value.code is AttackCode.ROLLBACK
    bundle = primary.assigned(back, NOW + timedelta(minutes=2))
    check_image(bundle.images[0], b"acme-gw-1 1.1.0")
    # And from there a bad release cannot be sneaked in again, while the next one can be installed.
    with pytest.raises(VerificationError):
        primary.assigned(new, NOW + timedelta(minutes=3))
    (fixed,) = repository.publish(some_images(tmp_path, "1.2.1", 13, GATEWAY), data.image_keys, NOW)
    assert primary.assigned(fixed, NOW + timedelta(minutes=4)).images
