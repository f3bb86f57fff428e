"""One scenario's stage: a vehicle, its server, its agent, what was seen, and what is found.

Owns set-up, clean-up and waiting. Scenarios say what happens and what it means; invariants are judged over every tape.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from outrider.v1 import vehicle_pb2 as pb

from agent_sim.clock import machine_ms
from agent_sim.conform.desk import Desk, Offer
from agent_sim.conform.metadata import Bundle, Signatory
from agent_sim.conform.mischief import Fault, Mischief
from agent_sim.conform.process import AgentProcess, agent_command
from agent_sim.conform.server import ScenarioServer
from agent_sim.conform.tape import AUTHORIZE, CHECK_IN, SeenCall, Tape
from agent_sim.conform.verdicts import Finding, Verdict
from agent_sim.conform.words import kind_name
from agent_sim.conform.world import ORIGIN, RELEASE, ConformVehicle, World


class StalledError(Exception):
    """The agent did not do what a scenario waits for."""

    def __init__(self, clause: str, what: str) -> None:
        super().__init__(what)
        self.clause = clause


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a run is made."""

    agent: str
    """Command, with `{folder}`."""
    scale: float = 120.0
    """Fleet seconds in a machine second."""
    patience_s: float = 45.0
    """Machine time that an agent may take for one step."""


