"""Ceremonies: a change is signed far away, collected, and published at its threshold, never below and over no gap."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root

from signing.ceremony import DataFolder
from signing.change import PendingChange, collect, load_change, save_change, sign_change
from signing.change_edits import RootEdit, adding, begin, edit_root, renewing, requiring, revoking, rotating
from signing.change_publication import publish_director
from signing.errors import (
    BelowThresholdError,
    ChangeFileError,
    ChangeRefusedError,
    KeyFileError,
    SigningError,
    StaleChangeError,
    WrongKeyError,
)
from signing.key_names import find_key, label, named
from signing.keys import load_signer, save_signer
from signing.roots import newest_root
from tests.signing.uptane_simulator import NOW

Edit = Callable[[RootEdit], PendingChange]


@pytest.fixture
def edit(data: DataFolder) -> Edit:
    """A first edit of the Director's keys."""
    return lambda what: edit_root(begin("director", newest_root(data.director_metadata)), what, NOW)


def signed_by(change: PendingChange, data: DataFolder, *names: str) -> PendingChange:
    for name in names:
        change, _ = sign_change(change, load_signer(data.director_keys, name))
    return change


def new_key(name: str) -> SSlibKey:
    key = CryptoSigner.generate_ecdsa().public_key
    named(key, name)
    return key


def roots(data: DataFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.director_metadata.glob("*.root.json")}


def test_a_renewal_signed_by_two_of_three_is_published_and_provisioned(data: DataFolder, edit: Edit):
    """The yearly ceremony; vehicles that are built from now on begin at the new root."""
    change = signed_by(edit(renewing), data, "root-1", "root-3")
    publish_director(change, data, NOW)
    root = newest_root(data.director_metadata)
    assert root.signed.version == 2
    assert len(root.signatures) == 2
    before = Metadata[Root].from_bytes(roots(data)["1.root.json"]).signed
    before.verify_delegate("root", root.signed_bytes, root.signatures)
    assert (data.provisioning / "director-root.json").read_bytes() == roots(data)["2.root.json"]


def test_nothing_is_published_below_the_threshold_and_who_is_missing_is_said(data: DataFolder, edit: Edit):
    """One stolen root key is worth nothing, and an operator must know whom to call."""
    change = signed_by(edit(renewing), data, "root-2")
    before = roots(data)
    with pytest.raises(BelowThresholdError, match=r"root lacks 1 signature .*version 1, of root-1 \(\w+\), root-3"):
        publish_director(change, data, NOW)
    assert roots(data) == before


def test_one_key_signing_twice_counts_once(data: DataFolder, edit: Edit):
    """A4."""
    change = signed_by(edit(renewing), data, "root-2", "root-2")
    with pytest.raises(BelowThresholdError):
        publish_director(change, data, NOW)


def test_a_rotated_root_wants_the_old_and_the_new_threshold(data: DataFolder, edit: Edit):
    """C-root: signed by threshold of N and of N+1; either alone is not enough."""
    fresh = [CryptoSigner.generate_ecdsa() for _ in range(3)]
    change = edit(rotating("root", [], [named(s.public_key, f"token-{n}") for n, s in enumerate(fresh)]))
    for signer in fresh:
        change, files = sign_change(change, signer)
        assert files == ("root",)
    with pytest.raises(BelowThresholdError, match="2 signatures of the root keys of version 1"):
        publish_director(change, data, NOW)
    publish_director(signed_by(change, data, "root-1", "root-2"), data, NOW)
    assert newest_root(data.director_metadata).signed.roles["root"].keyids == [s.public_key.keyid for s in fresh]


def test_copies_that_were_signed_apart_are_collected(data: DataFolder, edit: Edit, tmp_path: Path):
    """Two people, two places, two sticks."""
    save_change(edit(renewing), tmp_path / "c.json")
    first = signed_by(load_change(tmp_path / "c.json"), data, "root-1")
    second = signed_by(load_change(tmp_path / "c.json"), data, "root-2")
    change = collect(load_change(tmp_path / "c.json"), [first, second])
    (old, new) = change.demands()
    assert [label(key).split()[0] for key in old.signed] == ["root-1", "root-2"]
    assert (old.lacking, new.lacking) == (0, 0)
    assert [label(key).split()[0] for key in old.missing] == ["root-3"]
    publish_director(change, data, NOW)


