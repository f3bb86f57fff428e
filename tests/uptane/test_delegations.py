"""Suppliers: believed for their own paths and hardware, in the order of the delegator, and never without end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, TargetFile, Targets

from signing.delegations import ROLES_MAX, find_target
from signing.errors import AttackCode
from tests.signing.uptane_simulator import (
    BRAKE_PATH,
    GATEWAY_PATH,
    IMAGES,
    SimulatedPrimary,
    UptaneSimulator,
    refusal,
    target_like,
)

ANY = object()


@dataclass
class Supplier:
    """A delegated role with one key."""

    name: str
    paths: Sequence[str] = ("acme/*",)
    hardware_ids: object = ANY
    terminating: bool = False
    signer: CryptoSigner = field(default_factory=CryptoSigner.generate_ecdsa)

    def role(self) -> DelegatedRole:
        extra = {} if self.hardware_ids is ANY else {"hardwareIds": self.hardware_ids}
        keyids = [self.signer.public_key.keyid]
        return DelegatedRole(self.name, keyids, 1, self.terminating, list(self.paths), unrecognized_fields=extra)


def delegations(*suppliers: Supplier) -> Delegations:
    """To these, in this order."""
    keys = {supplier.signer.public_key.keyid: supplier.signer.public_key for supplier in suppliers}
    return Delegations(keys, {supplier.name: supplier.role() for supplier in suppliers})


@dataclass
class Delegating:
    """An Image repository whose images are listed by suppliers only."""

    uptane: UptaneSimulator
    listed: dict[str, TargetFile]

    def delegate(self, *suppliers: Supplier) -> None:
        image = self.uptane.image
        image.targets = Targets(version=image.targets.version, delegations=delegations(*suppliers))

    def list(self, supplier: Supplier, *paths: str, to: Delegations | None = None, **changed: TargetFile) -> None:
        entries = {path: changed.get("entry", self.listed[path]) for path in paths}
        self.uptane.image.publish_delegated(
            supplier.name, [supplier.signer], Targets(version=1, targets=entries, delegations=to)
        )

    def publish(self) -> None:
        self.uptane.image.publish()


@pytest.fixture
def ground(uptane: UptaneSimulator) -> Delegating:
    return Delegating(uptane, dict(uptane.image.targets.targets))


@pytest.mark.uptane("A3", "C-deleg", "M11")
def test_a_supplier_speaks_for_its_own_hardware_only(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """Who is trusted with brakes and is robbed of its key must not update the gateway, whatever path it chooses."""
    supplier = Supplier("supplier", hardware_ids=["acme-brake-1"])
    ground.delegate(supplier)
    ground.list(supplier, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH
    supplier.hardware_ids = ["acme-brake-1", "acme-gw-1"]
    ground.delegate(supplier)
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("A3", "A30")
@pytest.mark.parametrize("hardware_ids", [[], None, "acme-gw-1 acme-brake-1", {"acme-gw-1": 1}, [["acme-gw-1"]]])
def test_hardware_ids_that_are_no_list_of_names_allow_nothing(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary, hardware_ids: object
):
    """A field that is read loosely would open what it was written to close."""
    supplier = Supplier("supplier", hardware_ids=hardware_ids)
    ground.delegate(supplier)
    ground.list(supplier, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("A3", "C-deleg")
def test_an_image_for_two_hardware_ids_needs_a_supplier_of_both(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """One id of the supplier's must not carry a second along."""
    both = {"hardwareIds": ["acme-brake-1", "acme-gw-1"], "releaseCounter": 2}
    entry = target_like(ground.listed[GATEWAY_PATH], {"shallMatch": both})
    units = {"ecuIdentifiers": {"PRIMARY-1": {"hardwareId": "acme-gw-1"}}}
    uptane.director.targets.targets = {GATEWAY_PATH: target_like(entry, {"shallMatch": both} | units)}
    uptane.director.publish()
    supplier = Supplier("supplier", hardware_ids=["acme-brake-1"])
    ground.delegate(supplier)
    ground.list(supplier, GATEWAY_PATH, entry=entry)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("M2", "C-deleg", "A16")
