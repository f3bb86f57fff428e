"""kill -9 of whatever a seed says, at moments that a seed says, while a fleet updates; each recovery is measured.

Owns who is killed, when, and what is rolled out meanwhile. Leaves to `judging` what must be true afterwards. The seed
repeats victims and waits; what processes do in between is theirs, so a run is repeated as far as processes allow.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from outrider.v1 import rollout_pb2

from orchestrator.clock import MachineClock
from tests.e2e.evidence import permits_given
from tests.e2e.load import Load
from tests.e2e.rolling import OVER, RECOVERY_TIMEOUT_S, ROLLOUT_TIMEOUT_S, Road
from tests.faults.rounds import begin_round
from tests.processes import CALL_TIMEOUT_S, eventually, is_alive
from tests.vehicles import AVehicle, enrolled

HEAVY = Load(
    size=300,
    scale=100,
    tick_s=0.4,
    in_flight={"apac": 24, "eu": 40, "us": 40},
    in_flight_in_all=90,
    starts_per_minute=12,
    blast_budget=60,
    workers=2,
)
"""Several hundred vehicles under limits that bind."""
VICTIMS = ("worker", "supervisor", "signer", "store", "store and supervisor")
"""The evaluator lives in the supervisor."""
WAIT_S = (0.1, 2.5)
AT_ONCE_SHARE = 0.15
"""Kills that come before the last one is recovered from."""
KILLS_BEFORE_ABORT = ((2, 5), (10, 25))
"""After which a person aborts a rollout in the middle: those that begin odd, and even, in turn."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill and what it cost, machine seconds."""

    victim: str
    serving_s: float
    """Until an event of a vehicle on a new connection was acknowledged, which is to be on disk, again."""
    whole_s: float
    """Until every process was there again; 0 when the next kill did not wait for it."""
    acknowledged: int
    """Events of the fleet until then, by its own record."""


@dataclass(frozen=True, slots=True)
class Stop:
    """What was out when a rollout was stopped."""

    rollout_id: str
    permits: int