def test_a_signature_over_another_edit_of_the_same_version_is_refused(data: DataFolder, edit: Edit):
    """Version 2 is not yet version 2: what was signed must be what is published."""
    other = signed_by(edit(requiring("root", 3)), data, "root-1")
    with pytest.raises(StaleChangeError, match="another change"):
        collect(edit(renewing), [other])


def test_a_signature_moved_from_another_change_is_refused(data: DataFolder, edit: Edit, tmp_path: Path):
    """Nothing in the file is believed."""
    change, other = edit(renewing), signed_by(edit(requiring("root", 3)), data, "root-1")
    assert change.root is not None
    assert other.root is not None
    forged = edit(renewing)
    assert forged.root is not None
    forged.root.signatures = dict(other.root.signatures)
    assert forged.demands()[0].signed == ()
    with pytest.raises(WrongKeyError, match=r"root-1 .* does not fit"):
        collect(change, [forged])


def test_a_key_without_a_say_is_told_whose_signature_is_wanted(data: DataFolder, edit: Edit):
    """The wrong token in the reader: the commonest mistake of all."""
    with pytest.raises(WrongKeyError, match=r"nothing to sign .* asks for root-1 \(\w{8}\), root-2"):
        signed_by(edit(renewing), data, "timestamp")


def test_a_change_that_was_overtaken_is_refused(data: DataFolder, edit: Edit):
    """A root version is never replaced: vehicles may hold the first one already."""
    late = signed_by(edit(requiring("root", 3)), data, "root-1", "root-2", "root-3")
    publish_director(signed_by(edit(renewing), data, "root-1", "root-2"), data, NOW)
    before = roots(data)
    with pytest.raises(StaleChangeError, match=r"follows root 1, .* has root 2"):
        publish_director(late, data, NOW)
    with pytest.raises(StaleChangeError):
        publish_director(signed_by(edit(renewing), data, "root-1"), data, NOW + timedelta(days=366))
    assert roots(data) == before


def test_a_root_version_is_never_skipped(data: DataFolder, edit: Edit, tmp_path: Path):
    """A gap cannot be walked by any vehicle: the file is refused already when it is read."""
    save_change(edit(renewing), tmp_path / "c.json")
    value = json.loads((tmp_path / "c.json").read_text())
    value["root"]["signed"]["version"] = 3
    (tmp_path / "c.json").write_text(json.dumps(value))
    with pytest.raises(ChangeFileError, match="root 3 does not follow 1"):
        load_change(tmp_path / "c.json")


def test_a_change_signed_too_slowly_is_refused(data: DataFolder, edit: Edit):
    """An expired root would stop every vehicle at once."""
    change = signed_by(edit(renewing), data, "root-1", "root-2")
    with pytest.raises(StaleChangeError, match="expired at"):
        publish_director(change, data, NOW + timedelta(days=365))


def test_an_expired_root_is_renewed_all_the_same(data: DataFolder):
    """Vehicles judge the expiry of the last root only: forgetting a year is mended, not fatal."""
    late = NOW + timedelta(days=500)
    change = edit_root(begin("director", newest_root(data.director_metadata)), renewing, late)
    publish_director(signed_by(change, data, "root-1", "root-2"), data, late)
    assert newest_root(data.director_metadata).signed.expires == late + timedelta(days=365)


def test_an_edit_of_an_edit_stays_one_version_and_loses_its_signatures(data: DataFolder, edit: Edit):
    """They were for something else."""
    change = signed_by(edit(adding("root", [new_key("ann")])), data, "root-1")
    again = edit_root(change, requiring("root", 3), NOW)
    assert again.root is not None
    assert (again.root.signed.version, again.root.signatures) == (2, {})
    assert (len(again.root.signed.roles["root"].keyids), again.root.signed.roles["root"].threshold) == (4, 3)


