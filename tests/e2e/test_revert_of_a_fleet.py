"""A release on its way through a driving fleet is stopped and undone; what vehicles truly run decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.v1 import fleet_pb2

from tests.e2e.evidence import check_counters, check_history
from tests.e2e.load import FACTORY, GOOD
from tests.e2e.rolling import TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.processes import CALL_TIMEOUT_S

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

BACK = f"{GOOD}-revert"


def installed(road: Road) -> dict[str, str]:
    """What the orchestrator believes that each vehicle runs."""
    request = fleet_pb2.ListVehiclesRequest(page_size=1000)
    vehicles = road.api.fleet.ListVehicles(request, timeout=CALL_TIMEOUT_S).vehicles
    return {vehicle.vehicle_id: vehicle.installed_release for vehicle in vehicles}


def test_fleet_goes_back_over_lost_links_and_power_cuts(fleet: Path, tmp_path: Path) -> None:
    """Whoever took the release goes back by a manifest of its own, whoever did not is not touched, and books agree."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            road.await_done(name, 5)
            road.installation.must("rollout", "abort", name, "--reason", "test", "--yes")
            road.await_quiet()
            took = {vehicle_id for vehicle_id, release in installed(road).items() if release == GOOD}
            started = road.installation.must("rollout", "revert", name, "--reason", "test", "--yes")
            back = started["name"].removeprefix("rollouts/")
            road.await_completed(back)
        truth = {vehicle_id: str(vehicle["release"]) for vehicle_id, vehicle in road.vehicles().items()}
        assert truth == installed(road)
        assert len(took) >= 5
        assert {vehicle_id for vehicle_id, release in truth.items() if release == BACK} == took
        assert {release for vehicle_id, release in truth.items() if vehicle_id not in took} == {FACTORY}
        factory = {ecu["sha256"] for vehicle in road.vehicles().values() for ecu in vehicle["ecus"].values()}
        assert len(factory) == 4, "the same bytes as before, whatever they are called now"
        check_counters(road, back)
        check_history(road.installation, back)
