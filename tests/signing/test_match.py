"""Attacks with stolen Director keys: only what offline keys released, for the right unit and not older, passes."""

from __future__ import annotations

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations

from signing.errors import AttackCode, VerificationError
from signing.match import read_shall_match
from signing.verify import InstalledImage
from tests.signing.uptane_simulator import (
    BRAKE_PATH,
    GATEWAY_PATH,
    IMAGES,
    SimulatedPrimary,
    UptaneSimulator,
    target,
)

MATCH = {"hardwareIds": ["acme-gw-1"], "releaseCounter": 2}
ECUS = {"PRIMARY-1": {"hardwareId": "acme-gw-1"}}


def refusal(uptane: UptaneSimulator, primary: SimulatedPrimary, installed=None) -> VerificationError:
    """What the vehicle says to a Director that signed whatever stands in its targets."""
    uptane.director.publish()
    with pytest.raises(VerificationError) as caught:
        primary.verify(uptane.files(), installed=installed)
    assert primary.verifier.versions()[0].targets == 0, "nothing of a refused bundle is held"
    return caught.value


def assign_only(uptane: UptaneSimulator, path: str, content: bytes, custom: dict[str, object]) -> None:
    uptane.director.targets.targets = {path: target(path, content, custom)}


@pytest.mark.uptane("A2", "F11", "F12", "M14")
def test_an_image_that_was_never_released_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A2: with all online Director keys, an attacker still cannot make a vehicle install software of theirs."""
    assign_only(uptane, "acme/evil.img", b"evil", {"shallMatch": MATCH, "ecuIdentifiers": ECUS})
    assert refusal(uptane, primary).code is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("A2", "F12")
@pytest.mark.parametrize(
    ("content", "fact"),
    [(IMAGES[GATEWAY_PATH] + b"!", "bytes"), (b"?" + IMAGES[GATEWAY_PATH][1:], "hashes")],
    ids=["length", "hash"],
)
def test_other_bytes_under_a_released_name_are_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, content: bytes, fact: str
):
    """A2: the name alone is worth nothing."""
    assign_only(uptane, GATEWAY_PATH, content, {"shallMatch": MATCH, "ecuIdentifiers": ECUS})
    error = refusal(uptane, primary)
    assert error.code is AttackCode.IMAGE_MISMATCH
    assert fact in error.message


@pytest.mark.uptane("A2", "A7", "F12", "M9")
@pytest.mark.parametrize(
    "match",
    [
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": 3},
        {"hardwareIds": ["acme-gw-1", "acme-brake-1"], "releaseCounter": 2},
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": 2, "extra": 1},
    ],
    ids=["counter", "hardware", "more"],
)
def test_a_section_that_shall_match_and_does_not_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, match: dict[str, object]
):
    """A2, A7: the Director cannot lift a counter or widen the hardware that the offline keys signed for."""
    assign_only(uptane, GATEWAY_PATH, IMAGES[GATEWAY_PATH], {"shallMatch": match, "ecuIdentifiers": ECUS})
    assert refusal(uptane, primary).code is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("A2", "F12")
def test_a_second_hash_has_to_agree_as_well(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A2, F12: all hashes are compared, not only the one we use."""
    uptane.director.targets.targets[GATEWAY_PATH].hashes["sha512"] = "0" * 128
    assert refusal(uptane, primary).code is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("A7", "F12", "V9")
def test_an_older_release_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A7: released once is not good for ever: below the installed counter means rollback."""
    installed = {"BRAKE-1": InstalledImage("acme/brake-1.2.0.img", 6)}
    assert refusal(uptane, primary, installed).code is AttackCode.ROLLBACK


@pytest.mark.uptane("A7")
def test_the_same_counter_is_no_rollback(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A7: what is installed already may be assigned again."""
    installed = {"BRAKE-1": InstalledImage(BRAKE_PATH, 5), "GONE-1": InstalledImage("acme/x.img", 99)}
    assert primary.verify(uptane.files(), installed=installed).images


