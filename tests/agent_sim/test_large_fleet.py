"""What one vehicle costs the simulator: with tens of thousands in a process, every kilobyte is fifty megabytes."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from agent_sim.car import Car
from agent_sim.ecu import InstalledImage
from agent_sim.errands import make_car
from agent_sim.fleet import FactoryImage, Fleet, make_vehicles
from agent_sim.tally import Tally
from agent_sim.verification import Verifications, read_provisioning
from signing.ceremony import initialise
from tests.agent_sim.builders import START
from tests.agent_sim.ground import a_scenario
from tests.agent_sim.wire_orchestrator import TRUST_DOMAIN, machine_now

VEHICLES = 1_000
BYTES_MAX = 8_000


def test_vehicle_takes_some_kilobytes_and_no_thread(tmp_path: Path) -> None:
    """Keys, certificates and metadata stay on the disk until they are needed."""
    data = initialise(tmp_path / "data", trust_domain=TRUST_DOMAIN, now=machine_now())
    scenario = a_scenario()
    scenario = scenario.model_copy(update={"fleet": scenario.fleet.model_copy(update={"size": VEHICLES})})
    image = InstalledImage("acme/any-1.0.0.img", 4096, "0" * 64, 1_000_000)
    names = {hardware_id for part in scenario.hardware for hardware_id in part.ecus}
    factory = {name: FactoryImage(name, Path(), image) for name in names}
    threads = threading.active_count()
    with ThreadPoolExecutor(1) as executor:
        verifications = Verifications(read_provisioning(data.provisioning), executor, Tally())
        tracemalloc.start()
        try:
            fleet = Fleet(tmp_path / "fleet", tuple(make_vehicles(scenario)), factory)
            cars = [make_car(fleet, spec, None, scenario, verifications, Car) for spec in fleet.vehicles]
            for car in cars:
                car.start(START)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken / VEHICLES < BYTES_MAX
        assert threading.active_count() == threads
