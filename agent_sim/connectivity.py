"""When a vehicle has a link: models with a period, a time online in it, and a phase of each vehicle's own. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_HOUR_MS = 3_600_000
LEAVING_MS = 30 * 60_000
"""A vehicle knows so long before that it will be out of reach."""


class LinkModel(StrEnum):
    """How a vehicle lives."""

    ALWAYS = "always"
    """Cellular, always on."""
    TUNNEL = "tunnel"
    """Cellular with a gap every hour."""
    GARAGE = "garage"
    """Out of reach overnight."""
    WEEKLY = "weekly"
    """Driven once a week."""


DEFAULT_PERIOD_MS = {LinkModel.TUNNEL: _HOUR_MS, LinkModel.GARAGE: 24 * _HOUR_MS, LinkModel.WEEKLY: 168 * _HOUR_MS}
DEFAULT_METERED = frozenset({LinkModel.TUNNEL})
DEFAULT_HOME_WIFI = frozenset({LinkModel.GARAGE, LinkModel.WEEKLY})
DEFAULT_ONLINE_MS = {
    LinkModel.TUNNEL: 50 * 60_000,
    LinkModel.GARAGE: 14 * _HOUR_MS,
    LinkModel.WEEKLY: 12 * _HOUR_MS,
}


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without any network, for every vehicle of some regions at once; times are fleet time."""

    begins_at: int
    ends_at: int
    """The first moment with one again."""


@dataclass(frozen=True, slots=True)
class Connectivity:
    """One vehicle's link; times are fleet time."""

    model: LinkModel = LinkModel.ALWAYS
    period_ms: int = 0
    """Length of one round of online and offline; 0: always online."""
    online_ms: int = 0
    """Online at the start of each round."""
    phase_ms: int = 0
    """How far into a round this vehicle is at fleet time 0."""
    metered: bool = False
    """Whether its cellular data costs its owner money."""
    home_wifi: bool = False
    """Whether it has wireless LAN where it stands at home."""

    def leaves_reach(self, now: int) -> bool:
        """Whether it has a link at `now` and will soon have none."""
        if self.period_ms == 0 or self.online_from(now) != now:
            return False
        return self.online_ms - (now + self.phase_ms) % self.period_ms <= LEAVING_MS

    def online_from(self, now: int) -> int:
        """The first moment from `now` on with a link; `now` itself when there is one."""
        if self.period_ms == 0:
            return now
        into = (now + self.phase_ms) % self.period_ms
        return now if into < self.online_ms else now + self.period_ms - into