@pytest.mark.uptane("A11", "C-targets", "V9", "M9")
@pytest.mark.parametrize(
    ("ecus", "code"),
    [
        ({"OTHER-9": {"hardwareId": "acme-gw-1"}}, AttackCode.WRONG_ECU),
        (ECUS | {"OTHER-9": {"hardwareId": "acme-gw-1"}}, AttackCode.WRONG_ECU),
        ({}, AttackCode.WRONG_ECU),
        (["PRIMARY-1"], AttackCode.WRONG_ECU),
        (None, AttackCode.WRONG_ECU),
        ({"BRAKE-1": {"hardwareId": "acme-gw-1"}}, AttackCode.WRONG_HARDWARE),
        ({"BRAKE-1": {"hardwareId": "acme-brake-1"}}, AttackCode.WRONG_HARDWARE),
        ({"PRIMARY-1": "acme-gw-1"}, AttackCode.WRONG_HARDWARE),
        ({"PRIMARY-1": {}}, AttackCode.WRONG_HARDWARE),
    ],
)
def test_control_units_have_to_be_ours_and_fit(
    uptane: UptaneSimulator, primary: SimulatedPrimary, ecus: object, code: AttackCode
):
    """A11: an image for a unit that is not here, or for other hardware, is not ours to install."""
    assign_only(uptane, GATEWAY_PATH, IMAGES[GATEWAY_PATH], {"shallMatch": MATCH, "ecuIdentifiers": ecus})
    assert refusal(uptane, primary).code is code


@pytest.mark.uptane("C-targets")
def test_one_control_unit_gets_one_image(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """C-targets: an ECU id may stand once in all of the Director's targets."""
    uptane.release("acme/gw-1.2.0.img", hardware_id="acme-gw-1", counter=3, content=b"1.2.0")
    uptane.image.publish()
    uptane.assign({path: {"PRIMARY-1": "acme-gw-1"} for path in (GATEWAY_PATH, "acme/gw-1.2.0.img")})
    assert refusal(uptane, primary).code is AttackCode.WRONG_ECU


@pytest.mark.uptane("C-targets", "M2")
def test_the_director_must_not_delegate(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """C-targets: delegation would hand the choice of images to keys that no root names."""
    signer = CryptoSigner.generate_ed25519()
    keys = {signer.public_key.keyid: signer.public_key}
    role = DelegatedRole("friend", list(keys), 1, False, paths=["*"])
    uptane.director.targets.delegations = Delegations(keys, {"friend": role})
    assert refusal(uptane, primary).code is AttackCode.DELEGATION


@pytest.mark.uptane("A27", "V9", "M15")
@pytest.mark.parametrize(
    "path",
    ["../etc/passwd", "/etc/passwd", "acme/../../x", "acme//x", ".hidden", "acme/./x", "a\\b", "a b", "é", "a/" * 200],
)
def test_names_that_could_leave_a_folder_are_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, path: str):
    """A27: even signed and released, a name that could leave its folder or that is odd gets nowhere."""
    custom = {"shallMatch": MATCH, "ecuIdentifiers": ECUS}
    uptane.image.targets.targets[path] = target(path, b"x", {"shallMatch": MATCH})
    uptane.image.publish()
    assign_only(uptane, path, b"x", custom)
    assert refusal(uptane, primary).code is AttackCode.BAD_NAME


@pytest.mark.uptane("A30")
@pytest.mark.parametrize(
    "match",
    [
        None,
        [],
        {},
        {"hardwareIds": [], "releaseCounter": 2},
        {"hardwareIds": "acme-gw-1", "releaseCounter": 2},
        {"hardwareIds": [1], "releaseCounter": 2},
        {"hardwareIds": ["acme-gw-1"]},
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": -1},
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": True},
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": 2**31},
        {"hardwareIds": ["acme-gw-1"], "releaseCounter": "2"},
    ],
)
def test_a_section_that_shall_match_has_its_form(uptane: UptaneSimulator, primary: SimulatedPrimary, match: object):
    """A30: even if both repositories agree on nonsense, it is refused as such and nothing crashes."""
    custom = {"shallMatch": match, "ecuIdentifiers": ECUS}
    uptane.image.targets.targets[GATEWAY_PATH] = target(GATEWAY_PATH, IMAGES[GATEWAY_PATH], {"shallMatch": match})
    uptane.image.publish()
    assign_only(uptane, GATEWAY_PATH, IMAGES[GATEWAY_PATH], custom)
    assert refusal(uptane, primary).code is AttackCode.MALFORMED


@pytest.mark.parametrize("counter", [0, 2**31 - 1])
def test_release_counters_reach_from_none_to_the_last(counter: int):
    """Both ends are what the publishing side may sign, too."""
    entry = target(GATEWAY_PATH, b"x", {"shallMatch": MATCH | {"releaseCounter": counter}})
    assert read_shall_match(GATEWAY_PATH, entry).release_counter == counter


@pytest.mark.uptane("M7")
def test_an_image_without_a_sha256_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """M7: a hash that we do not compute is no hash."""
    uptane.director.targets.targets[GATEWAY_PATH].hashes = {"md5": "0" * 32}
    assert refusal(uptane, primary).code is AttackCode.MALFORMED
