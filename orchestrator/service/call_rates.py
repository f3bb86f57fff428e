"""How often one vehicle may call, and how much it may have us write down: far more than any correct agent does, far
less than a hostile one would like.
"""

from __future__ import annotations

from collections import OrderedDict

from orchestrator.clock import FleetClock
from orchestrator.model.ids import VehicleId
from orchestrator.service.errors import TooManyCallsError

WINDOW_MS = 600_000
"""Fleet time."""
CALLS_MAX = 600
"""Calls of one vehicle in a window, at one worker. An agent that installs makes about a dozen."""
WORDS_WINDOW_MS = 3_600_000
"""Fleet time."""
WORDS_MAX = 1024
"""Words of one vehicle in such a window, at one worker: events that it tells, permits that it asks for,
manifests that it hands in, by their size. An attempt takes about a dozen, and two for each control unit; a full outbox
after a tunnel some hundreds, and as many again for each answer that is lost.
"""
WORD_BYTES = 512
"""Of a manifest that count as one word: about what an entry of an event takes in the ledger."""
VEHICLES_MAX = 100_000
"""Vehicles remembered; the longest quiet are forgotten first."""


class CallRates:
    """Counts calls and words by vehicle in fixed windows of fleet time."""

    def __init__(self, clock: FleetClock) -> None:
        self._clock = clock
        self._calls = _Windows(WINDOW_MS)
        self._words = _Windows(WORDS_WINDOW_MS)

    def take(self, vehicle_id: VehicleId) -> None:
        """Count a call.

        Raises:
            TooManyCallsError: the vehicle has called too often; it names the wait.
        """
        calls, ends_at = self._calls.add(vehicle_id, 1, self._clock.now())
        if calls > CALLS_MAX:
            raise TooManyCallsError(
                f"{calls} calls in this window, at most {CALLS_MAX} are taken",
                reason="TOO_MANY_CALLS",
                remedy="wait as long as RetryInfo says, then poll at the pace of next_poll_after",
                retry_after_s=self._clock.machine_seconds_until(ends_at),
            )

    def receive(self, vehicle_id: VehicleId, size_bytes: int) -> None:
        """Count a manifest, which may be kept whole, as one word and one more for each WORD_BYTES.

        Raises:
            TooManyCallsError: the vehicle has said too much; it names the wait.
        """
        self.hear(vehicle_id, 1 + size_bytes // WORD_BYTES)

    def hear(self, vehicle_id: VehicleId, words: int) -> None:
        """Count words of a call, each of which may be written into the journal and so into the ledger. Those of a call
        that is refused count as well: who goes on and on is not let in between.

        Raises:
            TooManyCallsError: the vehicle has said too much; it names the wait.
        """
        if words == 0:
            return
        said, ends_at = self._words.add(vehicle_id, words, self._clock.now())
        if said > WORDS_MAX:
            raise TooManyCallsError(
                f"{said} words in this window (events, permits asked for, manifests), at most {WORDS_MAX} are taken",
                reason="TOO_MANY_EVENTS",
                remedy="keep the events and the manifest, wait as long as RetryInfo says, then send them again",
                retry_after_s=self._clock.machine_seconds_until(ends_at),
            )


class _Windows:
    """What was counted of each vehicle in the window in which it was heard last."""

    def __init__(self, length_ms: int) -> None:
        self._length_ms = length_ms
        self._counted: OrderedDict[VehicleId, tuple[int, int]] = OrderedDict()

    def add(self, vehicle_id: VehicleId, amount: int, now: int) -> tuple[int, int]:
        """Count more of a vehicle: how much it is in this window now, and when the window ends."""
        window = now // self._length_ms
        begun, before = self._counted.get(vehicle_id, (window, 0))
        count = before + amount if begun == window else amount
        self._counted[vehicle_id] = (window, count)
        self._counted.move_to_end(vehicle_id)
        if len(self._counted) > VEHICLES_MAX:
            self._counted.popitem(last=False)
        return count, (window + 1) * self._length_ms
