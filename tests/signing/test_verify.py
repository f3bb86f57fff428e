"""The Primary's verification: what it promises when nobody attacks, and across restarts and failing disks."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

import signing.verify
from signing.errors import AttackCode, HeldMetadataError, VerificationError
from signing.verify import InstalledImage, PrimaryVerifier, check_image
from tests.signing.uptane_simulator import (
    BRAKE_PATH,
    GATEWAY_PATH,
    IMAGES,
    NOW,
    SimulatedPrimary,
    UptaneSimulator,
    refusal,
)


@pytest.mark.uptane("F2", "F3", "F4", "F5", "F7", "F8", "F9", "F10", "F11")
def test_an_honest_bundle_is_verified(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """What both repositories say alike comes out, with everything an installer needs."""
    brake, gateway = primary.verify(uptane.files()).images
    assert (brake.path, brake.hardware_id, brake.release_counter) == (BRAKE_PATH, "acme-brake-1", 5)
    assert (gateway.ecu_serials, gateway.length) == (("PRIMARY-1",), len(IMAGES[GATEWAY_PATH]))
    for image in (brake, gateway):
        check_image(image, IMAGES[image.path])


@pytest.mark.uptane("F6")
def test_an_empty_assignment_needs_nothing_of_the_image_repository(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Uptane, full verification, step 6: stop when nothing is to be installed."""
    uptane.director.targets.targets = {}
    uptane.director.publish()
    assert primary.verify(uptane.director.files()).images == ()
    assert primary.verifier.versions()[1].timestamp == 0


