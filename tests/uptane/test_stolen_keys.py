"""What each stolen key gives its thief, and what it does not: the table of SECURITY.md, tried out (A25)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from signing.errors import AttackCode, VerificationError
from signing.verify import InstalledImage
from tests.signing.uptane_simulator import (
    BRAKE_PATH,
    GATEWAY_PATH,
    NOW,
    Files,
    RepositorySimulator,
    SimulatedPrimary,
    UptaneSimulator,
    refusal,
    repository,
    target,
)
from tests.uptane.forging import forge

ONLINE = ("targets", "snapshot", "timestamp")
EVIL = {"shallMatch": {"hardwareIds": ["acme-gw-1"], "releaseCounter": 9}}
UNITS = {"ecuIdentifiers": {"PRIMARY-1": {"hardwareId": "acme-gw-1"}}}


def forged(repo: RepositorySimulator, role: str, change: Callable[[dict[str, Any]], object], version: int) -> bytes:
    """The role's file, changed and signed anew with its own key."""

    def edit(payload: dict[str, Any]) -> None:
        payload["version"] = version
        change(payload)

    return forge(repo.current[repo.name_of(role)], edit, repo.signers[role])


@pytest.mark.uptane("A25", "A2")
def test_the_director_s_online_keys_release_nothing(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """All three are stolen: software of the thief's, and releases behind what runs, are refused all the same."""
    uptane.director.targets.targets = {"acme/evil.img": target("acme/evil.img", b"evil", EVIL | UNITS)}
    uptane.director.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH
    uptane.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}})
    uptane.director.publish()
    newer = {"PRIMARY-1": InstalledImage("acme/gw-9.img", 9)}
    with pytest.raises(VerificationError, match="release counter"):
        primary.verify(uptane.files(), installed=newer)


@pytest.mark.uptane("A25")
def test_the_director_s_online_keys_choose_among_what_was_released(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """That is what they give, and why a bad release has to be outgrown by a higher counter."""
    uptane.assign({BRAKE_PATH: {"BRAKE-1": "acme-brake-1"}})
    uptane.director.publish()
    assert [image.path for image in primary.verify(uptane.files()).images] == [BRAKE_PATH]


@pytest.mark.uptane("A25", "A9")
def test_the_timestamp_key_alone_freezes_for_a_week(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Fresh timestamps over the same snapshot: then targets and snapshot expire, and the vehicle tells of it."""
    primary.verify(uptane.files())
    for days in (6, 8):
        now = NOW + timedelta(days=days)
        uptane.image.now = uptane.director.now = now
        uptane.image.publish()
        uptane.director.publish("timestamp")
        if days < 7:
            assert primary.verify(uptane.files(), now).images
        else:
            assert refusal(primary, uptane.files(), now) is AttackCode.FREEZE


@pytest.mark.uptane("A25", "A16")
@pytest.mark.parametrize("name", ["director", "image"])
@pytest.mark.parametrize("role", ["targets", "snapshot"])
def test_one_key_of_three_changes_nothing(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, role: str):
    """Targets, snapshot and timestamp have to agree; a thief of one of them is out of step at once."""
    primary.verify(uptane.files())
    repo = repository(uptane, name)
    version = getattr(repo, role).version + 1
    files: Files = {(name, f"{version}.{role}.json"): forged(repo, role, lambda payload: None, version)}
    held = primary.verifier.versions()
    assert len(primary.verify(files).images) == 2
    assert primary.verifier.versions() == held, "what nothing leads to is not looked at"


@pytest.mark.uptane("A25", "A1")
def test_the_image_repository_s_online_keys_release_nothing(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Snapshot and timestamp are stolen: targets by any other key are refused, however well they are listed."""
    image = uptane.image
    image.targets.targets["acme/evil.img"] = target("acme/evil.img", b"evil", EVIL)
    image.signers["targets"] = image.signers["snapshot"]
    image.publish()
    uptane.director.targets.targets = {"acme/evil.img": target("acme/evil.img", b"evil", EVIL | UNITS)}
    uptane.director.publish()
    assert refusal(primary, uptane.files()) is AttackCode.ARBITRARY


@pytest.mark.uptane("A25")
def test_all_keys_of_the_image_repository_assign_nothing(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """What is released is not installed: only the Director says what this vehicle shall run."""
    uptane.image.targets.targets["acme/evil.img"] = target("acme/evil.img", b"evil", EVIL)
    uptane.image.publish()
    assert "acme/evil.img" not in [image.path for image in primary.verify(uptane.files()).images]


@pytest.mark.uptane("A25")
def test_online_keys_of_the_director_and_all_of_the_image_repository_install_anything(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """What is not stopped is said here, and is why they live in different places."""
    uptane.image.targets.targets["acme/evil.img"] = target("acme/evil.img", b"evil", EVIL)
    uptane.image.publish()
    uptane.director.targets.targets = {"acme/evil.img": target("acme/evil.img", b"evil", EVIL | UNITS)}
    uptane.director.publish()
    assert [image.path for image in primary.verify(uptane.files()).images] == ["acme/evil.img"]


@pytest.mark.uptane("A25", "C-root")
@pytest.mark.parametrize("name", ["director", "image"])
def test_a_new_root_ends_the_theft_and_bricks_nobody(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str):
    """Recovery: the thief's fresh files are refused, the honest ones under new keys verify, from whatever was held."""
    primary.verify(uptane.files())
    repo = repository(uptane, name)
    thief = dict(repo.signers)
    fresh = {role: [CryptoSigner.generate_ed25519()] for role in ONLINE}

    def replace(root: Root) -> None:
        for role in ONLINE:
            root.revoke_key(thief[role][0].public_key.keyid, role)
            root.add_key(fresh[role][0].public_key, role)

    repo.rotate_root(replace)
    repo.publish()
    stolen = uptane.files()
    repo.signers = repo.signers | fresh
    assert refusal_but_root(primary, stolen) is AttackCode.ARBITRARY
    repo.publish()
    assert len(primary.verify(uptane.files()).images) == 2


def refusal_but_root(primary: SimulatedPrimary, files: Files) -> AttackCode:
    """The code of a refusal that may keep new roots."""
    with pytest.raises(VerificationError) as caught:
        primary.verify(files)
    return caught.value.code
