"""PKCS#11 tokens: a ceremony with a key that never leaves its token, on SoftHSM."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from signing.ceremony import DataFolder
from signing.change import sign_change
from signing.change_edits import adding, begin, edit_root
from signing.change_publication import publish_director
from signing.errors import KeyFileError
from signing.key_names import named
from signing.key_sources import public_key_at, signer_at
from signing.keys import load_signer
from signing.roots import newest_root
from tests.signing.uptane_simulator import NOW

PIN, OTHER_PIN = "1234", "9999"
LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so")
LIBRARY = next((path for path in LIBRARIES if Path(path).exists()), "")
TOKEN = "hsm:2?label=anna"

pytestmark = pytest.mark.skipif(
    not LIBRARY or shutil.which("softhsm2-util") is None,
    reason="SoftHSM is not installed; apt-get install softhsm2 runs these",
)
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed; make setup-dev installs it")


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token named `anna` with one P-256 key, number 2. One for all tests: the library stays loaded in a process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patch.setenv("PYKCS11LIB", LIBRARY)
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "anna", "--pin", PIN, "--so-pin", "5678"],
            check=True,
            capture_output=True,
        )
        with pkcs11.lib(LIBRARY).get_token(token_label="anna").open(user_pin=PIN, rw=True) as session:
            parameters = session.create_domain_parameters(
                pkcs11.KeyType.EC,
                {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
                local=True,
            )
            parameters.generate_keypair(store=True, id=b"\x02", label="anna")
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
