"""kill -9 of the store in the middle of a good release, and later of store and orchestrator at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import check_counters, check_history, check_never_stopped, permits_received
from tests.e2e.load import GOOD, SIZE
from tests.e2e.rolling import TEST_TIMEOUT_S, a_fleet_on_the_road

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]


def test_good_release_reaches_every_vehicle_though_the_store_is_killed(fleet: Path, tmp_path: Path) -> None:
    """What was acknowledged is on disk: a dead store costs seconds, and nobody has to start it again."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            road.await_done(name, SIZE // 3)
            road.await_store_other_than(road.kill_store())

            road.await_done(name, SIZE * 2 // 3)
            killed = road.kill_store()
            road.kill_orchestrator()
            road.installation.start()
            road.await_store_other_than(killed)
            road.await_completed(name)
        assert {each["release"] for each in road.vehicles().values()} == {GOOD}
        tally = check_counters(road, name)
        assert tally.succeeded == SIZE
        assert tally.exposed == len(permits_received(road, name))
        assert road.open_cases(name) == set()
        check_history(road.installation, name)
        check_never_stopped(road.installation, name)
