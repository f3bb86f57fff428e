"""Rooms: how many of a modelled fleet may be exposed until the next look, in all and in each part.

Owns the plan's caps as numbers for one step of virtual time: slots, starts a minute, the blast budget, quotas, brakes.
The store counts them one by one; a model gives out a step's worth at once, and never more than that.
"""

from __future__ import annotations

import numpy as np

from orchestrator.engine import openings
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import RegionPhase, Rollout, place_key
from orchestrator.rehearsal.caps import Cap
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.vehicles import HABITS, Ints, Vehicles

_MINUTES_AN_HOUR = 60.0


class Rooms:
    """The caps of one rollout.

    Args:
        rollout: As it starts.
        vehicles: The fleet.
        step_h: Between two looks.
    """

    def __init__(self, rollout: Rollout, vehicles: Vehicles, step_h: float) -> None:
        self._plan = rollout.plan
        self._cells = vehicles.cells
        self._minutes = step_h * _MINUTES_AN_HOUR
        self._regions = sorted(rollout.regions)
        self._seldom = np.tile(np.array(HABITS) == Habit.SELDOM.value, len(self._cells))
        self._cell_of: Ints = np.repeat(np.arange(len(self._cells)), len(HABITS))
        of_cell = np.array([self._regions.index(cell.region) for cell in self._cells], dtype=np.int64)
        self._region_of: Ints = of_cell[self._cell_of]

    def total(self, counts: Counts, permit_ceiling: int) -> int:
        """Exposures that may be added over all."""
        limits = self._plan.limits
        slots = limits.in_flight_max - int(counts.in_flight.sum())
        starts = int(limits.starts_per_minute_max * self._minutes)
        return max(0, min(permit_ceiling - int(counts.exposed.sum()), slots, starts))

    def parts(self, rollout: Rollout, counts: Counts, now: FleetTime) -> tuple[Cap, ...]:
        """Exposures that may be added in each part."""
        return (
            self._by_region(counts),
            *self._still(rollout),
            *(self._quotas(rollout, counts, habit, now) for habit in (Habit.OFTEN, Habit.SELDOM)),
        )

    def _by_region(self, counts: Counts) -> Cap:
        in_flight = np.bincount(self._region_of, weights=counts.in_flight, minlength=len(self._regions))
        rooms = []
        for region, busy in zip(self._regions, in_flight.tolist(), strict=True):
            rules = self._plan.regions[region]
            starts = rules.starts_per_minute_max or self._plan.limits.starts_per_minute_max
            rooms.append(max(0, min(rules.in_flight_max - int(busy), int(starts * self._minutes))))
        return Cap(self._region_of, np.array(rooms, dtype=np.int64))

    def _still(self, rollout: Rollout) -> tuple[Cap, ...]:
        """Parts that stand still, or wait for nobody any more: no room at all."""
        closed = {name for name, progress in rollout.regions.items() if progress.closed}
        if not rollout.brakes and not closed:
            return ()
        still = [cell.region in closed or rollout.brake_on(cell.stratum) is not None for cell in self._cells]
        return (Cap(np.where(np.array(still)[self._cell_of], 0, -1).astype(np.int64), np.zeros(1, dtype=np.int64)),)

    def _quotas(self, rollout: Rollout, counts: Counts, habit: Habit, now: FleetTime) -> Cap:
        """Cells that their wave opens to so many vehicles, and no more.

        Those of a habit that has to leave room for others are bound by less than the whole quota: a vehicle that calls
        seldom takes a place, and is bound by the last cap alone.
        """
        rooms, bound = [], []
        for cell, name in enumerate(self._cells):
            progress = rollout.regions[name.region]
            opening = progress.openings.get(place_key(name.hardware, name.cohort))
            soak_ends_at = FleetTime(progress.wave_started_at + rollout.plan.waves[progress.wave].soak_ms)
            places = openings.places_for(habit, progress, opening, soak_ends_at, now) if opening else 0
            rooms.append(max(0, places - int(counts.exposed[self._cell_of == cell].sum())))
            bound.append(opening is not None and progress.phase is RegionPhase.ROLLING)
        counted = np.where(np.array(bound)[self._cell_of], self._cell_of, -1).astype(np.int64)
        binds = None if habit is Habit.SELDOM else ~self._seldom
        return Cap(counted, np.array(rooms, dtype=np.int64), binds)
