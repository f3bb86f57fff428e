"""Attacks on metadata: who controls the network, a stale mirror, the clock, or too few keys gets nothing accepted."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from signing.errors import AttackCode, VerificationError
from tests.signing.uptane_simulator import (
    GATEWAY_PATH,
    NOW,
    Files,
    RepositorySimulator,
    SimulatedPrimary,
    UptaneSimulator,
    refusal,
    repository,
)

REPOSITORIES = ("director", "image")
ROLES = ("timestamp", "snapshot", "targets")


@pytest.mark.uptane("A1", "C-timestamp", "C-snapshot", "C-targets")
@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.parametrize("role", ROLES)
def test_a_file_signed_with_an_unknown_key_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, role: str
):
    """A1: whoever owns the network swaps one file by one of the same content under a key of theirs."""
    repo = repository(uptane, name)
    forged = repo.sign(getattr(repo, role), [CryptoSigner.generate_ed25519()])
    assert refusal(primary, uptane.files() | {(name, repo.name_of(role)): forged}) is AttackCode.ARBITRARY


@pytest.mark.uptane("A5")
def test_one_role_s_key_does_not_sign_for_another(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A5: the timestamp key, online and most exposed, must not pass for the targets key."""
    director = uptane.director
    forged = director.sign(director.targets, director.signers["timestamp"])
    files = uptane.files() | {("director", director.name_of("targets")): forged}
    assert refusal(primary, files) is AttackCode.ARBITRARY


