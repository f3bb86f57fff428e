"""Suppliers: trusted by a ceremony, signing for themselves alone, refused outside of their scope, and removed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Snapshot, TargetFile

from signing.ceremony import DataFolder
from signing.change import load_change, save_change
from signing.change_edits import adding, edit_root, requiring, revoking, rotating, with_listings
from signing.errors import (
    BelowThresholdError,
    ChangeRefusedError,
    ImageRefusedError,
    StaleChangeError,
    WrongKeyError,
)
from signing.image_metadata import TARGETS_LIFE
from signing.key_names import find_key, named
from signing.keys import load_signer, save_signer
from signing.supplier_edits import Scope, delegating, undelegating
from tests.signing.suppliers import SCOPE, Suppliers, a_key, sha256_of
from tests.signing.uptane_simulator import NOW


@pytest.fixture
def suppliers(data: DataFolder, tmp_path: Path) -> Suppliers:
    return Suppliers(data, tmp_path)


@pytest.mark.uptane("M2", "M11", "I2")
def test_a_supplier_signs_for_itself_and_vehicles_find_its_image(suppliers: Suppliers, data: DataFolder):
    """From the first key to the image that is found, without any key of ours for the image itself."""
    suppliers.add("acme")
    (data.image_keys / "targets.pem").unlink()
    image = suppliers.image()
    suppliers.release("acme", image)
    found = suppliers.repository.verified_target(image.path, suppliers.now, [image.hardware_id])
    assert found is not None
    assert (found.sha256, found.release_counter, found.hardware_id) == (sha256_of(image), 2, "acme-brake-1")
    assert suppliers.repository.image_file(image.path, found.sha256).read_bytes() == image.file.read_bytes()
    assert [each.path for each in suppliers.repository.verified_targets(suppliers.now)] == [image.path]


@pytest.mark.uptane("M2")
def test_the_keys_of_both_sides_sign_a_new_supplier(suppliers: Suppliers):
    """Whoever is trusted shows that it has the key; whoever trusts answers for what the supplier may."""
    key = a_key("acme-1")
    change = suppliers.edit(delegating("acme", [key.public_key], SCOPE))
    assert [(demand.role, demand.lacking) for demand in change.demands()] == [("targets", 1), ("acme", 1)]
    with pytest.raises(BelowThresholdError, match="acme lacks 1 signature of the acme keys, of acme-1"):
        suppliers.publish(suppliers.signed(change, suppliers.releases))
    with pytest.raises(BelowThresholdError, match="targets lacks 1 signature"):
        suppliers.publish(suppliers.signed(change, key))
    suppliers.publish(suppliers.signed(change, key, suppliers.releases))
    assert suppliers.repository.metadata.listings()["acme"].signed.targets == {}


@pytest.mark.uptane("A3", "I2")
@pytest.mark.parametrize(
    ("path", "changes", "words"),
    [
        ("other/brake.img", {}, "outside the paths of acme, which are acme/*"),
        ("acme/deeper/brake.img", {}, "outside the paths of acme"),
        ("acme/gw.img", {"hardware_id": "acme-gw-1"}, "is for acme-gw-1; acme may speak for acme-brake-1 only"),
    ],
)
def test_a_supplier_lists_nothing_outside_of_its_scope(
    suppliers: Suppliers, path: str, changes: dict[str, object], words: str
):
    """At home, before it is signed; and, signed by other tools, when it is published."""
    suppliers.add("acme")
    image = suppliers.image(path, **changes)
    with pytest.raises(ImageRefusedError, match=words.replace("*", r"\*")):
        suppliers.supply("acme", image)
    change = suppliers.supply("acme", suppliers.image("acme/good.img"))
    listing = change.listings["acme"].signed
    good = listing.targets["acme/good.img"]
    match = {"hardwareIds": [image.hardware_id], "releaseCounter": 2}
    custom = {"custom": {"shallMatch": match, "version": "1.2.0"}}
    listing.targets[path] = TargetFile(good.length, good.hashes, path, unrecognized_fields=custom)
    before = suppliers.repository.versions()
    with pytest.raises(ImageRefusedError, match=words.replace("*", r"\*")):
        suppliers.publish(suppliers.signed(change, suppliers.keys["acme"]))
    assert suppliers.repository.versions() == before


@pytest.mark.uptane("A3")
def test_one_of_two_keys_of_a_supplier_publishes_nothing(suppliers: Suppliers):
    """A supplier that is robbed of one key loses nothing."""
    first, second = a_key("acme-1"), a_key("acme-2")
    scope = replace(SCOPE, threshold=2)
    change = suppliers.edit(delegating("acme", [first.public_key, second.public_key], scope))
    suppliers.publish(suppliers.signed(change, suppliers.releases, first, second))
    change = suppliers.signed(suppliers.supply("acme", suppliers.image()), first, first)
    with pytest.raises(BelowThresholdError, match="acme lacks 1 signature of the acme keys, of acme-2"):
        suppliers.publish(change)
    with pytest.raises(WrongKeyError, match="nothing to sign"):
        suppliers.signed(change, suppliers.releases)
    suppliers.publish(suppliers.signed(change, second))


@pytest.mark.uptane("M2")
def test_an_image_that_no_vehicle_would_find_is_refused(suppliers: Suppliers):
    """Signed by the right key, within its scope, and yet never found: whoever is asked first has the say."""
    suppliers.add("first", Scope(paths=("acme/*",), hardware_ids=("acme-brake-1",), terminating=True))
    suppliers.add("second")
    with pytest.raises(ImageRefusedError, match=r"no vehicle would find 'acme/brake-2\.img' with second"):
        suppliers.release("second", suppliers.image())
    change = suppliers.edit(delegating("second", [], Scope(before="first")))
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    suppliers.release("second", suppliers.image())


@pytest.mark.uptane("I3")
def test_what_a_supplier_published_stays(suppliers: Suppliers):
    """Other bytes under a path that is taken, a lower counter, or a list made from an older one: refused, with why."""
    suppliers.add("acme")
    old = suppliers.supply("acme")
    suppliers.release("acme", suppliers.image(counter=3))
    with pytest.raises(ImageRefusedError, match="choose another path"):
        suppliers.supply("acme", suppliers.image(counter=4))
    with pytest.raises(ImageRefusedError, match="release counter 2 is lower than 3"):
        suppliers.supply("acme", suppliers.image("acme/brake-1.img", counter=2))
    with pytest.raises(StaleChangeError, match=r"leaves out 'acme/brake-2.img'.*keys renew image acme"):
        suppliers.publish(suppliers.signed(old, suppliers.keys["acme"]))


def test_bytes_that_were_not_signed_are_not_taken_in(suppliers: Suppliers):
    """A stick with the wrong build on it is found out before any vehicle downloads it."""
    suppliers.add("acme")
    image = suppliers.image()
    change = suppliers.signed(suppliers.supply("acme", image), suppliers.keys["acme"])
    content = image.file.read_bytes()
    for wrong, words in ((content + b"x", "bytes, 18 were signed"), (bytes(len(content)), "is not what was signed")):
        image.file.write_bytes(wrong)
        with pytest.raises(ImageRefusedError, match=words):
            suppliers.publish(change)
    image.file.unlink()
    with pytest.raises(ImageRefusedError, match=r"is not here: bring brake-2\.img"):
        suppliers.publish(change)
    image.file.write_bytes(content)
    suppliers.publish(change)
    suppliers.publish(change)


@pytest.mark.uptane("A25")
def test_a_stolen_supplier_key_is_replaced_and_signs_nothing_more(suppliers: Suppliers):
    """The list is signed anew by the new key in the same change: vehicles are never without it."""
    stolen = suppliers.add("acme")
    suppliers.release("acme", suppliers.image())
    fresh = a_key("acme-2")
    change = suppliers.edit(rotating("acme", [], [fresh.public_key]))
    assert [demand.role for demand in change.demands()] == ["targets", "acme"]
    with pytest.raises(BelowThresholdError):
        suppliers.publish(suppliers.signed(change, suppliers.releases))
    suppliers.publish(suppliers.signed(change, suppliers.releases, fresh))
    late = suppliers.supply("acme", suppliers.image("acme/evil.img", counter=3))
    with pytest.raises(WrongKeyError):
        suppliers.signed(late, stolen)
    assert suppliers.repository.verified_target("acme/brake-2.img", suppliers.now, ["acme-brake-1"]) is not None


@pytest.mark.uptane("K5")
def test_a_removed_supplier_stays_in_the_snapshot_until_its_keys_are_rotated(suppliers: Suppliers, data: DataFolder):
    """K5: a file that is listed no longer looks like an attack, to every vehicle that holds the snapshot before."""
    suppliers.add("acme")
    suppliers.release("acme", suppliers.image())
    change = suppliers.edit(undelegating("acme"))
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    repository = suppliers.repository
    assert repository.verified_target("acme/brake-2.img", suppliers.now, ["acme-brake-1"]) is None
    assert "acme.json" in repository.metadata.load("snapshot", Snapshot).meta
    fresh = load_signer(data.director_keys, "timestamp").generate_ed25519()
    named(fresh.public_key, "snapshot-2")
    save_signer(fresh, data.image_keys / "snapshot-2.pem")
    change = edit_root(suppliers.begin(), rotating("snapshot", [], [fresh.public_key]), suppliers.now)
    roots = [load_signer(data.image_keys, f"root-{number}") for number in (1, 2)]
    suppliers.publish(suppliers.signed(change, *roots))
    assert list(repository.metadata.load("snapshot", Snapshot).meta) == ["targets.json"]


@pytest.mark.uptane("M11")
def test_a_supplier_trusts_one_of_its_own(suppliers: Suppliers):
    """A chain of two: the inner one speaks within what both say, and the outer key signs it in."""
    suppliers.add("acme", Scope(paths=("acme/*", "acme/brakes/*")))
    suppliers.add("brakes", Scope(paths=("acme/brakes/*",), hardware_ids=("acme-brake-1",)), by="acme")
    suppliers.release("brakes", suppliers.image("acme/brakes/b.img"))
    found = suppliers.repository.verified_target("acme/brakes/b.img", suppliers.now, ["acme-brake-1"])
    assert found is not None
    change = suppliers.edit(delegating("acme", [], Scope(paths=("acme/*",))))
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    assert suppliers.repository.verified_target("acme/brakes/b.img", suppliers.now, ["acme-brake-1"]) is None
    with pytest.raises(ImageRefusedError, match="no vehicle would find"):
        suppliers.release("brakes", suppliers.image("acme/brakes/c.img"))


@pytest.mark.uptane("K3")
def test_a_key_has_one_role(suppliers: Suppliers, data: DataFolder):
    """One theft is one role: neither a root's key, of either repository, nor another supplier's."""
    suppliers.add("acme")
    for key in (
        load_signer(data.image_keys, "root-1").public_key,
        load_signer(data.director_keys, "targets").public_key,
    ):
        with pytest.raises(ChangeRefusedError, match="is a key of a root already"):
            suppliers.edit(delegating("bolt", [key], SCOPE))
    with pytest.raises(ChangeRefusedError, match="is a acme key already"):
        suppliers.edit(delegating("bolt", [suppliers.keys["acme"].public_key], SCOPE))


@pytest.mark.parametrize(
    ("name", "scope", "words"),
    [
        ("targets", SCOPE, "no name of a supplier"),
        ("Acme", SCOPE, "no name of a supplier"),
        ("../acme", SCOPE, "no name of a supplier"),
        ("acme", Scope(), "say its keys and at least one pattern of paths"),
        ("acme", Scope(paths=("/etc/*",)), "no pattern of target paths"),
        ("acme", Scope(paths=("a/../*",)), "no pattern of target paths"),
        ("acme", Scope(paths=("acme/*",), hardware_ids=("a b",)), "is no hardware id"),
        ("acme", Scope(paths=("acme/*",), threshold=2), "1 keys of which 2 must sign"),
        ("acme", Scope(paths=("acme/*",), before="bolt"), "bolt is no other supplier"),
    ],
)
def test_a_supplier_that_makes_no_sense_is_refused(suppliers: Suppliers, name: str, scope: Scope, words: str):
    """Before anybody signs it."""
    with pytest.raises(ChangeRefusedError, match=words):
        suppliers.edit(delegating(name, [a_key("acme-1").public_key], scope))


def test_keys_of_a_supplier_are_changed_like_any_other(suppliers: Suppliers):
    """Added, required, revoked: the same edits, signed by whoever trusts it."""
    first = suppliers.add("acme")
    second = a_key("acme-2")
    change = suppliers.edit(adding("acme", [second.public_key]))
    change = suppliers.edit(requiring("acme", 2), change=change)
    suppliers.publish(suppliers.signed(change, suppliers.releases, first, second))
    held = suppliers.begin().delegations["targets"]
    with pytest.raises(ChangeRefusedError, match="1 keys of which 2"):
        suppliers.edit(revoking(find_key(held, "acme-1")))
    change = suppliers.edit(requiring("acme", 1))
    change = suppliers.edit(revoking(find_key(held, "acme-1")), change=change)
    assert list(change.files()) == ["targets"], "its list has the signature of the key that stays"
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    with pytest.raises(WrongKeyError):
        suppliers.signed(suppliers.supply("acme", suppliers.image()), first)


def test_a_change_of_suppliers_that_was_overtaken_is_refused(suppliers: Suppliers):
    """Otherwise the second of two changes would undo the first without a word."""
    first, second = a_key("a-1"), a_key("b-1")
    one = suppliers.edit(delegating("one", [first.public_key], SCOPE))
    two = suppliers.edit(delegating("two", [second.public_key], SCOPE))
    suppliers.publish(suppliers.signed(one, suppliers.releases, first))
    with pytest.raises(StaleChangeError, match="suppliers are others than when this change was made"):
        suppliers.publish(suppliers.signed(two, suppliers.releases, second))


def test_a_list_made_before_another_supplier_came_is_published(suppliers: Suppliers):
    """Suppliers do not wait for each other; and who signs is judged by who is trusted now."""
    suppliers.add("acme")
    change = suppliers.signed(suppliers.supply("acme", suppliers.image()), suppliers.keys["acme"])
    suppliers.add("bolt", Scope(paths=("bolt/*",)))
    suppliers.publish(change)
    late = suppliers.signed(suppliers.supply("acme", suppliers.image("acme/b-3.img", 3)), suppliers.keys["acme"])
    fresh = a_key("acme-2")
    rotated = suppliers.edit(rotating("acme", [], [fresh.public_key]))
    suppliers.publish(suppliers.signed(rotated, suppliers.releases, fresh))
    with pytest.raises(BelowThresholdError, match="acme lacks 1 signature of the acme keys, of acme-2"):
        suppliers.publish(late)


def test_a_suppliers_list_is_renewed_by_its_own_key(suppliers: Suppliers):
    """It ends 90 days after it was signed, whatever the repository's own list does."""
    suppliers.add("acme")
    suppliers.release("acme", suppliers.image())
    assert suppliers.repository.expiries()["acme"] == suppliers.now + TARGETS_LIFE
    suppliers.now = NOW + timedelta(days=80)
    change = with_listings(suppliers.begin(), suppliers.repository.metadata.listings(), suppliers.now, renew="acme")
    assert list(change.files()) == ["acme"]
    suppliers.publish(suppliers.signed(change, suppliers.keys["acme"]))
    assert suppliers.repository.expiries()["acme"] == suppliers.now + TARGETS_LIFE


