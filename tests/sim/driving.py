"""One simulated vehicle and its shell: disk, power, clock and link around the pure car of `agent_sim`.

Owns that state is on disk before anything is sent, that power goes in between, and that a reply for a vehicle that was
restarted meanwhile is lost. Watches the vehicle's own promises: nothing is installed without a permit that is still
good, no event leaves the outbox that the store does not have.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from agent_sim.actions import (
    AuthorizeCall,
    CheckInCall,
    DiscardImages,
    FetchBroken,
    FetchMetadataCall,
    ImageFetched,
    Input,
    SubmitManifestCall,
    VerificationFailed,
    Verified,
    Verify,
)
from agent_sim.car import BodyConfig, Car, Download, Errand, Save
from agent_sim.car_state import CarState
from agent_sim.ecu import WantedImage
from agent_sim.faults import FaultBook
from agent_sim.messages import MetadataVersions, Repository
from agent_sim.pacing import AgentConfig
from agent_sim.persisted import Phase, fresh_state
from agent_sim.surroundings import Surroundings
from agent_sim.vehicle import VehicleSpec
from tests.builders import MINUTE_MS
from tests.sim.limits import BrokenPromiseError
from tests.sim.network import Network
from tests.sim.papers import sign_unsigned
from tests.sim.scenario import CALM, Hazards, factory_ecus
from tests.sim.witness import Witness

ROOTS = MetadataVersions(root=1)
AGENT = AgentConfig(first_poll_within_ms=5 * MINUTE_MS)
BODY = BodyConfig(install_ms=3 * MINUTE_MS, reboot_ms=MINUTE_MS)
_DOWNLOAD_S = (0.2, 3.0)
_MOMENT_MS = 5
"""What rounding of two clocks may make of one moment."""


@dataclass(frozen=True, slots=True)
class Clockwork:
    """Time as all vehicles share it."""

    fleet_ms: Callable[[], int]
    scale: float


class Vehicle:
    """A vehicle on the road.

    Args:
        spec: what the factory made.
        book: its faults.
        network: its link.
        witness: told of what truly happens.
        clockwork: fleet time.
        skew_ms: how far its clock is off.
        rng: of the run.
    """

    def __init__(
        self,
        spec: VehicleSpec,
        book: FaultBook,
        *,
        network: Network,
        witness: Witness,
        clockwork: Clockwork,
        skew_ms: int,
        rng: Random,
    ) -> None:
        self.spec = spec
        self.hazards: Hazards = CALM
        self.dies_fetching = ""
        """Release that silences it as soon as it fetches it."""
        self.dies_installing = ""
        """Release that silences it while it is being written."""
        self._book = book
        self._network = network
        self._witness = witness
        self._clockwork = clockwork
        self._skew_ms = skew_ms
        self._rng = rng
        self._boxes = 1
        agent = fresh_state(outbox_id=f"{spec.vehicle_id}-box-1", ecus=factory_ecus(spec), director=ROOTS, image=ROOTS)
        self.disk = CarState(agent=agent)
        self._held: tuple[int, tuple[WantedImage, ...]] = (0, ())
        """What its verifier holds: timestamp version, and the images it assigns."""
        self._car: Car | None = None
        self._power = 0
        """How often it was switched on."""
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is under way and everything is told."""
        return bool(self.disk.bricked_by) or (self._car is not None and self._car.settled)

    def switch_on(self) -> None:
        """Power on, with what the disk holds."""
        self._power += 1
        self._car = Car(
            self.spec,
            self.disk,
            surroundings=Surroundings(self.spec.vehicle_id, self.spec.connectivity),
            book=self._book,
            agent_config=AGENT,
            body=BODY,
            sign=sign_unsigned,
            seed=self._book.seed,
        )
        self._take(self._car.start(self._now()))

    def switch_off(self) -> None:
        """Power goes: what is not on disk is gone."""
        self._car = None
        self._power += 1
        if self._alarm is not None:
            self._alarm.cancel()

    def _now(self) -> int:
        return self._clockwork.fleet_ms() + self._skew_ms

    def _lose_power(self) -> None:
        self.switch_off()
        if self._rng.random() < self.hazards.memory_loss:
            self._boxes += 1
            self._witness.resets.add(self.spec.vehicle_id)
            box = f"{self.spec.vehicle_id}-box-{self._boxes}"
            self._held = (0, ())
            self.disk = replace(
                self.disk,
                agent=fresh_state(outbox_id=box, ecus=self.disk.agent.ecus, director=ROOTS, image=ROOTS),
            )
        asyncio.get_running_loop().call_later(self._rng.uniform(0.5, 10.0), self._come_back)

    def _come_back(self) -> None:
        if self._car is None:
            self.switch_on()

    def _take(self, errands: Sequence[Errand]) -> None:
        """Run errands in order; power may go between any two."""
        for errand in errands:
            if isinstance(errand, Save):
                self._save(errand.state)
            else:
                self._run(errand)
            if self._silenced(errand):
                return
            if self._rng.random() < self.hazards.power_loss:
                self._lose_power()
                return
        self._arm()

    def _silenced(self, errand: Errand) -> bool:
        """Whether the release silenced it before any restart, for ever; cars themselves know of restarts only."""
        progress = self.disk.agent.progress
        fetching = isinstance(errand, Download) and progress is not None and progress.release == self.dies_fetching
        writing = progress is not None and progress.phase is Phase.INSTALLING
        if not fetching and not (writing and progress is not None and progress.release == self.dies_installing):
            return False
        self.switch_off()
        self.disk = replace(self.disk, bricked_by=progress.release if progress else "")
        return True

    def _run(self, errand: Errand) -> None:
        match errand:
            case CheckInCall() | SubmitManifestCall() | AuthorizeCall() | FetchMetadataCall():
                self._network.send(self.spec.vehicle_id, errand, self._taker())
            case Verify():
                self._later(0.1, self._verified(errand))
            case Download(fetch=fetch, break_at=break_at):
                answer = ImageFetched(fetch.token) if break_at is None else FetchBroken(fetch.token, break_at)
                self._later(self._rng.uniform(*_DOWNLOAD_S), answer)
            case DiscardImages():
                pass

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        due_at = self._car.due_at if self._car is not None else None
        if due_at is not None:
            wait_s = max(0.0, (due_at - self._now()) / self._clockwork.scale / 1000)
            # A millisecond more, so that rounding does not wake it before it is due, again and again.
            self._alarm = asyncio.get_running_loop().call_later(wait_s + 0.001, self._due)

    def _due(self) -> None:
        if self._car is not None:
            self._take(self._car.handle_due(self._now()))

    def _taker(self) -> Callable[[Input], None]:
        """Takes an answer if the vehicle was not switched off since."""
        power = self._power

        def take(happened: Input) -> None:
            if self._car is not None and self._power == power:
                self._take(self._car.handle(happened, self._now()))

        return take

    def _later(self, wait_s: float, happened: Input) -> None:
        asyncio.get_running_loop().call_later(wait_s, self._taker(), happened)

    def _verified(self, verify: Verify) -> Verified | VerificationFailed:
        """What a verifier says of files without signatures: versions only rise, and what is held counts."""
        held, images = self._held
        for file in verify.files:
            if file.repository is Repository.DIRECTOR and file.name == "timestamp.json":
                data = json.loads(file.content)
                if data["timestamp_version"] < held:
                    return VerificationFailed(verify.token, "rollback")
                held = data["timestamp_version"]
                images = tuple(
                    WantedImage(**{**image, "ecu_serials": tuple(image["ecu_serials"])}) for image in data["images"]
                )
        self._held = (held, images)
        return Verified(verify.token, images, replace(ROOTS, timestamp=held), ROOTS)

    # What truly happens

    def _save(self, state: CarState) -> None:
        before, self.disk = self.disk, state
        self._witness_outbox(before, state)
        progress, earlier = state.agent.progress, before.agent.progress
        if progress is None or progress.phase is not Phase.INSTALLING:
            return
        if earlier is None or earlier.attempt_id != progress.attempt_id or earlier.phase is not Phase.INSTALLING:
            self._witness.installs(progress.attempt_id, self._clockwork.fleet_ms() - _MOMENT_MS)

    def _witness_outbox(self, before: CarState, state: CarState) -> None:
        outbox = state.agent.outbox
        if outbox.outbox_id != before.agent.outbox.outbox_id:
            return
        forgotten = (outbox.events[0].number if outbox.events else outbox.next_number) - 1
        kept = (before.agent.outbox.events[0].number if before.agent.outbox.events else outbox.next_number) - 1
        if forgotten > kept and not self._witness.has(outbox.outbox_id, forgotten):
            raise BrokenPromiseError(f"{self.spec.vehicle_id} forgot event {forgotten}, which nobody has")
