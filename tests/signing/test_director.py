"""The Director's files: deterministic, accepted by python-tuf, bound to one vehicle, and never made from odd input."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from signing import director
from signing.ceremony import DataFolder
from signing.director import (
    AssignedImage,
    Assignment,
    DirectorSigners,
    DirectorVersions,
    Renewal,
    SnapshotPin,
    assignment_digest,
    director_files,
    director_timestamp,
    next_version,
)
from signing.errors import KeyFileError, SigningError
from signing.keys import load_signer, save_signer
from signing.roots import newest_root
from tests.signing.uptane_simulator import NOW

IMAGE = AssignedImage("acme/gw-1.1.0.img", 130, "ab" * 32, "acme-gw-1", 2, ("PRIMARY-1", "PRIMARY-2"))
ASSIGNMENT = Assignment("veh-1", (IMAGE,))
VERSIONS = DirectorVersions(7, NOW, 9, NOW + timedelta(hours=1))
ROLES = ("targets", "snapshot", "timestamp")
NAMES = ["7.targets.json", "7.snapshot.json", "timestamp.json"]


@pytest.fixture
def signers(data: DataFolder) -> DirectorSigners:
    return DirectorSigners.load(data.director_keys)


@pytest.mark.uptane("D6", "M5")
def test_files_verify_under_the_root_of_the_ceremony(data: DataFolder, signers: DirectorSigners):
    """python-tuf reads them, their signatures hold, and they read back as they were meant."""
    files = director_files(signers, ASSIGNMENT, VERSIONS)
    root = Metadata[Root].from_bytes((data.director_metadata / "1.root.json").read_bytes()).signed
    assert list(files) == NAMES
    for name, content in files.items():
        metadata = Metadata.from_bytes(content)
        root.verify_delegate(metadata.signed.type, metadata.signed_bytes, metadata.signatures)
        assert metadata.signed.unrecognized_fields == {"vehicleId": "veh-1"}, name
    targets, snapshot, timestamp = (Metadata.from_bytes(files[name]).signed for name in NAMES)
    assert isinstance(targets, Targets)
    assert isinstance(snapshot, Snapshot)
    assert isinstance(timestamp, Timestamp)
    assert (targets.version, snapshot.version, timestamp.version) == (7, 7, 9)
    assert targets.targets[IMAGE.path].custom == {
        "ecuIdentifiers": {"PRIMARY-1": {"hardwareId": "acme-gw-1"}, "PRIMARY-2": {"hardwareId": "acme-gw-1"}},
        "shallMatch": {"hardwareIds": ["acme-gw-1"], "releaseCounter": 2},
    }
    assert timestamp.snapshot_meta.length == len(files["7.snapshot.json"])
    assert timestamp.snapshot_meta.hashes == {"sha256": hashlib.sha256(files["7.snapshot.json"]).hexdigest()}


@pytest.mark.uptane("A9")
def test_expiries_follow_from_the_issue_times(signers: DirectorSigners):
    """A week for what is assigned, a day for the timestamp: the bound of a freeze."""
    targets, snapshot, timestamp = (
        Metadata.from_bytes(content).signed for content in director_files(signers, ASSIGNMENT, VERSIONS).values()
    )
    assert targets.expires == snapshot.expires == NOW + timedelta(days=7)
    assert timestamp.expires == NOW + timedelta(hours=1 + 24)


def test_a_renewed_timestamp_leaves_the_other_files_as_they_are(signers: DirectorSigners):
    """A quiet vehicle is sent one file: the others have to be the very bytes it holds."""
    first = director_files(signers, ASSIGNMENT, VERSIONS)
    renewed = director_files(
        signers, ASSIGNMENT, replace(VERSIONS, timestamp_version=10, timestamp_issued_at=NOW + timedelta(hours=13))
    )
    assert {name for name in first if first[name] != renewed[name]} == {"timestamp.json"}


def a_renewal(signers: DirectorSigners, **fields: object) -> Renewal:
    """Of the timestamp over `ASSIGNMENT`'s snapshot; `length` and `sha256` are the snapshot's."""
    snapshot = director_files(signers, ASSIGNMENT, VERSIONS)["7.snapshot.json"]
    pin = SnapshotPin(7, len(snapshot), hashlib.sha256(snapshot).hexdigest())
    of_pin = {name: value for name, value in fields.items() if name in ("length", "sha256")}
    of_renewal = {name: value for name, value in fields.items() if name not in of_pin}
    whole = Renewal("veh-1", 10, NOW + timedelta(hours=13), replace(pin, **of_pin))
    return replace(whole, **of_renewal)


@pytest.mark.uptane("M13")
def test_a_timestamp_alone_is_the_one_that_all_three_files_would_have(signers: DirectorSigners):
    """One signature in place of three, and nobody can tell which way it was made."""
    later = replace(VERSIONS, timestamp_version=10, timestamp_issued_at=NOW + timedelta(hours=13))
    assert (
        director_timestamp(signers, a_renewal(signers)) == director_files(signers, ASSIGNMENT, later)["timestamp.json"]
    )


def test_what_is_composed_is_the_canonical_form(signers: DirectorSigners):
    """Bytes are composed, not encoded: what python-tuf would write of the same values is what was signed."""
    for content in (
        *director_files(signers, ASSIGNMENT, VERSIONS).values(),
        director_timestamp(signers, a_renewal(signers)),
    ):
        signed = json.loads(content)["signed"]
        assert b'"signed":%b}' % encode_canonical(signed).encode() == content[content.index(b'"signed":') :]
        assert encode_canonical(json.loads(content)).encode() == content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vehicle_id": 'a","x":"'}, "not a vehicle id"),
        ({"version": 0}, "the timestamp version 0"),
        ({"version": 2**31}, "the timestamp version 2147483648"),
        ({"issued_at": NOW.replace(microsecond=1)}, "^issued_at .* not a whole second"),
        ({"issued_at": NOW.replace(tzinfo=None)}, "^issued_at .* not a whole second"),
        ({"length": 0}, "no snapshot has 0 bytes"),
        ({"length": 64 * 1024 + 1}, "no snapshot has 65537 bytes"),
        ({"sha256": "AB" * 32}, "no snapshot has"),
        ({"sha256": '"}' + "a" * 62}, "no snapshot has"),
        ({"snapshot": SnapshotPin(0, 400, "ab" * 32)}, "the snapshot version 0"),
    ],
    ids=str,
)
def test_odd_renewals_are_not_signed(signers: DirectorSigners, change: dict[str, object], words: str):
    """Whoever reaches the signer says what a snapshot was; it must not be able to say anything else that way."""
    with pytest.raises(SigningError, match=words):
        director_timestamp(signers, a_renewal(signers, **change))


def test_order_of_an_assignment_does_not_matter(signers: DirectorSigners):
    """The same assignment out of another worker's memory is the same files; canonical JSON wants paths in order."""
    other = replace(IMAGE, path="acme/bcm.img", ecu_serials=("BCM-2", "BCM-1"))
    ordered = Assignment("veh-1", (replace(other, ecu_serials=("BCM-1", "BCM-2")), IMAGE))
    mixed = Assignment("veh-1", (IMAGE, other))
    assert director_files(signers, mixed, VERSIONS) == director_files(signers, ordered, VERSIONS)
    assert assignment_digest(mixed) == assignment_digest(ordered)
    targets = director_files(signers, mixed, VERSIONS)["7.targets.json"]
    assert encode_canonical(json.loads(targets)).encode() == targets