@pytest.mark.uptane("A5")
def test_a_snapshot_does_not_pass_for_targets(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A5: role type confusion with validly signed bytes."""
    director = uptane.director
    snapshot = director.current[director.name_of("snapshot")]
    files = uptane.files() | {("director", director.name_of("targets")): snapshot}
    assert refusal(primary, files) is AttackCode.ARBITRARY


@pytest.mark.uptane("A6", "C-timestamp")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_an_older_timestamp_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str):
    """A6: rollback of the timestamp, still unexpired."""
    repo = repository(uptane, name)
    old = repo.files()
    repo.publish()
    primary.verify(uptane.files())
    files = uptane.files() | {(name, "timestamp.json"): old[name, "timestamp.json"]}
    assert refusal(primary, files) is AttackCode.ROLLBACK


@pytest.mark.uptane("A6", "C-snapshot")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_new_timestamp_for_an_older_snapshot_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """A6: with the timestamp key alone, an attacker points to a snapshot that was valid before."""
    repo = repository(uptane, name)
    old_meta, old_files = repo.timestamp.snapshot_meta, repo.files()
    repo.publish()
    primary.verify(uptane.files())
    repo.timestamp.version += 1
    repo.timestamp.snapshot_meta = old_meta
    repo.current["timestamp.json"] = repo.sign(repo.timestamp, repo.signers["timestamp"])
    assert refusal(primary, old_files | uptane.files()) is AttackCode.ROLLBACK


@pytest.mark.uptane("A6", "C-snapshot")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_new_snapshot_that_lists_older_targets_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """A6: with timestamp and snapshot keys, an attacker brings back older targets."""
    repo = repository(uptane, name)
    old_targets = {key: content for key, content in repo.files().items() if key[1].endswith("targets.json")}
    version = repo.targets.version
    repo.publish()
    primary.verify(uptane.files())
    repo.targets.version = version
    repo.publish("snapshot", "timestamp")
    assert refusal(primary, uptane.files() | old_targets) is AttackCode.ROLLBACK


@pytest.mark.uptane("A6", "C-snapshot", "K5")
def test_a_snapshot_that_forgets_a_supplier_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A6, pitfall 17: a file once listed must stay listed, or a supplier's role could be rolled back through a gap."""
    image = uptane.image
    image.snapshot.meta["supplier.json"] = MetaFile(3)
    image.publish()
    primary.verify(uptane.files())
    del image.snapshot.meta["supplier.json"]
    image.publish()
    assert refusal(primary, uptane.files()) is AttackCode.ROLLBACK


@pytest.mark.uptane("A9", "C-timestamp")
def test_a_replayed_timestamp_is_good_until_it_expires(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A9: a freeze is bounded by the timestamp's day, to the second, and named afterwards."""
    files = uptane.files()
    last_good = NOW + timedelta(hours=24) - timedelta(seconds=1)
    assert primary.verify(files, last_good).images
    assert refusal(primary, files, last_good + timedelta(seconds=1)) is AttackCode.FREEZE


@pytest.mark.uptane("A9")
def test_a_freeze_is_named_when_nothing_new_arrives_at_all(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A9: held metadata expires like any other; an answer without files does not hide that."""
    primary.verify(uptane.files())
    assert primary.verify({}, NOW + timedelta(hours=23)).images
    assert refusal(primary, {}, NOW + timedelta(days=8)) is AttackCode.FREEZE


@pytest.mark.uptane("A9", "C-snapshot", "C-targets")
@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_expired_files_under_a_fresh_timestamp_are_a_freeze(
    uptane: UptaneSimulator, primary: SimulatedPrimary, role: str
):
    """A9: renewing the timestamp alone cannot keep an assignment alive beyond its week."""
    later = NOW + timedelta(days=7)
    uptane.image.now = later
    uptane.image.publish()
    uptane.director.now = later
    uptane.director.publish(*({"targets", "snapshot", "timestamp"} - {role, "targets"}))
    assert refusal(primary, uptane.files(), later) is AttackCode.FREEZE


def other_vehicle(uptane: UptaneSimulator, vehicle_id: str = "veh-2") -> RepositorySimulator:
    """The same Director, the same keys, another vehicle, one version ahead."""
    other = RepositorySimulator("director", vehicle_id)
    other.root, other.roots, other.signers = uptane.director.root, uptane.director.roots, uptane.director.signers
    other.targets.targets = dict(uptane.director.targets.targets)
    for role in ROLES:
        getattr(other, role).version = uptane.director.timestamp.version
    other.publish()
    return other


@pytest.mark.uptane("A10")
def test_another_vehicle_s_fresh_timestamp_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A10: a timestamp over identical snapshot bytes would freeze a vehicle silently, were it not bound to one."""
    primary.verify(uptane.files())
    director = uptane.director
    stolen = Timestamp(version=director.timestamp.version + 1, snapshot_meta=director.timestamp.snapshot_meta)
    stolen.expires = NOW + timedelta(days=1)
    stolen.unrecognized_fields["vehicleId"] = "veh-2"
    files: Files = {("director", "timestamp.json"): director.sign(stolen, director.signers["timestamp"])}
    assert refusal(primary, files) is AttackCode.WRONG_VEHICLE
    director.publish("timestamp")
    assert primary.verify(uptane.files()).images, "the vehicle's own next timestamp, of the same version, is still good"


@pytest.mark.uptane("A10", "A11")
@pytest.mark.parametrize("role", ROLES)
def test_an_unbound_director_file_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, role: str):
    """A10, A11: no vehicle id is as good as every vehicle's."""
    director = uptane.director
    director.vehicle_id = None
    del getattr(director, role).unrecognized_fields["vehicleId"]
    director.publish()
    assert refusal(primary, uptane.files()) is AttackCode.WRONG_VEHICLE


@pytest.mark.uptane("A11")
@pytest.mark.parametrize("empty", [False, True], ids=["targets", "empty targets"])
def test_another_vehicle_s_director_files_are_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, empty: bool):
    """A11: all of another vehicle's files are validly signed, an empty list among them would cancel an update."""
    other = other_vehicle(uptane)
    if empty:
        other.targets.targets = {}
        other.publish()
    assert refusal(primary, uptane.files() | other.files()) is AttackCode.WRONG_VEHICLE


@pytest.mark.uptane("A10", "F13")
def test_another_vehicle_s_timestamp_is_named_before_anything_else(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A10, F13: it would fail as a missing snapshot too, but the report to the Director shall name the attack."""
    files = {("director", "timestamp.json"): other_vehicle(uptane).current["timestamp.json"]}
    assert refusal(primary, files) is AttackCode.WRONG_VEHICLE
    with pytest.raises(VerificationError, match=r"the Director's timestamp\.json is bound to vehicle 'veh-2'"):
        primary.verify(files)


@pytest.mark.uptane("A11")
def test_held_files_of_another_vehicle_are_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """A11: a control unit that was moved with its storage does not act on its former vehicle's files."""
    primary.verify(uptane.files())
    moved = uptane.vehicle(tmp_path / "held", vehicle_id="veh-9")
    assert refusal(moved, {}) is AttackCode.WRONG_VEHICLE
    with pytest.raises(VerificationError, match="the Director's timestamp is bound to vehicle 'veh-1'"):
        moved.verify({})


@pytest.mark.uptane("A12", "F1", "V1", "T1")
def test_a_clock_set_back_is_refused_and_a_small_lag_is_not(
    uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path
):
    """A12: the floor of proven time survives a restart; a lag of minutes is taken as the floor itself."""
    later = NOW + timedelta(hours=3)
    primary.verify(uptane.files(), later)
    restarted = uptane.vehicle(tmp_path / "held")
    assert refusal(restarted, {}, later - timedelta(hours=1)) is AttackCode.CLOCK
    assert restarted.verify({}, later - timedelta(minutes=4)).images


@pytest.mark.uptane("A12", "A9")
def test_a_clock_set_back_does_not_revive_expired_files(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A12, A9: within the slack time stands still, so a file that expired before the floor stays expired."""
    floor = NOW + timedelta(hours=12)
    primary.verify(uptane.files(), floor)
    uptane.director.now = floor - timedelta(hours=24, minutes=1)
    uptane.director.publish("timestamp")
    assert refusal(primary, uptane.files(), floor - timedelta(minutes=3)) is AttackCode.FREEZE


@pytest.mark.uptane("A12")
def test_a_clock_far_ahead_is_refused_and_leaves_no_trace(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A12, pitfall 25: years ahead everything is expired; once the clock is right again, so is the vehicle."""
    primary.verify(uptane.files())
    assert refusal(primary, uptane.files(), NOW + timedelta(days=3650)) is AttackCode.FREEZE
    assert primary.verify(uptane.files(), NOW + timedelta(minutes=1)).images


@pytest.mark.uptane("A13", "C-root", "C-timestamp", "C-snapshot", "C-targets")
@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.parametrize("role", [*ROLES, "root"])
def test_a_file_above_its_cap_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, role: str):
    """A13: bytes above the cap are not even parsed."""
    caps = {"director": 64 << 10, "image": {"snapshot": 2 << 20, "targets": 8 << 20}.get(role, 64 << 10)}
    repo = repository(uptane, name)
    file = "2.root.json" if role == "root" else repo.name_of(role)
    files = uptane.files() | {(name, file): b" " * (caps[name] + 1)}
    assert refusal(primary, files) is AttackCode.ENDLESS_DATA


@pytest.mark.uptane("A13")
def test_too_many_files_are_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A13: work is bounded by the number of files as well as by their size."""
    files = uptane.files() | {("image", f"{number}.root.json"): b"{}" for number in range(2, 200)}
    assert refusal(primary, files) is AttackCode.ENDLESS_DATA


@pytest.mark.uptane("A13")
def test_as_many_files_as_a_verification_takes_are_taken(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """The cap is the last number that is good, and work ends with the first that is not."""
    files = uptane.files()
    other = uptane.image.first_root
    files |= {("image", f"{number}.root.json"): other for number in range(1000, 1128 - len(files))}
    assert len(files) == 128
    assert primary.verify(files).images
    with pytest.raises(VerificationError, match="129 files in one answer, at most 128") as caught:
        primary.verify(files | {("image", "2000.root.json"): other})
    assert caught.value.code is AttackCode.ENDLESS_DATA


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_the_image_repository_says_more_than_a_director(uptane: UptaneSimulator, primary: SimulatedPrimary, role: str):
    """All images of all vehicles are listed there: the caps of what is for one vehicle would stop a fleet."""
    image = uptane.image
    if role == "targets":
        entry = image.targets.targets[GATEWAY_PATH]
        image.targets.targets |= {f"acme/other-{number}.img": entry for number in range(1000)}
    else:
        image.snapshot.meta |= {f"supplier-{number}.json": MetaFile(1) for number in range(3000)}
    image.publish()
    assert len(image.current[image.name_of(role)]) > 64 << 10
    assert primary.verify(uptane.files()).images


@pytest.mark.uptane("A16", "C-targets")
def test_targets_of_another_time_are_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A16: each file was signed, but never this snapshot with these targets."""
    image = uptane.image
    old = image.current[image.name_of("targets")]
    image.publish()
    files = uptane.files() | {("image", image.name_of("targets")): old}
    assert refusal(primary, files) is AttackCode.MIX_AND_MATCH


@pytest.mark.uptane("A16", "C-snapshot")
def test_a_snapshot_of_another_time_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A16: the timestamp pins the snapshot by hash."""
    director = uptane.director
    old = director.current[director.name_of("snapshot")]
    director.publish()
    files = uptane.files() | {("director", director.name_of("snapshot")): old}
    assert refusal(primary, files) is AttackCode.MIX_AND_MATCH


@pytest.mark.uptane("A15")
def test_a_missing_file_is_named(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A15: what an attacker holds back is missing, not accepted."""
    files = uptane.files()
    del files["director", uptane.director.name_of("snapshot")]
    assert refusal(primary, files) is AttackCode.MISSING


@pytest.mark.uptane("A30")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace('"version":2', '"version":9,"version":2', 1), id="a name twice"),
        pytest.param(lambda text: text.replace('"version":2', '"version":2.0', 1), id="a float"),
        pytest.param(lambda text: text.replace('"version":2', '"version":NaN', 1), id="NaN"),
        pytest.param(lambda text: text.replace('"version":2', f'"version":{10**30}', 1), id="a huge integer"),
        pytest.param(lambda text: "[" * 60000, id="deep nesting"),
        pytest.param(lambda text: text[:-5], id="cut short"),
        pytest.param(lambda text: "[]", id="not an object"),
        pytest.param(lambda text: text.replace('"signed"', '"sinned"'), id="no signed part"),
    ],
)
def test_what_parsers_could_read_differently_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, change):
    """A30: refused before a signature is looked at, whatever python-tuf would make of it."""
    text = uptane.director.current["timestamp.json"].decode()
    files = uptane.files() | {("director", "timestamp.json"): change(text).encode()}
    assert change(text) != text
    assert refusal(primary, files) is AttackCode.MALFORMED


