"""Attacks on roots and keys: thresholds hold, no key counts twice, and a vehicle follows every rotation by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Root

from signing.errors import AttackCode, VerificationError
from tests.signing.uptane_simulator import (
    NOW,
    SimulatedPrimary,
    UptaneSimulator,
    refusal,
    repository,
)

REPOSITORIES = ("director", "image")
ROLES = ("timestamp", "snapshot", "targets")


@pytest.mark.uptane("A1", "A5", "C-root")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_root_signed_by_one_old_key_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str):
    """A1, A5: one stolen root key of three is below the threshold of two."""
    repo = repository(uptane, name)
    repo.rotate_root(lambda root: None, signers=repo.signers["root"][:1])
    assert refusal(primary, uptane.files()) is AttackCode.ARBITRARY


@pytest.mark.uptane("A4")
def test_a_signature_listed_twice_counts_once(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A4: one root signature copied into a second entry does not make two of three."""
    director = uptane.director
    content = director.rotate_root(lambda root: None, signers=director.signers["root"][:1])
    text = content.decode()
    start, end = text.index("[") + 1, text.index("]")
    doubled = text[:start] + text[start:end] + "," + text[start:end] + text[end:]
    director.roots[2] = doubled.encode()
    assert refusal(primary, uptane.files()) in (AttackCode.ARBITRARY, AttackCode.MALFORMED)


@pytest.mark.uptane("A4", "C-root", "M6")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_public_key_under_two_ids_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str):
    """A4: python-tuf counts key ids, so one key under two ids would meet a threshold of two alone."""
    repo = repository(uptane, name)
    key = repo.signers["root"][0].public_key

    def add_twin(root: Root) -> None:
        root.add_key(SSlibKey("f" * 64, key.keytype, key.scheme, key.keyval), "root")

    repo.rotate_root(add_twin)
    assert refusal(primary, uptane.files()) is AttackCode.DUPLICATE_KEY


