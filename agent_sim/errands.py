"""Cars with their files: makes each car as it was left, and does what cars ask for with each vehicle's own files."""

from __future__ import annotations

import secrets
from typing import TypeVar

from agent_sim.actions import Call, Input, Verify
from agent_sim.calls import VehicleCalls
from agent_sim.car import Car, Download
from agent_sim.car_state import CarState
from agent_sim.downloads import Downloads, discard
from agent_sim.ecu import Ecu
from agent_sim.faults import fault_book
from agent_sim.fleet import Fleet
from agent_sim.manifests import ManifestSigner
from agent_sim.persisted import fresh_state
from agent_sim.renewal import Renewals
from agent_sim.scenario import Scenario
from agent_sim.state_journal import StateJournal
from agent_sim.surroundings import Surroundings
from agent_sim.vehicle import VehicleSpec
from agent_sim.verification import Verifications, held_versions


class FleetErrands:
    """Does what cars ask for, with each vehicle's own files.

    Args:
        fleet: where they are.
        calls: the wire.
        renewals: which certificates vehicles show.
        downloads: the images.
        verifications: the checks.
        journal: what vehicles persist.
    """

    def __init__(
        self,
        fleet: Fleet,
        calls: VehicleCalls,
        renewals: Renewals,
        downloads: Downloads,
        verifications: Verifications,
        journal: StateJournal,
    ) -> None:
        self._fleet = fleet
        self._journal = journal
        self._calls = calls
        self._renewals = renewals
        self._downloads = downloads
        self._verifications = verifications

    def save(self, car: Car, state: CarState) -> None:
        """Append the vehicle's state to the journal."""
        self._journal.save(car.spec.vehicle_id, state)

    def discard(self, car: Car) -> None:
        """Remove the vehicle's downloads."""
        discard(self._fleet.home(car.spec.vehicle_id).downloads)

    async def call(self, car: Car, call: Call) -> Input:
        """Call with the vehicle's certificate, renewed when that is due."""
        vehicle_id = car.spec.vehicle_id
        tls = await self._renewals.identity(vehicle_id)
        answer = await self._calls.make(vehicle_id, tls, call)
        self._renewals.learn(vehicle_id, tls, answer)
        return answer

    async def download(self, car: Car, download: Download) -> Input:
        """Fetch into the vehicle's folder."""
        return await self._downloads.fetch(self._fleet.home(car.spec.vehicle_id).downloads, download)

    async def verify(self, car: Car, verify: Verify, now: int) -> Input:
        """Verify with what the vehicle holds."""
        folder = self._fleet.home(car.spec.vehicle_id).metadata
        return await self._verifications.verify(folder, car.spec, verify, car.state.agent.ecus, now)


_Car = TypeVar("_Car", bound=Car)


def make_car(
    fleet: Fleet,
    spec: VehicleSpec,
    state: CarState | None,
    scenario: Scenario,
    verifications: Verifications,
    kind: type[_Car],
) -> _Car:
    """A vehicle as it was left, or fresh from the factory when `state` is None.

    Raises:
        SimulationError: its files cannot be used.
    """
    home = fleet.home(spec.vehicle_id)
    if state is None:
        director, image = verifications.held(home.metadata, spec)
        ecus = tuple(
            Ecu(ecu.serial, ecu.hardware_id, ecu.primary, slots=(fleet.factory[ecu.hardware_id].installed, None))
            for ecu in spec.ecus
        )
        agent = fresh_state(
            outbox_id=secrets.token_hex(8), ecus=ecus, director=held_versions(director), image=held_versions(image)
        )
        state = CarState(agent=agent)
    faults = [part.fault for part in scenario.faults]
    return kind(
        spec,
        state,
        surroundings=Surroundings(spec.vehicle_id, spec.connectivity, spec.zone),
        book=fault_book(scenario.seed, spec.vehicle_id, faults, hardware=spec.hardware, region=spec.region),
        agent_config=scenario.agent.agent,
        body=scenario.agent.body,
        sign=ManifestSigner(home.path, spec),
        seed=scenario.seed,
    )