@pytest.mark.uptane("A30")
def test_a_timestamp_that_is_signed_but_not_metadata_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A30: JSON in the right envelope with the wrong content is malformed, not a crash."""
    files = uptane.files() | {
        ("director", "timestamp.json"): b'{"signatures":[],"signed":{"_type":"timestamp","vehicleId":"veh-1"}}'
    }
    assert refusal(primary, files) is AttackCode.MALFORMED


@pytest.mark.uptane("A3", "C-deleg", "M11")
def test_a_supplier_signs_within_its_paths_only(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A3: a delegated role is believed for its own paths, by its threshold, and for nothing else."""
    supplier = [CryptoSigner.generate_ecdsa() for _ in range(2)]
    keys = {signer.public_key.keyid: signer.public_key for signer in supplier}
    role = DelegatedRole("supplier", list(keys), 2, False, paths=["acme/brake-*"])
    image = uptane.image
    listed = image.targets.targets
    image.targets = Targets(version=image.targets.version, delegations=Delegations(keys, {"supplier": role}))
    image.publish_delegated("supplier", supplier, Targets(version=1, targets=dict(listed)))
    image.publish()
    assert refusal(primary, uptane.files()) is AttackCode.IMAGE_MISMATCH, "the gateway's path is not the supplier's"
    image.targets.targets = {GATEWAY_PATH: listed[GATEWAY_PATH]}
    image.publish()
    assert primary.verify(uptane.files()).images
    image.publish_delegated("supplier", supplier[:1], Targets(version=2, targets=dict(listed)))
    image.publish()
    assert refusal(primary, uptane.files()) is AttackCode.ARBITRARY, "one of two supplier keys"


