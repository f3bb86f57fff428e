"""Small modelled fleets and a rule that only opens: a test names what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.model.fleet import Cell
from orchestrator.rehearsal import Decision, Delays, Ending, FleetModel, ReleaseModel, Vehicles, draw_vehicles
from orchestrator.rehearsal.counters import Counts
from orchestrator.rehearsal.fleet import CallPattern

GOOD = ReleaseModel(failure_rate=0.0, silent_share=0.0)
CELL = Cell("eu", "gen2", "general")


def a_fleet(size: int = 2_000, **changes: Any) -> FleetModel:
    """Vehicles that call once a day and report at once; no garages, nobody lost."""
    fields: dict[str, Any] = {
        "name": "small",
        "size": size,
        "patterns": (CallPattern("day", share=1.0, gap_h=24.0),),
        "delays": Delays(garage_share=0.0, lost_share=0.0),
        "cells": ((CELL, 1.0),),
    }
    return FleetModel(**{**fields, **changes})


def some_vehicles(fleet: FleetModel | None = None, *, seed: int = 1, release: ReleaseModel = GOOD) -> Vehicles:
    """Drawn vehicles of a small fleet, met by a release."""
    return draw_vehicles(fleet or a_fleet(), seed).under(release)


@dataclass
class OpenRule:
    """Opens some vehicles of every cell at once, within some room, and ends at a given hour."""

    opened: int = 2_000
    room: int = 1 << 40
    until_h: float = 96.0
    mirrored: int = 0
    checkpoints_h: tuple[float, ...] = (24.0, 72.0)
    cells: int = 1
    caps: Any = ()
    seen: list[tuple[float, Counts]] = field(default_factory=list)

    def decide(self, counts: Counts, now_h: float) -> Decision:
        """Keep the counts, and open."""
        self.seen.append((now_h, counts))
        ending = Ending.COMPLETED if now_h >= self.until_h else None
        each = np.full(self.cells, self.opened, dtype=np.int64)
        mirrored = np.full(self.cells, self.mirrored, dtype=np.int64) if self.mirrored else None
        return Decision(each, self.room, mirrored, self.caps, ending)
