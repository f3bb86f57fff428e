"""Keys and roots: private files stay private, nothing is overwritten, and no key counts twice."""

from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Metadata, Root

from signing.errors import KeyFileError, SigningError
from signing.keys import (
    duplicate_key,
    generate_ecu_key,
    generate_keys,
    key_value,
    load_signer,
    public_key_base64,
    public_key_from_base64,
    save_signer,
)
from signing.quorums import DIRECTOR, IMAGE
from signing.roots import check_root_keys, first_root, sign_root
from tests.signing.uptane_simulator import NOW

NAMES = ("root-1", "root-2", "root-3", "targets", "snapshot", "timestamp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate_keys(tmp_path / "director", "director", DIRECTOR)
    return tmp_path / "director"


def test_key_files_are_for_their_owner_only(folder: Path):
    """Mode 0600 in a folder of mode 0700, from the first moment."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.stem for path in folder.iterdir()) == sorted(NAMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_offline_roles_fit_tokens_and_online_roles_repeat_their_bytes(tmp_path: Path):
    """Pitfall 20: hardware tokens have P-256 only; Director files are made again from their inputs."""
    generate_keys(tmp_path / "director", "director", DIRECTOR)
    generate_keys(tmp_path / "image", "image", IMAGE)
    schemes = {
        (repository, role): load_signer(tmp_path / repository, role).public_key.scheme
        for repository in ("director", "image")
        for role in NAMES
    }
    ecdsa = {key for key, scheme in schemes.items() if scheme == "ecdsa-sha2-nistp256"}
    roots = {(repository, f"root-{n}") for repository in ("director", "image") for n in (1, 2, 3)}
    assert ecdsa == roots | {("image", "targets")}


def test_a_key_is_never_overwritten(folder: Path):
    """A second ceremony on the same folder would make every vehicle's root worthless."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_keys(folder, "director", DIRECTOR)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_missing_key_is_said_with_a_remedy(tmp_path: Path):
    """Offline keys are absent on purpose: the message has to say what to do."""
    with pytest.raises(KeyFileError, match="outrider keys init"):
        load_signer(tmp_path, "root-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())[:-40],
    ],
    ids=["empty", "text", "cut short"],
)
def test_a_damaged_key_file_is_said(tmp_path: Path, content: bytes):
    """One line with the file's name, not a stack trace of a parser."""
    (tmp_path / "targets.pem").write_bytes(content)
    with pytest.raises(KeyFileError, match=r"targets\.pem"):
        load_signer(tmp_path, "targets")


def test_a_key_file_that_may_not_be_read_is_said(tmp_path: Path):
    """A folder in the file's place stands for any error of the system."""
    (tmp_path / "targets.pem").mkdir()
    with pytest.raises(KeyFileError, match="cannot read"):
        load_signer(tmp_path, "targets")


def test_a_saved_key_signs_as_before(tmp_path: Path):
    """Ed25519: the loaded key makes the very same signature."""
    signer = CryptoSigner.generate_ed25519()
    save_signer(signer, tmp_path / "timestamp.pem")
    assert load_signer(tmp_path, "timestamp").sign(b"x") == signer.sign(b"x")


@pytest.mark.uptane("D7")
def test_public_keys_travel_through_the_inventory():
    """What the factory writes into the fleet file is what the server checks with."""
    for signer in (generate_ecu_key(), CryptoSigner.generate_ed25519()):
        assert public_key_from_base64(public_key_base64(signer)).keyid == signer.public_key.keyid


@pytest.mark.parametrize("scheme", ["ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"])
def test_other_curves_are_refused(scheme: str):
    """One curve, for automotive hardware and for few surprises."""
    with pytest.raises(SigningError, match="not on P-256"):
        key_value(CryptoSigner.generate_ecdsa(scheme=scheme).public_key)


def test_other_kinds_of_keys_are_refused():
    """RSA is neither agreed nor checked here."""
    key = SSlibKey.from_crypto(rsa.generate_private_key(65537, 2048).public_key())
    with pytest.raises(SigningError, match="neither P-256 nor Ed25519"):
        key_value(key)


@pytest.mark.uptane("A4")
def test_a_key_is_known_by_its_value_whatever_its_spelling():
    """A4: white space in a PEM, upper-case hex, another id: still one key."""
    ecdsa, ed = CryptoSigner.generate_ecdsa().public_key, CryptoSigner.generate_ed25519().public_key
    twins = [
        SSlibKey("1" * 64, ecdsa.keytype, ecdsa.scheme, {"public": "\n" + ecdsa.keyval["public"] + "\n"}),
        SSlibKey("2" * 64, ed.keytype, ed.scheme, {"public": ed.keyval["public"].upper()}),
    ]
    assert duplicate_key([ecdsa, ed]) is None
    assert duplicate_key([ecdsa, ed, twins[0]]) == (ecdsa.keyid, "1" * 64)
    assert duplicate_key([ecdsa, ed, twins[1]]) == (ed.keyid, "2" * 64)


@pytest.mark.uptane("K1")
def test_the_first_root_is_two_of_three_with_keys_of_their_own(folder: Path):
    """One lost token stops nothing, one stolen token signs nothing."""
    metadata = Metadata[Root].from_bytes(first_root(folder, NOW))
    root = metadata.signed
    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    assert [root.roles[role].threshold for role in ("targets", "snapshot", "timestamp")] == [1, 1, 1]
    assert len(root.keys) == 6
    assert root.expires == NOW + timedelta(days=365)
    assert root.consistent_snapshot
    root.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    check_root_keys(root)


@pytest.mark.uptane("A4")
def test_the_root_editor_refuses_a_key_under_two_ids(folder: Path):
    """A4: refused where it is made, not only where it is read."""
    root = Metadata[Root].from_bytes(first_root(folder, NOW)).signed
    key = load_signer(folder, "root-1").public_key
    root.add_key(SSlibKey("a" * 64, key.keytype, key.scheme, key.keyval), "root")
    with pytest.raises(SigningError, match="refused by every vehicle"):
        sign_root(root, [load_signer(folder, "root-1"), load_signer(folder, "root-2")])


@pytest.mark.uptane("K3")
def test_the_root_editor_refuses_a_key_in_two_roles(folder: Path):
    """K3: every key is unique across roles."""
    root = Metadata[Root].from_bytes(first_root(folder, NOW)).signed
    root.add_key(load_signer(folder, "timestamp").public_key, "snapshot")
    with pytest.raises(SigningError, match="snapshot and timestamp"):
        sign_root(root, [load_signer(folder, "root-1"), load_signer(folder, "root-2")])


@pytest.mark.uptane("A5")
def test_the_root_editor_refuses_too_few_signatures(folder: Path):
    """A root that no vehicle would take must not leave the ceremony."""
    root = Metadata[Root].from_bytes(first_root(folder, NOW)).signed
    with pytest.raises(SigningError, match="needs 2 signatures"):
        sign_root(root, [load_signer(folder, "root-1"), load_signer(folder, "timestamp")])