@pytest.mark.parametrize("length", [1, 64 * 1024])
def test_a_snapshot_of_any_length_that_vehicles_read_can_be_renewed(signers: DirectorSigners, length: int):
    """The cap is theirs: what was signed below it must not be refused later."""
    assert b'"length":%d,' % length in director_timestamp(signers, a_renewal(signers, length=length))


def test_the_digest_of_an_assignment_changes_with_what_targets_would_say():
    """By it a renewal sees that units were replaced, and that files under the old version would say something else."""
    same = assignment_digest(ASSIGNMENT)
    assert len(same) == 16, "one of each vehicle is in the store's memory"
    assert same == assignment_digest(Assignment("veh-1", (replace(IMAGE),)))
    others = [
        Assignment("veh-2", (IMAGE,)),
        Assignment("veh-1", ()),
        Assignment("veh-1", (replace(IMAGE, ecu_serials=("PRIMARY-1", "PRIMARY-3")),)),
        Assignment("veh-1", (replace(IMAGE, release_counter=3),)),
        Assignment("veh-1", (replace(IMAGE, sha256="cd" * 32),)),
    ]
    assert len({same, *map(assignment_digest, others)}) == 6
    with pytest.raises(SigningError):
        assignment_digest(Assignment("../x", ()))


def test_equal_input_gives_equal_bytes_in_every_process(data: DataFolder, signers: DirectorSigners):
    """Nothing but the inputs is stored: another process, with another hash seed, makes the very same files."""
    script = (
        "import sys, json, hashlib; from pathlib import Path; from datetime import datetime, timedelta;"
        "from signing.director import *;"
        "now = datetime.fromisoformat(sys.argv[2]);"
        "image = AssignedImage('acme/gw-1.1.0.img', 130, 'ab' * 32, 'acme-gw-1', 2, ('PRIMARY-1', 'PRIMARY-2'));"
        "files = director_files(DirectorSigners.load(Path(sys.argv[1])), Assignment('veh-1', (image,)),"
        " DirectorVersions(7, now, 9, now + timedelta(hours=1)));"
        "print(json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in files.items()}))"
    )
    here = {n: hashlib.sha256(c).hexdigest() for n, c in director_files(signers, ASSIGNMENT, VERSIONS).items()}
    for seed in ("1", "2"):
        output = subprocess.run(
            [sys.executable, "-c", script, str(data.director_keys), NOW.isoformat()],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert json.loads(output) == here


def test_other_bytes_come_under_another_serialiser_version():
    """Files are made again in years to come: bytes that change under the same version are refused as a forgery is.

    Whoever has to change the digest of this test raises SERIALISER_VERSION with it.
    """
    seeds = (bytes([number]) * 32 for number in (1, 2, 3))
    signers = DirectorSigners(*(CryptoSigner(Ed25519PrivateKey.from_private_bytes(seed)) for seed in seeds))
    files = director_files(signers, ASSIGNMENT, VERSIONS)
    together = hashlib.sha256(b"".join(files[name] for name in NAMES)).hexdigest()
    assert (director.SERIALISER_VERSION, together) == (
        1,
        "c6590f183729af982c40fe00b82e932595157ec20f575cf050d0ce640c6b79c9",
    )
    assert assignment_digest(ASSIGNMENT) == "6873a48e27dd8ace"


@pytest.mark.uptane("A10", "D6")
def test_two_vehicles_share_no_file(signers: DirectorSigners):
    """Probe 4: identical snapshots at equal versions are what a silent freeze is made of."""
    ours = director_files(signers, Assignment("veh-1", ()), VERSIONS)
    theirs = director_files(signers, Assignment("veh-2", ()), VERSIONS)
    assert not set(ours.values()) & set(theirs.values())


@pytest.mark.uptane("A27", "A30")
@pytest.mark.parametrize(
    "change",
    [
        {"path": "../x"},
        {"path": ""},
        {"length": -1},
        {"sha256": "AB" * 32},
        {"sha256": "ab"},
        {"hardware_id": ""},
        {"hardware_id": "a b"},
        {"release_counter": -1},
        {"release_counter": 2**31},
        {"ecu_serials": ()},
        {"ecu_serials": ("A", "A")},
        {"ecu_serials": ("a/b",)},
    ],
    ids=str,
)
def test_odd_images_are_not_signed(signers: DirectorSigners, change: dict[str, object]):
    """A27, A30: refused where it is signed, whatever checks were made before."""
    with pytest.raises(SigningError):
        director_files(signers, Assignment("veh-1", (replace(IMAGE, **change),)), VERSIONS)


@pytest.mark.parametrize("vehicle_id", ["", "a b", "../x", "x" * 65, "é"])
def test_odd_vehicle_ids_are_not_signed(signers: DirectorSigners, vehicle_id: str):
    """What binds the files has to be one plain name."""
    with pytest.raises(SigningError):
        director_files(signers, Assignment(vehicle_id, ()), VERSIONS)


@pytest.mark.uptane("A19", "C-targets")
def test_two_images_for_one_control_unit_are_not_signed(signers: DirectorSigners):
    """C-targets: vehicles refuse it, so it must not leave here."""
    other = replace(IMAGE, path="acme/other.img", ecu_serials=("PRIMARY-2",))
    with pytest.raises(SigningError, match="two images"):
        director_files(signers, Assignment("veh-1", (IMAGE, other)), VERSIONS)
    with pytest.raises(SigningError, match="assigned twice"):
        director_files(signers, Assignment("veh-1", (IMAGE, replace(IMAGE, ecu_serials=("X",)))), VERSIONS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 0}, "the version 0 "),
        ({"timestamp_version": 2**31}, "the timestamp version 2147483648 "),
        ({"issued_at": NOW.replace(microsecond=1)}, "^issued_at .* not a whole second in UTC"),
        ({"issued_at": NOW.replace(tzinfo=None)}, "^issued_at"),
        ({"timestamp_issued_at": NOW.astimezone(timezone(timedelta(hours=1)))}, "^timestamp_issued_at"),
    ],
    ids=str,
)
def test_odd_versions_are_not_signed(signers: DirectorSigners, change: dict[str, object], words: str):
    """Fractions and zones would be lost in the file, and with them that equal input gives equal bytes."""
    with pytest.raises(SigningError, match=words):
        director_files(signers, ASSIGNMENT, replace(VERSIONS, **change))