@pytest.mark.uptane("A4")
def test_a_public_key_under_two_ids_is_refused_in_an_intermediate_root(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """A4: a hostile root in the middle of the chain is not excused by a clean one after it."""
    director = uptane.director
    key = director.signers["root"][0].public_key
    twin = SSlibKey("f" * 64, key.keytype, key.scheme, {"public": key.keyval["public"] + "\n"})
    director.rotate_root(lambda root: root.add_key(twin, "root"))
    director.rotate_root(lambda root: root.revoke_key(twin.keyid, "root"))
    assert refusal(primary, uptane.files()) is AttackCode.DUPLICATE_KEY


@pytest.mark.uptane("A4", "K3")
def test_a_key_in_two_roles_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A4, K3: keys are unique across roles, else stealing the timestamp key steals another role."""
    director = uptane.director
    director.rotate_root(lambda root: root.add_key(director.signers["timestamp"][0].public_key, "targets"))
    assert refusal(primary, uptane.files()) is AttackCode.DUPLICATE_KEY


@pytest.mark.uptane("A6", "C-root")
def test_a_root_that_skips_a_version_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A6: root N+1 has version N+1, else a revocation in between could be hidden."""

    def skip(root: Root) -> None:
        root.version = 3

    content = uptane.director.rotate_root(skip)
    files = uptane.files() | {("director", "2.root.json"): content}
    assert refusal(primary, files) is AttackCode.ROLLBACK


@pytest.mark.uptane("A9")
def test_an_expired_root_is_a_freeze(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A9: a root that is never renewed ends everything beneath it."""
    later = NOW + timedelta(days=366)
    for repo in (uptane.director, uptane.image):
        repo.now = later
        repo.publish()
    assert refusal(primary, uptane.files(), later) is AttackCode.FREEZE


@pytest.mark.uptane("A26", "C-root")
def test_a_vehicle_that_slept_through_rotations_walks_the_chain(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A26: three rotations, expired roots between, new keys at the end: every step is signed by the one before."""
    director = uptane.director
    for expires in (NOW + timedelta(days=1), NOW + timedelta(days=2), NOW + timedelta(days=400)):
        old = director.signers["root"]
        fresh = [CryptoSigner.generate_ecdsa() for _ in range(3)]

        def replace(root: Root, old=old, fresh=fresh, expires=expires) -> None:
            for gone, new in zip(old, fresh, strict=True):
                root.revoke_key(gone.public_key.keyid, "root")
                root.add_key(new.public_key, "root")
            root.expires = expires

        director.rotate_root(replace, signers=[*old, *fresh])
        director.signers["root"] = fresh
    uptane.image.rotate_root(lambda root: setattr(root, "expires", NOW + timedelta(days=400)))
    for repo in (director, uptane.image):
        repo.now = NOW + timedelta(days=100)
        repo.publish()
    assert primary.verify(uptane.files(), NOW + timedelta(days=100)).images
    assert primary.verifier.versions()[0].root == 4


@pytest.mark.uptane("A24", "C-root", "A25")
def test_a_fast_forward_attack_is_undone_by_new_keys(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A24: stolen online keys publish version 2^31-1; a new root with new keys lets versions start again."""
    director = uptane.director
    for role in ROLES:
        getattr(director, role).version = 2**31 - 2
    director.publish()
    primary.verify(uptane.files())

    def replace_online_keys(root: Root) -> None:
        for role in ROLES:
            root.revoke_key(director.signers[role][0].public_key.keyid, role)
            director.signers[role] = [CryptoSigner.generate_ed25519()]
            root.add_key(director.signers[role][0].public_key, role)

    director.rotate_root(replace_online_keys)
    for role in ROLES:
        getattr(director, role).version = 10
    director.publish()
    assert primary.verify(uptane.files()).images
    assert primary.verifier.versions()[0].timestamp == 11


@pytest.mark.uptane("A26", "A25")
def test_new_roots_are_kept_when_a_later_file_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path
):
    """A26: roots rest on offline keys alone, so a revocation counts even if an attacker holds back the rest."""
    primary.verify(uptane.files())
    director = uptane.director
    revoked = director.signers["timestamp"][0]

    def revoke(root: Root) -> None:
        root.revoke_key(revoked.public_key.keyid, "timestamp")
        root.add_key(CryptoSigner.generate_ed25519().public_key, "timestamp")

    content = director.rotate_root(revoke)
    with pytest.raises(VerificationError) as caught:
        primary.verify({("director", "2.root.json"): content})
    assert caught.value.code is AttackCode.ARBITRARY, "the held timestamp is by a revoked key now"
    for vehicle in (primary, uptane.vehicle(tmp_path / "held")):
        assert vehicle.verifier.versions()[0].root == 2
        with pytest.raises(VerificationError):
            vehicle.verify({})


def test_new_root_of_the_same_online_keys_leaves_what_is_held(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A yearly renewal takes nothing away, though what came with it was refused: rollback protection stays."""
    primary.verify(uptane.files())
    before, _ = primary.verifier.versions()
    content = uptane.director.rotate_root(lambda root: None)
    strange = uptane.director.sign(uptane.director.timestamp, [CryptoSigner.generate_ed25519()])
    with pytest.raises(VerificationError):
        primary.verify({("director", "2.root.json"): content, ("director", "timestamp.json"): strange})
    assert primary.verifier.versions()[0] == replace(before, root=2)


def test_a_rotated_snapshot_key_has_the_timestamp_forgotten_as_well(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A24: a timestamp by a key that stays may list the thief's highest snapshot; no honest one would follow it."""
    director = uptane.director
    for role in ROLES:
        getattr(director, role).version = 2**31 - 2
    director.publish()
    primary.verify(uptane.files())

    def replace_snapshot_key(root: Root) -> None:
        root.revoke_key(director.signers["snapshot"][0].public_key.keyid, "snapshot")
        director.signers["snapshot"] = [CryptoSigner.generate_ed25519()]
        root.add_key(director.signers["snapshot"][0].public_key, "snapshot")

    director.rotate_root(replace_snapshot_key)
    for role in ("snapshot", "timestamp"):
        getattr(director, role).version = 10
    director.publish("snapshot", "timestamp")
    assert primary.verify(uptane.files()).images
    assert primary.verifier.versions()[0].timestamp == 11
