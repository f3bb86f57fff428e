"""What of a data folder a backup carries, what it leaves, and that the user is told."""

from __future__ import annotations

import asyncio
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from orchestrator.app.backup import APART, FILES, FOLDERS
from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import seal_day
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.ingest_policy import read_policy
from orchestrator.ledger import Ledger
from signing.keys import save_signer, write_public
from tests.cli.conftest import Outrider
from tests.cli.test_json_shapes import with_house
from tests.ledger.entries import an_entry
from tests.repo.checkout import ROOT

POLICY = """\
builders:
  - {id: https://ci.example/a, keys: [builders/ci.pem, ../outside.pub]}
  - {id: https://ci.example/b, keys: [two.pub]}
waivers: false
"""


def public_key_at(path: Path) -> bytes:
    """A public key in a file, whatever its name ends in."""
    path.parent.mkdir(exist_ok=True)
    write_public(path, CryptoSigner.generate_ed25519().public_key)
    made = path.with_suffix(".pub")
    return made.rename(path).read_bytes()


@pytest.fixture
def house(data: Path, outrider: Outrider) -> Path:
    """An installation that rests, with a policy, and a change of keys that somebody has to sign."""
    with_house(data, outrider)
    (data / "ingest.yaml").write_text(POLICY, encoding="utf-8")
    for name in ("builders/ci.pem", "two.pub", "../outside.pub"):
        public_key_at(data / name)
    (data / "pending").mkdir()
    (data / "pending" / "director.json").write_text("{}", encoding="utf-8")
    return data


def carried(file: Path) -> Sequence[str]:
    with tarfile.open(file) as archive:
        return archive.getnames()


def test_the_ingest_policy_its_keys_and_pending_changes_come_back(
    house: Path, outrider: Outrider, tmp_path: Path
) -> None:
    """Without its policy a restored installation would let anybody vouch; a half-signed change is weeks of people."""
    told = outrider("backup", "a.backup", "--output", "json")
    assert told.json["left_out"] == [str(house / "../outside.pub")], "what was left out has to be said"
    restored = tmp_path / "elsewhere" / "new"
    assert outrider("restore", "a.backup", "--data", restored).exit_code == 0
    with pytest.raises(BadInputError, match="has 1 fault"):
        read_policy(restored / "ingest.yaml")
    public_key_at(restored / "../outside.pub")
    policy = read_policy(restored / "ingest.yaml")
    assert not policy.waivers
    assert [len(builder.keys) for builder in policy.builders.values()] == [2, 1]
    assert (restored / "pending" / "director.json").read_text(encoding="utf-8") == "{}"


def test_a_private_key_goes_into_a_backup_with_keys_only(house: Path, outrider: Outrider) -> None:
    """A file that is copied to another machine every night; wherever the key lies, and whatever it is called."""
    for name, password in (
        ("pending/anna.pem", "long enough, really"),
        ("pending/ben", ""),
        ("provisioning/c.pub", ""),
    ):
        save_signer(CryptoSigner.generate_ecdsa(), house / name, password=password)
    (house / "two.pub").unlink()
    save_signer(CryptoSigner.generate_ecdsa(), house / "two.pub")
    secret = {"pending/anna.pem", "pending/ben", "provisioning/c.pub", "two.pub", "keys/director/root-1.pem"}
    assert outrider("backup", "a.backup").exit_code == 0
    assert not secret & {*carried(Path("a.backup"))}
    assert "pending/anna.pub" in carried(Path("a.backup"))
    with tarfile.open("a.backup") as archive:
        contents = [content.read() for member in archive if (content := archive.extractfile(member)) is not None]
    assert not [content for content in contents if b"PRIVATE KEY" in content]
    assert outrider("backup", "b.backup", "--keys").exit_code == 0
    assert secret <= {*carried(Path("b.backup"))}


def test_an_image_is_carried_whatever_it_holds(house: Path, outrider: Outrider) -> None:
    """A vehicle's certificates are an image like any other; without it the release is lost."""
    image = house / "image-repo" / "targets" / "0123.trust-store.pem"
    image.write_bytes(b"-----BEGIN PRIVATE KEY-----")
    assert outrider("backup", "a.backup").exit_code == 0
    assert "image-repo/targets/0123.trust-store.pem" in carried(Path("a.backup"))
    assert outrider("backup", "b.backup", "--no-images").exit_code == 0
    assert "image-repo/targets/0123.trust-store.pem" not in carried(Path("b.backup"))


