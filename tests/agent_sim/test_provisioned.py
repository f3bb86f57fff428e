"""Promises about the folder that a factory hands to the agent of one vehicle."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_sim.ecu import InstalledImage
from agent_sim.errors import InputFileError
from agent_sim.messages import Conditions, Link
from agent_sim.provisioned import AGREED, ProvisionedEcu, ProvisionedFolder, ProvisionedVehicle

VEHICLE = ProvisionedVehicle(
    "v1", "secret", (ProvisionedEcu("v1-e0", "acme-gw-1", True, InstalledImage("acme/a.img", 4, "0" * 64, 1)),)
)


def a_folder(path: Path) -> ProvisionedFolder:
    folder = ProvisionedFolder(path)
    folder.provision(VEHICLE, {"v1-e0": b"pem"}, {"director-root.json": b"{}"})
    return folder


def test_what_was_provisioned_is_read_back(tmp_path: Path) -> None:
    """Writer and reader are one form: a foreign agent's author reads the same words."""
    folder = a_folder(tmp_path / "v1")
    assert folder.vehicle() == VEHICLE
    assert (folder.keys / "v1-e0.pem").stat().st_mode & 0o777 == 0o600


def test_conditions_are_favourable_until_something_else_is_said(tmp_path: Path) -> None:
    """An agent that is started by hand, without any file about sensors, can update."""
    folder = a_folder(tmp_path)
    assert folder.conditions() == Conditions()
    worse = Conditions(link=Link.WIFI, metered=True, battery_percent=9, parked=False)
    folder.set_conditions(worse)
    assert folder.conditions() == worse


def test_owner_has_not_answered_until_the_file_is_there(tmp_path: Path) -> None:
    """No file is no consent."""
    folder = a_folder(tmp_path)
    assert folder.consent("r1.v1.1") == ""
    folder.answer_consent("r1.v1.1", AGREED)
    assert folder.consent("r1.v1.1") == AGREED


@pytest.mark.parametrize("content", ["", "[]", '{"vehicle_id": "v1"}'])
def test_odd_vehicle_file_is_named(tmp_path: Path, content: str) -> None:
    """Bad input gets a clear error."""
    folder = a_folder(tmp_path)
    folder.vehicle_file.write_text(content)
    with pytest.raises(InputFileError, match=r"vehicle\.json"):
        folder.vehicle()
