"""What a modelled fleet is: how many vehicles, how often they call, how long they take, and what the release does.

Owns the parameters and their meaning; no vehicle is drawn here (`vehicles`), and none is updated (`run`). The fleets
that ship are in `fleets`. Times are hours since the rollout's start.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.fleet import Cell

DAY_H = 24.0
START_OF_DAY_H = 9.0
"""Time of day at which a rollout starts."""
NIGHT_FROM_H = 22.0
NIGHT_UNTIL_H = 6.0
"""Between the two, by the fleet's clock, vehicles of a pattern that sleeps do not call."""


@dataclass(frozen=True, slots=True)
class CallPattern:
    """How often a kind of vehicle calls."""

    name: str
    share: float
    """Part of the fleet."""
    gap_h: float
    """Median over vehicles of a vehicle's typical time between two calls."""
    spread: float = 0.0
    """Sigma of the logarithm of the typical gap, from vehicle to vehicle."""
    scatter: float = 0.0
    """Sigma of the logarithm of one vehicle's gaps; 0 means it calls by the clock."""
    absence_share: float = 0.0
    """Part of gaps that are an absence instead: a garage, a holiday, a cellar."""
    sleeps: bool = False
    """Whether it does not call at night; a call that falls there comes in the morning instead."""


@dataclass(frozen=True, slots=True)
class Delays:
    """How long it takes until a vehicle is heard after it began."""

    install_median_h: float = 1.0
    """Log-normal: from the permit to the vehicle's word, while it is in touch."""
    install_sigma: float = 1.0
    stays_in_touch: bool = True
    """True: it reports as soon as it is done. False: with the first call of its own pattern after that."""
    garage_share: float = 0.05
    """Healthy vehicles that go out of reach right after the update."""
    garage_max_h: float = 14 * DAY_H
    """They come back after a uniform time up to this; absences of a call pattern last as long."""
    lost_share: float = 0.001
    """Healthy vehicles that are never heard again."""


@dataclass(frozen=True, slots=True)
class FleetModel:
    """A fleet that can be drawn from a seed."""

    name: str
    size: int
    """Vehicles that the plan targets."""
    patterns: tuple[CallPattern, ...]
    """Their shares sum to 1."""
    delays: Delays = Delays()
    cells: tuple[tuple[Cell, float], ...] = ((Cell("all", "any", "general"), 1.0),)
    """Which share of the fleet is in each cell."""
    waits_when_refused: bool = True
    """True: who is refused for want of budget asks again at every look. False: with its next call."""
    silence_known: tuple[float, float] = (0.05, 0.043)
    """Share of healthy vehicles silent 24 h and 72 h after a call, as earlier rollouts have shown it."""


@dataclass(frozen=True, slots=True)
class ReleaseModel:
    """What a release does to the vehicles that install it."""

    failure_rate: float
    """Part that fails."""
    silent_share: float
    """Part of the failing that never say another word."""
    failure_rates: dict[Cell, float] = field(default_factory=dict)
    """Rates of single cells that differ from the fleet's."""

    def rate(self, cell: Cell) -> float:
        """The failure rate of a cell."""
        return self.failure_rates.get(cell, self.failure_rate)
