"""Metadata that honest tools cannot write: validly signed, or nearly, and wrong in ways a parser may overlook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from signing.errors import AttackCode, VerificationError
from signing.match import check_pinned
from tests.signing.uptane_simulator import SimulatedPrimary, UptaneSimulator, refusal, repository
from tests.uptane.forging import forge

REPOSITORIES = ("director", "image")


def root_refusal(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, change: Callable[[dict[str, Any]], object]
) -> AttackCode:
    """What the vehicle says to a second root with this change, signed by all root keys there are."""

    def second(payload: dict[str, Any]) -> None:
        payload["version"] = 2
        change(payload)

    repo = repository(uptane, name)
    content = forge(repo.first_root, second, repo.signers["root"])
    return refusal(primary, uptane.files() | {(name, "2.root.json"): content})


@pytest.mark.uptane("A5", "C-root")
@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("threshold", [0, -1, True, "1", None])
def test_a_threshold_that_asks_for_nobody_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, role: str, threshold: object
):
    """Zero signatures are easily had, and so is whatever a reader makes of a threshold that is no number."""
    code = root_refusal(uptane, primary, name, lambda root: root["roles"][role].update(threshold=threshold))
    assert code is AttackCode.MALFORMED


@pytest.mark.uptane("A5", "M6")
@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_a_root_that_leaves_a_role_out_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, role: str):
    """Nobody's keys would be anybody's."""
    assert root_refusal(uptane, primary, "director", lambda root: root["roles"].pop(role)) is AttackCode.MALFORMED


@pytest.mark.uptane("A5")
@pytest.mark.parametrize(
    "field", [{"scheme": "rot13"}, {"keytype": "abacus"}, {"keyval": {}}, {"keyval": {"public": "x"}}]
)
def test_a_key_of_a_kind_that_nobody_knows_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, field: dict[str, object]
):
    """A key that cannot be read cannot be told from another, and counts for nothing."""

    def change(root: dict[str, Any]) -> None:
        keyid = root["roles"]["targets"]["keyids"][0]
        root["keys"][keyid] |= field

    assert root_refusal(uptane, primary, "director", change) in (AttackCode.MALFORMED, AttackCode.ARBITRARY)


@pytest.mark.uptane("A5")
@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_file_without_signatures_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary, name: str, role: str):
    """The right content proves nothing about who wrote it."""
    repo = repository(uptane, name)
    bare = forge(repo.current[repo.name_of(role)], lambda payload: None, [])
    assert refusal(primary, uptane.files() | {(name, repo.name_of(role)): bare}) is AttackCode.ARBITRARY


@pytest.mark.uptane("M13", "C-timestamp", "A16")
@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_timestamp_without_a_hash_of_its_snapshot_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, name: str
):
    """TUF leaves it out to save bytes; then a snapshot key alone chooses among snapshots of one version."""
    repo = repository(uptane, name)

    def loosen(payload: dict[str, Any]) -> None:
        del payload["meta"]["snapshot.json"]["hashes"]

    loose = forge(repo.current["timestamp.json"], loosen, repo.signers["timestamp"])
    assert refusal(primary, uptane.files() | {(name, "timestamp.json"): loose}) is AttackCode.MALFORMED


def test_a_timestamp_with_a_hash_is_pinned(uptane: UptaneSimulator):
    """The refusal above is about the hash and nothing else."""
    check_pinned(uptane.director.timestamp)
    uptane.director.timestamp.snapshot_meta.hashes = None
    with pytest.raises(VerificationError, match="no hash"):
        check_pinned(uptane.director.timestamp)


@pytest.mark.uptane("A30")
@pytest.mark.parametrize("version", [2**31, True])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_a_version_that_others_read_otherwise_is_refused(
    uptane: UptaneSimulator, primary: SimulatedPrimary, role: str, version: int
):
    """A client in C reads another number, so one vehicle would be rolled back where another is not."""
    repo = uptane.director
    high = forge(repo.current[repo.name_of(role)], lambda p: p.update(version=version), repo.signers[role])
    assert refusal(primary, uptane.files() | {("director", repo.name_of(role)): high}) is AttackCode.MALFORMED


@pytest.mark.uptane("A30", "M3")
def test_a_name_that_is_not_in_normal_form_is_refused(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Two spellings of one name: signed once, and found by some readers only."""
    repo = uptane.image
    name = repo.name_of("targets")
    odd = forge(repo.current[name], lambda p: p.update(note="cafe\u0301"), repo.signers["targets"])
    assert refusal(primary, uptane.files() | {("image", name): odd}) is AttackCode.MALFORMED