@dataclass
class Stage:
    """Everything a scenario works with."""

    name: str
    conditions: Conditions
    world: World
    vehicle: ConformVehicle
    tape: Tape = field(default_factory=Tape)
    mischief: Mischief = field(default_factory=Mischief)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the parts that need each other."""
        self._begun_ms = machine_ms()
        self.fleet_back_ms = 0
        """How far the server's fleet time is set back: a replayed past."""
        self.desk = Desk(self.vehicle, self.fleet_ms)
        self.server = ScenarioServer(self.world, self.vehicle, self.desk, self.mischief, self.tape)
        self.signatory = Signatory(self.world, self.vehicle)
        self._log = self.vehicle.folder.path / "agent.log"
        command = agent_command(self.conditions.agent, self.vehicle.folder.path)
        self.agent = AgentProcess(command, self._log, self.tape)
        self._tasks: asyncio.TaskGroup | None = None
        self.offered: list[str] = []
        """Every attempt that the server named."""

    # Time

    def fleet_ms(self) -> int:
        """Fleet time as the server tells it."""
        elapsed_ms = (machine_ms() - self._begun_ms) * self.conditions.scale
        return round(ORIGIN.timestamp() * 1000 + elapsed_ms) - self.fleet_back_ms

    def fleet_now(self) -> datetime:
        """The same as metadata writes it."""
        return datetime.fromtimestamp(self.fleet_ms() // 1000, tz=UTC)

    def machine_s(self, fleet_s: float) -> float:
        """How long so much fleet time is on the machine."""
        return fleet_s / self.conditions.scale

    def fleet_s(self, from_ms: float, to_ms: float) -> float:
        """How much fleet time went by between two moments of machine time."""
        return (to_ms - from_ms) * self.conditions.scale / 1000

    # What happens

    def offer(self, version: str = RELEASE, *, bundle: Bundle | None = None, **about: Any) -> Offer:
        """Offer a release; `bundle` replaces the good metadata."""
        images = self.world.released(version, self.vehicle)
        attempt_id = self.new_attempt_id()
        self.desk.bundle = bundle or self.signatory.assign(images, self.fleet_now())
        self.server.images.extra = self.desk.bundle.extra_images
        self.desk.offer = Offer(attempt_id, version, images, **about)
        return self.desk.offer

    def new_attempt_id(self) -> str:
        """The id of one more attempt of this vehicle."""
        attempt_id = f"r{len(self.offered) + 1}.{self.vehicle.vehicle_id}.1"
        self.offered.append(attempt_id)
        return attempt_id

    async def start_agent(self) -> None:
        """Power on."""
        assert self._tasks is not None, "the stage is set"
        await self.agent.start(self._tasks)

    async def restart_agent(self) -> None:
        """Kill -9, and power on again."""
        await self.agent.kill()
        await self.start_agent()

    def fault(self, method: str, **how: Any) -> Fault:
        """Let a call go wrong."""
        return self.mischief.order(Fault(method, **how))

    # Waiting

    async def until(
        self, holds: Callable[[], bool], clause: str, what: str, *, patience_s: float | None = None
    ) -> None:
        """Wait until the agent did what it should.

        Args:
            holds: whether it did.
            clause: what it breaks by never doing it.
            what: what is waited for, for the verdict.
            patience_s: machine time; None: the run's.

        Raises:
            StalledError: it did not, in time.
        """
        patience_s = patience_s or self.conditions.patience_s
        came = await self.tape.until(lambda: holds() or self.agent.gave_up, patience_s) and holds()
        if not came and self.agent.gave_up:
            raise StalledError(clause, f"{what} never came; the agent ended {self.agent.exits} times by itself")
        if not came:
            raise StalledError(clause, f"waited {patience_s:.0f} s; {what} never came")

    async def watch(self, fleet_s: float) -> None:
        """Let fleet time pass: at least so much, and two seconds of the machine's."""
        await asyncio.sleep(max(2.0, self.machine_s(fleet_s)))

    async def polled(self, count: int = 1, *, clause: str = "P-POLL-1") -> None:
        """Wait for so many further polls that are answered."""
        before = len(self.answered_polls())
        await self.until(lambda: len(self.answered_polls()) >= before + count, clause, "the next poll")

    def answered_polls(self) -> list[SeenCall]:
        """Polls that had an answer."""
        return [call for call in self.tape.calls(CHECK_IN) if call.answered]

    async def told(self, kind: int, clause: str, *, attempt_id: str = "") -> Any:
        """Wait for an event; returns it."""
        name = kind_name(kind)
        await self.until(lambda: bool(self.tape.events(kind, attempt_id)), clause, f"event {name}")
        return self.tape.events(kind, attempt_id)[0]

    async def succeeded(self, offer: Offer, clause: str = "P-MANIFEST-4") -> None:
        """Wait for the manifest that proves the release."""
        await self.until(lambda: offer.succeeded, clause, f"a manifest that proves {offer.release} on every unit")

    def asked(self, attempt_id: str = "") -> list[SeenCall]:
        """Questions for a permit, about one attempt or any."""
        calls = self.tape.calls(AUTHORIZE)
        return [call for call in calls if attempt_id in ("", call.request.attempt_id)]

    def rejected(self, attempt_id: str) -> list[Any]:
        """Events REJECTED."""
        return self.tape.events(pb.EVENT_KIND_REJECTED, attempt_id)

    def installing(self, attempt_id: str) -> bool:
        """Whether the vehicle told that it installs."""
        return bool(self.tape.events(pb.EVENT_KIND_INSTALL_STARTED, attempt_id))

    # Findings

    def check(self, clause: str, kept: bool, seen: str) -> None:
        """Say whether a clause was kept; `seen` is told when it was not."""
        verdict = Verdict.PASS if kept else Verdict.FAIL
        self.findings.append(Finding(clause, verdict, self.name, "" if kept else seen))

    def kept(self, *clauses: str) -> None:
        """These clauses were seen to be kept."""
        for clause in clauses:
            self.check(clause, True, "")

    def skip(self, clauses: Iterable[str], why: str) -> None:
        """These clauses cannot be judged here."""
        for clause in clauses:
            self.findings.append(Finding(clause, Verdict.NOT_JUDGED, self.name, why))

    @property
    def failed(self) -> bool:
        """Whether a breach was found."""
        return any(finding.verdict is Verdict.FAIL for finding in self.findings)


@asynccontextmanager
async def set_stage(name: str, conditions: Conditions, world: World, vehicle_id: str) -> AsyncIterator[Stage]:
    """A stage with its server up and no agent yet; everything ends with it.

    Raises:
        InputFileError: the agent's command is unusable.
        OSError: a port or a file cannot be had.
    """
    stage = Stage(name, conditions, world, world.make_vehicle(vehicle_id))
    async with asyncio.TaskGroup() as tasks:
        stage._tasks = tasks
        await stage.server.start()
        enrollment, vehicles = stage.server.endpoints
        stage.vehicle.folder.connect(enrollment=enrollment, vehicles=vehicles, scale=conditions.scale)
        try:
            yield stage
        finally:
            await stage.agent.kill()
            await stage.server.stop()