@dataclass
class Chaos:
    """A road on which things are killed.

    Args:
        road: serving; its fleet drives.
        seed: decides victims and waits.
        told: shown each kill.
    """

    road: Road
    seed: int
    told: Callable[[str], None] = print
    kills: list[Kill] = field(default_factory=list)
    rollouts: list[str] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    probe: AVehicle = field(default_factory=lambda: AVehicle("probe", region="probe"))

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._machine = MachineClock()
        self._patience = 0

    def run(self, count: int) -> None:
        """Kill so many times; whenever a rollout is over the next one begins. In the end all comes to rest."""
        enrolled(self.road.installation, self.probe)
        self._begin_rollout()
        while len(self.kills) < count:
            if self._over():
                self._begin_rollout()
            self._wait(self._rng.uniform(*WAIT_S))
            self._stop_some_rollout()
            self._kill(self._rng.choice(VICTIMS), at_once=self._rng.random() < AT_ONCE_SHARE)
        self._await_whole()
        # Where the last one was aborted or is just over, another one shows that all is well.
        if self._over():
            self._begin_rollout()
        self.road.await_completed(self.rollouts[-1])

    # -- what is rolled out -------------------------------------------------------------------------------------

    def _begin_rollout(self) -> None:
        self._await_whole()
        self.rollouts.append(begin_round(self.road, len(self.rollouts)))
        self._patience = self._rng.randint(*KILLS_BEFORE_ABORT[(len(self.rollouts) - 1) % 2])
        self.told(f"rollout {self.rollouts[-1]}")

    def _over(self) -> bool:
        return eventually(lambda: (self.road.status(self.rollouts[-1]),), timeout_s=RECOVERY_TIMEOUT_S)[0] in OVER

    def _stop_some_rollout(self) -> None:
        """Abort the one that runs, some kills after it began."""
        name = self.rollouts[-1]
        self._patience -= 1
        if self._patience > 0 or self._over():
            return
        eventually(lambda: self._aborted(name), timeout_s=RECOVERY_TIMEOUT_S, what=f"{name} is aborted")
        self.stops.append(Stop(name, permits_given(self.road.installation, name)))
        self.told(f"aborted {name} with {self.stops[-1].permits} permits given")

    def _aborted(self, name: str) -> bool:
        """Ask for it; the answer may be lost where the abort was not."""
        request = rollout_pb2.AbortRolloutRequest(name=f"rollouts/{name}", reason="chaos")
        try:
            self.road.api.rollouts.AbortRollout(request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError:
            self.road.held_api = None
        return self.road.status(name) == "ABORTED"

    # -- what is killed -----------------------------------------------------------------------------------------

    def _kill(self, victim: str, *, at_once: bool) -> None:
        installation = self.road.installation
        began_ms = self._machine.monotonic_ms()
        if victim == "worker":
            self._end(self._rng.choice(eventually(installation.workers, what="a worker")))
        elif victim == "signer":
            self._end(eventually(self._signers, what="a signer")[0])
        if victim.startswith("store"):
            self._end(installation.store_pid)
        if victim.endswith("supervisor"):
            self.road.kill_orchestrator()
            installation.start()
        self._await_answer()
        serving_ms = self._machine.monotonic_ms()
        whole_s = 0.0
        if not at_once:
            self._await_whole()
            whole_s = (self._machine.monotonic_ms() - began_ms) / 1000
        acknowledged = self.road.record()["totals"]["events_acknowledged"]
        kill = Kill(victim, (serving_ms - began_ms) / 1000, whole_s, acknowledged)
        self.kills.append(kill)
        self.told(
            f"{len(self.kills)} {victim}: serving after {kill.serving_s:.2f} s, whole {whole_s:.2f} s, "
            f"{acknowledged} events acknowledged"
        )

    @staticmethod
    def _end(pid: int) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        eventually(lambda: not is_alive(pid), what=f"{pid} is dead")

    def _signers(self) -> list[int]:
        return [pid for pid in self.road.installation.children() if pid not in self._others()]

    def _others(self) -> set[int]:
        return {*self.road.installation.workers(), self.road.installation.store_pid}

    def _await_answer(self) -> None:
        """Until a new connection brings a vehicle word that its event is kept: others reconnect as well."""
        eventually(self._answers, timeout_s=RECOVERY_TIMEOUT_S, what="a vehicle's event is acknowledged")

    def _answers(self) -> bool:
        number = self.probe.next_event
        with self._fresh_connection():
            try:
                answer = self.probe.check_in(self.probe.event("unknown.probe.1", "DOWNLOAD_STARTED"))
            except grpc.RpcError:
                # Told again under its number, whether the answer or the event was lost.
                self.probe.next_event = number
                return False
        return bool(answer.acknowledged_number == number)

    @contextmanager
    def _fresh_connection(self) -> Iterator[None]:
        channels = self.road.installation.channels
        self.probe.connect(self.road.installation)
        try:
            yield
        finally:
            channels.pop().close()

    def _await_whole(self) -> None:
        """Until every process is there, the store is adopted, and /readyz says so."""
        eventually(self._whole, timeout_s=RECOVERY_TIMEOUT_S, what="every process is there again")

    def _whole(self) -> bool:
        installation = self.road.installation
        try:
            store = installation.store_pid
        except (OSError, ValueError):
            return False
        workers = [pid for pid in installation.workers() if is_alive(pid)]
        signers = [pid for pid in self._signers() if is_alive(pid)]
        there = is_alive(store) and len(workers) == self.road.load.workers and len(signers) == 1
        return there and installation.get("/readyz")[0] == 200

    def _wait(self, seconds: float) -> None:
        """Let traffic flow; the seed says how long."""
        until_ms = self._machine.monotonic_ms() + seconds * 1000
        eventually(lambda: self._machine.monotonic_ms() >= until_ms, timeout_s=seconds + ROLLOUT_TIMEOUT_S)