def test_versions_reach_as_far_as_readers_do(signers: DirectorSigners):
    """2^31 - 1 is the last: one below what a 32-bit reader can hold."""
    last = replace(VERSIONS, version=2**31 - 1, timestamp_version=1)
    assert "2147483647.targets.json" in director_files(signers, ASSIGNMENT, last)
    counters = replace(IMAGE, release_counter=2**31 - 1, length=0), replace(IMAGE, release_counter=0, length=0)
    for image in counters:
        assert director_files(signers, Assignment("veh-1", (image,)), VERSIONS)


@pytest.mark.uptane("A13")
def test_a_file_that_vehicles_would_refuse_for_its_size_is_not_signed(signers: DirectorSigners):
    """A13: the cap of the vehicles holds at the source."""
    serials = tuple(f"ECU-{number:050d}" for number in range(800))
    with pytest.raises(SigningError, match="above 65536"):
        director_files(signers, Assignment("veh-1", (replace(IMAGE, ecu_serials=serials),)), VERSIONS)


def test_a_file_of_just_the_length_that_vehicles_take_is_signed(
    signers: DirectorSigners, monkeypatch: pytest.MonkeyPatch
):
    """The cap is the last length that is good, here as there."""
    longest = max(map(len, director_files(signers, ASSIGNMENT, VERSIONS).values()))
    monkeypatch.setattr(director, "DIRECTOR_FILE_MAX_BYTES", longest)
    assert director_files(signers, ASSIGNMENT, VERSIONS)
    monkeypatch.setattr(director, "DIRECTOR_FILE_MAX_BYTES", longest - 1)
    with pytest.raises(SigningError, match="would be"):
        director_files(signers, ASSIGNMENT, VERSIONS)