@pytest.mark.uptane("A26")
def test_a_change_of_lists_alone_leaves_the_root_as_it_was_signed(suppliers: Suppliers, data: DataFolder):
    """Its signatures by the keys before are what vehicles that hold the root before go by."""
    fresh = [a_key(name) for name in ("dora", "erik", "fay")]
    old = [load_signer(data.image_keys, f"root-{number}") for number in (1, 2)]
    change = edit_root(suppliers.begin(), rotating("root", [], [each.public_key for each in fresh]), suppliers.now)
    suppliers.publish(suppliers.signed(change, *old, *fresh[:2]))
    signed = suppliers.repository.metadata_file("2.root.json")
    suppliers.add("acme")
    assert suppliers.repository.metadata_file("2.root.json") == signed
    assert suppliers.repository.verified_targets(suppliers.now) == [], "as a vehicle verifies it, from version 1 on"


def test_the_file_of_a_change_keeps_suppliers_and_their_order(suppliers: Suppliers, tmp_path: Path):
    """Order is priority: it must not be that of the alphabet."""
    suppliers.add("zed", Scope(paths=("z/*",)))
    key = a_key("acme-1")
    change = suppliers.edit(delegating("acme", [key.public_key], SCOPE))
    save_change(suppliers.signed(change, key), tmp_path / "c.json")
    read = load_change(tmp_path / "c.json")
    assert list(read.suppliers_after) == ["zed", "acme"]
    assert [demand.lacking for demand in read.demands()] == [1, 0]
    value = json.loads((tmp_path / "c.json").read_text())
    value["listings"]["../x"] = value["listings"].pop("acme")
    (tmp_path / "c.json").write_text(json.dumps(value))
    with pytest.raises(Exception, match="no role that lists images"):
        load_change(tmp_path / "c.json")


