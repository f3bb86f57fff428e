"""The runbooks of keys lost and stolen, typed as they stand, on an installation whose keys are with people."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from orchestrator.cli.local import certificate_time
from signing.ceremony import DataFolder
from signing.director import AssignedImage
from signing.image_repo import ImageRepository, NewImage
from signing.ingest_gate import IngestGate
from signing.key_names import name_of
from signing.names import RepositoryName
from signing.roots import newest_root
from tests.cli.conftest import Outrider
from tests.evidence import believe, vouched_for
from tests.repo.checkout import ROOT

FOLDER = ROOT / "docs" / "runbooks" / "keys"
ROOT_HOLDERS: dict[RepositoryName, tuple[str, ...]] = {
    "director": ("anna", "bob", "carl"),
    "image": ("dora", "erik", "fay"),
}
PAGES: dict[str, tuple[RepositoryName, dict[str, list[str]]]] = {
    "root-key": ("director", {"root": ["bob", "carl", "gina"]}),
    "director-online-key": (
        "director",
        {"targets": ["targets-2"], "snapshot": ["snapshot-2"], "timestamp": ["timestamp-2"]},
    ),
    "image-targets-key": ("image", {"targets": ["releases"]}),
    "image-online-key": ("image", {"snapshot": ["snapshot-2"], "timestamp": ["timestamp-2"]}),
}
"""By page: whose keys it replaces, and who holds what afterwards."""


def typed(page: Path) -> list[list[str]]:
    """What a page tells the reader to type, word by word."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ").split() for block in blocks for line in block.splitlines()]


