"""The store on another machine, and the cable is cut; the evaluator alone stands still; the store's date jumps."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import redis

from orchestrator.clock import MachineClock
from orchestrator.store.redis.binary import find_binary
from tests.faults.machine import needs_root
from tests.faults.test_failing_house import PLAN, RECOVERY_S, REFUSED_WITHIN_S, acknowledged, admitted
from tests.processes import Installation, an_installation, eventually
from tests.vehicles import AVehicle, enrolled, offered, refusal

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

_BLOCK = os.getpid() % 16_384 * 4
OURS, THEIRS = (f"198.18.{_BLOCK // 256}.{_BLOCK % 256 + host}" for host in (1, 2))
"""Of the range that is kept for tests of networks, others for each test process."""
PORT = 6399
DEAD_MAN_S = 10.0
CALL_EVERY_S = 0.4


@dataclass(frozen=True)
class Cable:
    """A network of two machines: this one, and a namespace in which a store runs."""

    namespace: str

    def cut(self) -> None:
        """Packets vanish from now on, both ways; no connection is told."""
        self._set("down")

    def mend(self) -> None:
        """As before."""
        self._set("up")

    def _set(self, state: str) -> None:
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "far", state], check=True)


@contextmanager
def a_cable() -> Iterator[Cable]:
    """Gone afterwards, with everything in it."""
    needs_root()
    name, near = f"outrider-{os.getpid()}", f"or{os.getpid()}"[:15]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", "far", "netns", name)
        ip("addr", "add", f"{OURS}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", name, "addr", "add", f"{THEIRS}/30", "dev", "far")
        ip("-n", name, "link", "set", "far", "up")
        yield Cable(name)
    finally:
        ip("netns", "delete", name)


@contextmanager
def a_far_store(cable: Cable, folder: Path) -> Iterator[str]:
    """A server at the other end of the cable; its URL."""
    folder.mkdir()
    settings = {
        "bind": THEIRS,
        "port": str(PORT),
        "protected-mode": "no",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    arguments = [cell for name, value in settings.items() for cell in (f"--{name}", value)]
    with subprocess.Popen(["ip", "netns", "exec", cable.namespace, str(find_binary()), *arguments]) as server:
        try:
            eventually(_answers, what="the far store answers")
            yield f"redis://{THEIRS}:{PORT}"
        finally:
            server.kill()


def _answers() -> bool:
    with redis.Redis(host=THEIRS, port=PORT, socket_timeout=1.0) as client, suppress(redis.RedisError):
        return bool(client.ping())
    return False


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Cable]]:
    """An installation whose store is on another machine."""
    folder = tmp_path_factory.mktemp("far")
    with ExitStack() as stack:
        cable = stack.enter_context(a_cable())
        url = stack.enter_context(a_far_store(cable, folder / "store"))
        house = stack.enter_context(an_installation(folder, store_url=url))
        house.publish("1.1.0", release_counter=2)
        yield house, cable
        cable.mend()


@pytest.mark.fault("F4", "P7")
def test_cut_cable_refuses_every_vehicle_in_time_and_passes_by_itself(far: tuple[Installation, Cable]) -> None:
    """Nobody is told that the other end is gone: what waits has to end by a deadline of ours."""
    house, cable = far
    told, waits = enrolled(house, AVehicle("cut-1", region="cut"), AVehicle("cut-2", region="cut"))
    house.must("rollout", "start", house.write("cut.yaml", PLAN.format(name="cut")), "--yes")
    attempt = offered(told).attempt_id
    event = told.event(attempt, "DOWNLOAD_STARTED")
    machine = MachineClock()

    cable.cut()
    began_ms = machine.monotonic_ms()
    while machine.monotonic_ms() - began_ms < DEAD_MAN_S * 1000:
        called_ms = machine.monotonic_ms()
        with pytest.raises(grpc.RpcError) as refused:
            told.check_in(event)
        assert refusal(refused.value).code is grpc.StatusCode.UNAVAILABLE
        assert machine.monotonic_ms() - called_ms < REFUSED_WITHIN_S * 1000
    assert house.get("/readyz")[0] == 503
    assert not admitted(waits)

    cable.mend()
    eventually(lambda: acknowledged(told, event) == 1, timeout_s=RECOVERY_S, what="it serves again by itself")
    eventually(lambda: admitted(waits), timeout_s=RECOVERY_S, what="vehicles are admitted again")
    assert eventually(lambda: told.authorize(attempt).HasField("permit"), what="and have their permits")
    assert house.must("rollout", "status", "cut")["status"] == "ROLLOUT_STATUS_RUNNING"


@pytest.mark.fault("F4", "F5")
def test_stopped_evaluator_ends_grants_and_permits_and_changes_nothing_when_it_wakes(
    far: tuple[Installation, Cable],
) -> None:
    """Workers live on and the store answers: only the missing sign of life tells them to admit nobody."""
    house, _ = far
    vehicles = enrolled(house, *(AVehicle(f"silent-{number}", region="silent") for number in range(40)))
    wide = PLAN.format(name="silent") + "limits: {in_flight: 100, blast_budget: 100, starts_per_minute: 100}\n"
    house.must("rollout", "start", house.write("silent.yaml", wide), "--yes")
    first = offered(vehicles[0]).attempt_id
    machine, callers = MachineClock(), iter(vehicles[1:])
    assert house.process is not None
    house.process.send_signal(signal.SIGSTOP)
    try:
        began_ms = machine.monotonic_ms()
        grants = 0
        while admitted(next(callers)):
            grants += 1
            assert machine.monotonic_ms() - began_ms < (DEAD_MAN_S + CALL_EVERY_S) * 1000
            next_ms = began_ms + grants * CALL_EVERY_S * 1000
            eventually(lambda at=next_ms: machine.monotonic_ms() >= at)
        assert grants, "the last sign of life is good for a while"
        answer = vehicles[0].authorize(first)
        assert answer.refusal.reason == "evaluator_silent"
        assert not any(admitted(next(callers)) for _ in range(3))
        house.must("rollout", "abort", "silent", "--yes", "--reason", "while it slept")
    finally:
        house.process.send_signal(signal.SIGCONT)
    eventually(lambda: house.get("/readyz")[0] == 200, timeout_s=RECOVERY_S)
    eventually(lambda: house.metric("outrider_journal_lag_entries") == 0, timeout_s=RECOVERY_S)
    assert house.must("rollout", "status", "silent")["status"] == "ROLLOUT_STATUS_ABORTED"
    assert not any(admitted(next(callers)) for _ in range(3))
