"""The shell that lets a fleet of pure cars live: one heap of due times, bounded work in flight, no task per vehicle.

Owns when each car is asked and which errand runs where. Leaves what cars do to `car`, and how an errand is done to
whoever implements `Errands`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent_sim.actions import (
    AuthorizeCall,
    Call,
    CheckInCall,
    DiscardImages,
    FetchMetadataCall,
    Input,
    SubmitManifestCall,
    Verify,
)
from agent_sim.car import Car, Download, Errand, Save
from agent_sim.car_state import CarState
from agent_sim.clock import FleetClock

_SLEEP_MAX_S = 0.25
_DUE_AT_ONCE = 64
"""Cars asked between two chances for the event loop to do other things."""


class Errands(Protocol):
    """How the shell does what cars ask for."""

    def save(self, car: Car, state: CarState) -> None:
        """Make a vehicle's state durable."""

    def discard(self, car: Car) -> None:
        """Forget a vehicle's downloads."""

    async def call(self, car: Car, call: Call) -> Input:
        """Make a call."""

    async def download(self, car: Car, download: Download) -> Input:
        """Fetch an image."""

    async def verify(self, car: Car, verify: Verify, now: int) -> Input:
        """Verify metadata."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """How much may be under way at once."""

    calls: int = 64
    downloads: int = 8
    verifications: int = 2


class Driver:
    """Drives cars.

    Args:
        cars: whom.
        errands: does what they ask for.
        clock: fleet time; must be known.
        in_flight: bounds.
    """

    def __init__(self, cars: Sequence[Car], errands: Errands, clock: FleetClock, in_flight: InFlight) -> None:
        self._cars = cars
        self._errands = errands
        self._clock = clock
        self._in_flight = in_flight
        self._heap: list[tuple[int, int]] = []
        self._armed: list[int | None] = [None] * len(cars)
        self._sooner = asyncio.Event()
        # A car has one call and one job outstanding at most; answers that a reboot made stale add to that, so the
        # bound is generous, and reaching it is an error and not a wait.
        bound = 8 * len(cars) + 64
        self._calls: asyncio.Queue[tuple[int, Call]] = asyncio.Queue(bound)
        self._downloads: asyncio.Queue[int] = asyncio.Queue(bound)
        self._files: dict[int, deque[Download | DiscardImages]] = {}
        """What is to be done with a car's files, one after the other: a download that was withdrawn still writes, and
        neither may its file go meanwhile nor another begin at the same one.
        """
        self._verifications: asyncio.Queue[tuple[int, Verify]] = asyncio.Queue(bound)

    @property
    def waiting(self) -> int:
        """Errands that wait for a free hand: above 0 for long means the machine is too slow for the scale."""
        return self._calls.qsize() + self._downloads.qsize() + self._verifications.qsize()

    async def run(self, stop: asyncio.Event) -> None:
        """Drive until `stop` is set.

        Raises:
            OSError: this machine's disk failed.
        """
        async with asyncio.TaskGroup() as group:
            hands = [group.create_task(self._call_hand()) for _ in range(self._in_flight.calls)]
            hands += [group.create_task(self._download_hand()) for _ in range(self._in_flight.downloads)]
            hands += [group.create_task(self._verification_hand()) for _ in range(self._in_flight.verifications)]
            try:
                await self._drive(stop)
            finally:
                for hand in hands:
                    hand.cancel()

    async def _drive(self, stop: asyncio.Event) -> None:
        for index, car in enumerate(self._cars):
            self._take(index, car.start(self._clock.now()))
            if index % _DUE_AT_ONCE == 0:
                await asyncio.sleep(0)
        while not stop.is_set():
            if self._ask_due():
                await asyncio.sleep(0)
                continue
            self._sooner.clear()
            await self._nap(self._sleep_s())

    async def _nap(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._sooner.wait()
        except TimeoutError:
            return

    def _sleep_s(self) -> float:
        if not self._heap:
            return _SLEEP_MAX_S
        return min(_SLEEP_MAX_S, self._clock.machine_seconds_until(self._heap[0][0]))

    def _ask_due(self) -> bool:
        """Ask cars that are due, some at a time; whether more may be due."""
        now = self._clock.now()
        for _ in range(_DUE_AT_ONCE):
            if not self._heap or self._heap[0][0] > now:
                return False
            due_at, index = heapq.heappop(self._heap)
            if self._armed[index] == due_at:
                self._armed[index] = None
                self._take(index, self._cars[index].handle_due(now))
        return True

    def _take(self, index: int, errands: Sequence[Errand]) -> None:
        """Do at once what is quick, hand out the rest, in order."""
        car = self._cars[index]
        for errand in errands:
            match errand:
                case Save(state=state):
                    self._errands.save(car, state)
                case DiscardImages() if index not in self._files:
                    self._errands.discard(car)
                case CheckInCall() | SubmitManifestCall() | AuthorizeCall() | FetchMetadataCall():
                    self._calls.put_nowait((index, errand))
                case Download() | DiscardImages():
                    self._put_behind(index, errand)
                case Verify():
                    self._verifications.put_nowait((index, errand))
        self._arm(index)

    def _put_behind(self, index: int, errand: Download | DiscardImages) -> None:
        files = self._files.setdefault(index, deque())
        files.append(errand)
        if len(files) == 1:
            self._downloads.put_nowait(index)

    def _next_behind(self, index: int) -> None:
        """The first is done: hand out what waits behind it."""
        files = self._files[index]
        files.popleft()
        if files:
            self._downloads.put_nowait(index)
        else:
            del self._files[index]

    def _arm(self, index: int) -> None:
        due_at = self._cars[index].due_at
        if due_at == self._armed[index]:
            return
        self._armed[index] = due_at
        if due_at is not None:
            heapq.heappush(self._heap, (due_at, index))
            if self._heap[0] == (due_at, index):
                self._sooner.set()

    def _answer(self, index: int, happened: Input) -> None:
        self._take(index, self._cars[index].handle(happened, self._clock.now()))

    async def _call_hand(self) -> None:
        while True:
            index, call = await self._calls.get()
            self._answer(index, await self._errands.call(self._cars[index], call))

    async def _download_hand(self) -> None:
        while True:
            index = await self._downloads.get()
            errand, answer = self._files[index][0], None
            if isinstance(errand, Download):
                answer = await self._errands.download(self._cars[index], errand)
            else:
                self._errands.discard(self._cars[index])
            self._next_behind(index)
            if answer is not None:
                self._answer(index, answer)

    async def _verification_hand(self) -> None:
        while True:
            index, verify = await self._verifications.get()
            self._answer(index, await self._errands.verify(self._cars[index], verify, self._clock.now()))
