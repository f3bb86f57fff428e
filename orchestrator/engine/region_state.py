"""One region of a rollout at one moment: what its walk and its waves are judged by.

Owns reading counters and inventory for one region. What follows from them is the matter of `promotion` and `regions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import Opening, RegionPhase, RegionProgress, Rollout, place_key
from orchestrator.model.tally import CellTallies, Tally, total


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a rollout at one moment."""

    name: str
    rollout: Rollout
    cells: CellTallies
    """Of this region only."""
    waiting: Mapping[Cell, int]
    """Vehicles by inventory, of this region, that match the target now and do not have the release."""
    evidence: int
    """Exposures of the whole rollout that reached the first checkpoint."""
    leader: Region | None
    """The region that this one follows; None when it follows nobody."""

    @property
    def plan(self) -> Plan:
        """The rollout's."""
        return self.rollout.plan

    @property
    def progress(self) -> RegionProgress:
        """Where it stands."""
        return self.rollout.regions[self.name]

    @property
    def tally(self) -> Tally:
        """All cells together."""
        return total(self.cells.values())

    @property
    def keys(self) -> frozenset[Cell]:
        """Cells that have vehicles, or had."""
        return frozenset(self.cells) | frozenset(self.waiting)

    def count(self, cell: Cell) -> Tally:
        """Counters of a cell; nothing where nothing was counted."""
        return self.cells.get(cell) or Tally()

    def targeted(self, cell: Cell) -> int:
        """Vehicles of a cell that the plan is for: those that wait and those that are through."""
        return self.waiting.get(cell, 0) + self.count(cell).state(AttemptState.SUCCEEDED)

    def opening(self, cell: Cell) -> Opening | None:
        """How far the present wave is open to a cell; None where places are not counted."""
        return self.progress.openings.get(place_key(cell.hardware, cell.cohort))

    @property
    def targets(self) -> dict[Cell, int]:
        """Targeted vehicles by cell, in order."""
        return {cell: self.targeted(cell) for cell in sorted(self.keys)}

    @property
    def empty(self) -> bool:
        """Whether the plan is for nobody here."""
        return self.tally.granted == 0 and not any(self.targets.values())

    @property
    def last_wave(self) -> int:
        """Index of the last wave."""
        return len(self.plan.waves) - 1


def region_at(name: str, rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> Region:
    """One region out of a rollout's counters and inventory, with the one it follows."""
    return Region(
        name=name,
        rollout=rollout,
        cells={cell: tally for cell, tally in cells.items() if cell.region == name},
        waiting={cell: count for cell, count in waiting.items() if cell.region == name and count > 0},
        evidence=aged(total(cells.values()), 0),
        leader=_leader(name, rollout, cells, waiting),
    )


def aged(tally: Tally, checkpoint: int) -> int:
    """Exposures that reached a checkpoint (index, also from the end)."""
    return tally.age_groups[checkpoint].exposed if -len(tally.age_groups) <= checkpoint < len(tally.age_groups) else 0


def _leader(name: str, rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> Region | None:
    rules = rollout.plan.regions.get(name)
    followed = rules.follow if rules is not None else ""
    if followed not in rollout.regions or rollout.regions[name].phase is RegionPhase.DONE:
        return None
    # One step is enough: how the leader fares with its own leader shows in where it stands.
    return Region(
        name=followed,
        rollout=rollout,
        cells={cell: tally for cell, tally in cells.items() if cell.region == followed},
        waiting={cell: count for cell, count in waiting.items() if cell.region == followed and count > 0},
        evidence=0,
        leader=None,
    )
