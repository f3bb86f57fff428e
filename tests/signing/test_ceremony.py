"""The ceremony: one data folder with everything, made once, never half, never twice."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from signing import ceremony
from signing.ceremony import DataFolder, add_operator, initialise
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files
from signing.errors import KeyFileError, SigningError
from signing.image_repo import ImageRepository, NewImage
from signing.keys import key_value, load_signer
from signing.pki import Authority, identity_of
from signing.roots import newest_root
from signing.verify import PrimaryVerifier, check_image
from tests.signing.uptane_simulator import NOW

PARTS = {"authorities", "keys", "director", "image-repo", "provisioning", "operators"}


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_folder_holds_what_the_contract_says(data: DataFolder):
    """Other parts find files by these names."""
    assert {path.name for path in data.path.iterdir()} == PARTS
    expected = {f"authorities/{name}.{kind}" for name in ("server", "vehicle", "operator") for kind in ("crt", "key")}
    expected |= {f"provisioning/{name}" for name in ("director-root.json", "image-root.json", "enrolment-ca.pem")}
    expected |= {f"operators/admin/{name}" for name in ("operator.crt", "operator.key", "server-ca.pem")}
    expected |= {"director/metadata/1.root.json", "image-repo/metadata/1.root.json"}
    assert expected <= set(listing(data.path))
    assert (data.provisioning / "director-root.json").read_bytes() == (
        data.director_metadata / "1.root.json"
    ).read_bytes()


def test_private_files_are_for_their_owner_only(data: DataFolder):
    """Every key, wherever it lies."""
    private = [p for p in data.path.rglob("*") if p.suffix == ".key" or p.parent.parent.name == "keys"]
    assert len(private) == 3 + 13 + 1
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


@pytest.mark.uptane("K3", "M1")
def test_every_key_is_unique_across_roles_and_repositories(data: DataFolder):
    """K3: one stolen key is one role of one repository."""
    values = [
        key_value(load_signer(folder, path.stem).public_key)
        for folder in (data.director_keys, data.image_keys)
        for path in folder.iterdir()
    ]
    assert len(values) == len(set(values)) == 13


@pytest.mark.uptane("M1", "M14", "V3", "F1", "F2", "F3", "F4", "F5", "F7", "F8", "F9", "F10", "F11")
def test_a_vehicle_can_be_updated_from_a_fresh_folder(data: DataFolder, tmp_path: Path):
    """Publish, assign, verify: the whole chain from what a factory was given, without a simulator."""
    file = tmp_path / "image"
    file.write_bytes(b"1.1.0")
    repository = ImageRepository(data.image_repo)
    (info,) = repository.publish([NewImage("acme/gw.img", file, "acme-gw-1", 2, "1.1.0")], data.image_keys, NOW)
    image = AssignedImage(info.path, info.length, info.sha256, info.hardware_id, info.release_counter, ("P-1",))
    signers = DirectorSigners.load(data.director_keys)
    files = director_files(signers, Assignment("veh-1", (image,)), DirectorVersions(1, NOW, 1, NOW))
    verifier = PrimaryVerifier(
        tmp_path / "held",
        vehicle_id="veh-1",
        ecus={"P-1": "acme-gw-1"},
        director_root=(data.provisioning / "director-root.json").read_bytes(),
        image_root=(data.provisioning / "image-root.json").read_bytes(),
    )
    offered = {("director", name): content for name, content in files.items()}
    metadata = data.image_repo / "metadata"
    offered |= {("image", path.name): path.read_bytes() for path in metadata.iterdir()}
    bundle = verifier.verify(offered, now=NOW, installed={})
    check_image(bundle.images[0], repository.image_file(info.path, info.sha256).read_bytes())


def test_the_first_operator_is_an_admin(data: DataFolder):
    """Somebody has to be able to begin."""
    certificate = (data.operator("admin") / "operator.crt").read_bytes()
    identity = identity_of(certificate, trust_domain="fleet.example")
    assert (identity.kind, identity.name, identity.role) == ("operator", "admin", "admin")


def test_a_second_ceremony_changes_nothing(data: DataFolder):
    """New keys under a running fleet would cut every vehicle off."""
    before = listing(data.path)
    with pytest.raises(KeyFileError, match="already and nothing was changed"):
        initialise(data.path, trust_domain="fleet.example", now=NOW)
    assert listing(data.path) == before


@pytest.mark.parametrize("part", sorted(PARTS))
def test_any_part_of_an_earlier_ceremony_stops_a_new_one(tmp_path: Path, part: str):
    """Half old and half new keys would be the worst of all."""
    (tmp_path / part).mkdir()
    with pytest.raises(KeyFileError, match=part):
        initialise(tmp_path, trust_domain="fleet.example", now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == [part]


def test_a_ceremony_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is repeated as if it had never been tried, and what else is in the folder stays."""
    (tmp_path / "outrider.toml").write_text("x = 1")

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ceremony, "add_operator", fail)
        with pytest.raises(OSError, match="No space"):
            initialise(tmp_path, trust_domain="fleet.example", now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["outrider.toml"]
    initialise(tmp_path, trust_domain="fleet.example", now=NOW)


def test_what_a_killed_ceremony_left_is_cleared(tmp_path: Path):
    """Its keys were never used by anyone."""
    (tmp_path / ".ceremony-dead" / "keys").mkdir(parents=True)
    initialise(tmp_path, trust_domain="fleet.example", now=NOW)
    assert {path.name for path in tmp_path.iterdir()} == PARTS


@pytest.mark.parametrize("trust_domain", ["", "Fleet Example", "fleet/x", "-x", "UPPER"])
def test_an_odd_trust_domain_is_refused(tmp_path: Path, trust_domain: str):
    """It becomes a part of every identity."""
    with pytest.raises(SigningError, match="trust domain"):
        initialise(tmp_path, trust_domain=trust_domain, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_metadata_is_on_fleet_time_and_certificates_on_machine_time(tmp_path: Path):
    """A simulated fleet may live years away; TLS libraries read the machine's clock."""
    machine = datetime(2026, 6, 1, tzinfo=UTC)
    made = initialise(tmp_path, trust_domain="fleet.example", now=machine, fleet_now=NOW)
    root = Metadata[Root].from_bytes((made.provisioning / "director-root.json").read_bytes()).signed
    assert root.expires == NOW + timedelta(days=365)
    certificate = Authority.load(made.authorities, "vehicle")._certificate
    assert certificate.not_valid_before_utc <= machine < certificate.not_valid_before_utc + timedelta(hours=1)


def test_an_operator_is_added_once(data: DataFolder):
    """A second identity of one name would take the first one's place silently."""
    folder = add_operator(data, trust_domain="fleet.example", name="kim", role="viewer", now=NOW)
    certificate = (folder / "operator.crt").read_bytes()
    assert identity_of(certificate, trust_domain="fleet.example").role == "viewer"
    with pytest.raises(KeyFileError, match="exists"):
        add_operator(data, trust_domain="fleet.example", name="kim", role="admin", now=NOW)
    assert (folder / "operator.crt").read_bytes() == certificate


@pytest.mark.uptane("A27")
@pytest.mark.parametrize(("name", "role"), [("../x", "viewer"), ("", "viewer"), ("kim", "root")])
def test_an_odd_operator_is_refused(data: DataFolder, name: str, role: str):
    """A27: the name becomes a folder and a certificate."""
    before = listing(data.path)
    with pytest.raises(SigningError):
        add_operator(data, trust_domain="fleet.example", name=name, role=role, now=NOW)
    assert listing(data.path) == before


def test_a_role_gets_the_keys_that_were_asked_for(tmp_path: Path):
    """Guidance of Uptane for production: more people than the defaults, from the first version of each root on."""
    choices = ["director.root=3/5", "image.root=2/4", "image.targets=2/3", "image.attest=2/2", "image.timestamp=2/2"]
    data = initialise(tmp_path / "data", trust_domain="fleet.example", now=NOW, keys=choices)
    director, image = (newest_root(data.metadata_of(name)).signed for name in ("director", "image"))
    asked = {
        (1, 1): (director, "targets"),
        (3, 5): (director, "root"),
        (2, 4): (image, "root"),
        (2, 3): (image, "targets"),
    }
    for (threshold, keys), (root, role) in asked.items():
        assert (root.roles[role].threshold, len(root.roles[role].keyids)) == (threshold, keys)
    repository = ImageRepository(data.image_repo)
    attesters = repository.attesters()
    assert attesters is not None
    assert (attesters.threshold, len(attesters.keys)) == (2, 2)
    (tmp_path / "a.img").write_bytes(b"image")
    repository.publish([NewImage("a.img", tmp_path / "a.img", "acme-gw-1", 1, "1.0.0")], data.image_keys, NOW)
    assert repository.verified_target("a.img", NOW) is not None, "vehicles count two signatures"
    (data.image_keys / "targets.pem").unlink()
    (data.image_keys / "targets-3.pem").unlink()
    with pytest.raises(KeyFileError, match="takes 2 keys, 1 of them"):
        repository.publish([NewImage("b.img", tmp_path / "a.img", "acme-gw-1", 2, "1.1.0")], data.image_keys, NOW)


@pytest.mark.parametrize(
    ("choice", "fault"),
    [
        ("director.root=4/3", "4 signatures of 3 keys can never be given"),
        ("image.targets=0/1", "at least one key must sign"),
        ("image.root=2/17", "between 1 and 16 keys"),
        ("image.root=1/0", "between 1 and 16 keys"),
        ("director.targets=1/2", "one key each"),
        ("director.attest=1/1", "director has no role attest, but root, targets, snapshot, timestamp"),
        ("root=2/3", "not of the form"),
        ("image.root=2", "not of the form"),
    ],
)
def test_keys_that_cannot_be_are_refused(tmp_path: Path, choice: str, fault: str):
    """Before anything is made: a threshold that nobody can meet would be found in the hour of need."""
    with pytest.raises(SigningError, match=fault):
        initialise(tmp_path / "data", trust_domain="fleet.example", now=NOW, keys=[choice])
    assert not (tmp_path / "data").exists()
