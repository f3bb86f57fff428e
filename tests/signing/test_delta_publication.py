"""Deltas in the Image repository: which are made, how they are listed, and that none of them can be installed."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from signing.ceremony import DataFolder
from signing.delta_offers import make_offer, offers_from, possible_offers
from signing.deltas import apply_delta, delta_fields, delta_path
from signing.errors import AttackCode, ImageRefusedError, SigningError, VerificationError
from signing.image_repo import ImageRepository, NewDelta, NewImage
from tests.signing.uptane_simulator import GATEWAY_PATH, NOW, SimulatedPrimary, UptaneSimulator, target

SIZE = 100_000
HARDWARE = "acme-gw-1"


def content_of(counter: int, hardware_id: str = HARDWARE) -> bytes:
    """Releases of one hardware id have nearly everything in common."""
    return random.Random(hardware_id).randbytes(SIZE) + f"release {counter}".encode()


class Publisher:
    """Publishes one image after the other, with deltas from the releases that it is told."""

    def __init__(self, data: DataFolder, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.repository = ImageRepository(data.image_repo)

    def image(self, counter: int, content: bytes | None = None, hardware_id: str = HARDWARE) -> NewImage:
        file = self.folder / f"{hardware_id}-{counter}.img"
        file.write_bytes(content if content is not None else content_of(counter, hardware_id))
        return NewImage(f"{hardware_id}-{counter}.img", file, hardware_id, counter, f"1.{counter}.0")

    def deltas(self, image: NewImage, *versions: str) -> list[NewDelta]:
        offers = possible_offers([image], self.repository.verified_targets(NOW))
        signed = [delta.path for delta in self.repository.verified_deltas(NOW)]
        made = [make_offer(offer, self.repository, self.folder) for offer in offers_from(offers, versions, signed)]
        return [delta for delta in made if delta is not None]

    def __call__(self, counter: int, *versions: str) -> NewImage:
        image = self.image(counter)
        self.repository.publish([image], self.data.image_keys, NOW, deltas=self.deltas(image, *versions))
        return image


@pytest.fixture
def publish(data: DataFolder, tmp_path: Path) -> Publisher:
    return Publisher(data, tmp_path)


def test_published_delta_leads_from_what_runs_to_the_new_image(publish: Publisher, tmp_path: Path) -> None:
    """From the bytes of two releases to what a vehicle applies, all of it out of the repository."""
    publish(1)
    publish(2, "1.1.0")
    [delta] = publish.repository.verified_deltas(NOW)
    old, new = (next(t for t in publish.repository.verified_targets(NOW) if t.release_counter == n) for n in (1, 2))
    assert (delta.from_sha256, delta.to_sha256) == (old.sha256, new.sha256)
    assert delta.length < 500
    stored = publish.repository.image_file(delta.path, delta.sha256)
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == delta.sha256
    apply_delta(
        stored,
        publish.repository.image_file(old.path, old.sha256),
        tmp_path / "made",
        from_sha256=old.sha256,
        length=new.length,
        sha256=new.sha256,
        memory_bytes_max=delta.memory_bytes,
    )
    assert (tmp_path / "made").read_bytes() == content_of(2)


def test_deltas_are_no_images(publish: Publisher) -> None:
    """Whoever lists images, for a way back or a registration, never meets a delta."""
    publish(1)
    publish(2, "1.1.0")
    [delta] = publish.repository.verified_deltas(NOW)
    assert len(publish.repository.verified_targets(NOW)) == 2
    assert publish.repository.verified_target(delta.path, NOW) is None


def test_publishing_with_its_deltas_again_changes_nothing(publish: Publisher) -> None:
    """A publication that was cut short is repeated; another zstd may then make other bytes of the same delta."""
    publish(1)
    image = publish(2, "1.1.0")
    assert publish.deltas(image, "1.1.0") == []
    before = publish.repository.versions()
    other = publish.folder / "other.zst"
    other.write_bytes(b"other bytes")
    old, new = (hashlib.sha256(content_of(n)).hexdigest() for n in (1, 2))
    lengths = (len(content_of(1)), len(content_of(2)))
    again = NewDelta(old, new, *lengths, file=other)
    publish.repository.publish([image], publish.data.image_keys, NOW, deltas=[again])
    assert publish.repository.versions() == before


def test_deltas_can_be_added_to_a_release_later(publish: Publisher) -> None:
    """The fleet moves: what it runs now may not be what it ran when the release was signed."""
    publish(1)
    publish(2)
    publish(3, "1.2.0")
    publish(3, "1.2.0", "1.1.0")
    assert len(publish.repository.verified_deltas(NOW)) == 2


def test_delta_that_saves_too_little_is_not_kept(publish: Publisher) -> None:
    """Each delta costs every vehicle its listing, so it has to be worth it."""
    publish(1)
    image = publish.image(2, random.Random(9).randbytes(SIZE))
    assert publish.deltas(image, "1.1.0") == []


def test_small_images_have_no_deltas(publish: Publisher) -> None:
    """A listing of half a kB for an image of ten is no saving."""
    publish(1)
    assert publish.deltas(publish.image(2, content_of(2)[:10_000]), "1.1.0") == []


def test_no_delta_between_hardware_ids(publish: Publisher) -> None:
    """No control unit of one kind runs what was built for the other."""
    publish(1)
    assert publish.deltas(publish.image(2, hardware_id="acme-brake-1"), "1.1.0") == []


def test_deltas_from_releases_that_vehicles_run_are_made_in_that_order(publish: Publisher) -> None:
    """Most vehicles first; releases that were never signed here, such as the factory's, lead to none."""
    for counter in (1, 2):
        publish(counter)
    offers = possible_offers([publish.image(3)], publish.repository.verified_targets(NOW))
    wanted = offers_from(offers, ["1.2.0", "0.9.0", "1.1.0"], ())
    assert [offer.base.version for offer in wanted] == ["1.2.0", "1.1.0"]


