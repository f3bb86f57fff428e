"""Keys of roles in a folder: a file may say where a key is; services by name, and what is wrong with such a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import (
    SIGNER_FOR_URI_SCHEME,
    CryptoSigner,
    Key,
    SecretsHandler,
    Signature,
    Signer,
    SSlibKey,
)

from signing.attestation import sign_summary
from signing.director import Assignment, DirectorSigners, DirectorVersions, director_files
from signing.errors import KeyFileError, SigningError
from signing.key_folder import refer, signers_among
from signing.keys import save_signer, write_public
from tests.evidence import a_summary
from tests.signing.uptane_simulator import NOW

HELD = CryptoSigner.generate_ed25519()
URI = "remote:key-1"


class RemoteSigner(Signer):
    """A key service as securesystemslib knows them: by URI, with the public half told from outside."""

    answers = True

    def __init__(self, key: Key) -> None:
        self._key = key

    @property
    def public_key(self) -> Key:
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> RemoteSigner:
        return cls(public_key)

    def sign(self, payload: bytes) -> Signature:
        if not self.answers:
            raise ConnectionError("no route to the service")
        return HELD.sign(payload)


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNER_FOR_URI_SCHEME, "remote", RemoteSigner)


def public(signer: CryptoSigner) -> SSlibKey:
    key = signer.public_key
    assert isinstance(key, SSlibKey)
    return key


def test_a_service_signs_the_director_s_files_as_a_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ed25519 repeats its bytes wherever the key is; a service that is away is said, and nothing is half signed."""
    others = [CryptoSigner.generate_ed25519() for _ in range(2)]
    remote = signers_among(refer(tmp_path, "targets", URI, public(HELD)).parent, "targets", [HELD.public_key])[0]
    assert isinstance(remote, RemoteSigner)
    of, versions = Assignment("v-1", ()), DirectorVersions(7, NOW, 8, NOW)
    by_service = DirectorSigners(remote, *others)
    assert director_files(by_service, of, versions) == director_files(DirectorSigners(HELD, *others), of, versions)
    monkeypatch.setattr(RemoteSigner, "answers", False)
    with pytest.raises(SigningError, match=r"did not sign \(ConnectionError: no route to the service\)"):
        director_files(by_service, of, versions)


def test_a_service_that_is_away_vouches_for_nothing(monkeypatch: pytest.MonkeyPatch):
    """A publication ends with one line, before anything is listed."""
    monkeypatch.setattr(RemoteSigner, "answers", False)
    with pytest.raises(KeyFileError, match="no route to the service"):
        sign_summary(a_summary({}, sha256="ab" * 32, hardware_id="acme-gw-1"), [RemoteSigner(HELD.public_key)])


def test_a_key_that_waits_for_its_root_is_not_asked(tmp_path: Path):
    """The file signs until the root names the service; both may lie there for months."""
    file = CryptoSigner.generate_ed25519()
    save_signer(file, tmp_path / "targets.pem")
    assert refer(tmp_path, "targets", URI, public(HELD)).name == "targets-2.uri"
    [found] = signers_among(tmp_path, "targets", [file.public_key])
    assert found.public_key == file.public_key
    [found] = signers_among(tmp_path, "targets", [HELD.public_key])
    assert isinstance(found, RemoteSigner)


@pytest.mark.parametrize("text", ["", "nonsense", "file2:/etc/passwd", "nonsense:key"])
def test_a_file_that_says_no_place_is_refused(tmp_path: Path, text: str):
    """With its name: several lie there."""
    path = refer(tmp_path, "targets", URI, public(HELD))
    path.write_text(text)
    with pytest.raises(KeyFileError, match=r"targets.uri holds .*no signer URI"):
        signers_among(tmp_path, "targets", [HELD.public_key])
    with pytest.raises(KeyFileError, match="is no signer URI"):
        refer(tmp_path, "snapshot", text, public(HELD))


def test_a_file_without_its_public_half_is_refused(tmp_path: Path):
    """Nobody can tell whether the root means it."""
    path = refer(tmp_path, "targets", URI, public(HELD))
    path.with_suffix(".pub").unlink()
    with pytest.raises(KeyFileError, match=r"targets.pub is missing beside it"):
        signers_among(tmp_path, "targets", [HELD.public_key])
    write_public(path, CryptoSigner.generate_ed25519().public_key)
    with pytest.raises(KeyFileError, match=r"is not the targets key of this repository's root; looked at targets\.uri"):
        signers_among(tmp_path, "targets", [HELD.public_key])
