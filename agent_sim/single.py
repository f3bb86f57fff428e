"""One simulated vehicle as a process of its own: reads a provisioned folder, enrols, and drives until it is stopped.

Owns how the parts of the simulator serve a single vehicle: what fleets read from a scenario comes from the folder here,
sensors and owner included. Everything it keeps lies in the folder's `state`, so that it comes up where it was after
kill -9.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

from agent_sim.calls import VehicleCalls
from agent_sim.channels import ChannelPool
from agent_sim.clock import FleetClock, machine_date, machine_ms
from agent_sim.connectivity import Connectivity
from agent_sim.downloads import Downloads
from agent_sim.driver import Driver, InFlight
from agent_sim.endpoints import EndpointsFile
from agent_sim.enrolment import enrol
from agent_sim.errands import FleetErrands, make_car
from agent_sim.errors import EnrollmentError
from agent_sim.flash import Flash
from agent_sim.fleet import FactoryImage, Fleet
from agent_sim.folder_car import FolderCar
from agent_sim.provisioned import ProvisionedFolder, ProvisionedVehicle
from agent_sim.renewal import Renewals
from agent_sim.scenario import Scenario, parse_scenario
from agent_sim.state_journal import StateJournal
from agent_sim.tally import Tally
from agent_sim.vehicle import EcuSpec, VehicleSpec
from agent_sim.verification import Verifications, read_provisioning
from signing.files import write_atomically

_SCENARIO = """
name = "single"
fleet = {{size = 1}}
regions = {{none = 1.0}}
cohorts = {{none = 1.0}}
hardware = [{{name = "none", share = 1.0, ecus = ["none"]}}]
agent = {{first_poll_within = "{first_poll_within}", install = "{install}", reboot = "{reboot}"}}
"""
_ENROLMENT_PAUSE_FLEET_S = 1800.0
"""After a refused enrolment: the longest back-off of the contract."""
_CALL_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Habits:
    """How this vehicle behaves; durations as scenarios write them."""

    first_poll_within: str = "10m"
    install: str = "5m"
    reboot: str = "2m"

    def scenario(self) -> Scenario:
        """As the simulator's parts take it.

        Raises:
            ScenarioError: a duration is none.
        """
        return parse_scenario(
            _SCENARIO.format(first_poll_within=self.first_poll_within, install=self.install, reboot=self.reboot),
            source="options",
        )


class KeptClock(FleetClock):
    """A fleet clock that runs on while the process is down, as a vehicle's own clock does.

    Args:
        path: where the last reading lies.
        scale: fleet seconds in a second.
    """

    def __init__(self, path: Path, scale: float) -> None:
        super().__init__(scale)
        self._path = path
        machine, fleet = machine_ms(), 0
        if path.exists():
            machine, fleet = json.loads(path.read_bytes())
        super().observe(round(fleet + scale * (machine_ms() - machine)))

    def observe(self, fleet_ms: int) -> None:
        """Take in the fleet time of a reply, and keep it."""
        super().observe(fleet_ms)
        write_atomically(self._path, json.dumps([machine_ms(), fleet_ms]).encode(), durable=False)


async def run_agent(folder: Path, habits: Habits, stop: asyncio.Event) -> None:
    """Be one vehicle until `stop` is set.

    Raises:
        SimulationError: the folder cannot be used.
        OSError: this machine's disk failed.
    """
    provisioned = ProvisionedFolder(folder)
    vehicle = provisioned.vehicle()
    endpoints = EndpointsFile(provisioned.endpoints)
    fleet = _fleet(provisioned, vehicle)
    provisioning = read_provisioning(provisioned.provisioning)
    scenario = habits.scenario()
    tally = Tally()
    await _enrol(fleet, vehicle, endpoints, provisioning.enrolment_ca.encode())
    with closing(StateJournal(fleet.states)) as journal, ThreadPoolExecutor(1, "verify") as executor:
        verifications = Verifications(provisioning, executor, tally)
        (spec,) = fleet.vehicles
        car = make_car(fleet, spec, journal.found.get(spec.vehicle_id), scenario, verifications, FolderCar)
        car.folder = provisioned
        clock = KeptClock(provisioned.state / "clock.json", endpoints.current.scale)
        async with (
            _calls(endpoints, clock, tally) as calls,
            _downloads(provisioning.enrolment_ca, fleet.flash, executor, tally) as d,
        ):
            renewals = Renewals(fleet.home, calls.renew, machine_date)
            errands = FleetErrands(fleet, calls, renewals, d, verifications, journal)
            await Driver([car], errands, clock, InFlight(1, 1, 1)).run(stop)


async def _enrol(fleet: Fleet, vehicle: ProvisionedVehicle, endpoints: EndpointsFile, server_ca: bytes) -> None:
    """Enrol, with patience: a car that is refused or finds nobody does not give up, and does not insist either."""
    while True:
        try:
            await enrol(
                {vehicle.vehicle_id: fleet.home(vehicle.vehicle_id)},
                {vehicle.vehicle_id: vehicle.token},
                target=endpoints.current.enrollment,
                server_ca=server_ca,
            )
        except EnrollmentError:
            await asyncio.sleep(_ENROLMENT_PAUSE_FLEET_S / endpoints.current.scale)
        else:
            return


@asynccontextmanager
async def _calls(endpoints: EndpointsFile, clock: FleetClock, tally: Tally) -> AsyncIterator[VehicleCalls]:
    pool = ChannelPool(endpoints.vehicles, tally, open_max=1)
    try:
        yield VehicleCalls(pool, clock, tally, timeout_s=_CALL_TIMEOUT_S)
    finally:
        await pool.close()


@asynccontextmanager
async def _downloads(
    server_ca: str, flash: Flash, executor: ThreadPoolExecutor, tally: Tally
) -> AsyncIterator[Downloads]:
    downloads = Downloads(server_ca, flash, executor, tally, connections_max=1)
    try:
        yield downloads
    finally:
        await downloads.close()


def _fleet(provisioned: ProvisionedFolder, vehicle: ProvisionedVehicle) -> Fleet:
    """A fleet of one in the folder's `state`, with the keys that the factory made."""
    spec = VehicleSpec(
        vehicle_id=vehicle.vehicle_id,
        model="",
        hardware="",
        region="",
        cohort="",
        tags=(),
        ecus=tuple(EcuSpec(ecu.serial, ecu.hardware_id, ecu.primary) for ecu in vehicle.ecus),
        connectivity=Connectivity(),
    )
    factory = {ecu.hardware_id: FactoryImage(ecu.hardware_id, Path(), ecu.installed) for ecu in vehicle.ecus}
    fleet = Fleet(provisioned.state, (spec,), factory)
    home = fleet.home(spec.vehicle_id).path
    home.mkdir(parents=True, exist_ok=True)
    for ecu in vehicle.ecus:
        key = (provisioned.keys / f"{ecu.serial}.pem").read_bytes()
        write_atomically(home / f"{ecu.serial}.pem", key, mode=0o600, durable=False)
    return fleet
