"""A large import through the death of what serves it: in the end every vehicle is there, once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import grpc
import pytest
from outrider.v1.fleet_pb2 import ListVehiclesRequest

from signing.keys import generate_ecu_key, public_key_base64
from tests.processes import OUTRIDER, Installation, OperatorApi, an_installation, eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(400)]

VEHICLES = 40_000
HEADER = "vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key\n"


def write_fleet(path: Path, vehicles: int) -> None:
    """A fleet of two control units each; a few keys serve all, nobody signs."""
    keys = cycle([public_key_base64(generate_ecu_key()) for _ in range(9)])
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for number in range(vehicles):
            shared = f"veh-{number:07d},S,gen{number % 3},{('eu', 'us')[number % 2]},general,"
            file.write(f"{shared},gw-{number:07d},acme-gw-2,true,{next(keys)}\n")
            file.write(f"{shared},br-{number:07d},acme-br-1,false,{next(keys)}\n")


def registered(api: OperatorApi) -> int:
    """How many vehicles there are; -1 while nobody says."""
    try:
        return int(api.fleet.ListVehicles(ListVehiclesRequest(page_size=1), timeout=5.0).registered_count)
    except grpc.RpcError:
        return -1


def begun(installation: Installation, api: OperatorApi, file: Path) -> subprocess.Popen[str]:
    """An import that has imported something, and not everything."""
    command = [str(OUTRIDER), "fleet", "import", str(file), "--data", str(installation.data)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: registered(api) > 0, timeout_s=120.0, what="some vehicles are there")
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize("dies", [Installation.kill_worker, Installation.kill_store])
def test_import_goes_on_where_the_server_died(tmp_path: Path, dies: Callable[[Installation], object]) -> None:
    """Nobody sits beside an import of a million vehicles."""
    write_fleet(tmp_path / "fleet.csv", VEHICLES)
    with an_installation(tmp_path) as installation:
        api = installation.api()
        process = begun(installation, api, tmp_path / "fleet.csv")
        dies(installation)
        stdout, stderr = process.communicate(timeout=200.0)
        assert process.returncode == 0, stderr
        assert "wait" in stderr, "nobody noticed"
        assert "Imported fleet.csv." in stdout
        eventually(lambda: registered(api) == VEHICLES, what="every vehicle is there")
        assert installation.cli("store", "verify").exit_code == 0


def test_import_is_taken_up_where_the_command_was_killed(tmp_path: Path) -> None:
    """Who runs it again need not know how far it came, and a third time costs nobody anything."""
    file = tmp_path / "fleet.csv"
    write_fleet(file, VEHICLES)
    with an_installation(tmp_path) as installation:
        api = installation.api()
        process = begun(installation, api, file)
        process.kill()
        process.communicate(timeout=10.0)
        there = registered(api)
        assert 0 < there < VEHICLES, "it was over before it was killed"

        again = installation.must("fleet", "import", file)
        # What was on its way when the command died may have come in since.
        assert again["unchanged_count"] >= there
        assert again["added_count"] + again["unchanged_count"] == VEHICLES
        assert again["changed_count"] == 0
        assert registered(api) == VEHICLES
        third = installation.must("fleet", "import", file)
        assert (third["added_count"], third["changed_count"], third["unchanged_count"]) == (0, 0, VEHICLES)
        assert installation.cli("store", "verify").exit_code == 0
