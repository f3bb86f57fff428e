"""Who is rehearsed: the vehicles of a fleet file, or as many as asked for, spread over what the plan names.

Owns which vehicle is in which cell and zone, and its draw. How it calls and what becomes of it is the fleet model's
matter. A fleet file gives its vehicles their own draws, by id as in a real rollout; an invented fleet has random ones.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import floor, prod

import numpy as np

from orchestrator.engine import selection
from orchestrator.engine.targets import CompiledTarget, compile_target, mismatch
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.ids import ReleaseVersion, VehicleId
from orchestrator.model.plan import Plan, Target
from orchestrator.rehearsal.vehicles import Floats, Ints

COLUMNS = ("vehicle_id", "model", "hardware", "region", "cohort", "tags")
"""Columns of a fleet file (docs/fleet-csv.md) that matter here; `zone` as well, where it has one."""
COHORT_SHARES: Mapping[str, float] = {"internal": 0.001, "canary": 0.01, "early": 0.1}
"""Usual sizes of rings, as parts of the fleet; another ring that a wave names has OTHER_SHARE, the last one the rest.
"""
OTHER_SHARE = 0.05
REST = "general"
"""The ring of all who are in no other."""


class FleetFileError(ValueError):
    """The fleet file cannot be rehearsed."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """Targeted vehicles."""

    cells: tuple[Cell, ...]
    """That have vehicles, in order."""
    cell: Ints
    """By vehicle: index into `cells`."""
    homes: tuple[tuple[str, str], ...]
    """Region and zone; an empty zone is that of the region in the plan."""
    home: Ints
    """By vehicle: index into `homes`."""
    ids: tuple[str, ...] = ()
    """By vehicle; empty when they are invented."""
    registered: int = 0
    """Vehicles of the file, targeted or not."""
    excluded: Mapping[str, int] = field(default_factory=dict)
    """Vehicles of the file that are not targeted, by the field that leaves them out."""

    @property
    def size(self) -> int:
        """How many vehicles are targeted."""
        return len(self.cell)

    @property
    def regions(self) -> tuple[str, ...]:
        """Regions that have vehicles, in order."""
        return tuple(sorted({cell.region for cell in self.cells}))

    def counts(self) -> dict[Cell, int]:
        """Vehicles by cell."""
        numbers = np.bincount(self.cell, minlength=len(self.cells)).tolist()
        return dict(zip(self.cells, numbers, strict=True))

    def draws(self, salt: bytes) -> Floats | None:
        """Each vehicle's place in a rollout with this salt, within [0, 1); None when the vehicles are invented."""
        if not self.ids:
            return None
        return np.array([selection.draw(salt, VehicleId(one)) for one in self.ids]) / float(selection.DRAW_RANGE)


def read_inventory(lines: Iterable[str], plan: Plan) -> Inventory:
    """The targeted vehicles of a fleet file.

    Keys are not looked at, and what a vehicle has installed is not known here: `installed` of the target is taken as
    met.

    Args:
        lines: Of the file.
        plan: Whose target and regions decide.

    Raises:
        FleetFileError: it is no fleet file, or no vehicle of it is targeted.
    """
    reader = csv.DictReader(lines, strict=True)
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise FleetFileError(f"the first line has no column `{missing[0]}`")
    target = compile_target(_without_installed(plan.target))
    seen: set[str] = set()
    kinds: dict[tuple[str, ...], tuple[str, Cell, str]] = {}
    chosen: list[tuple[str, Cell, str]] = []
    excluded: Counter[str] = Counter()
    try:
        for row in reader:
            vehicle_id = row["vehicle_id"]
            # One row a control unit: the first one tells all that matters here.
            if vehicle_id in seen:
                continue
            seen.add(vehicle_id)
            key = (*(row[name] or "" for name in COLUMNS[1:]), row.get("zone") or "")
            left_out, cell, zone = kinds.setdefault(key, _kind(key, plan, target))
            if left_out:
                excluded[left_out] += 1
            else:
                chosen.append((vehicle_id, cell, zone))
    except csv.Error as error:
        raise FleetFileError(f"line {reader.line_num}: not CSV: {error}") from error
    if not chosen:
        why = f"; most are left out by `{excluded.most_common(1)[0][0]}`" if excluded else ""
        raise FleetFileError(f"none of its {len(seen)} vehicles is targeted by the plan{why}")
    chosen.sort(key=lambda one: one[0])
    return _inventory(chosen, registered=len(seen), excluded=excluded)


