"""The main cases of the TUF client conformance suite, driven the way it drives a client: by command line and socket."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Key, MetaFile, Root, TargetFile, Targets

from tests.conformance import client
from tests.conformance.serving import Suite, served
from tests.signing.uptane_simulator import LIVES, NOW, RepositorySimulator

FIRST = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
"""What a client that knows one root asks, in this order, and nothing else."""


ROLES = ("targets", "snapshot", "timestamp")


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    with served(Suite(RepositorySimulator("image", None), tmp_path)) as suite:
        assert suite.init() == 0
        yield suite


def versions(suite: Suite) -> dict[str, int]:
    return {role: json.loads(content)["signed"]["version"] for role, content in sorted(suite.held().items())}


def listed(suite: Suite, path: str, content: bytes, targets: Targets | None = None) -> None:
    """An image, in targets and on the socket; publish afterwards."""
    digest = hashlib.sha256(content).hexdigest()
    (targets or suite.repository.targets).targets[path] = TargetFile(len(content), {"sha256": digest}, path)
    parent, slash, name = path.rpartition("/")
    suite.images[f"{parent}{slash}{digest}.{name}"] = content


def test_refresh_asks_for_each_file_once_and_keeps_what_came(suite: Suite):
    """test_basic_init_and_refresh: in the order of the specification, byte for byte."""
    assert suite.refresh() == 0
    assert suite.asked == FIRST
    served_now = {name.split(".")[-2]: content for (_, name), content in suite.repository.files().items()}
    assert suite.held() == served_now
    assert suite.refresh() == 0
    assert suite.asked == ["2.root.json", "timestamp.json"], "nothing is new"


def test_the_suite_can_start_it_as_a_program(suite: Suite):
    """It is given a program and arguments, from a folder of its own; expired by today's clock is what it says here."""
    command = [sys.executable, client.__file__, "--metadata-dir", suite.metadata, "--metadata-url", suite.url]
    expired = subprocess.run([*command, "refresh"], cwd=suite.folder, capture_output=True, text=True, check=False)
    assert (expired.returncode, expired.stderr.count("\n")) == (1, 1)
    initial = suite.folder / "trusted_root"
    assert subprocess.run([*command, "init", initial], cwd=suite.folder, check=False).returncode == 0


@pytest.mark.parametrize("damage", ["no version", "not signed", "not json"])
def test_initial_root_that_is_not_sound_leads_to_no_request(suite: Suite, damage: str):
    """test_invalid_initial_root, test_unsigned_initial_root."""
    root = json.loads(suite.repository.first_root)
    if damage == "no version":
        del root["signed"]["version"]
    else:
        root["signatures"][0]["sig"] = root["signatures"][1]["sig"] = "30" * 70
    suite.init(b"{" if damage == "not json" else json.dumps(root).encode())
    assert suite.refresh() == 1
    assert suite.asked == []


@pytest.mark.parametrize("role", ROLES)
def test_expired_metadata_is_refused_and_what_was_held_stays(suite: Suite, role: str):
    """test_timestamp_expired, test_snapshot_expired, test_targets_expired."""
    assert suite.refresh() == 0
    later = ROLES[ROLES.index(role) + 1 :]
    suite.repository.now -= LIVES[role] + timedelta(seconds=1)
    suite.repository.publish(role)
    suite.repository.now = NOW
    if later:
        suite.repository.publish(*later)
    assert suite.refresh() == 1
    assert versions(suite) == {"root": 1} | {each: 2 if each in later else 1 for each in ROLES}


def test_held_metadata_that_has_expired_helps_to_fetch_what_is_new(suite: Suite):
    """test_expired_metadata: away for longer than a timestamp lives."""
    assert suite.refresh() == 0
    suite.repository.now += timedelta(days=18)
    suite.repository.publish()
    assert suite.refresh(suite.repository.now) == 0
    assert versions(suite) == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}


def test_expired_root_is_kept_and_nothing_beneath_it(suite: Suite):
    """test_root_expired: roots are taken up before their expiry is looked at."""
    assert suite.refresh() == 0

    def expire(root: Root) -> None:
        root.expires = NOW - timedelta(days=1)

    suite.repository.rotate_root(expire)
    suite.repository.publish()
    assert suite.refresh() == 1
    assert versions(suite) == {"root": 2, "snapshot": 1, "targets": 1, "timestamp": 1}


@pytest.mark.parametrize("role", ROLES)
def test_rollback_of_any_role_is_refused(suite: Suite, role: str):
    """test_new_timestamp_version_rollback, test_snapshot_rollback, test_targets_rollback."""
    suite.repository.publish()
    assert suite.refresh() == 0
    before = versions(suite)
    getattr(suite.repository, role).version -= 2
    suite.repository.publish(*ROLES[ROLES.index(role) :])
    assert suite.refresh() == 1
    assert versions(suite)[role] == before[role]


