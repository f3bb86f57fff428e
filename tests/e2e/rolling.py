"""A fleet of simulated vehicles on the road against a real installation, and what is killed meanwhile.

Owns the fleet, its plan, the processes and the moments. Leaves to `evidence` what must be true afterwards. A prepared
data folder (keys, releases, an enrolled fleet) is made once a test session and copied for each test.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from outrider.v1 import case_pb2, fleet_pb2, rollout_pb2

from agent_sim.evidence import write_evidence
from agent_sim.fleet import build_fleet
from agent_sim.images import build_image, image_path, release_counter
from agent_sim.scenario import load_scenario
from tests.evidence import believe
from tests.processes import (
    CALL_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Installation,
    OperatorApi,
    an_installation,
    eventually,
    is_alive,
)

SIZE = 60
FACTORY, GOOD, BAD = "1.0.0", "1.1.0", "1.2.0"
SCALE = 200
TICK_S = 0.4
BLAST_BUDGET = 16
IN_FLIGHT = {"apac": 6, "eu": 10, "us": 10}
IN_FLIGHT_IN_ALL = 20
STARTS_PER_MINUTE = 6
FACTORY_TIMEOUT_S = 180.0
"""Machine time, as everything here: what takes seconds on an idle machine may take a minute on a busy one."""
ROLLOUT_TIMEOUT_S = 400.0
RECOVERY_TIMEOUT_S = 120.0
TEST_TIMEOUT_S = 600
IMAGE_BYTES = 30_000
SIMULATOR = Path(sys.executable).with_name("outrider-sim")
SCENARIO = f"""\
name = "kill"
seed = 11

[fleet]
size = {SIZE}
release = "{FACTORY}"
image_bytes = 16384

[regions]
eu = 0.4
us = 0.4
apac = 0.2

[cohorts]
canary = 0.2
general = 0.8

[[hardware]]
name = "gen1"
share = 0.6
ecus = ["acme-gw-1", "acme-brake-1"]

[[hardware]]
name = "gen2"
share = 0.4
ecus = ["acme-gw-2", "acme-brake-2"]

[[connectivity]]
model = "always"
share = 0.8

[[connectivity]]
model = "tunnel"
share = 0.2

[[faults]]
kind = "silent_brick"
releases = ["{BAD}"]
hardware = ["gen2"]

[[faults]]
kind = "link_break"
probability = 0.3

[[faults]]
kind = "offline"
probability = 0.1
duration = "20m"

[[faults]]
kind = "power_loss"
probability = 0.05

[[faults]]
kind = "lost_replies"
probability = 0.02

[agent]
first_poll_within = "5m"
install = "2m"
reboot = "1m"
"""
PLAN = """\
name: {name}
release: {release}
waves:
  - {{name: canary, cohorts: [canary], soak: 5m}}
  - {{name: general, soak: 5m}}
