"""A whole installation on a machine that fails: vehicles are refused with a delay, nobody is admitted, nothing is lost,
and all goes on by itself when the machine is well again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
import redis
from outrider.v1 import vehicle_pb2

from orchestrator.clock import MachineClock
from tests.e2e.evidence import store_socket
from tests.faults.machine import FailingMachine, a_failing_machine, a_house_on, a_small_disk
from tests.processes import Installation, an_installation, eventually
from tests.vehicles import AVehicle, enrolled, offered, refusal

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PLAN = """\
name: {name}
release: 1.1.0
holdout: 0%
target: {{region: [{name}]}}
waves: [{{name: all, soak: 0s}}]
"""
REFUSED_WITHIN_S = 12.0
"""A call that cannot be served ends by the store's deadline, and not by the vehicle's patience."""
RECOVERY_S = 30.0
Fault = Callable[[Installation, FailingMachine], Callable[[], None]]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> FailingMachine:
    """What the installation runs on."""
    return a_failing_machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def house(machine: FailingMachine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of its own: everything that its server does to a disk can be made to fail."""
    with a_house_on(machine, tmp_path_factory.mktemp("house")) as made:
        yield made


def failing(fault: str) -> Fault:
    """What `failing_machine.c` knows."""

    def begin(_: Installation, machine: FailingMachine) -> Callable[[], None]:
        machine.fail(fault)
        return machine.mend

    return begin


def at_its_memory_limit(house: Installation, _: FailingMachine) -> Callable[[], None]:
    """The server has less than it holds already."""
    client = redis.Redis(unix_socket_path=store_socket(house))
    client.config_set("maxmemory", "1mb")

    def end() -> None:
        client.config_set("maxmemory", "0")
        client.close()

    return end


def paused(house: Installation, _: FailingMachine) -> Callable[[], None]:
    """SIGSTOP: connections stay open, nobody answers."""
    pid = house.store_pid
    os.kill(pid, signal.SIGSTOP)
    return lambda: os.kill(pid, signal.SIGCONT)


@pytest.mark.fault("P2", "P3", "P4", "P5", "P6", "F17")
@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("full", failing("enospc")),
        ("readonly", failing("erofs")),
        ("unsynced", failing("fsync")),
        ("memory", at_its_memory_limit),
        ("paused", paused),
    ],
)
def test_fault_of_the_machine_refuses_everybody_loses_nothing_and_passes(
    house: Installation, machine: FailingMachine, name: str, begin: Fault
) -> None:
    """What a vehicle cannot have on disk it is not told; it keeps it, and tells it again."""
    told, waits = enrolled(house, AVehicle(f"{name}-1", region=name), AVehicle(f"{name}-2", region=name))
    house.must("rollout", "start", house.write(f"{name}.yaml", PLAN.format(name=name)), "--yes")
    attempt = offered(told).attempt_id
    assert told.check_in(told.event(attempt, "DOWNLOAD_STARTED")).acknowledged_number == 1
    event = told.event(attempt, "DOWNLOAD_FINISHED")

    end = begin(house, machine)
    try:
        began_ms = MachineClock().monotonic_ms()
        for call in (lambda: told.check_in(event), lambda: told.authorize(attempt)):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refusal(refused.value).code is grpc.StatusCode.UNAVAILABLE
        assert MachineClock().monotonic_ms() - began_ms < 2 * REFUSED_WITHIN_S * 1000
        assert not admitted(waits)
    finally:
        end()

    eventually(lambda: acknowledged(told, event) == 2, timeout_s=RECOVERY_S, what="it serves again by itself")
    eventually(lambda: house.get("/readyz")[0] == 200, timeout_s=RECOVERY_S)
    eventually(lambda: admitted(waits), timeout_s=RECOVERY_S, what="vehicles are admitted again")
    assert eventually(lambda: told.authorize(attempt).HasField("permit"), what="and have their permits")
    shown = house.must("rollout", "status", name)
    assert shown["status"] == "ROLLOUT_STATUS_RUNNING"


def acknowledged(vehicle: AVehicle, event: vehicle_pb2.Event) -> int:
    """Up to which number the vehicle may forget; 0 when there was no answer."""
    try:
        return vehicle.check_in(event).acknowledged_number
    except grpc.RpcError:
        return 0


def admitted(vehicle: AVehicle) -> bool:
    """Whether the vehicle is told to install; no answer is no."""
    try:
        return vehicle.check_in().directive.WhichOneof("kind") == "install"
    except grpc.RpcError:
        return False


@pytest.mark.fault("P2")
def test_data_folder_that_runs_full_is_served_again_when_there_is_room(tmp_path: Path) -> None:
    """Store, ledger and metrics at once, to the last byte of a real disk; nobody restarts anything."""
    with a_small_disk(tmp_path / "disk", mebibytes=32) as disk, an_installation(disk) as house:
        house.publish("1.1.0", release_counter=2)
        (vehicle,) = enrolled(house, AVehicle("full-1", region="full"))
        house.must("rollout", "start", house.write("full.yaml", PLAN.format(name="full")), "--yes")
        attempt = offered(vehicle).attempt_id
        ballast = disk / "ballast"
        fill(ballast)
        event = vehicle.event(attempt, "DOWNLOAD_STARTED")
        eventually(lambda: acknowledged(vehicle, event) == 0, what="an event that finds no room is refused")
        eventually(lambda: house.get("/readyz")[0] == 503, timeout_s=RECOVERY_S, what="it says that it is not ready")

        ballast.unlink()
        eventually(lambda: acknowledged(vehicle, event) >= 1, timeout_s=RECOVERY_S, what="it serves again by itself")
        eventually(lambda: vehicle.authorize(attempt).HasField("permit"), what="and gives permits")
        eventually(lambda: house.must("ledger", "verify")["ok"], timeout_s=RECOVERY_S)
        told = house.must("ledger", "outcomes", "full")
        assert told["permitted"] == 1


def fill(file: Path) -> None:
    """Write until the disk has no room left."""
    with file.open("wb", buffering=0) as opened, suppress(OSError):
        while opened.write(bytes(4096)):
            continue
