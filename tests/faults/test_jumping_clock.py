"""The date of the machine is set, forward and back, in the middle of a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from orchestrator.clock import MachineClock
from tests.faults.machine import FailingMachine, a_failing_machine, a_house_on
from tests.faults.test_failing_house import PLAN, RECOVERY_S, admitted
from tests.processes import Installation, eventually
from tests.vehicles import AVehicle, enrolled, installing, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

LOOK_S = 3.0
"""Several ticks."""
MINUTES_10, DAY = 600, 86_400
AHEAD = "outrider_fleet_time_ahead_seconds"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, FailingMachine]]:
    """An installation on a machine whose date can be set."""
    machine = a_failing_machine(tmp_path_factory.mktemp("machine"))
    with a_house_on(machine, tmp_path_factory.mktemp("house")) as made:
        yield made, machine


@pytest.mark.fault("F6", "P8")
@pytest.mark.parametrize("jump_s", [-MINUTES_10, MINUTES_10, DAY])
def test_date_that_jumps_ends_no_attempt_and_stops_nothing_for_long(
    house: tuple[Installation, FailingMachine], jump_s: int
) -> None:
    """There, and back again: nobody's silence is taken for a failure, and no vehicle is told an earlier time."""
    running, machine = house
    region = f"jump{jump_s}".replace("-", "b")
    told, *others = enrolled(running, *(AVehicle(f"{region}-{number}", region=region) for number in range(3)))
    running.must("rollout", "start", running.write(f"{region}.yaml", PLAN.format(name=region)), "--yes")
    attempt = offered(told).attempt_id
    told.check_in(told.event(attempt, "DOWNLOAD_STARTED"))

    before = told.fleet_time
    machine.fail(f"clock {jump_s}")
    live_through(told, attempt)
    # After a shorter jump back fleet time runs at half its pace for twice as long.
    assert jump_s < DAY or told.fleet_time - before > timedelta(seconds=DAY - 2 * MINUTES_10)
    eventually(lambda: admitted(others[0]), timeout_s=RECOVERY_S, what="vehicles are admitted")

    machine.mend()
    live_through(told, attempt)
    eventually(lambda: ahead_s(running) == pytest.approx(max(0, jump_s), abs=60), timeout_s=20, what="it is said")
    eventually(lambda: admitted(others[1]), timeout_s=RECOVERY_S, what="vehicles are admitted, back again")
    assert eventually(lambda: told.authorize(attempt).HasField("permit"), timeout_s=RECOVERY_S, what="a permit")
    assert running.must("rollout", "status", region)["status"] == "ROLLOUT_STATUS_RUNNING"


def ahead_s(running: Installation) -> float:
    """How far fleet time is ahead, of the process in which it is furthest."""
    found = {labels: value for (name, labels), value in running.metrics().items() if name == AHEAD}
    assert len(found) == 2, "of the supervisor, and of the worker that is furthest"
    return max(found.values())


def live_through(vehicle: AVehicle, attempt: str) -> None:
    """Call for several ticks: each answer is no earlier than the last, and the attempt goes on."""
    machine = MachineClock()
    until_ms = machine.monotonic_ms() + LOOK_S * 1000
    times, attempts = [vehicle.fleet_time], set()

    def looked() -> bool:
        attempts.add(installing(vehicle.check_in()).attempt_id)
        times.append(vehicle.fleet_time)
        return machine.monotonic_ms() >= until_ms

    eventually(looked, timeout_s=RECOVERY_S)
    assert times == sorted(times)
    assert attempts == {attempt}
