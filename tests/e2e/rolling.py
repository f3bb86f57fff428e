"""A fleet of simulated vehicles on the road against a real installation, and what is killed meanwhile.

Owns the processes and the moments. Leaves numbers and plan to `load`, the data folder to `preparing`, and to `evidence`
what must be true afterwards.
"""

from __future__ import annotations

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
from outrider.v1 import case_pb2, rollout_pb2

from tests.e2e.load import SMALL, Load
from tests.processes import (
    CALL_TIMEOUT_S,
    STOP_TIMEOUT_S,
    Installation,
    OperatorApi,
    eventually,
    is_alive,
)

ROLLOUT_TIMEOUT_S = 400.0
"""Machine time, as everything here: what takes seconds on an idle machine may take a minute on a busy one."""
RECOVERY_TIMEOUT_S = 120.0
TEST_TIMEOUT_S = 600
SIMULATOR = Path(sys.executable).with_name("outrider-sim")
STATUS = "ROLLOUT_STATUS_"
OVER = frozenset({"COMPLETED", "ABORTED"})
STOPPED = frozenset({"HELD", "HALTED"})


@dataclass
class Road:
    """An installation, its fleet, and what happens to them."""

    folder: Path
    installation: Installation
    load: Load = SMALL
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
                    *("--scale", str(self.load.scale), "--output", "json", *arguments),
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
        request = rollout_pb2.CreateRolloutRequest(plan=self.load.plan(name, release), rollout_id=name, reason="test")
        api = self.installation.api()  # the ports may be others than before
        api.rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
        api.channel.close()
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
def a_fleet_on_the_road(template: Path, folder: Path, load: Load = SMALL) -> Iterator[Road]:
    """A copy of the prepared installation, serving; its fleet stands still. All is dead afterwards."""
    copy = folder / "run"
    shutil.copytree(template, copy)
    with on_the_road(copy, load) as road:
        yield road


@contextmanager
def on_the_road(folder: Path, load: Load = SMALL) -> Iterator[Road]:
    """The installation of a prepared folder itself, likewise."""
    installation = Installation(folder / "data")
    road = Road(folder, installation, load)
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
