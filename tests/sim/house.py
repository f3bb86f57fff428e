"""The orchestrator's processes: workers that serve vehicles, evaluators that tick. Each can die and is started again.

Owns what a supervisor owns: which processes there are. All real but what is named in `world`: the servicer of the
vehicle port and the conversion behind it, the desks, the snapshot, the evaluator and the ledger's feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.rpc import code_pb2
from outrider.v1 import vehicle_pb2 as pb

from agent_sim.actions import (
    AuthorizeCall,
    Call,
    CallFailed,
    CheckInCall,
    FetchMetadataCall,
    Input,
    ManifestReplied,
    MetadataFetched,
    PermitReplied,
    PollReplied,
    SubmitManifestCall,
)
from agent_sim.messages import MetadataFile, Repository
from agent_sim.wire import authorize_request, check_in_request, permit_reply, poll_reply
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.evaluator import Evaluator
from orchestrator.ledger import LedgerError
from orchestrator.model.ids import VehicleId
from orchestrator.rpc.errors import status_of
from orchestrator.rpc.vehicle_servicer import VehicleServicer
from orchestrator.service.director import DirectorDesk
from orchestrator.service.fleet_care import FleetCareDesk
from orchestrator.service.image_files import ImageFiles
from orchestrator.service.last_seen import LastSeen
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.service.manifests import ManifestDesk
from orchestrator.service.permits import PermitDesk
from orchestrator.service.rollouts import RolloutDesk
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.service.vehicles import VehicleDesk
from orchestrator.service.waiting import PollPace
from orchestrator.store.base import StoreError
from orchestrator.store.memory import MemoryStore
from tests.builders import MINUTE_MS, NOW
from tests.sim.ledger import LedgerWindow, Record
from tests.sim.papers import NOWHERE, UnsignedDirector, verify_unsigned
from tests.sim.process import Died, Process, Saw, StoreWindow, Weather
from tests.sim.scenario import CALM, Hazards

PACE = PollPace(idle_ms=25 * MINUTE_MS, live_ms=6 * MINUTE_MS)
_FLUSH = 0.2
"""Chance that last contacts are written behind with a call: once a second, in truth."""
_REFUSED = frozenset(
    {code_pb2.INVALID_ARGUMENT, code_pb2.FAILED_PRECONDITION, code_pb2.PERMISSION_DENIED, code_pb2.NOT_FOUND}
)
"""As in `agent_sim.calls`: repeating the same call will not help."""


KINDS = ("worker", "evaluator", "desk")


class _NoMetrics:
    """Takes every number and keeps none: counting for people takes a fifth of a run."""

    def __getattr__(self, name: str) -> _NoMetrics:
        return self

    def __call__(self, *_: object, **__: object) -> _NoMetrics:
        return self


NO_METRICS: Any = _NoMetrics()


@dataclass(slots=True)
class Ground:
    """What all processes stand on."""

    store: MemoryStore
    record: Record
    saw: Saw
    rng: Random
    scale: float
    store_ms: Callable[[], int]
    weather: dict[str, Weather] = field(default_factory=lambda: {kind: Weather() for kind in KINDS})
    hazards: Hazards = CALM
    dates_off_ms: int = 0
    """How far the dates of our machines are off, at most."""
    names: int = 0

    def process(self, kind: str) -> Process:
        """A new process; none was ever called as it is."""
        self.names += 1
        return Process(f"{kind}-{self.names}", self.rng, self.weather[kind])

    def machine(self) -> MachineClock:
        """Machine time by a clock that nobody set."""
        loop = asyncio.get_running_loop()
        off_ns = round(self.rng.uniform(-1, 1) * self.dates_off_ms) * 1_000_000

        def read() -> int:
            return round(loop.time() * 1e9) + off_ns + NOW * 1_000_000

        return MachineClock(monotonic_ns=read, wall_ns=read)

    def fleet_clock(self, machine: MachineClock) -> FleetClock:
        """Fleet time as a process has it that has just asked the store."""
        return FleetClock(origin=NOW, started_ms=NOW, scale=self.scale, machine_ms=self.store_ms(), machine=machine)


class _Caller:
    """Whoever the certificate names."""

    def __init__(self, vehicle_id: str) -> None:
        self._vehicle_id = vehicle_id

    def auth_context(self) -> str:
        return self._vehicle_id


class _Identities:
    def vehicle(self, context: str) -> VehicleId:
        return VehicleId(context)


class _NoRates:
    def take(self, vehicle_id: VehicleId) -> None:
        """Nobody calls too often here."""

    def hear(self, vehicle_id: VehicleId, words: int) -> None:
        """Nobody says too much here."""

    def receive(self, vehicle_id: VehicleId, size_bytes: int) -> None:
        """Nor sends too much."""


class Worker:
    """A worker process.

    Args:
        ground: what it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.process = ground.process("worker")
        window: Any = StoreWindow(ground.store, self.process, ground.saw)
        machine = ground.machine()
        clock = ground.fleet_clock(machine)
        self._snapshots = SnapshotKeeper(window, clock, origin=NOW, scale=ground.scale)
        self._last_seen = LastSeen(window)
        self._read_at_s = float("-inf")
        self._stale_s = max(0.5, ground.hazards.stale_s * ground.rng.random())
        common: dict[str, Any] = {
            "store": window,
            "snapshots": self._snapshots,
            "clock": clock,
            "metrics": NO_METRICS,
        }
        identities: Any = _Identities()
        rates: Any = _NoRates()
        enrollment: Any = None
        self._servicer = VehicleServicer(
            desk=VehicleDesk(
                director=DirectorDesk(UnsignedDirector(), NOWHERE),
                images=ImageFiles(NOWHERE),
                last_seen=self._last_seen,
                pace=PACE,
                **common,
            ),
            permits=PermitDesk(last_seen=self._last_seen, **common),
            manifests=ManifestDesk(verify=verify_unsigned, **common),
            enrollment=enrollment,
            identities=identities,
            rates=rates,
            events_max=64,
            image_base_urls=("https://mirror.test",),
        )

    async def serve(self, vehicle_id: str, call: Call) -> Input | None:
        """Answer one call; None: the worker died of it."""
        try:
            await self._refresh()
            answer = await self._answer(_Caller(vehicle_id), call)
            if self._ground.rng.random() < _FLUSH:
                await self._last_seen.flush()
            return answer
        except Died:
            return None
        except Exception as error:
            status = status_of(error)
            if status is None:
                raise
            return CallFailed(call.token, refused=status.code in _REFUSED)

    async def _refresh(self) -> None:
        """What the worker knows by heart is read anew when it is old; the worker itself does so all the time."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at_s < self._stale_s:
            return
        try:
            await self._snapshots.refresh()
        except StoreError:
            return
        self._read_at_s = loop.time()

    async def _answer(self, caller: Any, call: Call) -> Input:
        match call:
            case CheckInCall(token=token, poll=poll):
                return PollReplied(token, poll_reply(await self._servicer.CheckIn(check_in_request(poll), caller)))
            case SubmitManifestCall(token=token, content=content):
                await self._servicer.SubmitManifest(pb.SubmitManifestRequest(manifest=content), caller)
                return ManifestReplied(token)
            case AuthorizeCall(token=token):
                response = await self._servicer.AuthorizeInstall(authorize_request(call), caller)
                return PermitReplied(token, permit_reply(response))
            case FetchMetadataCall(token=token):
                wanted = pb.FetchMetadataRequest(repository=pb.REPOSITORY_DIRECTOR, names=["timestamp.json"])
                found = await self._servicer.FetchMetadata(wanted, caller)
                files = tuple(MetadataFile(Repository.DIRECTOR, file.name, file.content) for file in found.files)
                return MetadataFetched(token, files)


class EvaluatorProcess:
    """An evaluator's process.

    Args:
        ground: what it stands on.
        tick_s: machine time between ticks.
    """

    def __init__(self, ground: Ground, *, tick_s: float) -> None:
        self.process = ground.process("evaluator")
        self.tick_s = tick_s
        window: Any = StoreWindow(ground.store, self.process, ground.saw)
        ledger: Any = LedgerWindow(ground.record, self.process)
        machine = ground.machine()
        self._evaluator = Evaluator(
            store=window,
            feed=LedgerFeed(window, ledger),
            clock=ground.fleet_clock(machine),
            machine=machine,
            metrics=NO_METRICS,
            origin=NOW,
            scale=ground.scale,
        )
        self.ticks = 0

    async def live(self) -> None:
        """Recover, then tick until it dies."""
        recovered = False
        while self.process.alive:
            try:
                if not recovered:
                    await self._evaluator.recover()
                    recovered = True
                await self._evaluator.tick()
                self.ticks += 1
            except (StoreError, LedgerError):
                pass
            except Died:
                return
            await asyncio.sleep(self.tick_s)


def a_rollout_desk(ground: Ground) -> RolloutDesk:
    """What people talk to about rollouts: the operator port of some worker."""
    window, machine = a_window(ground), ground.machine()
    clock = ground.fleet_clock(machine)
    return RolloutDesk(store=window, clock=clock, machine=machine, random_bytes=ground.rng.randbytes)


def a_care_desk(ground: Ground) -> FleetCareDesk:
    """What people talk to about vehicles: the same port."""
    return FleetCareDesk(store=a_window(ground), clock=ground.fleet_clock(ground.machine()))


def a_window(ground: Ground) -> Any:
    """The store as the worker reaches it that a person happens to talk to."""
    return StoreWindow(ground.store, ground.process("desk"), ground.saw)
