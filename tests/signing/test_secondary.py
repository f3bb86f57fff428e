"""A Secondary's memory: what it verified is held across restarts, and a failing disk is no attack."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Root

from signing.errors import AttackCode, HeldMetadataError, VerificationError
from signing.match import InstalledImage
from signing.partial import SecondaryUnit
from signing.secondary import SecondaryVerifier
from tests.signing.uptane_simulator import BRAKE_PATH, NOW, VEHICLE, SimulatedPrimary, UptaneSimulator


def a_secondary(uptane: UptaneSimulator, folder: Path, **how: bool) -> SecondaryVerifier:
    unit, file = SecondaryUnit(VEHICLE, "BRAKE-1", "acme-brake-1"), folder / "units" / "BRAKE-1.json"
    return SecondaryVerifier(file, unit=unit, director_root=uptane.director.first_root, **how)


@pytest.mark.uptane("P1", "V7")
def test_what_the_primary_passes_on_is_enough(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Roots above the provisioned one, and the targets: all that a Secondary asks for, and nothing else."""
    uptane.director.rotate_root(lambda root: None)
    primary.verify(uptane.files())
    files = primary.verifier.for_secondaries()
    assert set(files) == {"2.root.json", uptane.director.name_of("targets")}
    image = a_secondary(uptane, tmp_path).verify(files, now=NOW, installed=None)
    assert image is not None
    assert image.path == BRAKE_PATH


def test_a_primary_that_holds_nothing_passes_nothing_on(primary: SimulatedPrimary):
    """Before the first verification there is nothing that a Secondary should believe."""
    assert primary.verifier.for_secondaries() == {}


@pytest.mark.uptane("P1", "A6")
def test_a_restarted_secondary_goes_on(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Loss of power must not open the way back to older targets, nor to an earlier time."""
    primary.verify(uptane.files())
    older = primary.verifier.for_secondaries()
    uptane.director.publish()
    primary.verify(uptane.files())
    a_secondary(uptane, tmp_path).verify(primary.verifier.for_secondaries(), now=NOW, installed=None)
    for files, now, code in ((older, NOW, AttackCode.ROLLBACK), ({}, NOW - timedelta(hours=1), AttackCode.CLOCK)):
        with pytest.raises(VerificationError) as caught:
            a_secondary(uptane, tmp_path).verify(files, now=now, installed=None)
        assert caught.value.code is code


@pytest.mark.uptane("P1", "A26")
def test_new_roots_are_kept_when_the_rest_is_refused(uptane: UptaneSimulator, tmp_path: Path):
    """A revocation counts, whatever an attacker holds back."""

    def renew(root: Root) -> None:
        root.roles["snapshot"].threshold = 1

    content = uptane.director.rotate_root(renew)
    secondary = a_secondary(uptane, tmp_path)
    with pytest.raises(VerificationError):
        secondary.verify({"2.root.json": content}, now=NOW, installed=None)
    assert secondary.held.root == a_secondary(uptane, tmp_path).held.root == content


@pytest.mark.uptane("P1", "A7")
def test_what_it_runs_counts(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """An older image is refused by what the unit itself has, whatever its Primary thought of it."""
    primary.verify(uptane.files())
    newer = InstalledImage("acme/brake-2.img", 6)
    with pytest.raises(VerificationError) as caught:
        a_secondary(uptane, tmp_path).verify(primary.verifier.for_secondaries(), now=NOW, installed=newer)
    assert caught.value.code is AttackCode.ROLLBACK


@pytest.mark.uptane("V8")
@pytest.mark.parametrize(("how", "waits"), [({}, True), ({"durable": True}, True), ({"durable": False}, False)])
def test_what_is_held_outlives_a_loss_of_power_unless_that_is_waived(
    uptane: UptaneSimulator,
    primary: SimulatedPrimary,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: dict[str, bool],
    waits: bool,
):
    """In its own folder, for nobody else to read; a simulated fleet does not wait for disks."""
    primary.verify(uptane.files())
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    folder = tmp_path / "var" / "lib"
    a_secondary(uptane, folder, **how).verify(primary.verifier.for_secondaries(), now=NOW, installed=None)
    assert bool(synced) is waits
    assert stat.S_IMODE((folder / "units" / "BRAKE-1.json").stat().st_mode) == 0o600


def test_a_quiet_secondary_writes_little(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Flash memory wears out: the time floor is written when five minutes have gone by, and small steps add up."""
    primary.verify(uptane.files())
    secondary, file = a_secondary(uptane, tmp_path), tmp_path / "units" / "BRAKE-1.json"
    secondary.verify(primary.verifier.for_secondaries(), now=NOW, installed=None)
    first = file.read_bytes()
    for minutes in (2, 4):
        secondary.verify({}, now=NOW + timedelta(minutes=minutes), installed=None)
        assert file.read_bytes() == first
    secondary.verify({}, now=NOW + timedelta(minutes=5), installed=None)
    assert file.read_bytes() != first


@pytest.mark.parametrize("content", [b"", b"{}", b'{"form": 2}', b'{"form": 1, "root": 1, "targets": null}'])
def test_damaged_memory_is_said_with_a_remedy(uptane: UptaneSimulator, tmp_path: Path, content: bytes):
    """It must not silently take away the protection against rollback."""
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "BRAKE-1.json").write_bytes(content)
    with pytest.raises(HeldMetadataError, match=r"remove it to start again|this version reads form 1"):
        a_secondary(uptane, tmp_path)


def test_memory_that_cannot_be_read_is_no_attack(uptane: UptaneSimulator, tmp_path: Path):
    """A folder in its place, or a disk that gives errors: said as what it is, with what stands there left alone."""
    (tmp_path / "units" / "BRAKE-1.json").mkdir(parents=True)
    with pytest.raises(HeldMetadataError, match=r"cannot read .*BRAKE-1\.json: Is a directory"):
        a_secondary(uptane, tmp_path)


def test_a_failing_disk_is_no_attack(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """What could not be kept is not held, and is said as what it is."""
    primary.verify(uptane.files())
    secondary = a_secondary(uptane, tmp_path)
    (tmp_path / "units").rmdir()
    with pytest.raises(HeldMetadataError, match="cannot keep"):
        secondary.verify(primary.verifier.for_secondaries(), now=NOW, installed=None)
    assert secondary.held.targets is None
