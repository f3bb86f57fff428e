"""Secondaries verify in part: what their Primary, or who has taken its place, cannot make them accept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Root

from signing.errors import AttackCode
from signing.match import InstalledImage, VerifiedImage
from signing.partial import ROOTS_MAX, PartialError, PartialVerdict, SecondaryHeld, SecondaryUnit, verify_partially
from tests.signing.uptane_simulator import BRAKE_PATH, GATEWAY_PATH, NOW, VEHICLE, RepositorySimulator, UptaneSimulator
from tests.uptane.forging import forge

UNIT = SecondaryUnit(VEHICLE, "BRAKE-1", "acme-brake-1")


class Brake:
    """One Secondary, with what it holds."""

    def __init__(self, uptane: UptaneSimulator) -> None:
        self.uptane = uptane
        self.held = SecondaryHeld(uptane.director.first_root)

    def passed_on(self) -> dict[str, bytes]:
        """What an honest Primary passes on."""
        director = self.uptane.director
        roots = {f"{version}.root.json": content for version, content in director.roots.items() if version > 1}
        return roots | {director.name_of("targets"): director.current[director.name_of("targets")]}

    def check(self, files: dict[str, bytes] | None = None, **how: Any) -> PartialVerdict:
        given = self.passed_on() if files is None else files
        return verify_partially(given, **({"unit": UNIT, "held": self.held, "now": NOW} | how))

    def accept(self, files: dict[str, bytes] | None = None, **how: Any) -> VerifiedImage | None:
        verdict = self.check(files, **how)
        self.held = verdict.held
        return verdict.image

    def refusal(self, files: dict[str, bytes] | None = None, **how: Any) -> AttackCode:
        """The code of the refusal that is due; nothing but roots may be kept of it."""
        with pytest.raises(PartialError) as caught:
            self.check(files, **how)
        assert replace(caught.value.held, root=b"") == replace(self.held, root=b"")
        return caught.value.code


@pytest.fixture
def brake(uptane: UptaneSimulator) -> Brake:
    return Brake(uptane)


@pytest.mark.uptane("P1", "V7")
def test_a_secondary_learns_what_is_for_it(brake: Brake):
    """Its own image out of those of the whole vehicle, with all that it needs to judge the bytes."""
    image = brake.accept()
    assert image is not None
    assert (image.path, image.hardware_id, image.release_counter) == (BRAKE_PATH, "acme-brake-1", 5)
    brake.uptane.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}})
    brake.uptane.director.publish()
    assert brake.accept() is None
    assert brake.accept({}) is None, "what is held says it as well"


@pytest.mark.uptane("P1", "A1", "C-targets")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", None])
def test_targets_by_another_key_are_refused(brake: Brake, role: str | None):
    """A stolen Primary has no key of the Director, and the Director's other keys are not that of targets."""
    director = brake.uptane.director
    signer = director.signers[role][0] if role else CryptoSigner.generate_ed25519()
    name = director.name_of("targets")
    assert brake.refusal({name: director.sign(director.targets, [signer])}) is AttackCode.ARBITRARY


@pytest.mark.uptane("P1", "A5")
def test_another_role_s_file_does_not_pass_for_targets(brake: Brake):
    """Validly signed, by the right Director, and no targets."""
    director = brake.uptane.director
    snapshot = director.current[director.name_of("snapshot")]
    assert brake.refusal({director.name_of("targets"): snapshot}) is AttackCode.ARBITRARY


@pytest.mark.uptane("P1", "A6", "A17")
def test_older_targets_are_refused(brake: Brake):
    """A Primary that gives its Secondaries different bundles has to give one of them an older."""
    older = brake.passed_on()
    brake.uptane.director.publish()
    brake.accept()
    assert brake.refusal(older) is AttackCode.ROLLBACK
    brake.accept(brake.passed_on())


@pytest.mark.uptane("P1", "A9")
def test_expired_targets_and_roots_are_a_freeze(brake: Brake):
    """A Primary that passes nothing on is noticed after a week, without any message."""
    brake.accept()
    assert brake.accept({}, now=NOW + timedelta(days=6)) is not None
    for later in (timedelta(days=7), timedelta(days=400)):
        assert brake.refusal({}, now=NOW + later) is AttackCode.FREEZE


@pytest.mark.uptane("P1", "A11", "A17")
def test_another_vehicle_s_targets_are_refused(brake: Brake):
    """Bound by the vehicle's id, also where the serials would fit."""
    other = RepositorySimulator("director", "veh-2")
    other.signers, other.targets.targets = brake.uptane.director.signers, brake.uptane.director.targets.targets
    other.publish("targets")
    assert brake.refusal({"9.targets.json": other.current[other.name_of("targets")]}) is AttackCode.WRONG_VEHICLE