def test_other_content_under_the_same_version_is_not_taken_up(suite: Suite):
    """test_timestamp_eq_versions_check."""
    assert suite.refresh() == 0
    before = suite.held()
    suite.repository.snapshot.version += 99
    suite.repository.timestamp.version -= 1
    suite.repository.publish("timestamp")
    assert suite.refresh() == 0
    assert suite.held() == before


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_versions_that_were_driven_up_end_with_the_keys(suite: Suite, role: str):
    """test_new_timestamp_fast_forward_recovery, test_new_snapshot_fast_forward_recovery."""
    repository = suite.repository
    getattr(repository, role).version = 99_999
    repository.publish(role, "timestamp")
    assert suite.refresh() == 0
    fresh = {each: CryptoSigner.generate_ed25519() for each in ("timestamp", "snapshot")}

    def rotate(root: Root) -> None:
        for each, signer in fresh.items():
            root.revoke_key(repository.signers[each][0].public_key.keyid, each)
            root.add_key(signer.public_key, each)
            repository.signers[each] = [signer]

    repository.rotate_root(rotate)
    getattr(repository, role).version = 4
    repository.publish("snapshot", "timestamp")
    assert suite.refresh() == 0
    assert versions(suite)[role] == 5


@pytest.mark.parametrize(("signed_by", "accepted"), [((0, 1), True), ((0, 2), True), ((0,), False), ((), False)])
def test_next_root_needs_the_threshold_of_the_one_before(suite: Suite, signed_by: tuple[int, ...], accepted: bool):
    """test_root_rotation: two of three."""
    signers = [suite.repository.signers["root"][number] for number in signed_by]
    suite.repository.rotate_root(lambda root: None, signers)
    assert (suite.refresh() == 0) == accepted
    assert versions(suite)["root"] == (2 if accepted else 1)
    assert suite.asked[0] == "2.root.json"


def test_roots_are_walked_one_by_one(suite: Suite):
    """A client that was away finds every root on its way; the newest is what it holds."""
    for _ in range(3):
        suite.repository.rotate_root(lambda root: None)
    assert suite.refresh() == 0
    assert suite.asked[:4] == [f"{version}.root.json" for version in (2, 3, 4, 5)]
    assert suite.held()["root"] == suite.repository.roots[4]


def test_fields_that_nobody_knows_are_signed_and_kept(suite: Suite):
    """test_custom_fields."""

    def extend(root: Root) -> None:
        root.unrecognized_fields["custom-field"] = "value"
        next(iter(root.keys.values())).unrecognized_fields["extra-field"] = {"a": 1}

    suite.repository.rotate_root(extend)
    assert suite.refresh() == 0
    assert versions(suite)["root"] == 2


def test_one_key_under_many_ids_meets_no_threshold(suite: Suite):
    """test_duplicate_keys_root, in the harder form: the ids differ."""
    signer = suite.repository.signers["snapshot"][0]

    def twice(root: Root) -> None:
        again = Key.from_dict("ff" * 32, signer.public_key.to_dict())
        root.add_key(again, "snapshot")
        root.roles["snapshot"].threshold = 2

    suite.repository.rotate_root(twice)
    assert suite.refresh() == 1
    assert versions(suite) == {"root": 1}


def test_threshold_that_is_not_met_is_refused(suite: Suite):
    """test_snapshot_threshold: the root is taken up, the snapshot is not."""
    assert suite.refresh() == 0

    def raise_threshold(root: Root) -> None:
        root.add_key(CryptoSigner.generate_ed25519().public_key, "snapshot")
        root.roles["snapshot"].threshold = 2

    suite.repository.rotate_root(raise_threshold)
    suite.repository.publish()
    assert suite.refresh() == 1
    assert versions(suite)["root"] == 2


def test_timestamp_without_a_hash_is_plain_tuf(suite: Suite):
    """What Uptane adds is not asked of a plain repository; a vehicle's whole verification does ask for it."""
    suite.repository.timestamp.snapshot_meta = MetaFile(1)
    suite.repository.timestamp.version = 2
    signed = suite.repository.sign(suite.repository.timestamp, suite.repository.signers["timestamp"])
    suite.repository.current["timestamp.json"] = signed
    assert suite.refresh() == 0