def test_releases_of_ours_go_on_beside_suppliers(suppliers: Suppliers, data: DataFolder):
    """Publishing keeps who is trusted, and does not list again what a supplier lists."""
    suppliers.add("acme")
    theirs = suppliers.image()
    suppliers.release("acme", theirs)
    ours = suppliers.image("gw-2.img", hardware_id="acme-gw-1")
    infos = suppliers.repository.publish([ours, theirs], data.image_keys, suppliers.now)
    assert [info.path for info in infos] == ["gw-2.img", theirs.path]
    listings = suppliers.repository.metadata.listings()
    assert (list(listings["targets"].signed.targets), list(listings["acme"].signed.targets)) == (
        ["gw-2.img"],
        [theirs.path],
    )
    with pytest.raises(ImageRefusedError, match="choose another path"):
        suppliers.repository.publish([replace(theirs, release_counter=9)], data.image_keys, suppliers.now)


def test_who_vouches_for_images_is_changed_by_the_same_ceremony(suppliers: Suppliers):
    """The role `attest` has keys and no list: nothing is asked of it, and vehicles are sent no file of it."""
    key, fresh = a_key("attest-1"), a_key("attest-2")
    with pytest.raises(ChangeRefusedError, match="it has keys, and no paths"):
        suppliers.edit(delegating("attest", [key.public_key], SCOPE))
    change = suppliers.edit(delegating("attest", [key.public_key], Scope()))
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    change = suppliers.edit(rotating("attest", [], [fresh.public_key]))
    assert list(change.files()) == ["targets"]
    suppliers.publish(suppliers.signed(change, suppliers.releases))
    assert list(suppliers.repository.metadata.listings()) == ["targets"]
    with pytest.raises(ChangeRefusedError, match="rotate its keys instead"):
        suppliers.edit(undelegating("attest"))