@pytest.mark.uptane("F6")
def test_an_attack_on_the_image_repository_is_seen_without_an_assignment(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """What is sent is verified, needed or not, so that nothing broken is ever held."""
    uptane.director.targets.targets = {}
    uptane.director.publish()
    stranger = uptane.image.sign(uptane.image.timestamp, [CryptoSigner.generate_ed25519()])
    assert refusal(primary, uptane.files() | {("image", "timestamp.json"): stranger}) is AttackCode.ARBITRARY


def test_versions_follow_what_is_held(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """The check-in names these versions, and the server answers with what is newer."""
    assert [v.root for v in primary.verifier.versions()] == [1, 1]
    assert [v.targets for v in primary.verifier.versions()] == [0, 0]
    primary.verify(uptane.files())
    director, image = primary.verifier.versions()
    assert (director.targets, director.snapshot, director.timestamp) == (2, 2, 2)
    assert image.targets == uptane.image.targets.version


@pytest.mark.uptane("F4")
def test_a_renewed_timestamp_alone_is_enough(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A quiet vehicle gets one small file a day; the rest comes from what is held."""
    primary.verify(uptane.files())
    for repository in (uptane.director, uptane.image):
        repository.now = NOW + timedelta(hours=20)
        repository.publish("timestamp")
    files = {key: content for key, content in uptane.files().items() if key[1] == "timestamp.json"}
    assert primary.verify(files, NOW + timedelta(hours=40)).images


def test_a_restarted_verifier_goes_on(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Everything that was accepted is held across a restart, the protection against rollback included."""
    old = uptane.files()
    uptane.director.publish()
    bundle = primary.verify(uptane.files())
    restarted = uptane.vehicle(tmp_path / "held")
    assert restarted.verifier.versions() == primary.verifier.versions()
    assert restarted.verify({}) == bundle
    with pytest.raises(VerificationError) as caught:
        restarted.verify(old)
    assert caught.value.code is AttackCode.ROLLBACK


def test_its_folder_is_made(uptane: UptaneSimulator, tmp_path: Path):
    """A new vehicle has nothing to start from but its provisioning."""
    assert uptane.vehicle(tmp_path / "var" / "lib" / "held").verify(uptane.files()).images


def test_what_is_new_of_the_image_repository_alone_is_kept(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path
):
    """Loss of power must not open the way back to older lists, though the Director had nothing to say."""
    primary.verify(uptane.files())
    uptane.image.publish()
    primary.verify(uptane.image.files())
    assert uptane.vehicle(tmp_path / "held").verifier.versions() == primary.verifier.versions()


def test_a_quiet_vehicle_writes_little(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Flash memory wears out: the time floor is written when five minutes have gone by, and small steps add up."""
    primary.verify(uptane.files())
    file = tmp_path / "held" / "held.json"
    first = file.stat()
    for minutes in (0, 2, 4):
        primary.verify({}, NOW + timedelta(minutes=minutes))
        assert (file.stat().st_ino, file.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    primary.verify({}, NOW + timedelta(minutes=5))
    assert "2031-05-01T12:05:00Z" in file.read_text()


@pytest.mark.uptane("V8")
@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_power_loss_while_keeping_leaves_the_old_state(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
):
    """Cut at the last moment before the rename, what is held is the earlier state, whole."""
    primary.verify(uptane.files())
    before = primary.verifier.versions()
    uptane.director.publish()
    files = uptane.files()
    original = getattr(os, failing)

    def cut(*arguments: object) -> None:
        if failing == "fsync" or str(arguments[1]).endswith("held.json"):
            raise OSError(5, "power lost")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, cut)
        with pytest.raises(HeldMetadataError, match="power lost"):
            primary.verify(files)
    restarted = uptane.vehicle(tmp_path / "held")
    assert restarted.verifier.versions() == before == primary.verifier.versions()
    assert restarted.verify(files).images
    assert [path.name for path in (tmp_path / "held").iterdir()] == ["held.json"]


def test_damaged_held_metadata_is_said_with_a_remedy(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path
):
    """A rotten disk must not silently take away the protection against rollback."""
    primary.verify(uptane.files())
    held = tmp_path / "held" / "held.json"
    held.write_bytes(held.read_bytes()[:-100])
    with pytest.raises(HeldMetadataError, match="remove it to start again"):
        uptane.vehicle(tmp_path / "held")


def test_held_metadata_of_another_form_is_not_guessed_at(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path
):
    """A vehicle that was put back to older software says which form it can read, and starts from nothing by itself."""
    primary.verify(uptane.files())
    held = tmp_path / "held" / "held.json"
    held.write_text(held.read_text().replace('"form": 1', '"form": 2'))
    with pytest.raises(HeldMetadataError, match="has form 2, this version reads form 1"):
        uptane.vehicle(tmp_path / "held")


def test_held_metadata_that_cannot_be_read_is_no_attack(uptane: UptaneSimulator, tmp_path: Path):
    """A folder in its place, or a disk that gives errors: said as what it is, with what stands there left alone."""
    (tmp_path / "held" / "held.json").mkdir(parents=True)
    with pytest.raises(HeldMetadataError, match=r"cannot read .*held\.json: Is a directory"):
        uptane.vehicle(tmp_path / "held")


@pytest.mark.uptane("F4")
def test_the_same_again_costs_no_refresh(
    uptane: UptaneSimulator, primary: SimulatedPrimary, monkeypatch: pytest.MonkeyPatch
):
    """Two hundred simulated vehicles in one process: what was verified and has not expired is not verified again."""
    calls = 0

    def counted(**arguments: object) -> object:
        nonlocal calls
        calls += 1
        return original(**arguments)

    original = signing.verify.refresh
    monkeypatch.setattr(signing.verify, "refresh", counted)
    bundle = primary.verify(uptane.files())
    assert calls == 2
    assert primary.verify(uptane.files(), NOW + timedelta(hours=1)) == bundle
    assert primary.verify({}, NOW + timedelta(hours=2)) == bundle
    assert calls == 2
    uptane.director.publish("timestamp")
    primary.verify(uptane.files(), NOW + timedelta(hours=2))
    assert calls == 3


def test_the_cheap_path_finds_what_was_not_asked_for_before(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A second image is assigned while the repository stays as it is: it is looked up, not taken for unreleased."""
    uptane.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}})
    uptane.director.publish()
    assert len(primary.verify(uptane.files()).images) == 1
    uptane.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}, BRAKE_PATH: {"BRAKE-1": "acme-brake-1"}})
    uptane.director.publish()
    assert len(primary.verify(uptane.director.files()).images) == 2


