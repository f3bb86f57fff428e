"""kill -9 of the orchestrator in the middle of a good release, and later of a worker and the signer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import check_counters, check_history, check_never_stopped, permits_received
from tests.e2e.load import GOOD, SIZE
from tests.e2e.rolling import TEST_TIMEOUT_S, a_fleet_on_the_road
from tests.processes import is_alive

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]


@pytest.mark.fault("F1")
def test_good_release_reaches_every_vehicle_though_the_orchestrator_is_killed(fleet: Path, tmp_path: Path) -> None:
    """The promise to release engineers: a crash costs time, never a vehicle, a count, or a hand on the rollout."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            road.await_done(name, SIZE // 3)
            store = road.installation.store_pid
            road.kill_orchestrator()
            assert is_alive(store), "the store lives on"
            road.installation.start()
            assert road.installation.store_pid == store, "and was adopted"

            road.await_done(name, SIZE * 2 // 3)
            road.await_children_other_than(road.kill_worker_and_signer())
            road.await_completed(name)
        assert {each["release"] for each in road.vehicles().values()} == {GOOD}
        tally = check_counters(road, name)
        assert tally.succeeded == SIZE
        assert tally.exposed == len(permits_received(road, name))
        assert road.open_cases(name) == set()
        check_history(road.installation, name)
        check_never_stopped(road.installation, name)
