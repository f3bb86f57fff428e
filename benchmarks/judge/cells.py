"""The cells of the study: which fleets, releases and rules meet.

Owns what is asked of whom. The plans of the engine are in `plans`, the rules in `study`, what came of it in `figures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.model.fleet import Cell
from orchestrator.rehearsal import FleetModel, ReleaseModel
from orchestrator.rehearsal.fleets import FLEETS, VARIANT

OUTRIDER, REFERENCE = "outrider", "reference"
LIMIT = 0.01

PERFECT = (0.0, 0.0)
GOOD = ((0.005, 0.3), (0.005, 1.0))
BAD = tuple((rate, share) for rate in (0.02, 0.05, 0.2) for share in (0.3, 1.0))
VARIANT_FAILS = ((0.003, 0.0), (0.003, 1.0))
"""Of the other vehicles; the variant always fails, by word or silently."""
SILENT_BAD = tuple(release for release in BAD if release[1] == 1.0)

HELD_OUT = ("1.3-slow", "habits-slow", "habits-fast")
"""What was tuned on `1.3` and `habits` has to hold there."""
LIMITED = {"1.3-paced": "1.3", "habits-paced": "habits", "1.3-slots": "1.3", "habits-slots": "habits"}
"""The same fleets, under plans whose own limits bind: starts a minute, and slots. By name, the fleet's."""
_LIMITED_RELEASES = (PERFECT, GOOD[1], (0.05, 1.0))
COHORTS = {"1.3-cohorts": "1.3", "habits-cohorts": "habits"}
"""The same fleets in cohorts, under a plan whose waves take whole cohorts. By name, the fleet's."""
OTHER_PLANS = {**LIMITED, **COHORTS}
COHORT_SHARES = {"internal": 0.001, "canary": 0.01, "early": 0.1, "general": 0.889}
OTHERS_SHARE = 10
"""Of the fleets that nothing is tuned on, and of those under other plans, one seed in so many is run: their runs are
the longest, and 60 runs of everything are to take twenty minutes.
"""
OTHERS_MOST = 4
"""Seeds of these that are run at most."""
UNCLAIMED_MOST = 24
"""Seeds that are run at most of releases of which nothing is asked that takes a thousand runs to show."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a rule meets: a cell of the table."""

    fleet: str
    limit: float
    failure_rate: float
    silent_share: float

    def seeds(self, seeds: range) -> range:
        """Which seeds of a study it is run on."""
        if self.fleet in HELD_OUT or self.fleet in OTHER_PLANS:
            return seeds[: min(OTHERS_MOST, max(1, len(seeds) // OTHERS_SHARE))]
        release = (self.failure_rate, self.silent_share)
        claimed = release in BAD or (release in GOOD and self.fleet != "habits")
        return seeds if claimed else seeds[:UNCLAIMED_MOST]


def fleet_of(name: str) -> FleetModel:
    """A modelled fleet by its name in the study."""
    if name in OTHER_PLANS:
        parts = tuple((Cell("all", "all", cohort), share) for cohort, share in COHORT_SHARES.items())
        fleet = FLEETS[OTHER_PLANS[name]]
        return replace(fleet, name=name, cells=parts if name in COHORTS else fleet.cells)
    return VARIANT if name == VARIANT.name else FLEETS[name]


def fleet_names() -> tuple[str, ...]:
    """Every fleet that can be asked for."""
    return (*FLEETS, VARIANT.name, *OTHER_PLANS)


def release_of(case: Case) -> ReleaseModel:
    """What the release of a cell does."""
    variant = {cell: 1.0 for cell, _ in VARIANT.cells[1:]} if case.fleet == VARIANT.name else {}
    rates: dict[Cell, float] = dict(variant)
    return ReleaseModel(case.failure_rate, case.silent_share, rates)


def tabled(rules: Sequence[str]) -> list[tuple[str, Case]]:
    """Every cell of the table.

    All rules meet the fleet of the reference study; the two that hear silence the others as well. Only the engine has
    limits that can bind.

    Args:
        rules: By name.
    """
    cells = [(rule, Case("1.3", LIMIT, *release)) for rule in rules for release in (*GOOD, *BAD)]
    for rule in rules:
        if rule in (REFERENCE, OUTRIDER):
            asked: list[tuple[str, Iterable[tuple[float, float]]]] = [
                ("1.3", (PERFECT,)),
                (VARIANT.name, VARIANT_FAILS),
                ("habits", (PERFECT, *GOOD, *BAD)),
                *((name, (PERFECT, *GOOD, *SILENT_BAD)) for name in HELD_OUT),
                *((name, (PERFECT, GOOD[1], *SILENT_BAD)) for name in COHORTS),
            ]
            asked += [(name, _LIMITED_RELEASES) for name in LIMITED] if rule == OUTRIDER else []
            cells += [(rule, Case(fleet, LIMIT, *release)) for fleet, releases in asked for release in releases]
    return cells


def chosen(
    rules: Sequence[str], fleets: Sequence[str], releases: Sequence[tuple[float, float]]
) -> list[tuple[str, Case]]:
    """The cells of a quick look: those of the table that are asked for, or other releases on the fleets asked for.

    Args:
        rules: By name; none means the two that hear silence.
        fleets: By name; none means all.
        releases: Failure rate and silent share; none means those of the table.
    """
    rules, fleets = rules or (REFERENCE, OUTRIDER), fleets or fleet_names()
    if releases:
        return [(rule, Case(fleet, LIMIT, *release)) for fleet in fleets for release in releases for rule in rules]
    return [(rule, case) for rule, case in tabled(rules) if case.fleet in fleets]


def seeds_of(cells: Iterable[tuple[str, Case]], seeds: range) -> Mapping[tuple[str, Case], range]:
    """Which seeds of a study each cell is run on.

    Args:
        cells: Rules and what they meet.
        seeds: Of the study.
    """
    return {(rule, case): case.seeds(seeds) for rule, case in cells}
