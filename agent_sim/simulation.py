"""A run: builds every part, enrols, learns fleet time, drives the fleet, keeps the report fresh until it is over."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from agent_sim.actions import CheckInCall, PollReplied
from agent_sim.calls import VehicleCalls
from agent_sim.car import Car
from agent_sim.channels import ChannelPool
from agent_sim.clock import SCALE_BASELINE_MS, FleetClock, machine_date, machine_ms
from agent_sim.connectivity import Outage
from agent_sim.downloads import Downloads
from agent_sim.driver import Driver, InFlight
from agent_sim.endpoints import EndpointsFile
from agent_sim.enrolment import enrol, read_tokens
from agent_sim.errands import FleetErrands, make_car
from agent_sim.errors import SimulationError
from agent_sim.flash import Flash
from agent_sim.fleet import Fleet, load_fleet
from agent_sim.messages import Conditions
from agent_sim.renewal import Renewals
from agent_sim.report import Record, Run, running_release, vehicle_report
from agent_sim.scenario import Scenario
from agent_sim.state_journal import StateJournal
from agent_sim.steps import poll_of
from agent_sim.tally import Tally
from agent_sim.verification import Verifications, read_provisioning
from signing.pace import WINDOW_S

_EVERY_S = 1.0
_TIME_SHARE = 0.05
"""Reports may take this share of the time: a large fleet's come less often, but not for minutes, because what others
do meanwhile counts as well."""
_PAUSE_MAX_S = 30.0
_CARS_AT_ONCE = 64
"""Cars looked at between two chances for the event loop to do other things."""
_FIRST_REPLY_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run reads and writes."""

    endpoints: Path
    provisioning: Path
    fleet: Path
    tokens: Path | None
    """None: every vehicle has enrolled already."""
    report: Path
    stop: Path
    """A file that ends the run when it appears."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Bounds of a run."""

    scale: float | None = None
    """Fleet time in one unit of machine time; None: learn it from replies."""
    duration_ms: int | None = None
    """Fleet time; None: as the scenario says."""
    in_flight: InFlight = field(default_factory=InFlight)
    channels_max: int = 256
    call_timeout_s: float = 15.0
    slow_window_s: float = WINDOW_S
    """Machine time after which a mirror below the floor of the rate is given up."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which of several processes that drive one fleet this is."""

    number: int = 0
    of: int = 1

    @property
    def part(self) -> int | None:
        """Number of its part of the journal; None when it drives all."""
        return self.number if self.of > 1 else None


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands, for a progress line."""

    stage: str
    """`making`, `enrolling` or `driving`."""
    done: int
    """Vehicles that are made, enrolled, or settled."""
    total: int
    """Vehicles in all."""
    fleet_time_ms: int = 0
    by_release: tuple[tuple[str, int], ...] = ()
    bricked: int = 0
    calls: int = 0
    waiting: int = 0
    arrived: bool = False
    """Whether every vehicle that lives runs the scenario's release and has nothing more to tell."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    over: str
    """Why."""
    figures: Mapping[str, Any]
    """What it came to, as `Record.figures` says; empty when no vehicle drove."""


Show = Callable[[Progress], None]
_ALL = Share()


