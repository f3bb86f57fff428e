"""`outrider keys`: a ceremony from the keyboard, with offline keys, passwords and people who make mistakes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from orchestrator.cli import keys_status
from signing.roots import newest_root
from tests.cli.conftest import Outcome, Outrider

PASSWORD = "correct horse battery"


@pytest.fixture
def data(tmp_path: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new installation, without a server, as the default of every command."""
    data = tmp_path / "data"
    monkeypatch.setenv("OUTRIDER_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pw").write_text(PASSWORD + "\n")
    assert outrider("keys", "init").exit_code == 0
    return data


def done(outcome: Outcome) -> Outcome:
    assert outcome.exit_code == 0, outcome.stderr
    return outcome


def director(data: Path) -> Metadata[Root]:
    return newest_root(data / "director" / "metadata")


def pending(data: Path) -> Path:
    return data / "pending" / "director.json"


def root_key(data: Path, number: int) -> Path:
    return data / "keys" / "director" / f"root-{number}.pem"


@pytest.mark.uptane("K1")
def test_the_keys_go_to_people_and_two_of_them_sign(data: Path, tmp_path: Path, outrider: Outrider) -> None:
    """The whole first ceremony of the guide, with a stick for each person."""
    for name in ("anna", "bob", "carl"):
        done(outrider("keys", "make", f"{name}.pem", "--password-file", "pw"))
    new = [word for name in ("anna", "bob", "carl") for word in ("--new", f"{name}.pub")]
    outcome = done(outrider("keys", "rotate", "director", "root", *new))
    for words in ("key anna", "is new", "root-1", "is taken away", "2 of the root keys of version 1", "nobody"):
        assert words in outcome.stdout
    for number in (1, 2):
        done(outrider("keys", "sign", pending(data), "--key", root_key(data, number), "--yes"))
    outcome = outrider("keys", "publish", pending(data))
    assert outcome.exit_code == 4
    assert "root lacks 2 signatures of the root keys of version 2, of anna" in outcome.stderr
    for name in ("anna", "carl"):
        (tmp_path / f"{name}.json").write_bytes(pending(data).read_bytes())
        done(outrider("keys", "sign", f"{name}.json", "--key", f"{name}.pem", "--password-file", "pw", "--yes"))
    outcome = done(outrider("keys", "collect", pending(data), "anna.json", "carl.json"))
    assert f"Next: outrider keys publish {pending(data)}" in outcome.stdout
    done(outrider("keys", "publish", pending(data)))
    root = director(data).signed
    assert root.version == 2
    assert len(root.roles["root"].keyids) == 3
    assert not pending(data).exists(), "nobody signs it again"
    assert (data / "provisioning" / "director-root.json").read_bytes() == (
        data / "director" / "metadata" / "2.root.json"
    ).read_bytes()