@pytest.mark.parametrize(("lacking", "kept"), [("timestamp.json", 0), ("1.snapshot.json", 1), ("1.targets.json", 2)])
def test_refused_refresh_keeps_what_was_verified_before(suite: Suite, lacking: str, kept: int):
    """test_unsigned_metadata, test_url_and_metadata_version_mismatch: a plain client gets as far as it gets."""
    suite.repository.current.pop(lacking)
    assert suite.refresh() == 1
    assert versions(suite) == dict.fromkeys(["root", *["timestamp", "snapshot"][:kept]], 1)


@pytest.mark.parametrize("path", ["target_file.txt", "path/to/a/target file.txt"])
def test_image_is_downloaded_once_and_checked(suite: Suite, path: str):
    """test_client_downloads_expected_file, in_sub_dir, and artifact cache."""
    listed(suite, path, b"target file contents")
    suite.repository.publish()
    assert suite.download(path) == 0
    assert suite.downloaded() == [b"target file contents"]
    assert suite.download(path) == 0
    assert suite.asked == ["2.root.json", "timestamp.json"], "it is there already"


def test_changed_image_replaces_the_old_and_a_swapped_one_does_not(suite: Suite):
    """test_multiple_changes_to_target, test_repository_substitutes_target_file."""
    listed(suite, "file", b"one")
    suite.repository.publish()
    assert suite.download("file") == 0
    listed(suite, "file", b"two")
    suite.repository.publish()
    assert suite.download("file") == 0
    assert suite.downloaded() == [b"two"]
    listed(suite, "file", b"three")
    suite.repository.publish()
    for content in (b"THREE", b"three and more", b""):
        suite.images = dict.fromkeys(suite.images, content)
        assert suite.download("file") == 1
    suite.images.clear()
    assert suite.download("file") == 1
    assert suite.downloaded() == [b"two"]


def test_image_that_nobody_lists_fails_after_the_refresh(suite: Suite):
    """test_implicit_refresh."""
    assert suite.download("nonexistent artifact") == 1
    assert suite.asked == FIRST
    assert versions(suite) == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}


GRAPHS = {
    "depth first": ([("targets", "A", "*"), ("targets", "B", "*"), ("A", "C", "*"), ("A", "D", "*")], "ACDB"),
    "terminating": ([("targets", "A", "*"), ("targets", "B", "*"), ("A", "C", "!"), ("A", "D", "*")], "AC"),
    "by path": ([("targets", "A", "*.py"), ("targets", "B", "*"), ("A", "C", "*")], "B"),
    "cyclic": ([("targets", "A", "*"), ("A", "B", "*"), ("B", "A", "*")], "AB"),
    "two ways to one": ([("targets", "A", "*"), ("targets", "B", "*"), ("B", "C", "*"), ("A", "C", "*")], "ACB"),
    "by path to one": ([("targets", "A", "*"), ("targets", "B", "*"), ("B", "C", "*"), ("A", "C", "*.py")], "ABC"),
}  # fmt: skip


def delegated(suite: Suite, graph: list[tuple[str, str, str]]) -> None:
    """All roles share a key: what is tested is the order of the search."""
    signer = CryptoSigner.generate_ed25519()
    roles = {"targets": suite.repository.targets, **{name: Targets(version=1) for _, name, _ in graph}}
    for delegator, name, path in graph:
        parent = roles[delegator]
        parent.delegations = parent.delegations or Delegations({}, {})
        assert parent.delegations.roles is not None
        parent.delegations.roles[name] = DelegatedRole(name, [], 1, path == "!", [path.replace("!", "*")])
        parent.add_key(signer.public_key, name)
    for name, targets in list(roles.items())[1:]:
        suite.repository.publish_delegated(name, [signer], targets)
    suite.repository.publish()


@pytest.mark.parametrize("graph", GRAPHS)
def test_delegations_are_searched_in_order(suite: Suite, graph: str):
    """test_graph_traversal: pre-order, depth first, each role once."""
    edges, order = GRAPHS[graph]
    delegated(suite, edges)
    assert suite.download("missingpath") == 1
    assert suite.asked[4:] == [f"1.{role}.json" for role in order]
    assert set(order) < set(suite.held())


@pytest.mark.parametrize("role", ["?", "#", "/delegatedrole", "../delegatedrole"])
def test_odd_role_names_reach_neither_other_urls_nor_other_folders(suite: Suite, role: str):
    """test_unusual_role_name."""
    delegated(suite, [("targets", role, "*")])
    assert suite.download("nonexistent target") == 1
    assert f"1.{urllib.parse.quote(role, '')}.json" in suite.asked
    assert len(suite.held()) == 5
    assert suite.download("nonexistent target") == 1, "what was held under it is found again"
    assert suite.asked == ["2.root.json", "timestamp.json"]
