"""The files that we sign have the form that the Standard asks for, read as plain JSON and not by our own readers."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Root

from signing.ceremony import DataFolder
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files
from signing.image_repo import ImageRepository, NewImage
from tests.signing.uptane_simulator import NOW, SimulatedPrimary, UptaneSimulator

VERSIONS = DirectorVersions(7, NOW, 9, NOW)
Files = dict[str, bytes]


@pytest.fixture
def image_files(data: DataFolder, tmp_path: Path) -> Files:
    """The Image repository after one release."""
    (tmp_path / "gw").write_bytes(b"gateway")
    new = NewImage("acme/gw-1.1.0.img", tmp_path / "gw", hardware_id="acme-gw-1", release_counter=2, version="1.1.0")
    ImageRepository(data.image_repo).publish([new], data.image_keys, NOW)
    files = {path.name: path.read_bytes() for path in (data.image_repo / "metadata").iterdir()}
    return {name: files[name] for name in files if name[0] != "."}


@pytest.fixture
def assigned(data: DataFolder) -> Files:
    """One vehicle's Director files, with one image."""
    image = AssignedImage("acme/gw-1.1.0.img", 7, hashlib.sha256(b"gateway").hexdigest(), "acme-gw-1", 2, ("GW-1",))
    return director_files(DirectorSigners.load(data.director_keys), Assignment("veh-1", (image,)), VERSIONS)


@pytest.fixture
def idle(data: DataFolder) -> Files:
    """One vehicle's Director files, with nothing to do."""
    return director_files(DirectorSigners.load(data.director_keys), Assignment("veh-1", ()), VERSIONS)


@pytest.fixture
def director_root(data: DataFolder) -> Files:
    return {"1.root.json": (data.director_metadata / "1.root.json").read_bytes()}


def signed(files: Files, role: str) -> dict[str, Any]:
    """The signed part of the newest file of a role."""
    names = sorted((name for name in files if name.endswith(f"{role}.json")), key=lambda name: int(f"0{number(name)}"))
    return json.loads(files[names[-1]])["signed"]


def number(name: str) -> str:
    return name.partition(".")[0] if name[0].isdigit() else ""


@pytest.mark.uptane("M1", "M5", "M15")
def test_every_file_says_role_expiry_and_version_and_is_named_by_it(
    image_files: Files, assigned: Files, director_root: Files
):
    """A reader who keeps files by name must not find another version under it."""
    for files in (image_files, assigned | director_root):
        assert {name.split(".")[-2] for name in files} == {"root", "targets", "snapshot", "timestamp"}
        for name, content in files.items():
            payload = json.loads(content)["signed"]
            assert payload["_type"] == name.split(".")[-2]
            assert datetime.strptime(payload["expires"], "%Y-%m-%dT%H:%M:%S%z") > NOW
            assert type(payload["version"]) is int
            assert number(name) == ("" if name == "timestamp.json" else str(payload["version"]))


@pytest.mark.uptane("M4", "M6")
def test_a_key_is_named_by_the_digest_of_what_it_is(image_files: Files, director_root: Files):
    """Two kinds of key of one value are two keys; and every signature says by which it is."""
    for files in (image_files, director_root):
        root = signed(files, "root")
        for keyid, key in root["keys"].items():
            what_it_is = {name: key[name] for name in ("keytype", "scheme", "keyval")}
            assert keyid == hashlib.sha256(encode_canonical(what_it_is).encode()).hexdigest()
        assert set(root["roles"]) == {"root", "targets", "snapshot", "timestamp"}
        listed = [keyid for role in root["roles"].values() for keyid in role["keyids"]]
        assert len(listed) == len(set(listed)) == len(root["keys"])
        assert all(role["threshold"] >= 1 for role in root["roles"].values())
        for name, content in files.items():
            by = [signature["keyid"] for signature in json.loads(content)["signatures"]]
            assert by, name
            assert set(by) <= set(root["roles"][name.split(".")[-2]]["keyids"]), name


@pytest.mark.uptane("M7", "M9")
def test_a_target_says_what_its_bytes_are_and_what_has_to_match(image_files: Files, assigned: Files):
    """Both repositories say the same of an image; the Director adds which control units it is for."""
    for files in (image_files, assigned):
        ((path, target),) = signed(files, "targets")["targets"].items()
        assert path == "acme/gw-1.1.0.img"
        assert target["length"] == 7
        assert target["hashes"] == {"sha256": hashlib.sha256(b"gateway").hexdigest()}
        assert target["custom"]["shallMatch"] == {"hardwareIds": ["acme-gw-1"], "releaseCounter": 2}
    custom = signed(assigned, "targets")["targets"]["acme/gw-1.1.0.img"]["custom"]
    assert custom["ecuIdentifiers"] == {"GW-1": {"hardwareId": "acme-gw-1"}}


@pytest.mark.uptane("M8", "A11")
def test_a_vehicle_with_nothing_to_do_is_named_as_well(assigned: Files, idle: Files):
    """An empty list that names nobody would cancel everybody's update."""
    for files in (assigned, idle):
        assert {signed(files, role)["vehicleId"] for role in ("targets", "snapshot", "timestamp")} == {"veh-1"}
    assert signed(idle, "targets")["targets"] == {}


@pytest.mark.uptane("M2")
def test_no_file_of_the_director_delegates(assigned: Files, idle: Files):
    """Only suppliers may be delegated to, and the Director has none."""
    assert not any("delegations" in signed(files, "targets") for files in (assigned, idle))


@pytest.mark.uptane("M12", "M13")
def test_each_file_pins_the_one_beneath_it(image_files: Files, assigned: Files):
    """The timestamp by version and hash, the snapshot every targets file by version."""
    for files in (image_files, assigned):
        (pinned,) = signed(files, "timestamp")["meta"].values()
        snapshot = files[f"{pinned['version']}.snapshot.json"]
        assert pinned["hashes"] == {"sha256": hashlib.sha256(snapshot).hexdigest()}
        listed = json.loads(snapshot)["signed"]["meta"]
        assert set(listed) == {"targets.json"}
        assert f"{listed['targets.json']['version']}.targets.json" in files


@pytest.mark.uptane("M15")
def test_an_image_is_stored_under_each_of_its_hashes(data: DataFolder, image_files: Files):
    """A client may ask by any hash that is listed; one is, and that one is there."""
    for path, target in signed(image_files, "targets")["targets"].items():
        for digest in target["hashes"].values():
            assert (data.image_repo / "targets" / f"{digest}.{path.rpartition('/')[2]}").is_file()


@pytest.mark.uptane("M3")
def test_all_text_that_we_sign_is_in_normal_form(image_files: Files, assigned: Files, director_root: Files):
    """The same name in two spellings would be two names to one reader and one to another."""
    for content in [*image_files.values(), *assigned.values(), *director_root.values()]:
        text = json.dumps(json.loads(content), ensure_ascii=False)
        assert unicodedata.is_normalized("NFC", text)
        assert not re.search(r"\\u00[01]", text), "no control characters, but for the line ends of PEM keys"


@pytest.mark.uptane("K4", "C-root")
def test_a_new_image_root_reaches_a_vehicle_that_is_assigned_nothing(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """A stolen key of the Image repository must not stay good until the next update is due."""
    uptane.director.targets.targets = {}
    uptane.director.publish()

    def renew(root: Root) -> None:
        root.roles["timestamp"].threshold = 1

    uptane.image.rotate_root(renew)
    assert primary.verify(uptane.files()).images == ()
    assert primary.verifier.versions()[1].root == 2