def test_the_same_public_key_under_another_id_is_refused(data: DataFolder, edit: Edit):
    """A4: python-tuf would count it twice."""
    key = load_signer(data.director_keys, "root-1").public_key
    twin = SSlibKey("a" * 64, key.keytype, key.scheme, dict(key.keyval))
    with pytest.raises(ChangeRefusedError, match="one public key stands under the ids"):
        edit(adding("root", [twin]))


def test_a_key_of_another_role_or_of_the_other_repository_is_refused(data: DataFolder, edit: Edit):
    """K3: one theft is one role of one repository."""
    with pytest.raises(ChangeRefusedError, match="is a timestamp key already"):
        edit(adding("root", [load_signer(data.director_keys, "timestamp").public_key]))
    image = newest_root(data.image_repo / "metadata")
    theirs = load_signer(data.image_keys, "root-1").public_key
    with pytest.raises(ChangeRefusedError, match="a key of the other repository"):
        edit_root(
            begin("director", newest_root(data.director_metadata)), adding("root", [theirs]), NOW, others=image.signed
        )


@pytest.mark.parametrize("threshold", [0, 4])
def test_a_threshold_that_cannot_be_met_or_means_nothing_is_refused(edit: Edit, threshold: int):
    """A5: zero of three is everybody; four of three is nobody, for ever."""
    with pytest.raises(ChangeRefusedError, match=f"root would have 3 keys of which {threshold} must sign"):
        edit(requiring("root", threshold))


def test_a_key_is_not_revoked_below_the_threshold(data: DataFolder, edit: Edit):
    """Two of three: one may go, a second one would lock everybody out."""
    root = newest_root(data.director_metadata).signed
    change = edit(revoking(find_key(root, "root-1")))
    with pytest.raises(ChangeRefusedError, match="root would have 1 keys of which 2"):
        edit_root(change, revoking(find_key(root, "root-2")), NOW)


def test_the_director_keeps_one_ed25519_key_a_role(edit: Edit):
    """Its files are made again from their inputs, byte for byte."""
    with pytest.raises(ChangeRefusedError, match="exactly one key, Ed25519"):
        edit(rotating("timestamp", [], [new_key("slow")]))
    with pytest.raises(ChangeRefusedError, match="exactly one key"):
        edit(adding("timestamp", [CryptoSigner.generate_ed25519().public_key]))


def test_an_online_key_that_is_not_at_hand_stops_the_publication(data: DataFolder, edit: Edit):
    """Otherwise every vehicle would be without Director files until somebody finds the key."""
    fresh = CryptoSigner.generate_ed25519()
    change = signed_by(edit(rotating("timestamp", [], [fresh.public_key])), data, "root-1", "root-2")
    before = roots(data)
    with pytest.raises(KeyFileError, match=r"not the timestamp key .* nothing was published"):
        publish_director(change, data, NOW)
    assert roots(data) == before
    save_signer(fresh, data.director_keys / "timestamp-2.pem")
    publish_director(change, data, NOW)


def test_names_of_keys_are_unique_and_found(data: DataFolder, edit: Edit):
    """A name that means two keys would have the wrong one revoked."""
    root = newest_root(data.director_metadata).signed
    assert find_key(root, "root-2").keyid == load_signer(data.director_keys, "root-2").public_key.keyid
    assert find_key(root, find_key(root, "root-2").keyid[:8]) == find_key(root, "root-2")
    with pytest.raises(SigningError, match="no key of this root is called 'bob'; it has root-1"):
        find_key(root, "bob")
    with pytest.raises(ChangeRefusedError, match="another key is named root-1"):
        edit(adding("root", [new_key("root-1")]))
    with pytest.raises(SigningError, match="no name of a key"):
        new_key("../x")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", b'{"kind":"outrider pending change","form":2}'])
def test_a_file_that_is_no_change_is_said(tmp_path: Path, content: bytes):
    """One line with the file's name, whatever lies on the stick."""
    (tmp_path / "c.json").write_bytes(content)
    with pytest.raises(ChangeFileError, match=r"c\.json is no pending change"):
        load_change(tmp_path / "c.json")
    with pytest.raises(ChangeFileError, match="cannot read"):
        load_change(tmp_path / "gone.json")