@pytest.mark.uptane("P1", "A12", "V1")
def test_a_primary_that_lies_about_the_time_gains_nothing(brake: Brake):
    """Back: refused, below the unit's own floor. Ahead: everything is expired, and well again when the lie ends."""
    brake.accept(now=NOW + timedelta(hours=3))
    assert brake.refusal(now=NOW) is AttackCode.CLOCK
    assert brake.refusal(now=NOW + timedelta(days=3650)) is AttackCode.FREEZE
    assert brake.accept(now=NOW + timedelta(hours=3) - timedelta(minutes=4)) is not None
    assert brake.held.time_floor == NOW + timedelta(hours=3)


@pytest.mark.uptane("P1", "A7", "V9")
def test_an_older_image_is_refused(brake: Brake):
    """By its release counter, whatever the Director's keys say."""
    assert brake.refusal(installed=InstalledImage("acme/brake-2.img", 6)) is AttackCode.ROLLBACK
    assert brake.accept(installed=InstalledImage(BRAKE_PATH, 5)) is not None


@pytest.mark.uptane("P1", "V9")
def test_an_image_for_other_hardware_is_refused(brake: Brake):
    """The unit knows what it is, and believes no file about that."""
    for hardware_id in ("acme-brake-9", "acme-gw-1"):
        assert brake.refusal(unit=replace(UNIT, hardware_id=hardware_id)) is AttackCode.WRONG_HARDWARE


@pytest.mark.uptane("P1", "C-targets")
def test_a_unit_named_twice_is_refused(brake: Brake):
    """Whichever unit it is: the file is not what the Director may sign."""
    brake.uptane.release("acme/gw-1.2.0.img", hardware_id="acme-gw-1", counter=3, content=b"1.2.0")
    brake.uptane.assign({path: {"PRIMARY-1": "acme-gw-1"} for path in (GATEWAY_PATH, "acme/gw-1.2.0.img")})
    brake.uptane.director.publish()
    assert brake.refusal() is AttackCode.WRONG_ECU


@pytest.mark.uptane("P1", "C-targets")
def test_delegating_targets_are_refused(brake: Brake):
    """The Director's choice of images is not handed on."""
    signer = CryptoSigner.generate_ed25519()
    keys = {signer.public_key.keyid: signer.public_key}
    role = DelegatedRole("friend", list(keys), 1, False, paths=["*"])
    brake.uptane.director.targets.delegations = Delegations(keys, {"friend": role})
    brake.uptane.director.publish()
    assert brake.refusal() is AttackCode.DELEGATION


@pytest.mark.uptane("P1", "A13", "A30")
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b" " * (64 * 1024 + 1), AttackCode.ENDLESS_DATA),
        (b"[]", AttackCode.MALFORMED),
        (b'{"signatures":[],"signed":{"_type":"targets","_type":"targets"}}', AttackCode.MALFORMED),
        (b'{"signatures":[],"signed":{"_type":"targets"}}', AttackCode.MALFORMED),
    ],
)
@pytest.mark.parametrize("name", ["7.targets.json", "2.root.json"])
def test_odd_files_are_refused_as_such(brake: Brake, name: str, content: bytes, code: AttackCode):
    """A control unit has little memory, and must not fall over what its Primary sends."""
    assert brake.refusal({name: content}) is code


@pytest.mark.uptane("P1", "A15")
def test_nothing_at_all_is_named(brake: Brake):
    """A Secondary that never got anything says so."""
    assert brake.refusal({}) is AttackCode.MISSING
    assert brake.refusal({"7.targets.json": b"{}", "8.targets.json": b"{}"}) is AttackCode.MALFORMED


@pytest.mark.uptane("P1")
def test_a_unit_that_is_assigned_nothing_may_run_anything(brake: Brake):
    """Counters are compared with what would be installed, which here is nothing."""
    brake.uptane.assign({GATEWAY_PATH: {"PRIMARY-1": "acme-gw-1"}})
    brake.uptane.director.publish()
    assert brake.accept(installed=InstalledImage("acme/brake-9.img", 9)) is None


@pytest.mark.uptane("P1", "A9")
def test_the_director_s_root_ends_to_the_second(brake: Brake):
    """Good until it expires, and no longer."""
    expires = NOW + timedelta(days=3)
    brake.uptane.director.rotate_root(lambda root: setattr(root, "expires", expires))
    assert brake.accept(now=expires - timedelta(seconds=1)) is not None
    assert brake.refusal({}, now=expires) is AttackCode.FREEZE


@pytest.mark.uptane("P1", "A30")
def test_an_odd_entry_for_another_unit_is_refused(brake: Brake):
    """It is none of this unit's business, but no Director signs it: refused, and nothing crashes."""
    director = brake.uptane.director
    director.targets.targets[GATEWAY_PATH].custom["ecuIdentifiers"] = {"PRIMARY-1": "acme-gw-1"}
    director.publish()
    assert brake.refusal() is AttackCode.WRONG_HARDWARE