def test_what_is_none_of_outriders_is_named_and_not_taken(house: Path, outrider: Outrider) -> None:
    """Last night's backup in tonight's doubles it every night; what was left out silently is missed too late."""
    (house / "password").touch()
    assert outrider("backup", house / "one.backup").exit_code == 0
    told = outrider("backup", house / "two.backup", "--output", "json")
    assert told.json["left_out"] == [str(house / "../outside.pub"), "one.backup", "password"]
    assert not {"one.backup", "two.backup", "password"} & {*carried(house / "two.backup")}
    assert "password" in outrider("backup", "three.backup").stdout


@pytest.mark.parametrize(
    "text",
    ["", "builders: [", "waivers: false\n", "builders: [{keys: ci.pub}, {keys: [., store/x, [y]]}, 3]\n", "\xe4: ["],
)
def test_a_policy_that_names_no_keys_or_is_faulty_is_carried_as_it_is(
    text: str, house: Path, outrider: Outrider
) -> None:
    """A backup is taken at night, and whoever could mend the policy sleeps."""
    (house / "ingest.yaml").write_text(text, encoding="latin-1")
    assert outrider("backup", "a.backup").exit_code == 0
    assert "ingest.yaml" in carried(Path("a.backup"))


def test_every_part_of_a_data_folder_is_carried_or_taken_apart() -> None:
    """A new part that nobody thinks of is missed at the first restore."""
    listed = re.findall(r"^DIR/([a-z0-9.-]+)", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) > 10
    assert {*listed} <= {*FOLDERS, *FILES, *APART}


def test_the_ledger_is_proven_after_a_restore_without_keys(house: Path, outrider: Outrider) -> None:
    """The key that signed its heads is gone; what it signed must not look forged from the next day on."""

    async def a_day_goes_by(data: Path, day: int) -> None:
        ledger = Ledger(data / "ledger.sqlite3")
        await ledger.append([an_entry(day)])
        await seal_day(Installation(data), ledger, day, at=day)
        await ledger.close()

    kept = [shutil.copy(house / "keys" / "ledger" / "head.pub", "first.pub")]
    assert outrider("backup", "a.backup").exit_code == 0
    assert outrider("restore", "a.backup", "--data", "new").exit_code == 0
    assert not Path("new/keys/ledger/head.pem").exists()
    asyncio.run(a_day_goes_by(Path("new"), 20_001))
    kept.append(shutil.copy("new/keys/ledger/head.pub", "second.pub"))
    verify = ("--data", "new", "--output", "json", "ledger", "verify")
    told = outrider(*verify).json
    assert (told["ok"], told["heads"], told["signatures_checked"]) == (True, 2, True)
    assert outrider(*verify, "--key", kept[0]).exit_code == 1, "another key than that one has signed"
    assert outrider(*verify, "--key", kept[0], "--key", kept[1]).exit_code == 0


def test_no_copy_of_the_store_is_left_beside_it(house: Path, outrider: Outrider) -> None:
    """Also not that of an earlier build: it is as large as the store, and nobody knows what it is."""
    (house / "store" / "dump.rdb").write_bytes(b"a copy of last year")
    before = {path.name for path in (house / "store").iterdir()} - {"dump.rdb"}
    assert outrider("backup", "a.backup").exit_code == 0
    assert {path.name for path in (house / "store").iterdir()} == before


def test_what_lies_behind_a_link_is_carried(house: Path, outrider: Outrider, tmp_path: Path) -> None:
    """Images lie on a larger disk: a backup that says it has them must have them, and not when that disk is away."""
    targets, disk = house / "image-repo" / "targets", tmp_path / "disk"
    (targets / "0123.gw.bin").write_bytes(b"image")
    shutil.move(targets, disk)
    targets.symlink_to(disk)
    (disk / "round").symlink_to(house / "image-repo")
    assert outrider("backup", "a.backup").exit_code == 0
    assert [name for name in carried(Path("a.backup")) if "gw.bin" in name] == ["image-repo/targets/0123.gw.bin"]
    disk.rename(tmp_path / "unplugged")
    away = outrider("backup", "b.backup")
    assert away.exit_code == 4
    assert f"is a link to {disk}, which is not there" in away.stderr
    assert not Path("b.backup").exists()