def invented(
    plan: Plan,
    size: int,
    *,
    regions: Mapping[str, float],
    hardware: Mapping[str, float],
    cohorts: Mapping[str, float],
) -> Inventory:
    """So many vehicles, spread over regions, hardware and cohorts by their shares, exactly.

    Args:
        plan: Names what is not given.
        size: How many vehicles, at least 1.
        regions: Share of each; empty: those of the plan, evenly.
        hardware: The same; empty: that of the target, evenly.
        cohorts: The same; empty: those that the waves name, by COHORT_SHARES, and REST.
    """
    parts = (
        _parts(regions, tuple(plan.regions) or plan.target.region or ("all",)),
        _parts(hardware, plan.target.hardware or ("any",)),
        dict(cohorts) or cohort_shares(plan),
    )
    cells = [Cell(*names) for names in product(*parts)]
    shares = [prod(one) for one in product(*(part.values() for part in parts))]
    return counted(dict(zip(cells, apportioned(size, shares), strict=True)), registered=size)


def counted(counts: Mapping[Cell, int], *, registered: int) -> Inventory:
    """So many vehicles of each cell, in the zones of their regions.

    Args:
        counts: By cell; cells of none are left out.
        registered: Vehicles in all, targeted or not.
    """
    cells = sorted(cell for cell, count in counts.items() if count)
    homes = tuple((region, "") for region in sorted({cell.region for cell in cells}))
    cell = np.repeat(np.arange(len(cells)), [counts[one] for one in cells])
    home_of = np.array([homes.index((one.region, "")) for one in cells], dtype=np.int64)
    return Inventory(cells=tuple(cells), cell=cell, homes=homes, home=home_of[cell], registered=registered)


def cohort_shares(plan: Plan) -> dict[str, float]:
    """The rings of an invented fleet: those that the plan names, at their usual sizes."""
    named = list(dict.fromkeys((*plan.target.cohort, *(name for wave in plan.waves for name in wave.cohorts))))
    if plan.target.cohort:
        named = [name for name in named if name in plan.target.cohort]
    rest = REST if REST in named or not plan.target.cohort else named[-1]
    if rest not in named and all(wave.cohorts for wave in plan.waves):
        # No wave is for anybody else: the last ring that is named is the widest.
        rest = named[-1]
    shares = {name: COHORT_SHARES.get(name, OTHER_SHARE) for name in named if name != rest}
    total = sum(shares.values())
    if total >= 1.0:
        shares = {name: value / (total + OTHER_SHARE) for name, value in shares.items()}
    return {**shares, rest: 1.0 - sum(shares.values())}


def apportioned(size: int, shares: Sequence[float]) -> list[int]:
    """`size` in whole parts by shares, by largest remainder; they add up exactly."""
    total = sum(shares)
    exact = [size * share / total for share in shares]
    counts = [floor(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda index: (counts[index] - exact[index], index))
    for index in order[: size - sum(counts)]:
        counts[index] += 1
    return counts


def _parts(given: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    return dict(given) or {name: 1.0 / len(names) for name in names}


def _kind(key: tuple[str, ...], plan: Plan, target: CompiledTarget) -> tuple[str, Cell, str]:
    """What leaves vehicles of a kind out (empty when nothing does), their cell and their zone."""
    model, hardware, region, cohort, tags, zone = key
    profile = Profile(
        model=model,
        hardware=hardware,
        region=region,
        cohort=cohort,
        tags=tuple(sorted(tag for tag in tags.split(";") if tag)),
        installed=ReleaseVersion(""),
    )
    found = mismatch(target, profile)
    outside = bool(plan.regions) and region not in plan.regions
    left_out = found.field if found is not None else "region_not_in_plan" if outside else ""
    return left_out, Cell(region=region, hardware=hardware, cohort=cohort), zone


def _without_installed(target: Target) -> Target:
    return Target(
        model=target.model,
        hardware=target.hardware,
        region=target.region,
        cohort=target.cohort,
        tags_all=target.tags_all,
        tags_none=target.tags_none,
    )


def _inventory(chosen: Sequence[tuple[str, Cell, str]], *, registered: int, excluded: Mapping[str, int]) -> Inventory:
    cells = sorted({cell for _, cell, _ in chosen})
    homes = sorted({(cell.region, zone) for _, cell, zone in chosen})
    cell_index = {cell: index for index, cell in enumerate(cells)}
    home_index = {home: index for index, home in enumerate(homes)}
    return Inventory(
        cells=tuple(cells),
        cell=np.array([cell_index[cell] for _, cell, _ in chosen]),
        homes=tuple(homes),
        home=np.array([home_index[cell.region, zone] for _, cell, zone in chosen]),
        ids=tuple(vehicle_id for vehicle_id, _, _ in chosen),
        registered=registered,
        excluded=excluded,
    )
