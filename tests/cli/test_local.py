"""`outrider keys`, `ca`, `store` and `serve`: what is done on a data folder itself."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from orchestrator import settings
from orchestrator.cli import serve
from orchestrator.store.redis import EmbeddedServer
from orchestrator.web import WebError
from signing.pki import identity_of
from tests.cli.conftest import Outrider
from tests.cli.server import TRUST_DOMAIN


def test_keys_init_makes_an_installation_and_says_what_goes_offline(tmp_path: Path, outrider: Outrider) -> None:
    """The first command of a newcomer ends with the second."""
    data = tmp_path / "fresh"
    outcome = outrider("keys", "init", "--data", data)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-1] == f"Next: outrider serve --data {data}"
    for words in ("keys/image/targets.pem", "take offline", "demo.outrider.invalid"):
        assert words in outcome.stdout
    assert settings.load(data).trust_domain == "demo.outrider.invalid"
    certificate = (data / "operators" / "admin" / "operator.crt").read_bytes()
    identity = identity_of(certificate, trust_domain="demo.outrider.invalid")
    assert (identity.name, identity.role) == ("admin", "admin")
    for pattern in json.loads(outrider("keys", "init", "--data", tmp_path / "b", "-o", "json").stdout)["take_offline"]:
        assert list(data.glob(pattern)), f"{pattern} names no file"


def test_keys_init_makes_the_keys_that_were_asked_for(tmp_path: Path, outrider: Outrider) -> None:
    """And says how many must sign, and which go offline; a threshold that nobody can meet is refused at once."""
    data = tmp_path / "fresh"
    outcome = outrider("keys", "init", "--data", data, "--keys", "director.root=3/5", "--keys", "image.targets=2/3")
    assert outcome.exit_code == 0, outcome.stderr
    assert "3 of 5 sign" in outcome.stdout
    assert "keys/image/targets*.pem" in outcome.stdout
    assert (data / "keys" / "director" / "root-5.pem").exists()
    refused = outrider("keys", "init", "--data", tmp_path / "b", "--keys", "image.targets=4/3")
    assert refused.exit_code == 2
    assert "4 signatures of 3 keys can never be given" in refused.stderr
    assert not (tmp_path / "b").exists()


def test_keys_init_never_touches_keys_that_stand(tmp_path: Path, outrider: Outrider) -> None:
    """Overwriting keys would strand every vehicle that trusts them."""
    data = tmp_path / "fresh"
    outrider("keys", "init", "--data", data)
    before = {path: path.read_bytes() for path in data.rglob("*.pem")}
    outcome = outrider("keys", "init", "--data", data)
    assert outcome.exit_code == 4
    assert outcome.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in data.rglob("*.pem")} == before


def test_keys_init_refuses_a_trust_domain_that_is_none(tmp_path: Path, outrider: Outrider) -> None:
    """It stands in every certificate and cannot be changed later: nothing is left behind by a wrong one."""
    outcome = outrider("keys", "init", "--data", tmp_path / "fresh", "--trust-domain", "Not A Domain")
    assert outcome.exit_code == 2
    assert list((tmp_path / "fresh").iterdir()) == []


def test_keys_init_keeps_settings_that_stand(tmp_path: Path, outrider: Outrider) -> None:
    """Settings may be written before the keys are made; a contradiction is said."""
    (tmp_path / "outrider.toml").write_text('trust_domain = "fleet.example"\nworkers = 3\n')
    assert outrider("keys", "init", "--data", tmp_path, "--trust-domain", "other.example").exit_code == 2
    assert outrider("keys", "init", "--data", tmp_path).exit_code == 0
    assert settings.load(tmp_path).workers == 3
    certificate = (tmp_path / "operators" / "admin" / "operator.crt").read_bytes()
    assert identity_of(certificate, trust_domain="fleet.example").name == "admin"


def test_issue_operator_makes_a_private_identity_with_its_role(tmp_path: Path, outrider: Outrider) -> None:
    """Each person has a key of their own, so that the ledger can name them."""
    data = tmp_path / "fresh"
    outrider("keys", "init", "--data", data, "--trust-domain", TRUST_DOMAIN)
    outcome = outrider("ca", "issue-operator", "eve", "--role", "viewer", "--data", data, "-o", "json")
    assert outcome.exit_code == 0, outcome.stderr
    folder = Path(outcome.json["folder"])
    identity = identity_of((folder / "operator.crt").read_bytes(), trust_domain=TRUST_DOMAIN)
    assert (identity.name, identity.role) == ("eve", "viewer")
    assert stat.S_IMODE((folder / "operator.key").stat().st_mode) == 0o600
    assert outrider("ca", "issue-operator", "eve", "--role", "admin", "--data", data).exit_code == 4
    assert outrider("ca", "issue-operator", "../x", "--role", "admin", "--data", data).exit_code == 2
    assert outrider("ca", "issue-operator", "bob", "--role", "king", "--data", data).exit_code == 2
    assert outrider("ca", "issue-operator", "bob", "--role", "admin", "--data", tmp_path / "gone").exit_code == 3


def test_renewed_authority_lasts_longer_and_lies_wherever_it_is_handed_out(tmp_path: Path, outrider: Outrider) -> None:
    """The factory and the operators' folders must not go on handing out the one that ends."""
    data = tmp_path / "fresh"
    outrider("keys", "init", "--data", data, "--trust-domain", TRUST_DOMAIN)
    key = (data / "authorities" / "server.key").read_bytes()
    short = outrider("ca", "renew", "server", "--days", "30", "--data", data)
    assert (short.exit_code, short.stderr.count("\n")) == (4, 1)
    answer = outrider("ca", "renew", "server", "--days", "5000", "--data", data, "-o", "json").json
    assert answer["expire_time"] > answer["expire_time_before"]
    fresh = (data / "authorities" / "server.crt").read_bytes()
    assert (data / "provisioning" / "enrolment-ca.pem").read_bytes() == fresh
    assert (data / "operators" / "admin" / "server-ca.pem").read_bytes() == fresh
    assert (data / "authorities" / "server.key").read_bytes() == key
    assert outrider("ca", "renew", "king", "--data", data).exit_code == 2
    (data / "authorities" / "vehicle.key").unlink()
    assert outrider("ca", "renew", "vehicle", "--data", data).exit_code == 4


