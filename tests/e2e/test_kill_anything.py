"""kill -9 of whatever a seed says, at moments that a seed says, in the middle of a good release."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.e2e.evidence import check_counters, check_history, check_never_stopped, permits_received
from tests.e2e.load import GOOD, SIZE
from tests.e2e.rolling import RECOVERY_TIMEOUT_S, TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

SEED = int(os.environ.get("OUTRIDER_KILL_SEED", "20261122"))
VICTIMS = ("orchestrator", "store", "both", "worker and signer")


def test_good_release_reaches_every_vehicle_whatever_is_killed_whenever(fleet: Path, tmp_path: Path) -> None:
    """Moments that nobody chose find what chosen ones cannot; OUTRIDER_KILL_SEED tries others."""
    rng = random.Random(SEED)
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            for earliest, latest in ((0, SIZE // 3), (SIZE // 3, SIZE * 3 // 4)):
                road.await_done(name, rng.randint(earliest, latest))
                # Any moment of the next minute of fleet time, a third of a second: calls and ticks are under way.
                moment = road.rollout(name).fleet_time.ToMilliseconds() + rng.randrange(60_000)
                eventually(lambda at=moment: road.rollout(name).fleet_time.ToMilliseconds() >= at)
                kill(road, rng.choice(VICTIMS))
            road.await_completed(name)
        print(f"OUTRIDER_KILL_SEED={SEED}")
        assert {each["release"] for each in road.vehicles().values()} == {GOOD}
        tally = check_counters(road, name)
        assert tally.succeeded == SIZE
        assert tally.exposed == len(permits_received(road, name))
        assert road.open_cases(name) == set()
        check_history(road.installation, name)
        check_never_stopped(road.installation, name)


def kill(road: Road, victim: str) -> None:
    """Kill, start again what does not start itself, and wait until it serves."""
    print(f"OUTRIDER_KILL_SEED={SEED}: {victim}")
    store = road.installation.store_pid
    if victim == "worker and signer":
        road.await_children_other_than(road.kill_worker_and_signer())
        return
    if victim in ("store", "both"):
        road.kill_store()
    if victim in ("orchestrator", "both"):
        road.kill_orchestrator()
        road.installation.start()
    if victim == "orchestrator":
        assert road.installation.store_pid == store, "it was adopted"
    else:
        road.await_store_other_than(store)
    eventually(lambda: road.installation.get("/readyz")[0] == 200, timeout_s=RECOVERY_TIMEOUT_S)
