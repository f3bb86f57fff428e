"""What a verifier still holds after a refresh that failed behind new roots: all that those roots leave standing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from signing.errors import MissingFileError, VerificationError
from tests.signing.uptane_simulator import Files, RepositorySimulator, SimulatedPrimary, UptaneSimulator, repository

REPOSITORIES = ("director", "image")


def rotate_timestamp_key(of: RepositorySimulator) -> None:
    old, new = of.signers["timestamp"][0], CryptoSigner.generate_ed25519()

    def rotate(root: Root) -> None:
        root.revoke_key(old.public_key.keyid, "timestamp")
        root.add_key(new.public_key, "timestamp")

    of.rotate_root(rotate)
    of.signers["timestamp"] = [new]


def held(primary: SimulatedPrimary, name: str) -> tuple[int, int, int, int]:
    """Versions of root, timestamp, snapshot and targets."""
    versions = primary.verifier.versions()[REPOSITORIES.index(name)]
    return versions.root, versions.timestamp, versions.snapshot, versions.targets


def roots_and_a_broken_timestamp(uptane: UptaneSimulator, name: str) -> Files:
    of = repository(uptane, name)
    stranger = of.sign(of.timestamp, [CryptoSigner.generate_ed25519()])
    return uptane.files() | {(name, "timestamp.json"): stranger}


@pytest.mark.uptane("C-root")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_rotated_keys_take_timestamp_and_snapshot_with_them_at_once(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """A24: a vehicle that tells high versions of a thief's would not be sent the honest ones; targets stay."""
    primary.verify(uptane.files())
    root, _, _, targets = held(primary, name)
    rotate_timestamp_key(repository(uptane, name))
    with pytest.raises(VerificationError):
        primary.verify(roots_and_a_broken_timestamp(uptane, name))
    assert held(primary, name) == (root + 1, 0, 0, targets)


@pytest.mark.uptane("C-root")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_root_that_rotates_neither_leaves_all_that_was_verified_since_the_last_rotation(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """Compared is the root held before, not the provisioned one: else every later root would cost all files again."""
    of = repository(uptane, name)
    rotate_timestamp_key(of)
    of.publish()
    primary.verify(uptane.files())
    root, *others = held(primary, name)
    assert 0 not in others
    of.rotate_root(lambda root: None)
    of.publish()
    with pytest.raises(VerificationError):
        primary.verify(roots_and_a_broken_timestamp(uptane, name))
    assert held(primary, name) == (root + 1, *others)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_failure_without_a_new_root_leaves_the_disk_alone(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path, name: str
):
    """A server that is ill for a week must not wear out the flash of a fleet, poll by poll."""
    with pytest.raises(VerificationError):
        primary.verify(roots_and_a_broken_timestamp(uptane, name))
    assert not (tmp_path / "held" / "held.json").exists()


@pytest.mark.uptane("V8")
@pytest.mark.parametrize("durable", [True, False])
def test_roots_that_are_kept_alone_are_as_durable_as_all_the_rest(
    uptane: UptaneSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
):
    """A revocation that a loss of power takes back is none; a simulated fleet does not wait for disks."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    vehicle = uptane.vehicle(tmp_path / "held", durable=durable)
    uptane.director.rotate_root(lambda root: None)
    with pytest.raises(VerificationError):
        vehicle.verify(roots_and_a_broken_timestamp(uptane, "director"))
    assert vehicle.verifier.versions()[0].root == 2
    assert bool(synced) is durable


@pytest.mark.parametrize("name", REPOSITORIES)
def test_first_contact_that_fails_keeps_the_roots_that_it_walked(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """A long chain of rotations is walked in steps, from the first poll on, when only the provisioned root is there."""
    of = repository(uptane, name)
    of.rotate_root(lambda root: None)
    files = {key: content for key, content in uptane.files().items() if key != (name, "timestamp.json")}
    with pytest.raises(MissingFileError):
        primary.verify(files)
    assert held(primary, name) == (2, 0, 0, 0)