def test_signing_needs_no_installation(data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done on a machine that was never on a network."""
    done(outrider("keys", "renew", "director"))
    monkeypatch.setenv("OUTRIDER_DATA", "nowhere")
    done(outrider("keys", "show", pending(data)))
    done(outrider("keys", "sign", pending(data), "--key", root_key(data, 1), "--yes"))


def test_nobody_signs_without_having_been_asked(data: Path, outrider: Outrider) -> None:
    """A script that pipes nothing must say --yes; what would be signed is shown either way."""
    done(outrider("keys", "renew", "director"))
    before = pending(data).read_bytes()
    outcome = outrider("keys", "sign", pending(data), "--key", root_key(data, 1))
    assert outcome.exit_code == 2
    assert "root: ends" in outcome.stderr
    assert pending(data).read_bytes() == before


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("keys/director/timestamp.pem", "has nothing to sign in this change; it asks for root-1"),
        ("keys/director/root-9.pem", "no key at"),
        ("director/metadata/1.root.json", "no PKCS#8 private key"),
    ],
)
def test_the_wrong_key_is_said_with_the_right_ones(data: Path, outrider: Outrider, key: str, words: str) -> None:
    """The commonest mistake of a ceremony."""
    done(outrider("keys", "renew", "director"))
    outcome = outrider("keys", "sign", pending(data), "--key", data / key, "--yes")
    assert outcome.exit_code == 4
    assert words in outcome.stderr
    assert "nothing was signed" in outcome.stderr


def test_a_wrong_password_is_said_as_such(data: Path, tmp_path: Path, outrider: Outrider) -> None:
    """Not as a damaged key, which would have somebody order a new token."""
    done(outrider("keys", "make", "anna.pem", "--password-file", "pw"))
    assert b"ENCRYPTED" in (tmp_path / "anna.pem").read_bytes()
    done(outrider("keys", "add", "director", "root", "anna.pub"))
    (tmp_path / "other").write_text("wrong horse battery")
    outcome = outrider("keys", "sign", pending(data), "--key", "anna.pem", "--password-file", "other", "--yes")
    assert outcome.exit_code == 4
    assert "the password does not open anna.pem" in outcome.stderr
    outcome = outrider("keys", "sign", pending(data), "--key", "anna.pem", "--yes")
    assert outcome.exit_code == 2
    assert "give --password-file FILE" in outcome.stderr


def test_automation_gives_the_password_by_the_environment(
    data: Path, tmp_path: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No secret on a command line, where everybody on the machine reads it."""
    monkeypatch.setenv("OUTRIDER_KEY_PASSWORD_FILE", str(tmp_path / "pw"))
    done(outrider("keys", "make", "anna.pem"))
    done(outrider("keys", "add", "director", "root", "anna.pub"))
    done(outrider("keys", "sign", pending(data), "--key", "anna.pem", "--yes"))


def test_a_short_password_is_refused(data: Path, tmp_path: Path, outrider: Outrider) -> None:
    """What encrypts the file is only as slow to guess as the password is long."""
    (tmp_path / "short").write_text("12345678901")
    outcome = outrider("keys", "make", "anna.pem", "--password-file", "short")
    assert (outcome.exit_code, (tmp_path / "anna.pem").exists()) == (2, False)
    assert "has 11 characters, at least 12 are needed" in outcome.stderr


def test_a_change_that_was_overtaken_says_so_and_what_to_do(data: Path, tmp_path: Path, outrider: Outrider) -> None:
    """Somebody finds last year's stick."""
    done(outrider("keys", "threshold", "director", "root", "3"))
    old = tmp_path / "old.json"
    old.write_bytes(pending(data).read_bytes())
    pending(data).unlink()
    done(outrider("keys", "renew", "director"))
    for number in (1, 2):
        done(outrider("keys", "sign", pending(data), "--key", root_key(data, number), "--yes"))
    outcome = outrider("keys", "collect", pending(data), old)
    assert outcome.exit_code == 4
    assert "another change" in outcome.stderr
    done(outrider("keys", "publish", pending(data)))
    outcome = outrider("keys", "publish", old)
    assert outcome.exit_code == 4
    assert "follows root 1, the director repository has root 2" in outcome.stderr
    outcome = outrider("keys", "renew", "director", "--out", old)
    assert outcome.exit_code == 4
    assert "remove it to start anew" in outcome.stderr


def test_online_keys_are_made_where_the_signer_finds_them_offline_ones_are_not(data: Path, outrider: Outrider) -> None:
    """A root key that was ever on the server is no offline key."""
    done(outrider("keys", "rotate", "director", "timestamp"))
    assert (data / "keys" / "director" / "timestamp-2.pem").stat().st_mode & 0o777 == 0o600
    for repository, role in (("director", "root"), ("image", "root"), ("image", "targets")):
        outcome = outrider("keys", "rotate", repository, role)
        assert outcome.exit_code == 2
        assert "offline keys: none is made on this machine" in outcome.stderr


def test_a_key_that_is_made_leaves_the_place_of_one_elsewhere_alone(data: Path, outrider: Outrider) -> None:
    """Else the public half of the one would be taken for the other's, and the role would have no key that counts."""
    done(outrider("keys", "make", "elsewhere.pem", "--unencrypted"))
    told = done(outrider("keys", "use", "image", "timestamp", "awskms:alias/t", "--public", "elsewhere.pem"))
    assert "timestamp-2.uri" in told.stdout
    done(outrider("keys", "rotate", "image", "timestamp"))
    assert (data / "keys" / "image" / "timestamp-3.pem").exists()
    change = data / "pending" / "image.json"
    for number in (1, 2):
        key = data / "keys" / "image" / f"root-{number}.pem"
        done(outrider("keys", "sign", change, "--key", key, "--yes"))
    done(outrider("keys", "publish", change))
    done(outrider("image-repo", "renew"))


def test_the_director_takes_no_key_that_never_repeats_its_bytes(data: Path, outrider: Outrider) -> None:
    """Refused when it is said, not when the signer starts; and nothing signs for a root by itself."""
    done(outrider("keys", "make", "elsewhere.pem", "--unencrypted"))
    service = ("awskms:alias/t", "--public", "elsewhere.pem")
    refused = outrider("keys", "use", "director", "timestamp", *service)
    assert (refused.exit_code, "the Director signs by ed25519 only" in refused.stderr) == (2, True)
    assert "outrider keys sign FILE --key URI" in outrider("keys", "use", "image", "root", *service).stderr
    assert "does not tell its public key" in outrider("keys", "use", "image", "timestamp", service[0]).stderr
    assert not list((data / "keys").rglob("*.uri"))


def test_a_refused_edit_leaves_neither_key_nor_change(data: Path, outrider: Outrider) -> None:
    """A stray key file would be taken for one that is in use."""
    before = sorted(data.rglob("*"))
    outcome = outrider("keys", "rotate", "director", "timestamp", "--old", "snapshot")
    assert outcome.exit_code == 4
    assert "is no timestamp key, but one of snapshot" in outcome.stderr
    assert outrider("keys", "revoke", "director", "targets").exit_code == 4
    assert sorted(path for path in data.rglob("*") if path.name != "pending") == before


def test_edits_add_up_in_one_change(data: Path, outrider: Outrider) -> None:
    """One signature of each person for all that is to change."""
    done(outrider("keys", "make", "dora.pem", "--unencrypted"))
    done(outrider("keys", "add", "director", "root", "dora.pem"))
    outcome = done(outrider("keys", "threshold", "director", "root", "3", "-o", "json"))
    document = json.loads(outcome.stdout)
    assert [file["version"] for file in document["files"]] == [2]
    assert "root: 3 must sign, 2 did" in document["differences"]
    assert any("key dora" in line for line in document["differences"])
    assert [(each["by"], each["threshold"]) for each in document["signatures"]] == [
        ("root keys of version 1", 2),
        ("root keys of version 2", 3),
    ]


def test_the_image_repository_signs_anew_what_a_new_key_asks_for(data: Path, outrider: Outrider) -> None:
    """Root, snapshot and timestamp change together; readers find a whole repository."""
    done(outrider("keys", "rotate", "image", "timestamp"))
    change = data / "pending" / "image.json"
    for number in (1, 2):
        done(outrider("keys", "sign", change, "--key", data / "keys" / "image" / f"root-{number}.pem", "--yes"))
    outcome = done(outrider("keys", "publish", change, "-o", "json"))
    assert (outcome.json["root"], outcome.json["signed"]) == (2, ["snapshot", "timestamp"])
    assert outrider("image-repo", "renew").exit_code == 0


def test_targets_are_renewed_where_their_key_is(data: Path, tmp_path: Path, outrider: Outrider) -> None:
    """The key that signs releases need not come to the server for another ninety days."""
    key = data / "keys" / "image" / "targets.pem"
    key.rename(tmp_path / "targets.pem")
    outcome = done(outrider("keys", "renew", "image", "targets"))
    assert "targets: 0 images are signed anew" in outcome.stdout
    change = data / "pending" / "image.json"
    done(outrider("keys", "sign", change, "--key", tmp_path / "targets.pem", "--yes"))
    assert done(outrider("keys", "publish", change, "-o", "json")).json["root"] == 1
    assert outrider("keys", "renew", "image", "snapshot").exit_code == 2


def test_status_tells_what_ends_long_before_it_does(
    data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A root nine months old is due, with the command that renews it; what waits for signatures is not forgotten."""
    roles = done(outrider("keys", "status", "-o", "json")).json["roles"]
    assert {role["state"] for role in roles} == {"ok", "online"}
    assert [role["threshold"] for role in roles if role["role"] == "root"] == [2, 2]
    later = datetime.fromisoformat(roles[0]["expire_time"]) - timedelta(days=90)
    monkeypatch.setattr(keys_status, "time_of_signing", lambda session: later)
    done(outrider("keys", "renew", "director"))
    outcome = done(outrider("keys", "status"))
    assert "Director, root: due -> outrider keys renew director" in outcome.stdout
    assert "Image repository, timestamp: expired -> outrider image-repo renew" in outcome.stdout
    assert f"{pending(data)} waits for 4 more signature(s) -> outrider keys show {pending(data)}" in outcome.stdout


def test_status_says_that_a_pending_change_was_overtaken(data: Path, outrider: Outrider) -> None:
    """Nobody shall be sent to sign what can never be published."""
    done(outrider("keys", "threshold", "director", "root", "3"))
    old = pending(data).read_bytes()
    pending(data).unlink()
    done(outrider("keys", "renew", "director"))
    for number in (1, 2):
        done(outrider("keys", "sign", pending(data), "--key", root_key(data, number), "--yes"))
    done(outrider("keys", "publish", pending(data)))
    pending(data).write_bytes(old)
    assert "was overtaken by another root" in done(outrider("keys", "status")).stdout