def test_deltas_to_images_long_replaced_are_listed_no_more(publish: Publisher) -> None:
    """Targets must not grow for ever: vehicles fetch all of them at each change."""
    publish(1)
    for counter in range(2, 8):
        publish(counter, f"1.{counter - 1}.0")
    deltas = {delta.to_sha256 for delta in publish.repository.verified_deltas(NOW)}
    assert deltas == {hashlib.sha256(content_of(counter)).hexdigest() for counter in (4, 5, 6, 7)}
    assert len(publish.repository.verified_targets(NOW)) == 7


def test_base_that_was_tampered_with_is_refused(publish: Publisher) -> None:
    """The store of images may be anybody's: a delta from other bytes would fit no vehicle."""
    publish(1)
    [old] = publish.repository.verified_targets(NOW)
    stored = publish.repository.image_file(old.path, old.sha256)
    stored.write_bytes(b"tampered")
    with pytest.raises(ImageRefusedError, match="does not hold the bytes that were signed"):
        publish(2, "1.1.0")
    stored.unlink()
    with pytest.raises(ImageRefusedError, match=r"is gone: no delta from release 1\.1\.0"):
        publish(2, "1.1.0")


def test_delta_between_unknown_images_is_refused(publish: Publisher, tmp_path: Path) -> None:
    """What no image is listed for is a mistake of whoever publishes, found before a key signs."""
    publish(1)
    image = publish.image(2)
    (tmp_path / "d.zst").write_bytes(b"x")
    delta = NewDelta("ab" * 32, hashlib.sha256(content_of(2)).hexdigest(), 5, len(content_of(2)), tmp_path / "d.zst")
    before = publish.repository.versions()
    with pytest.raises(ImageRefusedError, match="no image of 5 bytes"):
        publish.repository.publish([image], publish.data.image_keys, NOW, deltas=[delta])
    assert publish.repository.versions() == before


def test_image_cannot_take_the_name_of_a_delta(publish: Publisher, tmp_path: Path) -> None:
    """Below deltas/ nothing is an image, for everybody who reads targets."""
    (tmp_path / "x.img").write_bytes(b"x")
    image = NewImage("deltas/x.img", tmp_path / "x.img", HARDWARE, 1, "1.1.0")
    with pytest.raises(SigningError, match="kept for deltas"):
        publish.repository.publish([image], publish.data.image_keys, NOW)


@pytest.mark.uptane("A2")
@pytest.mark.parametrize("counter", [2, None], ids=["as an image", "as a delta"])
def test_director_cannot_assign_a_delta_as_firmware(
    uptane: UptaneSimulator, primary: SimulatedPrimary, counter: int | None
) -> None:
    """A2: a delta is signed by the Image repository; a stolen Director must not make a control unit run its bytes."""
    listed = uptane.image.targets.targets[GATEWAY_PATH]
    path = delta_path("ab" * 32, listed.hashes["sha256"])
    custom = delta_fields(from_sha256="ab" * 32, to_sha256=listed.hashes["sha256"], from_length=9, to_length=9)
    uptane.image.targets.targets[path] = target(path, b"a delta", custom)
    uptane.image.publish()
    section = {"shallMatch": {"hardwareIds": ["acme-gw-1"], "releaseCounter": counter}} if counter else dict(custom)
    ecus = {"ecuIdentifiers": {"PRIMARY-1": {"hardwareId": "acme-gw-1"}}}
    uptane.director.targets.targets = {path: target(path, b"a delta", section | ecus)}
    uptane.director.publish()
    with pytest.raises(VerificationError) as caught:
        primary.verify(uptane.files())
    assert caught.value.code is (AttackCode.IMAGE_MISMATCH if counter else AttackCode.MALFORMED)
