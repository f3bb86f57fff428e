"""Mixed load for as long as asked: polls, rollouts that start and end, a fleet that changes, operators who watch.

Owns the load and what is measured of it. Leaves to `slopes` whether a series is flat, to `run_soak` the table.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import grpc
import redis
from outrider.v1 import fleet_pb2, rollout_pb2

from orchestrator.clock import MachineClock
from tests.e2e.evidence import store_socket
from tests.e2e.load import Load
from tests.e2e.rolling import OVER, STOPPED, Road
from tests.faults.rounds import begin_round
from tests.processes import CALL_TIMEOUT_S, eventually, process_name
from tests.vehicles import AVehicle, enrolled, fleet_csv

STEADY = Load(
    size=200,
    scale=60,
    tick_s=0.5,
    in_flight={"apac": 16, "eu": 30, "us": 30},
    in_flight_in_all=60,
    starts_per_minute=12,
    blast_budget=40,
    workers=2,
    connection_age_s=180,
)
"""Less than the machine can bear: what rises then rises by itself. Connections end often: at the usual half hour, what
the first round of new ones takes would come in the middle of the measurement, and the second after it.
"""
SAMPLE_EVERY_S = 2.0
PROBES = 9
"""Calls of which a sample takes the median."""
RENEW_EVERY_S = 240.0
"""Metadata of the Image repository are kept fresh, as in life."""
WATCHERS = 3
KINDS: Mapping[str, str] = {"outrider-worker": "worker", "outrider-signer": "signer"}
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """How it was at one moment."""

    at_s: float
    """Since the beginning, machine time."""
    rss_mib: Mapping[str, float]
    """Resident memory by kind of process; of several the largest."""
    files: Mapping[str, int]
    """Open descriptors by kind; of several all together, as the kernel hands connections to whichever it likes."""
    store_mib: float
    """What the store says it uses."""
    checkin_ms: float
    """Median of a few polls over one connection."""


@dataclass
class Soak:
    """A road under steady load.

    Args:
        road: serving; its fleet drives.
        told: shown what begins and ends.
    """

    road: Road
    told: Callable[[str], None] = print
    samples: list[Sample] = field(default_factory=list)
    rollouts: list[str] = field(default_factory=list)
    completed: int = 0
    fleet_changes: int = 0
    updates_watched: int = 0

    def __post_init__(self) -> None:
        self._machine = MachineClock()
        self._probe = AVehicle("probe", region="probe")
        self._stopped = threading.Event()
        self._renewed_s = 0.0

    def run(self, duration_s: float) -> None:
        """Load and measure for so long."""
        began_ms = self._machine.monotonic_ms()
        enrolled(self.road.installation, self._probe)
        with self._watching():
            while (at_s := (self._machine.monotonic_ms() - began_ms) / 1000) < duration_s:
                self._keep_rolling()
                self._change_fleet()
                self._keep_fresh(at_s)
                self.samples.append(self._sample(at_s))
                next_ms = began_ms + len(self.samples) * SAMPLE_EVERY_S * 1000
                eventually(lambda at=next_ms: self._machine.monotonic_ms() >= at, timeout_s=2 * SAMPLE_EVERY_S)

    # -- load ---------------------------------------------------------------------------------------------------

    def _keep_rolling(self) -> None:
        if self.rollouts:
            status = self.road.status(self.rollouts[-1])
            if status not in OVER | STOPPED:
                return
            self.completed += status == "COMPLETED"
            self.told(f"{self.rollouts[-1]} {status}")
            if status in STOPPED:
                self.road.installation.must("rollout", "abort", self.rollouts[-1], "--yes", "--reason", "soak")
        self.rollouts.append(begin_round(self.road, len(self.rollouts)))

    def _change_fleet(self) -> None:
        """One vehicle more, and the one before out of the fleet again; and a look at all of them."""
        fleet = self.road.api.fleet
        newcomer = AVehicle(f"new-{self.fleet_changes}", region="probe")
        csv = fleet_csv([newcomer]).encode()
        fleet.ImportVehicles(fleet_pb2.ImportVehiclesRequest(csv=csv, reason="soak"), timeout=CALL_TIMEOUT_S)
        if self.fleet_changes:
            gone = fleet_pb2.RemoveVehiclesRequest(vehicle_ids=[f"new-{self.fleet_changes - 1}"], reason="soak")
            fleet.RemoveVehicles(gone, timeout=CALL_TIMEOUT_S)
        fleet.CountVehicles(fleet_pb2.CountVehiclesRequest(), timeout=CALL_TIMEOUT_S)
        self.fleet_changes += 1

    def _keep_fresh(self, at_s: float) -> None:
        if at_s - self._renewed_s > RENEW_EVERY_S:
            self.road.installation.must("image-repo", "renew")
            self._renewed_s = at_s

    @contextmanager
    def _watching(self) -> Iterator[None]:
        watchers = [threading.Thread(target=self._watch, daemon=True) for _ in range(WATCHERS)]
        for watcher in watchers:
            watcher.start()
        try:
            yield
        finally:
            self._stopped.set()
            for watcher in watchers:
                watcher.join(CALL_TIMEOUT_S)

    def _watch(self) -> None:
        """An operator before a screen: the newest rollout, until it is over or another one is newer."""
        api = self.road.installation.api()
        while not self._stopped.wait(0.2):
            if not self.rollouts:
                continue
            name = self.rollouts[-1]
            try:
                request = rollout_pb2.WatchRolloutRequest(name=f"rollouts/{name}")
                for _ in api.rollouts.WatchRollout(request, timeout=CALL_TIMEOUT_S):
                    self.updates_watched += 1
                    if self._stopped.is_set() or self.rollouts[-1] != name:
                        break
            except grpc.RpcError:
                continue

    # -- what is measured ---------------------------------------------------------------------------------------

    def _sample(self, at_s: float) -> Sample:
        processes = self._processes()
        with redis.Redis(unix_socket_path=store_socket(self.road.installation)) as client:
            store_mib = int(client.info("memory")["used_memory"]) / MIB
        return Sample(
            at_s=at_s,
            rss_mib={kind: max(map(resident_mib, pids)) for kind, pids in processes.items()},
            files={kind: sum(map(open_files, pids)) for kind, pids in processes.items()},
            store_mib=store_mib,
            checkin_ms=median(self._poll_ms() for _ in range(PROBES)),
        )

    def _poll_ms(self) -> float:
        began_s = time.perf_counter()
        self._probe.check_in()
        return (time.perf_counter() - began_s) * 1000

    def _processes(self) -> Mapping[str, list[int]]:
        process = self.road.installation.process
        assert process is not None
        found = {"supervisor": [process.pid], "store": [self.road.installation.store_pid]}
        for pid in self.road.installation.children():
            if kind := KINDS.get(process_name(pid)):
                found.setdefault(kind, []).append(pid)
        return found


def resident_mib(pid: int) -> float:
    """Memory of a process that lies in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def open_files(pid: int) -> int:
    """Descriptors that a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