def test_image_for_nobody_is_refused_in_words(signers: DirectorSigners):
    """The message is what whoever calls has in the log."""
    with pytest.raises(SigningError, match=r"image 'acme/gw-1\.1\.0\.img': no control unit is named"):
        director_files(signers, Assignment("veh-1", (replace(IMAGE, ecu_serials=()),)), VERSIONS)


@pytest.mark.uptane("K3")
def test_only_deterministic_keys_of_their_own_are_taken(signers: DirectorSigners):
    """ECDSA would give other bytes every time; a shared key would make one theft two."""
    with pytest.raises(
        KeyFileError, match=r"ecdsa\S+; only ed25519 .*: keep it in an encrypted file, or .*\(docs/keys.md\)$"
    ):
        DirectorSigners(CryptoSigner.generate_ecdsa(), signers.snapshot, signers.timestamp)
    with pytest.raises(KeyFileError, match=r"^the Director's online roles share a key; every role needs its own$"):
        DirectorSigners(signers.targets, signers.targets, signers.timestamp)


def public_keys(signers: DirectorSigners) -> list[Key]:
    return [signer.public_key for signer in (signers.targets, signers.snapshot, signers.timestamp)]


@pytest.mark.uptane("K3")
@pytest.mark.parametrize("with_root", [True, False])
def test_encrypted_keys_are_opened_with_the_password_that_was_given(data: DataFolder, tmp_path: Path, with_root: bool):
    """Whoever starts the signer may have it from elsewhere than the environment."""
    root, asked = newest_root(data.director_metadata).signed, list[str]()

    def secret(what: str) -> str:
        asked.append(Path(what).name)
        return "a long password"

    for role in ROLES:
        save_signer(load_signer(data.director_keys, role), tmp_path / f"{role}.pem", password="a long password")
    loaded = DirectorSigners.load(tmp_path, root if with_root else None, secret)
    assert public_keys(loaded) == public_keys(DirectorSigners.load(data.director_keys))
    assert asked == [f"{role}.pem" for role in ROLES]


@pytest.mark.uptane("K3")
def test_the_root_says_which_keys_sign(data: DataFolder):
    """A ceremony puts the next key beside the old one: it signs once the root names it, the older of two first."""
    root, before = newest_root(data.director_metadata).signed, DirectorSigners.load(data.director_keys)
    new = CryptoSigner.generate_ed25519()
    save_signer(new, data.director_keys / "snapshot-2.pem")
    assert public_keys(DirectorSigners.load(data.director_keys, root)) == public_keys(before)
    root.add_key(new.public_key, "snapshot")
    assert public_keys(DirectorSigners.load(data.director_keys, root)) == public_keys(before)
    root.revoke_key(before.snapshot.public_key.keyid, "snapshot")
    after = public_keys(DirectorSigners.load(data.director_keys, root))
    assert after == [before.targets.public_key, new.public_key, before.timestamp.public_key]


@pytest.mark.uptane("A8")
def test_versions_rise_with_the_clock_and_by_one_at_least():
    """A8: after a restored backup versions jump ahead of whatever was issued in the lost hours."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    minutes = int((at - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds() // 60)
    assert next_version(0, at) == minutes
    assert next_version(minutes, at) == minutes + 1
    assert next_version(minutes + 50, at) == minutes + 51
    assert next_version(3, datetime(2019, 1, 1, tzinfo=UTC)) == 4
    with pytest.raises(SigningError):
        next_version(2**31 - 1, at)
