"""The example for authors of agents against the running service: a whole update, whenever it is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from outrider.v1 import attempt_pb2, fleet_pb2, rollout_pb2

from agent_sim.ecu import InstalledImage
from agent_sim.provisioned import ProvisionedEcu, ProvisionedFolder, ProvisionedVehicle
from tests.processes import (
    CALL_TIMEOUT_S,
    PRIMARY_HARDWARE,
    SECONDARY_HARDWARE,
    STOP_TIMEOUT_S,
    ImageSpec,
    Installation,
    an_installation,
    eventually,
)
from tests.repo.checkout import ROOT, console_lines
from tests.vehicles import AVehicle, import_fleet, tokens

AGENT = ROOT / "examples" / "minimal_agent.py"
DYING = ROOT / "tests" / "e2e" / "dying_agent.py"
SCALE = 60
RELEASE = "2.0.0"
UPDATE_TIMEOUT_S = 90.0
RUNS_MAX = 120
SIZE_BYTES = 3_000_000
"""Several pieces of a download, so that there is a middle to die in."""

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on fast fleet time with one release."""
    with an_installation(tmp_path_factory.mktemp("minimal"), scale=SCALE, poll_s=60, poll_live_s=60) as running:
        images = [
            ImageSpec(hardware_id, f"{hardware_id} {RELEASE}".encode().ljust(SIZE_BYTES, b"."))
            for hardware_id in (PRIMARY_HARDWARE, SECONDARY_HARDWARE)
        ]
        running.publish(RELEASE, release_counter=5, images=images)
        yield running


def provisioned(installation: Installation, folder: Path, vehicle: AVehicle) -> ProvisionedFolder:
    """The folder of a vehicle that stands in the inventory and never ran."""
    import_fleet(installation, [vehicle])
    factory = InstalledImage("factory.img", 7, sha256(b"factory").hexdigest(), 1)
    home = ProvisionedFolder(folder)
    roots = installation.data / "provisioning"
    home.provision(
        ProvisionedVehicle(
            vehicle.vehicle_id,
            tokens(installation, vehicle.vehicle_id)[vehicle.vehicle_id],
            (
                ProvisionedEcu(vehicle.primary, PRIMARY_HARDWARE, True, factory),
                ProvisionedEcu(vehicle.secondary, SECONDARY_HARDWARE, False, factory),
            ),
        ),
        {serial: key.private_bytes for serial, key in vehicle.keys.items()},
        {name: (roots / name).read_bytes() for name in ("director-root.json", "image-root.json", "enrolment-ca.pem")},
    )
    where = installation.endpoints
    home.connect(enrollment=where["enrollment"], vehicles=where["vehicles"], scale=SCALE)
    return home


def start(installation: Installation, region: str, *, more: str = "") -> None:
    """A rollout over one region, named like it."""
    plan = f"release: {RELEASE}\nholdout: 0%\ntarget: {{region: [{region}]}}\nwaves: [{{name: all}}]\n{more}"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id=region, reason="test")
    installation.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)


def attempts(installation: Installation, vehicle: AVehicle) -> list[str]:
    """States of a vehicle's attempts, newest first."""
    request = fleet_pb2.GetVehicleRequest(name=f"vehicles/{vehicle.vehicle_id}")
    found = installation.api().fleet.GetVehicle(request, timeout=CALL_TIMEOUT_S).attempts
    return [attempt_pb2.AttemptState.Name(each.state).removeprefix("ATTEMPT_STATE_") for each in found]


def saved(home: ProvisionedFolder) -> dict[str, Any]:
    """What the agent remembers."""
    state: dict[str, Any] = json.loads((home.state / "agent.json").read_bytes())
    return state


def die(home: ProvisionedFolder, point: str, number: int) -> None:
    """Run the agent until it is killed at a point."""
    command = [sys.executable, str(DYING), str(AGENT), str(home.path), point, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=UPDATE_TIMEOUT_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@contextmanager
def running(home: ProvisionedFolder) -> Iterator[subprocess.Popen[bytes]]:
    """The agent, left alone."""
    with (home.path / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, str(AGENT), str(home.path)], stdout=log, stderr=log)
    try:
        yield process
        assert process.poll() is None, (home.path / "log").read_text()
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


def runs(home: ProvisionedFolder, vehicle: AVehicle) -> dict[str, bytes]:
    """The first bytes of what each control unit's active slot holds."""
    slots = saved(home)["slots"]
    return {
        serial: (home.state / "ecus" / f"{serial}.{slots[serial]['active']}").read_bytes()[:20]
        for serial in vehicle.keys
    }


def test_minimal_agent_updates_a_vehicle_although_it_is_killed(installation: Installation, tmp_path: Path) -> None:
    """The page that authors start from must survive what their vehicles will do to it."""
    vehicle = AVehicle("minimal-1", region="minimal-1")
    home = provisioned(installation, tmp_path, vehicle)
    start(installation, "minimal-1")
    die(home, "chunk", 5)
    (partial,) = (home.state / "downloads").iterdir()
    assert 0 < partial.stat().st_size < SIZE_BYTES, "killed in the middle of the download"
    inode = partial.stat().st_ino
    die(home, "slot", 1)
    assert saved(home)["attempt"]["phase"] == "installing", "killed in the middle of the installation"
    assert partial.stat().st_ino == inode, "the download went on where it was"
    with running(home):
        eventually(
            lambda: attempts(installation, vehicle) == ["SUCCEEDED"],
            timeout_s=UPDATE_TIMEOUT_S,
            what="one attempt, and it succeeds",
        )
    wanted = {vehicle.primary: PRIMARY_HARDWARE, vehicle.secondary: SECONDARY_HARDWARE}
    assert runs(home, vehicle) == {
        serial: f"{unit} {RELEASE}".encode().ljust(20, b".")[:20] for serial, unit in wanted.items()
    }
    assert installation.metric("outrider_permits_total", outcome="issued") == 1


@pytest.mark.parametrize("point", ["save", "torn"])
@pytest.mark.timeout(400)
def test_minimal_agent_comes_up_wherever_it_was(installation: Installation, tmp_path: Path, point: str) -> None:
    """It dies at or in one save after the other: nothing may depend on living through them."""
    vehicle = AVehicle(f"minimal-{point}", region=f"minimal-{point}")
    home = provisioned(installation, tmp_path, vehicle)
    start(installation, f"minimal-{point}")
    # It saves when it comes up, then both verifiers save their floor of time, which five minutes of fleet time raise;
    # two slots and the save that switches them belong to one step: to die in these for ever would be no progress.
    numbers = [1, 2, 3, 4] if point == "save" else [3, 4, 5, 6]
    for run in range(RUNS_MAX):
        die(home, point, numbers[run % len(numbers)])
        if attempts(installation, vehicle) == ["SUCCEEDED"]:
            break
    assert attempts(installation, vehicle) == ["SUCCEEDED"]


def test_the_page_makes_a_car_for_the_bench(installation: Installation, tmp_path: Path) -> None:
    """An author types these lines before the first of their own: they have to work as they stand."""
    *lines, last = console_lines("docs/agent-protocol.md")
    assert last == ".venv/bin/python examples/minimal_agent.py car"
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "OUTRIDER_DATA": str(installation.data)}
    script = "\n".join(["set -eu", *lines])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    home = ProvisionedFolder(tmp_path / "car")
    with running(home):
        memory = home.state / "agent.json"
        eventually(
            lambda: memory.exists() and saved(home).get("handed_in"),
            timeout_s=UPDATE_TIMEOUT_S,
            what="its first manifest is taken",
        )
