"""PKCS#11 tokens: a ceremony with a key that never leaves its token, on SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from signing.ceremony import DataFolder
from signing.change import sign_change
from signing.change_edits import adding, begin, edit_root, rotating
from signing.change_publication import publish_director, publish_image
from signing.director import DirectorSigners
from signing.errors import KeyFileError
from signing.image_repo import ImageRepository
from signing.key_folder import refer
from signing.key_names import named
from signing.key_sources import public_key_at, signer_at
from signing.keys import PASSWORD_VARIABLE, load_signer
from signing.roots import newest_root
from tests.signing.uptane_simulator import NOW
from tests.tokens import PIN, a_token, needs_softhsm

OTHER_PIN = "9999"
TOKEN = "hsm:2?label=anna"

pytestmark = needs_softhsm
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed; make setup-dev installs it")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token named `anna` with keys 2 to 5."""
    with a_token(tmp_path_factory.mktemp("softhsm"), "anna", range(2, 6), pkcs11):
        yield


@pytest.mark.usefixtures("token")
def test_a_token_takes_part_in_a_ceremony(data: DataFolder):
    """Added by its public half, then one of the two signatures of the root that names it."""
    key = named(public_key_at(TOKEN, pin), "anna")
    change = edit_root(begin("director", newest_root(data.director_metadata)), adding("root", [key]), NOW)
    for name in ("root-1", "root-2"):
        change, _ = sign_change(change, load_signer(data.director_keys, name))
    publish_director(change, data, NOW)
    change = edit_root(begin("director", newest_root(data.director_metadata)), lambda root: None, NOW)
    change, signed = sign_change(change, signer_at(TOKEN, pin))
    assert signed == ("root",)
    change, _ = sign_change(change, load_signer(data.director_keys, "root-3"))
    publish_director(change, data, NOW)
    root = newest_root(data.director_metadata)
    assert root.signed.version == 3
    assert key.keyid in root.signatures


@pytest.mark.usefixtures("token")
def test_a_wrong_pin_is_said_and_nothing_is_signed(data: DataFolder):
    """Tokens lock themselves after a few: the person must know at once."""
    key = named(public_key_at(TOKEN, pin), "anna")
    change = edit_root(begin("director", newest_root(data.director_metadata)), adding("root", [key]), NOW)
    with pytest.raises(KeyFileError, match=r"did not sign \(PinIncorrect.*look at its PIN"):
        sign_change(change, signer_at(TOKEN, lambda what: OTHER_PIN))


@pytest.mark.usefixtures("token")
def test_the_repository_is_renewed_by_a_token(data: DataFolder, monkeypatch: pytest.MonkeyPatch):
    """Who signs by itself takes what stands in the folder, a file or where the key is; a wrong PIN is said."""
    uri = "hsm:3?label=anna"
    monkeypatch.setenv(PASSWORD_VARIABLE, PIN)
    path = refer(data.image_keys, "timestamp", uri, public_key_at(uri, pin))
    assert path.name == "timestamp-2.uri", "beside the file that signs until the root names this one"
    assert refer(data.image_keys, "timestamp", uri, public_key_at(uri, pin)) == path, "said twice, it stands once"
    repository = ImageRepository(data.image_repo)
    assert repository.renew(data.image_keys, NOW + timedelta(hours=13)) == ("timestamp",)
    edit = rotating("timestamp", [], [public_key_at(uri, pin)])
    change = edit_root(
        begin("image", newest_root(data.metadata_of("image")), repository.metadata.listings()), edit, NOW
    )
    for name in ("root-1", "root-2"):
        change, _ = sign_change(change, load_signer(data.image_keys, name))
    publish_image(change, data, NOW)
    (data.image_keys / "timestamp.pem").unlink()
    later = NOW + timedelta(hours=40)
    assert repository.renew(data.image_keys, later) == ("timestamp",)
    assert repository.verified_targets(later) == [], "vehicles accept it"
    monkeypatch.setenv(PASSWORD_VARIABLE, OTHER_PIN)
    with pytest.raises(KeyFileError, match=r"look at number, label and PIN|look at its PIN"):
        repository.renew(data.image_keys, later + timedelta(hours=13))


@pytest.mark.usefixtures("token")
def test_the_director_refuses_a_key_that_never_repeats_its_bytes(data: DataFolder, monkeypatch: pytest.MonkeyPatch):
    """Its files are made again from what they say: another signature under the same version locks vehicles out."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PIN)
    uri = "hsm:4?label=anna"
    (data.director_keys / "timestamp.pem").unlink()
    refer(data.director_keys, "timestamp", uri, public_key_at(uri, pin))
    root = newest_root(data.director_metadata).signed
    root.roles["timestamp"].keyids = []
    root.add_key(public_key_at(uri, pin), "timestamp")
    with pytest.raises(KeyFileError, match="only ed25519 repeats its bytes: keep it in an encrypted file"):
        DirectorSigners.load(data.director_keys, root)


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("uri", ["hsm:7?label=anna", "hsm:2?label=nobody", "hsm:two?label=anna"])
def test_a_key_that_is_not_there_is_said_with_where_to_look(uri: str):
    """The token of somebody else, or the number of another slot."""
    with pytest.raises(KeyFileError, match=r"no key at|a token's key is `hsm:NUMBER"):
        public_key_at(uri, pin)


def test_a_token_without_its_library_is_said(monkeypatch: pytest.MonkeyPatch):
    """The commonest fault of a new machine."""
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    with pytest.raises(KeyFileError, match="set PYKCS11LIB"):
        public_key_at(TOKEN, pin)


def pin(what: str) -> str:
    assert what == f"token {TOKEN}" or what.startswith("token hsm:")
    return PIN
