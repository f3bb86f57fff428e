"""Builders of simulator values with defaults, and a pump that lets a pure car and a pure orchestrator talk."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_sim.actions import (
    AuthorizeCall,
    Call,
    CallFailed,
    CheckInCall,
    DiscardImages,
    FetchBroken,
    FetchMetadataCall,
    ImageFetched,
    Input,
    ManifestReplied,
    MetadataFetched,
    PermitReplied,
    PollReplied,
    SubmitManifestCall,
    Verified,
    Verify,
)
from agent_sim.agent import Agent
from agent_sim.car import BodyConfig, Car, Download, Errand, Save
from agent_sim.car_state import CarState, car_state_from_json
from agent_sim.connectivity import Connectivity
from agent_sim.ecu import Ecu, InstalledImage, WantedImage
from agent_sim.faults import Fault, fault_book
from agent_sim.messages import Conditions, Diagnostic, MetadataVersions
from agent_sim.owner import USUAL_OWNER, Owner
from agent_sim.pacing import AgentConfig
from agent_sim.persisted import PersistedState, fresh_state
from agent_sim.surroundings import World
from agent_sim.vehicle import EcuSpec, VehicleSpec
from tests.agent_sim.fake_orchestrator import FakeOrchestrator, unsigned_manifest

START = 1_800_000_000_000
"""Fleet time at which tests begin."""
OLD = InstalledImage("acme/gw-1-1.0.0.img", 1000, "0" * 64, 1_000_000)
OLD_BRAKE = InstalledImage("acme/brake-1-1.0.0.img", 1000, "1" * 64, 1_000_000)
NEW = WantedImage("acme/gw-1-1.1.0.img", 2000, "a" * 64, "acme-gw-1", 1_001_000, ("v1-e0",))
NEW_BRAKE = WantedImage("acme/brake-1-1.1.0.img", 3000, "b" * 64, "acme-brake-1", 1_001_000, ("v1-e1",))


def some_ecus() -> tuple[Ecu, ...]:
    """A Primary and a Secondary that run the factory's images."""
    return (
        Ecu("v1-e0", "acme-gw-1", primary=True, slots=(OLD, None)),
        Ecu("v1-e1", "acme-brake-1", primary=False, slots=(OLD_BRAKE, None)),
    )


def a_state(outbox_id: str = "box-1") -> PersistedState:
    """An agent that remembers nothing."""
    root = MetadataVersions(root=1)
    return fresh_state(outbox_id=outbox_id, ecus=some_ecus(), director=root, image=root)


@dataclass
class StandIn:
    """Senses that a test sets."""

    now_are: Conditions = field(default_factory=Conditions)
    active: tuple[Diagnostic, ...] = ()
    leaving: bool = False

    def leaves_reach(self, now: int) -> bool:
        """As set."""
        return self.leaving

    def conditions(self, now: int) -> Conditions:
        """As set."""
        return self.now_are

    def diagnostics(self, now: int) -> tuple[Diagnostic, ...]:
        """As set."""
        return self.active


def an_agent(
    state: PersistedState | None = None,
    *,
    seed: int = 1,
    tokens: Iterator[int] | None = None,
    wait_ms: int = 0,
    senses: StandIn | None = None,
) -> Agent:
    """An agent that polls at once after power on."""
    return Agent(
        AgentConfig(first_poll_within_ms=wait_ms),
        state or a_state(),
        senses=senses or StandIn(),
        sign=unsigned_manifest,
        rng=random.Random(seed),
        tokens=tokens or itertools.count(1),
    )


def a_vehicle(connectivity: Connectivity | None = None, owner: Owner = USUAL_OWNER) -> VehicleSpec:
    """A vehicle with two units."""
    return VehicleSpec(
        vehicle_id="v1",
        model="S",
        hardware="gen1",
        region="eu",
        cohort="canary",
        tags=(),
        ecus=(EcuSpec("v1-e0", "acme-gw-1", True), EcuSpec("v1-e1", "acme-brake-1", False)),
        connectivity=connectivity or Connectivity(),
        owner=owner,
    )


def a_car(
    *faults: Fault,
    state: CarState | None = None,
    connectivity: Connectivity | None = None,
    owner: Owner = USUAL_OWNER,
    seed: int = 1,
    world: World | None = None,
) -> Car:
    """A car with `faults`."""
    return Car(
        a_vehicle(connectivity, owner),
        state or CarState(agent=a_state()),
        surroundings=world or StandIn(),
        book=fault_book(seed, "v1", faults, hardware="gen1", region="eu"),
        agent_config=AgentConfig(first_poll_within_ms=0),
        body=BodyConfig(),
        sign=unsigned_manifest,
        seed=seed,
    )


@dataclass
class Road:
    """A pure car and a pure orchestrator, and everything between them: calls, downloads, verification, disk."""

    car: Car
    orchestrator: FakeOrchestrator = field(default_factory=FakeOrchestrator)
    now: int = START
    saved: CarState | None = None
    received: dict[str, int] = field(default_factory=dict)
    """Bytes on the vehicle by image digest."""
    offsets: list[int] = field(default_factory=list)
    """Where each download began."""

    def start(self) -> None:
        """Power on."""
        self.work(self.car.start(self.now))

    def work(self, errands: list[Errand]) -> None:
        """Run errands, and those that follow from them."""
        queue = list(errands)
        for _ in range(1000):
            if not queue:
                return
            errand = queue.pop(0)
            answer = self.answer(errand)
            if answer is not None:
                queue.extend(self.car.handle(answer, self.now))
        raise AssertionError("the car never comes to rest")

    def answer(self, errand: Errand) -> Input | None:
        """Do one errand the way a perfect world would."""
        match errand:
            case Save(state=state):
                self.saved = car_state_from_json(state.to_json())
            case CheckInCall(token=token, poll=poll):
                assert self.saved is not None or not poll.events, "events are persisted before they are sent"
                return PollReplied(token, self.orchestrator.check_in(poll))
            case SubmitManifestCall(token=token, content=content):
                self.orchestrator.submit(content)
                return ManifestReplied(token)
            case AuthorizeCall(token=token):
                return PermitReplied(token, self.orchestrator.authorize(errand))
            case FetchMetadataCall(token=token):
                return MetadataFetched(token, ())
            case Verify(token=token):
                return Verified(
                    token, self.orchestrator.images, MetadataVersions(1, 2, 2, 2), MetadataVersions(1, 1, 1, 1)
                )
            case Download(fetch=fetch, break_at=break_at):
                self.offsets.append(fetch.from_offset)
                if break_at is not None:
                    return FetchBroken(fetch.token, break_at)
                return ImageFetched(fetch.token)
            case DiscardImages():
                self.received.clear()
        return None

    def run(self, *, until: int) -> None:
        """Let fleet time pass up to START + `until`."""
        for _ in range(10_000):
            due_at = self.car.due_at
            if due_at is None or due_at > START + until:
                self.now = START + until
                return
            self.now = max(self.now, due_at)
            self.work(self.car.handle_due(self.now))
        raise AssertionError("the car is due all the time")


def failed(call: Call) -> CallFailed:
    """The call had no answer."""
    return CallFailed(call.token)