@pytest.mark.uptane("A4", "A3")
def test_a_supplier_s_key_under_two_ids_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A4, A3: one supplier key listed twice would meet the supplier's threshold of two alone."""
    signer = CryptoSigner.generate_ecdsa()
    key = signer.public_key
    twin = SSlibKey("f" * 64, key.keytype, key.scheme, key.keyval)
    role = DelegatedRole("supplier", [key.keyid, twin.keyid], 2, False, paths=["acme/*"])
    image = uptane.image
    delegations = Delegations({key.keyid: key, twin.keyid: twin}, {"supplier": role})
    listed = image.targets.targets
    image.targets = Targets(version=image.targets.version, delegations=delegations)
    image.publish_delegated("supplier", [signer], Targets(version=1, targets=dict(listed)))
    content = json.loads(image.current["1.supplier.json"])
    content["signatures"].append(content["signatures"][0] | {"keyid": twin.keyid})
    image.current["1.supplier.json"] = json.dumps(content).encode()
    image.publish()
    assert refusal(primary, uptane.files()) is AttackCode.DUPLICATE_KEY


def test_metadata_is_python_tuf_s_own(uptane: UptaneSimulator):
    """The simulator's files are read back by python-tuf, so that a refusal above is not about their form."""
    kinds = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}
    for (_, name), content in uptane.files().items():
        assert isinstance(Metadata.from_bytes(content).signed, kinds[name.split(".")[-2]])