@pytest.fixture
def data(tmp_path: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch) -> DataFolder:
    """An installation after its first ceremonies; the root keys of `keys init` are destroyed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pw").write_text("correct horse battery\n")
    monkeypatch.setenv("OUTRIDER_KEY_PASSWORD_FILE", str(tmp_path / "pw"))
    assert outrider("keys", "init").exit_code == 0
    data = DataFolder(tmp_path / "outrider-data")
    for repository, names in ROOT_HOLDERS.items():
        change = data.pending(repository)
        for name in names:
            assert outrider("keys", "make", f"{name}.pem").exit_code == 0
        new = [word for name in names for word in ("--new", f"{name}.pub")]
        assert outrider("keys", "rotate", repository, "root", *new).exit_code == 0
        old = [data.keys_of(repository) / f"root-{number}.pem" for number in (1, 2, 3)]
        for key in (old[0], old[1], f"{names[0]}.pem", f"{names[1]}.pem"):
            assert outrider("keys", "sign", change, "--key", key, "--yes").exit_code == 0
        assert outrider("keys", "publish", change).exit_code == 0
        for path in old:
            path.unlink()
    return data


@pytest.mark.uptane("A25")
@pytest.mark.parametrize("name", PAGES)
def test_a_runbook_typed_as_it_stands_replaces_the_key(name: str, data: DataFolder, outrider: Outrider) -> None:
    """At 3 a.m. nobody finds out that a step is missing; the lost key is really gone before it begins."""
    repository, expected = PAGES[name]
    before = newest_root(data.metadata_of(repository)).signed
    if name != "root-key":
        for role in expected:
            (data.keys_of(repository) / f"{role}.pem").unlink()
    for words in typed(FOLDER / f"{name}.md"):
        assert words[0] == "outrider"
        outcome = outrider(*words[1:], *(["--yes"] if words[1:3] == ["keys", "sign"] else []))
        if words[1] in ("doctor", "release"):
            continue  # looks: without a server they say so, and a lost key is what doctor finds
        assert outcome.exit_code == 0, (words, outcome.stderr)
    after = newest_root(data.metadata_of(repository)).signed
    assert after.version == before.version + 1
    for role, names in expected.items():
        assert sorted(name_of(after.keys[keyid]) for keyid in after.roles[role].keyids) == names
    assert not data.pending(repository).exists()


def test_the_runbook_of_a_change_that_waits_typed_as_it_stands_ends_it(data: DataFolder, outrider: Outrider) -> None:
    """Anna signed a copy on Monday, and everybody waited for somebody else."""
    change, before = data.pending("director"), newest_root(data.metadata_of("director")).signed
    assert outrider("keys", "renew", "director").exit_code == 0
    shutil.copy(change, "copy.json")
    assert outrider("keys", "sign", "copy.json", "--key", "anna.pem", "--yes").exit_code == 0
    for words in typed(FOLDER.parent / "ceremony-waits.md"):
        there = [word.replace("/media/usb/director.json", "copy.json") for word in words[1:]]
        outcome = outrider(*there, *(["--yes"] if there[:2] == ["keys", "sign"] else []))
        assert outcome.exit_code == 0, (words, outcome.stderr)
    assert newest_root(data.metadata_of("director")).signed.version == before.version + 1
    assert not change.exists()


@pytest.mark.uptane("A25", "K5")
def test_the_runbook_of_a_suppliers_key_typed_as_it_stands_replaces_it(data: DataFolder, outrider: Outrider) -> None:
    """Its old key is really gone; vehicles find what it listed under the new one, and nothing new under the old one."""
    change = data.pending("image")
    for words in (
        ("keys", "make", "acme.pem"),
        ("keys", "delegate", "acme", "acme.pub", "--path", "acme/*", "--hardware-id", "acme-brake-1"),
        ("keys", "sign", change, "--key", "acme.pem", "--yes"),
        ("keys", "sign", change, "--key", data.image_keys / "targets.pem", "--yes"),
        ("keys", "publish", change),
        ("keys", "renew", "image", "acme", "--out", "acme.json"),
    ):
        assert outrider(*words).exit_code == 0, words
    Path("b.img").write_bytes(b"brake")
    image = "{file: b.img, path: acme/b.img, hardware_id: acme-brake-1, release_counter: 2}"
    Path("release.yaml").write_text(f"version: 1.1.0\nimages: [{image}]\n", encoding="utf-8")
    assert outrider("release", "supply", "release.yaml", "acme.json").exit_code == 0
    stolen = Path("stolen.json")
    stolen.write_bytes(Path("acme.json").read_bytes())
    for file in ("acme.json", "stolen.json"):
        assert outrider("keys", "sign", file, "--key", "acme.pem", "--yes").exit_code == 0
    assert outrider("keys", "publish", "acme.json").exit_code == 0
    Path("acme.pem").unlink()
    for words in typed(FOLDER / "supplier-key.md"):
        outcome = outrider(*words[1:], *(["--yes"] if words[1:3] == ["keys", "sign"] else []))
        assert outcome.exit_code == 0 or words[1] == "release", (words, outcome.stderr)
    status = outrider("keys", "status", "--output", "json").json
    (role,) = (each for each in status["roles"] if each["role"] == "acme")
    assert [key.split()[0] for key in role["keys"]] == ["acme-2"]
    assert ImageRepository(data.image_repo).verified_target("acme/b.img", certificate_time(), ["acme-brake-1"])
    outcome = outrider("keys", "publish", stolen)
    assert outcome.exit_code == 4
    assert "acme lacks 1 signature of the acme keys, of acme-2" in outcome.stderr


@pytest.mark.uptane("A25")
def test_the_runbook_of_the_key_that_vouches_typed_as_it_stands_replaces_it(
    data: DataFolder, outrider: Outrider
) -> None:
    """Its old key is gone, its words count no more, and what was built and tested is assigned again at the end."""
    Path("a.img").write_bytes(b"image")
    believe(data.path)
    repository, now = ImageRepository(data.image_repo), certificate_time()
    image = vouched_for(NewImage("acme/a.img", Path("a.img"), "acme-gw-2", 2, "1.1.0"), data.image_keys)
    (info,) = repository.publish([image], data.image_keys, now)
    wanted = AssignedImage(info.path, info.length, info.sha256, info.hardware_id, info.release_counter, ())
    gate = IngestGate(data.image_repo)
    assert gate.fault(wanted) is None
    (data.image_keys / "attest.pem").unlink()
    for words in typed(FOLDER / "image-attest-key.md"):
        if words[1:3] == ["release", "attest"]:
            assert "must sign" in (gate.fault(wanted) or ""), "the old key's word is worth nothing by now"
            for kind in ("pem", "pub"):
                shutil.copy(f"vouch.{kind}", data.image_keys / f"attest-2.{kind}")
        outcome = outrider(*words[1:], *(["--yes"] if words[1:3] == ["keys", "sign"] else []))
        assert outcome.exit_code == 0 or words[1] == "doctor" or words[1:] == ["release", "show"], outcome.stderr
    assert gate.fault(wanted) is None
    (role,) = (each for each in outrider("keys", "status", "-o", "json").json["roles"] if each["role"] == "attest")
    assert [key.split()[0] for key in role["keys"]] == ["vouch"]


def test_every_runbook_of_keys_is_typed_and_listed() -> None:
    """A page that nobody tries is a page that is wrong."""
    pages = {path.stem for path in FOLDER.glob("*.md")}
    assert pages == PAGES.keys() | {"supplier-key", "image-attest-key"}
    listed = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert all(f"(keys/{page}.md)" in listed for page in pages)


def test_releases_go_on_after_the_release_key_was_replaced(data: DataFolder, outrider: Outrider) -> None:
    """The page's last word: the new key lies where `release publish` finds it, and is the one that signs."""
    test_a_runbook_typed_as_it_stands_replaces_the_key("image-targets-key", data, outrider)
    for kind in ("pem", "pub"):
        shutil.copy(f"releases.{kind}", data.image_keys / f"targets-2.{kind}")
    Path("a.img").write_bytes(b"image")
    repository, now = ImageRepository(data.image_repo), certificate_time()
    (info,) = repository.publish([NewImage("acme/a.img", Path("a.img"), "acme-gw-2", 2, "1.1.0")], data.image_keys, now)
    assert repository.verified_target("acme/a.img", now) == info, "as a vehicle verifies it, from root version 1 on"
