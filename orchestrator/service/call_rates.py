"""How often one vehicle may call: far more than any correct agent does, far less than a hostile one would like."""

from __future__ import annotations

from collections import OrderedDict

from orchestrator.clock import FleetClock
from orchestrator.model.ids import VehicleId
from orchestrator.service.errors import TooManyCallsError

WINDOW_MS = 600_000
"""Fleet time."""
CALLS_MAX = 600
"""Calls of one vehicle in a window, at one worker. An agent that installs makes about a dozen."""
VEHICLES_MAX = 100_000
"""Vehicles remembered; the longest quiet are forgotten first."""


class CallRates:
    """Counts calls by vehicle in fixed windows of fleet time."""

    def __init__(self, clock: FleetClock) -> None:
        self._clock = clock
        self._windows: OrderedDict[VehicleId, tuple[int, int]] = OrderedDict()

    def take(self, vehicle_id: VehicleId) -> None:
        """Count a call.

        Raises:
            TooManyCallsError: the vehicle has called too often; it names the wait.
        """
        now = self._clock.now()
        window = now // WINDOW_MS
        begun, calls = self._windows.get(vehicle_id, (window, 0))
        calls = calls + 1 if begun == window else 1
        self._windows[vehicle_id] = (window, calls)
        self._windows.move_to_end(vehicle_id)
        if len(self._windows) > VEHICLES_MAX:
            self._windows.popitem(last=False)
        if calls > CALLS_MAX:
            raise TooManyCallsError(
                f"{calls} calls in this window, at most {CALLS_MAX} are taken",
                reason="TOO_MANY_CALLS",
                remedy="wait as long as RetryInfo says, then poll at the pace of next_poll_after",
                retry_after_s=self._clock.machine_seconds_until((window + 1) * WINDOW_MS),
            )