def test_the_cheap_path_still_looks_at_what_is_installed(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Release counters are compared every time: the vehicle may have changed since, the files may not."""
    primary.verify(uptane.files())
    with pytest.raises(VerificationError) as caught:
        primary.verify({}, installed={"BRAKE-1": InstalledImage("acme/brake-2.0.0.img", 6)})
    assert caught.value.code is AttackCode.ROLLBACK


@pytest.mark.uptane("F1")
@pytest.mark.parametrize("years", [-20, 30])
def test_only_fleet_time_counts(tmp_path: Path, years: int):
    """The wall clock, which python-tuf reads, has no say: decades away in either direction all is as at any time."""
    now = datetime(2026 + years, 3, 1, tzinfo=UTC)
    uptane = UptaneSimulator.create()
    for repository in (uptane.director, uptane.image):
        repository.now = now
        repository.rotate_root(lambda root: setattr(root, "expires", now + timedelta(days=365)))
        repository.publish()
    primary = uptane.vehicle(tmp_path / "held")
    assert primary.verify(uptane.files(), now + timedelta(hours=23)).images
    with pytest.raises(VerificationError) as caught:
        primary.verify(uptane.files(), now + timedelta(hours=25))
    assert caught.value.code is AttackCode.FREEZE


def test_time_without_a_zone_is_a_mistake_of_the_caller(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A naive or local time would shift every expiry."""
    with pytest.raises(ValueError, match="not in UTC"):
        primary.verify(uptane.files(), NOW.replace(tzinfo=None))


@pytest.mark.uptane("A4")
def test_a_provisioned_root_with_a_doubled_key_is_refused(uptane: UptaneSimulator, tmp_path: Path):
    """A4: the factory's root is judged like any other."""
    director = uptane.director
    key = director.signers["root"][0].public_key
    director.root.keys["e" * 64] = type(key)("e" * 64, key.keytype, key.scheme, key.keyval)
    director.root.roles["root"].keyids.append("e" * 64)
    director.roots[1] = director.sign(director.root, director.signers["root"])
    with pytest.raises(VerificationError) as caught:
        uptane.vehicle(tmp_path / "held")
    assert caught.value.code is AttackCode.DUPLICATE_KEY


def test_a_provisioned_root_that_is_none_is_refused(uptane: UptaneSimulator, tmp_path: Path):
    """Another file in the root's place is said at once, not at the first update."""
    with pytest.raises(VerificationError, match="not root metadata") as caught:
        uptane.vehicle(tmp_path / "held", image_root=b"{}")
    assert caught.value.code is AttackCode.MALFORMED


def test_an_unknown_repository_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A file that belongs nowhere is a fault of the answer, not something to skip."""
    with pytest.raises(VerificationError, match="'supplier' is no repository") as caught:
        primary.verify({("supplier", "timestamp.json"): b"{}"})
    assert caught.value.code is AttackCode.MALFORMED


def test_two_vehicles_hold_apart(uptane: UptaneSimulator, tmp_path: Path):
    """One folder a verifier: what one accepted is nothing to the other."""
    first, second = uptane.vehicle(tmp_path / "a"), uptane.vehicle(tmp_path / "b")
    first.verify(uptane.files())
    assert isinstance(second.verifier, PrimaryVerifier)
    assert second.verifier.versions()[0].timestamp == 0


@pytest.mark.uptane("A1", "A13", "V9")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (IMAGES[GATEWAY_PATH] + b"x", AttackCode.ENDLESS_DATA),
        (IMAGES[GATEWAY_PATH][:-1], AttackCode.ARBITRARY),
        (b"X" + IMAGES[GATEWAY_PATH][1:], AttackCode.ARBITRARY),
    ],
    ids=["longer", "shorter", "other bytes"],
)
def test_image_bytes_that_were_not_signed_are_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, content: bytes, code: AttackCode
):
    """A1, A13: the transport is not trusted; length and hash decide."""
    image = primary.verify(uptane.files()).images[1]
    with pytest.raises(VerificationError, match=f"'{GATEWAY_PATH}': ") as caught:
        check_image(image, content)
    assert caught.value.code is code