regions: {{{regions}}}
gate: {{failure_ratio: 2%, sample: 5, checkpoints: [20m], silence_reference: [10%]}}
limits: {{in_flight: {in_flight}, blast_budget: {budget}, starts_per_minute: {starts}, permit_valid: 15m, attempts: 5}}
deadlines: {{permitted: 2h, installing: 30m, rebooting: 30m, verifying: 30m}}
holdout: 0%
"""
STATUS = "ROLLOUT_STATUS_"
OVER = frozenset({"COMPLETED", "ABORTED"})
STOPPED = frozenset({"HELD", "HALTED"})


def prepared(shared: Path) -> Path:
    """The prepared folder, made by whoever comes first: test processes share it."""
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "made").exists():
            shutil.rmtree(shared / "fleet", ignore_errors=True)
            prepare(shared / "fleet")
            (shared / "made").touch()
    return shared / "fleet"


def prepare(folder: Path) -> None:
    """Make an installation with three releases and a fleet that has enrolled and attested."""
    folder.mkdir()
    scenario_file = folder / "scenario.toml"
    scenario_file.write_text(SCENARIO)
    scenario = load_scenario(scenario_file)
    with an_installation(folder, scale=SCALE, poll_s=300, poll_live_s=60, evaluator_tick_s=TICK_S) as installation:
        fleet = build_fleet(scenario, folder / "vehicles")
        api = installation.api()
        request = fleet_pb2.ImportVehiclesRequest(csv=fleet.csv.read_bytes(), reason="test")
        assert api.fleet.ImportVehicles(request, timeout=CALL_TIMEOUT_S).added_count == SIZE
        tokens = api.fleet.CreateEnrollmentTokens(
            fleet_pb2.CreateEnrollmentTokensRequest(reason="test"), timeout=CALL_TIMEOUT_S
        ).tokens
        lines = [json.dumps({"vehicle_id": each.vehicle_id, "token": each.token}) for each in tokens]
        (folder / "tokens.jsonl").write_text("\n".join(lines))
        for version in (FACTORY, GOOD, BAD):
            contents = {
                hardware_id: image.file.read_bytes()
                if version == FACTORY
                else build_image(hardware_id, version, IMAGE_BYTES, scenario.seed)
                for hardware_id, image in fleet.factory.items()
            }
            publish(installation, version, contents)
        road = Road(folder, installation)
        with road.driving("--tokens", str(folder / "tokens.jsonl")):
            eventually(
                lambda: sum(each["manifest_submitted"] for each in road.vehicles().values()) == SIZE,
                timeout_s=FACTORY_TIMEOUT_S,
                what="every vehicle has enrolled and attested",
            )
        installation.terminate()
    # The copies choose ports of their own: several of them serve at once.
    (folder / "data" / "endpoints.json").unlink()
    (folder / "simulator.json").unlink()


def publish(installation: Installation, version: str, contents: Mapping[str, bytes]) -> None:
    """Sign and register a release whose images simulated vehicles understand."""
    folder = installation.data.parent / f"release-{version}"
    folder.mkdir()
    images = []
    for hardware_id, content in sorted(contents.items()):
        file = folder / f"{hardware_id}.img"
        file.write_bytes(content)
        images.append(
            {
                "file": f"{hardware_id}.img",
                "hardware_id": hardware_id,
                "path": image_path(hardware_id, version),
                "release_counter": release_counter(version),
                **{kind: str(each) for kind, each in write_evidence(file, name=hardware_id, version=version).items()},
            }
        )
    believe(installation.data)
    # JSON is YAML.
    (folder / "release.yaml").write_text(json.dumps({"version": version, "notes": "", "images": images}))
    installation.must("release", "publish", folder / "release.yaml")


@dataclass
class Road:
    """An installation, its fleet, and what happens to them."""

    folder: Path
    installation: Installation
    simulator: subprocess.Popen[bytes] | None = None
    held_api: OperatorApi | None = None

    # -- the fleet ----------------------------------------------------------------------------------------------

    @contextmanager
    def driving(self, *arguments: str) -> Iterator[None]:
        """Let the fleet drive; its record is final when this is left."""
        data = self.installation.data
        with (self.folder / "simulator.log").open("ab") as log:
            self.simulator = subprocess.Popen(
                [
                    *(str(SIMULATOR), "run", str(self.folder / "scenario.toml")),
                    *("--endpoints", str(data / "endpoints.json"), "--provisioning", str(data / "provisioning")),
                    *("--fleet", str(self.folder / "vehicles"), "--report", str(self.folder / "simulator.json")),
                    *("--scale", str(SCALE), "--output", "json", *arguments),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
            self.simulator.terminate()
            assert self.simulator.wait(STOP_TIMEOUT_S) == 0, (self.folder / "simulator.log").read_text()
        finally:
            self.simulator.kill()
            self.simulator.wait()

    def record(self) -> Mapping[str, Any]:
        """The simulator's own record; an AssertionError while there is none."""
        assert self.simulator is not None
        code = self.simulator.poll()
        if code not in (None, 0):
            raise RuntimeError(f"the fleet ended with {code}: {(self.folder / 'simulator.log').read_text()[-2000:]}")
        path = self.folder / "simulator.json"
        assert path.exists(), "the fleet has not begun"
        document: dict[str, Any] = json.loads(path.read_text())
        return document

    def vehicles(self) -> Mapping[str, Mapping[str, Any]]:
        """What each vehicle truly is."""
        found: Mapping[str, Mapping[str, Any]] = self.record()["vehicles"]
        return found

    # -- the rollout --------------------------------------------------------------------------------------------

    def start_rollout(self, release: str) -> str:
        """Start a rollout over the whole fleet; its id."""
        name = f"to-{release.replace('.', '-')}"
        regions = ", ".join(f"{region}: {{in_flight: {most}}}" for region, most in IN_FLIGHT.items())
        plan = PLAN.format(
            name=name,
            release=release,
            regions=regions,
            in_flight=IN_FLIGHT_IN_ALL,
            budget=BLAST_BUDGET,
            starts=STARTS_PER_MINUTE,
        )
        request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id=name, reason="test")
        self.installation.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
        return name

    def rollout(self, name: str) -> rollout_pb2.Rollout:
        """The rollout as the orchestrator tells it; an AssertionError while it does not answer."""
        request = rollout_pb2.GetRolloutRequest(name=f"rollouts/{name}")
        try:
            return self.api.rollouts.GetRollout(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            self.held_api = None
            raise AssertionError(f"no answer: {error}") from error

    @property
    def api(self) -> OperatorApi:
        """The operator API; kept while it works, for after a kill the ports may be others."""
        if self.held_api is None:
            self.held_api = self.installation.api()
        return self.held_api

    def status(self, name: str) -> str:
        """The rollout's status in one word."""
        return rollout_pb2.RolloutStatus.Name(self.rollout(name).status).removeprefix(STATUS)

    def count(self, name: str, *states: str) -> int:
        """Attempts of the rollout in these states."""
        return sum(cell.states.get(state, 0) for cell in self.rollout(name).cells for state in states)

    def exposed(self, name: str) -> int:
        """Exposures of the rollout."""
        return sum(cell.exposed for cell in self.rollout(name).cells)

    def await_done(self, name: str, at_least: int) -> None:
        """Wait until so many vehicles have arrived; the rollout must still be under way then."""
        eventually(
            lambda: self.count(name, "succeeded") >= at_least,
            timeout_s=ROLLOUT_TIMEOUT_S,
            what=f"{at_least} vehicles arrived",
        )
        assert self.status(name) not in OVER, "this kill came too late to prove anything"

    def await_completed(self, name: str) -> None:
        """Wait until the rollout is completed, and every vehicle has told everything."""
        eventually(lambda: self.status(name) in OVER, timeout_s=ROLLOUT_TIMEOUT_S, what="the rollout ends by itself")
        assert self.status(name) == "COMPLETED"
        self.await_quiet()

    def await_quiet(self) -> None:
        """Wait until every vehicle that can speak has told everything."""
        eventually(
            lambda: all(each["settled"] for each in self.vehicles().values()),
            timeout_s=ROLLOUT_TIMEOUT_S,
            what="every vehicle has told everything",
        )

    def open_cases(self, name: str) -> set[str]:
        """Vehicles that stand in an open case of the rollout."""
        request = case_pb2.ListCasesRequest(rollout=f"rollouts/{name}", page_size=1000)
        try:
            return {case.vehicle_id for case in self.api.cases.ListCases(request, timeout=CALL_TIMEOUT_S).cases}
        except grpc.RpcError as error:
            raise AssertionError(f"no answer: {error}") from error

    # -- what is killed -----------------------------------------------------------------------------------------

    def kill_orchestrator(self) -> None:
        """SIGKILL the supervisor, nothing else, and wait for nothing but its end."""
        process = self.installation.process
        assert process is not None
        process.kill()
        process.wait(STOP_TIMEOUT_S)

    def kill_store(self) -> int:
        """SIGKILL the store; which process it was."""
        pid = self.installation.store_pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def await_store_other_than(self, pid: int) -> None:
        """Wait until another store answers."""
        eventually(
            lambda: self._store_pid() not in (0, pid) and is_alive(self._store_pid()),
            timeout_s=RECOVERY_TIMEOUT_S,
            what="the supervisor starts the store again",
        )
        eventually(lambda: self.installation.get("/readyz")[0] == 200, timeout_s=RECOVERY_TIMEOUT_S)

    def kill_worker_and_signer(self) -> set[int]:
        """SIGKILL both; which processes they were."""
        children = set(self.installation.children()) - {self._store_pid()}
        assert len(children) == 2, "a worker and a signer"
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        return children

    def await_children_other_than(self, killed: set[int]) -> None:
        """Wait until both are there again."""

        def replaced() -> bool:
            living = {pid for pid in self.installation.children() if is_alive(pid)} - {self._store_pid()}
            return len(living) == len(killed) and not living & killed

        eventually(replaced, timeout_s=RECOVERY_TIMEOUT_S, what="worker and signer are started again")

    def _store_pid(self) -> int:
        try:
            return self.installation.store_pid
        except (OSError, ValueError):
            return 0


@contextmanager
def a_fleet_on_the_road(template: Path, folder: Path) -> Iterator[Road]:
    """A copy of the prepared installation, serving; its fleet stands still. All is dead afterwards."""
    copy = folder / "run"
    shutil.copytree(template, copy)
    installation = Installation(copy / "data")
    road = Road(copy, installation)
    try:
        installation.start()
        # Fleet time went on since the folder was prepared: as in life, somebody keeps the metadata fresh.
        installation.must("image-repo", "renew")
        yield road
    except BaseException:
        print(installation.log_text()[-6000:])
        raise
    finally:
        installation.close()
