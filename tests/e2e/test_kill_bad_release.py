"""kill -9 of the orchestrator, and of its store, in the middle of a release that silently bricks one variant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import check_counters, check_history, permits_given, permits_received
from tests.e2e.load import BAD, SIZE
from tests.e2e.rolling import ROLLOUT_TIMEOUT_S, STOPPED, TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.processes import eventually

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

QUIET_MS = 20 * 60_000
"""Fleet time in which every vehicle calls several times."""


def test_bad_release_stops_by_itself_though_orchestrator_and_store_are_killed(fleet: Path, tmp_path: Path) -> None:
    """A crash in the worst moment must not let one vehicle more be hurt than the plan accepts."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(BAD)
            await_exposed(road, name, 4)
            road.kill_orchestrator()
            road.installation.start()
            await_exposed(road, name, 8)
            road.await_store_other_than(road.kill_store())

            eventually(lambda: stopped_and_quiet(road, name), timeout_s=ROLLOUT_TIMEOUT_S, what="it stops by itself")
            given = permits_given(road.installation, name)
            stopped_at = road.rollout(name).fleet_time.ToMilliseconds()
            eventually(
                lambda: road.rollout(name).fleet_time.ToMilliseconds() > stopped_at + QUIET_MS,
                timeout_s=ROLLOUT_TIMEOUT_S,
                what="vehicles called again",
            )
            assert road.status(name) in STOPPED
            assert permits_given(road.installation, name) == given, "no permit after the stop"
        bricked = {vehicle_id for vehicle_id, each in road.vehicles().items() if each["bricked"]}
        assert bricked
        assert road.open_cases(name) == bricked
        tally = check_counters(road, name)
        received = permits_received(road, name)
        # A permit whose answer was lost counts as given and exposed, for it may have been used.
        assert len(received) <= tally.exposed <= given < SIZE
        check_history(road.installation, name)


def await_exposed(road: Road, name: str, at_least: int) -> None:
    """Wait until so many vehicles were permitted; the release must not be stopped yet."""
    eventually(lambda: road.exposed(name) >= at_least, timeout_s=ROLLOUT_TIMEOUT_S, what=f"{at_least} exposures")
    assert road.status(name) == "RUNNING", "this kill came too late to prove anything"


def stopped_and_quiet(road: Road, name: str) -> bool:
    """Whether the gate stopped it, everybody who can speak has told everything, and who cannot stands in a case."""
    vehicles = road.vehicles()
    bricked = {vehicle_id for vehicle_id, each in vehicles.items() if each["bricked"]}
    settled = all(each["settled"] for each in vehicles.values())
    return road.status(name) in STOPPED and settled and road.open_cases(name) == bricked
