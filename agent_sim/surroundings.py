"""How a simulated vehicle stands at any moment: driven or parked, on which link, how full its battery. Pure.

Owns the habits behind each way of being connected; the same vehicle and moment give the same answer, and no state is
kept. Leaves whether there is a link at all to `connectivity`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from agent_sim.connectivity import Connectivity, LinkModel
from agent_sim.faults import draw
from agent_sim.messages import Conditions, Link

_DAY_MIN = 1440
_COMMUTES = ((450, 495), (1020, 1065))
"""Minutes of the local day in which a vehicle that is always connected is driven: 07:30 and 17:00, 45 min each."""
_HABIT_SPREAD_MIN = 120
"""Not everybody drives at once: each vehicle's day lies up to half of this earlier or later."""
_HOME = (1140, 420)
"""Minutes of the local day between which it stands at home: 19:00 to 07:00."""
_DRIVE_MAX_MS = 3_600_000
_DRIVE_SHARE = 0.1
"""A vehicle with a round of its own drives for this share of its time out, at most an hour, as it leaves and comes."""
_FULL_PERCENT, _USE_MIN_PERCENT, _USE_MAX_PERCENT = 95, 15, 75


class World(Protocol):
    """Where and how one vehicle stands."""

    def conditions(self, now: int) -> Conditions:
        """At fleet time `now`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One vehicle's habits."""

    vehicle_id: str
    connectivity: Connectivity
    zone: str = ""
    """IANA time zone of its day; empty means UTC."""

    def conditions(self, now: int) -> Conditions:
        """How it stands at fleet time `now`."""
        parked = not self._driven(now)
        link = self.connectivity
        if link.home_wifi and parked and self._at_home(now):
            return Conditions(Link.WIFI, 85, metered=False, battery_percent=self._battery(now), parked=parked)
        return Conditions(Link.CELLULAR, 60, metered=link.metered, battery_percent=self._battery(now), parked=parked)

    def _minute(self, now: int) -> int:
        """Minute of this vehicle's day: local time, moved by its own habit."""
        local = datetime.fromtimestamp(now // 1000, tz=ZoneInfo(self.zone) if self.zone else UTC)
        habit = (draw("habit", self.vehicle_id) - 0.5) * _HABIT_SPREAD_MIN
        return round(local.hour * 60 + local.minute + habit) % _DAY_MIN

    def _driven(self, now: int) -> bool:
        link = self.connectivity
        if link.period_ms == 0:
            return any(begin <= self._minute(now) < end for begin, end in _COMMUTES)
        into = (now + link.phase_ms) % link.period_ms
        if link.model is LinkModel.TUNNEL:
            # It drives into the gap and out of it.
            return into >= link.online_ms or into < _DRIVE_SHARE * link.online_ms
        drive_ms = min(_DRIVE_MAX_MS, round(_DRIVE_SHARE * link.online_ms))
        return into < drive_ms or link.online_ms - drive_ms <= into < link.online_ms

    def _at_home(self, now: int) -> bool:
        if self.connectivity.period_ms:
            return True
        begin, end = _HOME
        minute = self._minute(now)
        return minute >= begin or minute < end

    def _battery(self, now: int) -> int:
        """Full in the morning, used over the day by a share of its own, charged at home from the evening on."""
        use = _USE_MIN_PERCENT + draw("battery", self.vehicle_id) * (_USE_MAX_PERCENT - _USE_MIN_PERCENT)
        begin, end = _HOME
        minute = self._minute(now)
        if end <= minute < begin:
            return round(_FULL_PERCENT - use * (minute - end) / (begin - end))
        charged = ((minute - begin) % _DAY_MIN) / ((end - begin) % _DAY_MIN)
        return round(_FULL_PERCENT - use * (1 - charged))