def test_the_first_of_two_suppliers_is_believed(ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Order is priority: what a lesser supplier says of the same path is never looked at."""
    first, second = Supplier("first"), Supplier("second")
    other = target_like(ground.listed[GATEWAY_PATH], dict(ground.listed[GATEWAY_PATH].custom))
    other.hashes = {"sha256": "0" * 64}
    ground.delegate(first, second)
    ground.list(first, GATEWAY_PATH, BRAKE_PATH)
    ground.list(second, GATEWAY_PATH, entry=other)
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2
    ground.delegate(second, first)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("M2", "C-deleg")
@pytest.mark.parametrize("terminating", [True, False])
def test_nobody_is_asked_after_a_terminating_role(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary, terminating: bool
):
    """Silence of a terminating role is an answer; of any other it is none."""
    first, second = Supplier("first", terminating=terminating), Supplier("second")
    ground.delegate(first, second)
    ground.list(first)
    ground.list(second, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    if terminating:
        assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH
    else:
        assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("M2", "C-deleg")
def test_a_terminating_role_ends_the_search_above_it_as_well(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """Who hands a path on for good hands it on for everybody who would be asked later."""
    first, inner, second = Supplier("first"), Supplier("inner", terminating=True), Supplier("second")
    ground.delegate(first, second)
    ground.list(first, to=delegations(inner))
    ground.list(inner)
    ground.list(second, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("M2", "C-deleg")
def test_who_hands_on_without_end_leaves_the_others_their_say(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """The next supplier is asked after the first, those that it trusts, and a way back that leads nowhere new."""
    first, inner, second = Supplier("first"), Supplier("inner"), Supplier("second")
    ground.delegate(first, second)
    ground.list(first, to=delegations(inner))
    ground.list(inner, to=delegations(first))
    ground.list(second, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("C-deleg")
def test_bins_by_hash_are_searched_as_well(ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A long list in parts that one key signs: TUF's succinct delegations, which name no paths."""
    signer, image = CryptoSigner.generate_ecdsa(), uptane.image
    key = signer.public_key
    bins = SuccinctRoles([key.keyid], 1, bit_length=1, name_prefix="bin")
    whole = Delegations({key.keyid: key}, succinct_roles=bins)
    image.targets = Targets(version=image.targets.version, delegations=whole)
    for name in bins.get_roles():
        entries = {path: each for path, each in ground.listed.items() if bins.get_role_for_target(path) == name}
        image.publish_delegated(name, [signer], Targets(version=1, targets=entries))
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("A30", "C-deleg")
def test_a_supplier_s_threshold_is_a_number(ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary):
    """`true` is one to Python; another reader would ask for none, or for none ever."""
    supplier = Supplier("supplier")
    ground.delegate(supplier)
    uptane.image.targets.delegations.roles["supplier"].threshold = True
    ground.list(supplier, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.MALFORMED


@pytest.mark.uptane("C-deleg")
def test_a_terminating_role_for_other_hardware_ends_nothing(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """It does not apply to this image, so it has no say in who is asked next."""
    first = Supplier("first", terminating=True, hardware_ids=["acme-radio-1"])
    second = Supplier("second")
    ground.delegate(first, second)
    ground.list(first)
    ground.list(second, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("M11", "C-deleg")
def test_a_supplier_hands_on_less_than_it_has(ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Along a chain every delegation has to allow the image, not only the last one."""
    first, second = Supplier("first", paths=["acme/brake-*"]), Supplier("second")
    ground.delegate(first)
    ground.list(first, to=delegations(second))
    ground.list(second, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH, "the gateway was not the first one's to give"
    first.paths = ["acme/*"]
    ground.delegate(first)
    ground.publish()
    assert len(primary.verify(uptane.files()).images) == 2


@pytest.mark.uptane("A13", "C-deleg")
def test_delegations_in_a_circle_end(ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Two suppliers that point at each other cost two files, not a vehicle's afternoon."""
    first, second = Supplier("first"), Supplier("second")
    ground.delegate(first)
    ground.list(first, to=delegations(second))
    ground.list(second, to=delegations(first))
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH


@pytest.mark.uptane("A13")
@pytest.mark.parametrize("shape", ["deep", "wide"])
def test_a_search_looks_at_a_bounded_number_of_roles(shape: str):
    """A supplier's key can sign as many delegations as it likes; what they cost is capped."""
    asked: list[str] = []
    endless = [Supplier(f"role-{number}") for number in range(3 * ROLES_MAX)]

    def load(role: str, delegator: str) -> Targets:
        asked.append(role)
        if shape == "wide":
            return Targets(delegations=delegations(*endless) if role == "targets" else None)
        return Targets(delegations=delegations(endless[len(asked)]))

    assert find_target(GATEWAY_PATH, ["acme-gw-1"], load) is None
    assert len(asked) == ROLES_MAX + 1


@pytest.mark.uptane("A29")
@pytest.mark.parametrize("honest_first", [True, False])
def test_a_role_over_two_ways_with_different_keys_is_refused(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary, honest_first: bool
):
    """One file cannot be two suppliers' word: by the keys of the way it was reached, and by no other way's."""
    left, right = Supplier("left"), Supplier("right")
    shared, thief = Supplier("shared"), Supplier("shared")
    ground.delegate(*((left, right) if honest_first else (right, left)))
    ground.list(left, to=delegations(shared))
    ground.list(right, to=delegations(thief))
    ground.list(thief, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    if honest_first:
        assert refusal(primary, uptane.files()) is AttackCode.ARBITRARY
    else:
        assert primary.verify(uptane.files()).images, "the first delegator named these keys: its word comes first"


@pytest.mark.uptane("A29")
def test_what_one_way_vouched_for_is_judged_anew_on_another(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """The second image reaches the role by the other delegator, whose keys did not sign it: it must not ride along."""
    left, right = Supplier("left", paths=["acme/gw-*"]), Supplier("right", paths=["acme/brake-*"])
    shared, other = Supplier("shared"), Supplier("shared")
    ground.delegate(left, right)
    ground.list(left, to=delegations(shared))
    ground.list(right, to=delegations(other))
    ground.list(shared, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    assert refusal(primary, uptane.files()) is AttackCode.ARBITRARY


@pytest.mark.uptane("A16", "C-deleg")
def test_a_supplier_s_list_of_another_time_is_refused(
    ground: Delegating, uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """Signed by its supplier, never with this snapshot: named like any other mixture, and not as a rollback."""
    supplier = Supplier("supplier")
    ground.delegate(supplier)
    ground.list(supplier, GATEWAY_PATH, BRAKE_PATH)
    ground.publish()
    of_then = uptane.image.current["1.supplier.json"]
    uptane.image.publish_delegated("supplier", [supplier.signer], Targets(version=2, targets=ground.listed))
    ground.publish()
    files = uptane.files() | {("image", "2.supplier.json"): of_then}
    assert refusal(primary, files) is AttackCode.MIX_AND_MATCH
    assert primary.verify(uptane.files()).images


def test_the_bytes_of_both_images_are_those_of_the_simulator(ground: Delegating):
    """What suppliers list above is what was released, so that a refusal is about who says it."""
    assert {path: entry.length for path, entry in ground.listed.items()} == {p: len(c) for p, c in IMAGES.items()}