def test_a_refusal_says_what_was_refused(brake: Brake):
    """By name, in the Primary's log: a Secondary has no other voice."""
    name, then = brake.uptane.director.name_of("targets"), NOW + timedelta(days=8)
    twice = {"7.targets.json": b"", "8.targets.json": b""}
    for files, how, words in (
        ({}, {}, "the Director's targets were neither passed on nor held"),
        (twice, {}, "2 targets files were passed on, there is one"),
        ({"2.root.json": b"{"}, {}, "2.root.json: "),
        ({name: b"{"}, {}, f"{name}: "),
        (None, {"now": then}, "the Director's targets are expired by fleet time"),
        (None, {"now": NOW + timedelta(days=400)}, "the Director's root 1 is expired by fleet time"),
        (None, {"unit": replace(UNIT, vehicle_id="veh-9")}, "the Director's targets is bound to vehicle 'veh-1'"),
    ):
        with pytest.raises(PartialError) as caught:
            brake.check(files, **how)
        assert caught.value.message.startswith(words)


@pytest.mark.uptane("P1", "A26", "C-root", "K6")
def test_stolen_online_keys_are_taken_from_a_secondary_over_the_air(brake: Brake):
    """Three roots later the thief's targets are refused, and versions may start again below those of the thief."""
    director = brake.uptane.director
    director.targets.version = 2**31 - 2
    director.publish()
    brake.accept()
    stolen = brake.passed_on()
    thief = director.signers["targets"]

    def replace_key(root: Root) -> None:
        root.revoke_key(director.signers["targets"][0].public_key.keyid, "targets")
        director.signers["targets"] = [CryptoSigner.generate_ed25519()]
        root.add_key(director.signers["targets"][0].public_key, "targets")

    for _ in range(3):
        director.rotate_root(replace_key)
    roots = {name: content for name, content in brake.passed_on().items() if name.endswith("root.json")}
    with pytest.raises(PartialError) as caught:
        brake.check(roots | stolen)
    assert caught.value.code is AttackCode.ARBITRARY
    assert caught.value.held.root == director.roots[4], "the new keys count, though what came with them did not"
    director.targets.version = 10
    director.publish()
    assert brake.accept() is not None
    assert director.signers["targets"] != thief


@pytest.mark.uptane("P1", "A4", "A5", "A6", "C-root")
@pytest.mark.parametrize("how", ["one key", "skipped", "own key", "twin"])
def test_roots_that_are_not_due_are_refused(brake: Brake, how: str):
    """Below the threshold, past a version, by keys of its own, or with one key twice."""
    director = brake.uptane.director
    own = [CryptoSigner.generate_ecdsa() for _ in range(2)]
    key = director.signers["root"][0].public_key

    def change(root: Root) -> None:
        if how == "skipped":
            root.version = 3
        if how == "own key":
            root.roles["root"].keyids = []
            for signer in own:
                root.add_key(signer.public_key, "root")
        if how == "twin":
            root.add_key(SSlibKey("f" * 64, key.keytype, key.scheme, key.keyval), "root")

    signers = {"one key": director.signers["root"][:1], "own key": own}.get(how)
    content = director.rotate_root(change, signers)
    code = brake.refusal(brake.passed_on() | {"2.root.json": content})
    assert code is {"skipped": AttackCode.ROLLBACK, "twin": AttackCode.DUPLICATE_KEY}.get(how, AttackCode.ARBITRARY)


@pytest.mark.uptane("P1", "A13", "A26")
def test_an_endless_chain_of_roots_is_walked_in_bounded_steps(brake: Brake):
    """Work is bounded in one go, and the next one goes on from there."""
    for _ in range(ROOTS_MAX + 2):
        brake.uptane.director.rotate_root(lambda root: None)
    brake.accept()
    assert brake.held.root == brake.uptane.director.roots[ROOTS_MAX + 1]
    brake.accept()
    assert brake.held.root == brake.uptane.director.roots[ROOTS_MAX + 3]


@pytest.mark.uptane("A2")
def test_what_partial_verification_does_not_stop_is_said(brake: Brake):
    """With the stolen targets key alone a Secondary takes any software: that is why the Primary goes first."""
    director = brake.uptane.director
    name = director.name_of("targets")

    def evil(payload: dict[str, Any]) -> None:
        payload["targets"][BRAKE_PATH]["hashes"]["sha256"] = "e" * 64

    image = brake.accept({name: forge(director.current[name], evil, director.signers["targets"])})
    assert image is not None
    assert image.sha256 == "e" * 64