class Simulation:
    """One run of one scenario.

    Args:
        scenario: what to simulate.
        files: what it reads and writes.
        limits: bounds.
        share: which vehicles it drives; of several, none ends because its own have settled.
        wall: the machine's date, by which certificates are renewed.
    """

    def __init__(
        self,
        scenario: Scenario,
        files: RunFiles,
        limits: RunLimits,
        *,
        share: Share = _ALL,
        wall: Callable[[], datetime] = machine_date,
    ) -> None:
        self._wall = wall
        self._share = share
        self._scenario = scenario
        self._files = files
        self._limits = limits
        self._clock = FleetClock(limits.scale)
        self._tally = Tally()
        self._stop = asyncio.Event()
        self._over = ""
        self._figures: Mapping[str, Any] = {}

    def stop(self, reason: str) -> None:
        """End the run soon; the first reason counts."""
        self._over = self._over or reason
        self._stop.set()

    async def run(self, show: Show) -> Outcome:
        """Run until it is over.

        Raises:
            SimulationError: an input file, the fleet, or enrolment is unusable, or the orchestrator never answers.
        """
        files = self._files
        endpoints = EndpointsFile(files.endpoints)
        provisioning = read_provisioning(files.provisioning)
        whole = load_fleet(self._scenario, files.fleet)
        fleet = replace(whole, vehicles=whole.vehicles[self._share.number :: self._share.of])
        await enrol(
            {spec.vehicle_id: fleet.home(spec.vehicle_id) for spec in fleet.vehicles},
            read_tokens(files.tokens) if files.tokens else {},
            target=endpoints.current.enrollment,
            server_ca=provisioning.enrolment_ca.encode(),
            progress=lambda done, total: show(Progress("enrolling", done, total)),
        )
        with (
            closing(StateJournal(fleet.states, part=self._share.part)) as journal,
            ThreadPoolExecutor(self._limits.in_flight.verifications, "verify") as executor,
        ):
            verifications = Verifications(provisioning, executor, self._tally)
            cars = [
                make_car(fleet, spec, journal.found.get(spec.vehicle_id), self._scenario, verifications, Car)
                for spec in fleet.vehicles
            ]
            async with (
                self._calls(endpoints) as calls,
                self._downloads(provisioning.enrolment_ca, fleet.flash, executor) as downloads,
            ):
                await self._learn_time(fleet, cars, calls)
                renewals = Renewals(fleet.home, calls.renew, self._wall)
                errands = FleetErrands(fleet, calls, renewals, downloads, verifications, journal)
                await self._drive(cars, Driver(cars, errands, self._clock, self._limits.in_flight), show)
        return Outcome(self._over, self._figures)

    @asynccontextmanager
    async def _calls(self, endpoints: EndpointsFile) -> AsyncIterator[VehicleCalls]:
        pool = ChannelPool(endpoints.vehicles, self._tally, open_max=self._limits.channels_max)
        try:
            yield VehicleCalls(pool, self._clock, self._tally, timeout_s=self._limits.call_timeout_s)
        finally:
            await pool.close()

    @asynccontextmanager
    async def _downloads(self, server_ca: str, flash: Flash, executor: ThreadPoolExecutor) -> AsyncIterator[Downloads]:
        downloads = Downloads(
            server_ca,
            flash,
            executor,
            self._tally,
            connections_max=self._limits.in_flight.downloads,
            window_s=self._limits.slow_window_s,
        )
        try:
            yield downloads
        finally:
            await downloads.close()

    async def _learn_time(self, fleet: Fleet, cars: Sequence[Car], calls: VehicleCalls) -> None:
        """Poll as one vehicle until fleet time is known; its agent will say the same again, which counts nothing twice.

        Raises:
            SimulationError: no answer in time.
        """
        car = next((car for car in cars if not car.bricked), cars[0])
        call = CheckInCall(0, poll_of(car.state.agent, Conditions()))
        started = machine_ms()
        while not self._clock.known:
            tls = fleet.home(car.spec.vehicle_id).tls
            answer = await calls.make(car.spec.vehicle_id, tls, call)
            if self._stop.is_set():
                return
            if machine_ms() - started > _FIRST_REPLY_WITHIN_S * 1000:
                raise SimulationError(
                    f"no vehicle could check in within {_FIRST_REPLY_WITHIN_S:g} s (last: {answer}); "
                    "is `outrider serve` running, and were these vehicles imported?"
                )
            if not self._clock.known:
                await asyncio.sleep(SCALE_BASELINE_MS / 1000 if isinstance(answer, PollReplied) else 0.25)

    async def _drive(self, cars: Sequence[Car], driver: Driver, show: Show) -> None:
        if self._stop.is_set():
            return
        limit_ms = self._limits.duration_ms or self._scenario.run.duration
        began_at = self._clock.now()
        ends_at = began_at + limit_ms if limit_ms else None
        for car in cars:
            car.suffer(_outages(self._scenario, car.spec.region, began_at))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._now_and_then(lambda: self._look(cars, driver, ends_at, show)))
                group.create_task(self._now_and_then(lambda: self._report(cars, driver, "")))
                await driver.run(self._stop)
        finally:
            await self._report(cars, driver, self._over or "failed")

    async def _now_and_then(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it while the run goes on, at most for its share of the time."""
        while not self._stop.is_set():
            started = machine_ms()
            await work()
            took_s = (machine_ms() - started) / 1000
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_PAUSE_MAX_S, max(_EVERY_S, took_s / _TIME_SHARE))):
                    await self._stop.wait()

    async def _look(self, cars: Sequence[Car], driver: Driver, ends_at: int | None, show: Show) -> None:
        """Say how the run stands, and see when it is over."""
        progress = await self._progress(cars, driver)
        show(progress)
        if self._files.stop.exists():
            self.stop(f"stop file {self._files.stop}")
        elif ends_at is not None and self._clock.now() >= ends_at:
            self.stop("duration")
        elif progress.arrived and self._share.of == 1:
            self.stop("settled")

    async def _report(self, cars: Sequence[Car], driver: Driver, over: str) -> None:
        record, now = Record(), self._clock.now()
        async for car in _by_and_by(cars):
            record.take(car.spec.vehicle_id, vehicle_report(car, now))
        run = Run(self._scenario.name, self._scenario.seed, now, over, driver.waiting)
        record.write(self._files.report, self._tally, run)
        self._figures = record.figures(self._tally)

    async def _progress(self, cars: Sequence[Car], driver: Driver) -> Progress:
        by_release: Counter[str] = Counter()
        settled, bricked, arrived = 0, 0, 0
        async for car in _by_and_by(cars):
            release = running_release(car)
            by_release[release] += 1
            settled += car.settled
            bricked += car.bricked
            arrived += car.bricked or (car.settled and release == self._scenario.run.release)
        return Progress(
            "driving",
            done=settled,
            total=len(cars),
            fleet_time_ms=self._clock.now(),
            by_release=tuple(sorted(by_release.items())),
            bricked=bricked,
            calls=sum(self._tally.calls.values()),
            waiting=driver.waiting,
            arrived=self._scenario.run.until == "settled" and arrived == len(cars),
        )


def _outages(scenario: Scenario, region: str, began_at: int) -> Iterator[Outage]:
    """Of one region, in a run that began then."""
    for part in scenario.outages:
        if part.hits(region):
            yield Outage(began_at + part.after, began_at + part.after + part.duration)


async def _by_and_by(cars: Sequence[Car]) -> AsyncIterator[Car]:
    """Each car; others get their turn in between."""
    for number, car in enumerate(cars):
        if number % _CARS_AT_ONCE == 0:
            await asyncio.sleep(0)
        yield car