def test_store_repair_refuses_what_is_no_store(tmp_path: Path, outrider: Outrider) -> None:
    """Nothing is invented where there is nothing to repair."""
    assert outrider("store", "repair", "--data", tmp_path / "gone").exit_code == 3
    assert outrider("store", "repair", "--data", tmp_path).exit_code == 3
    (tmp_path / "store").mkdir()
    outcome = outrider("store", "repair", "--data", tmp_path)
    assert outcome.exit_code == 4
    assert outcome.stderr.count("\n") == 1


@pytest.mark.processes
def test_store_repair_cuts_a_torn_tail_and_says_where_the_copy_is(tmp_path: Path, outrider: Outrider) -> None:
    """What is cut may have been acknowledged: it is said, in one document, and can be looked at afterwards."""
    store = EmbeddedServer(tmp_path / "store")
    store.start()
    store.stop()
    [newest] = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    assert outrider("store", "repair", "--check", "--data", tmp_path, "-o", "json").json == {"damage": ""}
    newest.write_bytes(newest.read_bytes() + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\ntorn")
    whole = newest.stat().st_size
    checked = outrider("store", "repair", "--check", "--data", tmp_path)
    assert checked.exit_code == 4
    assert newest.stat().st_size == whole
    [cut] = outrider("store", "repair", "--data", tmp_path, "-o", "json").json["files"]
    assert (cut["size_before_bytes"], cut["size_after_bytes"]) == (whole, newest.stat().st_size)
    assert newest.stat().st_size < whole
    assert Path(cut["copy"]).stat().st_size == whole
    assert "Nothing is damaged" in outrider("store", "repair", "--data", tmp_path).stdout


def test_serve_on_a_folder_without_keys_says_how_to_make_them(tmp_path: Path, outrider: Outrider) -> None:
    """The second command before the first."""
    assert outrider("serve", "--data", tmp_path / "gone").exit_code == 3
    outcome = outrider("serve", "--data", tmp_path)
    assert outcome.exit_code == 4
    assert "outrider keys init" in outcome.stderr


def test_serve_names_every_wrong_setting(tmp_path: Path, outrider: Outrider) -> None:
    """One round of corrections, not one a setting."""
    outrider("keys", "init", "--data", tmp_path)
    (tmp_path / "outrider.toml").write_text("poll_s = 1\n")
    outcome = outrider("serve", "--data", tmp_path, "--workers", "0", "--store-url", "http://x")
    assert outcome.exit_code == 2
    lines = outcome.stderr.splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("error: 3 settings are wrong")
    assert any(line.startswith("--workers = 0") for line in lines)


def test_serve_says_in_one_line_that_a_port_was_taken_while_it_started(
    tmp_path: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by `make chaos` beside others: between looking for a port and opening it somebody else may take it."""

    def taken(*_: object, **__: object) -> None:
        raise WebError("127.0.0.1:8080 cannot be opened: address already in use; free it or set another port")

    monkeypatch.setattr(serve, "serve_installation", taken)
    outcome = outrider("serve", "--data", tmp_path)
    assert outcome.exit_code == 4
    assert outcome.stderr.startswith("error: 127.0.0.1:8080 cannot be opened: address already in use; free it")
    assert "defect" not in outcome.stderr
    assert outcome.stderr.count("\n") == 1
