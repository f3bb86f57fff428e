"""Openings: how many vehicles of each cell the present wave admits, exactly, and whose draw may take a place.

Owns the quotas of waves that open a part of a cohort, and who has to leave room in them. The store takes the places, in
one atomic step; when a wave begins is the matter of `regions`.

A share of the draws alone is no count: of 60 vehicles 1 % may be nobody or three. So the places of a wave are counted:
its share of what is targeted, in whole vehicles by largest remainder over the cells of a region, and at least
`stratum_sample` of each stratum (of all together that are judged together). Draws are open wider than the quota needs,
as many vehicles do not call; who calls first takes the place. That favours who drives often: in the first wave that is
accepted, and its soak lets the others catch up; from the second wave on a fifth of the places is kept for those who
call seldom until the soak is over.

Cells of which a wave opens all have no opening: there is nothing to count. A cell that gets its first vehicle during a
wave gets its places in the next tick, and admits nobody before; one that grows keeps the places that it has until the
next wave. So what joins, or is moved, while a wave is open never makes it larger than its share of what is targeted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil, floor, sqrt

from orchestrator.engine import controls, waves
from orchestrator.model.fleet import Cell, Habit, Stratum, Vehicle
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import Opening, RegionPhase, RegionProgress, part_of, place_key

OVER_OPEN = 1.5
"""Draws that are open, as a multiple of the quota. Source: docs/decisions/0020, Places."""
OVER_OPEN_SIGMAS = 3.0
"""Where that is few, room for chance: as many standard deviations of the number of vehicles drawn."""
OFTEN_SHARE = 0.8
"""Part of the places that is open to who calls often, until the soak is over. Source: the same."""


def in_part(plan: Plan, wave: int, cohort: str) -> bool:
    """Whether a wave (index) and those before it open a part of a cohort only."""
    return 0.0 < waves.open_share(plan, wave, cohort) < 1.0


def quotas(plan: Plan, wave: int, targeted: Mapping[Cell, int], apart: tuple[str, ...] = ()) -> dict[Cell, int]:
    """Vehicles of each cell that may have been admitted in all, in a wave (index) and those before it.

    Args:
        plan: Of the rollout.
        wave: Index.
        targeted: Vehicles of the cells of one region that the plan is for.
        apart: Strata that are judged each on its own, the others together; empty: each is.

    Returns:
        Of cells that the wave opens in part; others are absent.
    """
    parts = {cell: count for cell, count in targeted.items() if count > 0 and in_part(plan, wave, cell.cohort)}
    exact = {cell: count * waves.reached_share(plan, wave, cell.cohort) for cell, count in parts.items()}
    places = {cell: floor(share) for cell, share in exact.items()}
    left = round(sum(exact.values())) - sum(places.values())
    for cell in sorted(exact, key=lambda cell: (places[cell] - exact[cell], -parts[cell], cell))[: max(0, left)]:
        places[cell] += 1
    judged: dict[Stratum, list[Cell]] = {}
    for cell in sorted(targeted):
        judged.setdefault(part_of(cell.stratum, apart), []).append(cell)
    for cells in judged.values():
        whole = sum(targeted[cell] for cell in cells if _whole(plan, wave, cell))
        _fill(places, parts, [cell for cell in cells if cell in parts], plan.gate.stratum_sample_min - whole)
    return places


def of_wave(
    plan: Plan, wave: int, targeted: Mapping[Cell, int], before: Mapping[str, Opening], apart: tuple[str, ...] = ()
) -> dict[str, Opening]:
    """The openings of a region in a wave (index): quota and share never fall below what was open before.

    Args:
        plan: Of the rollout.
        wave: Index.
        targeted: As in `quotas`.
        before: Openings of the wave before.
        apart: As in `quotas`.
    """
    opened: dict[str, Opening] = {}
    # Who stands aside takes no place: so many more have to ask.
    permitted = controls.permitted_share(plan.gate.controls_per_exposure or 0, trial(plan, wave, targeted))
    for cell, places in quotas(plan, wave, targeted, apart).items():
        name = place_key(cell.hardware, cell.cohort)
        stood = before.get(name, Opening(0, 0.0))
        quota = max(stood.quota, places)
        opened[name] = Opening(quota, max(stood.share, _share(quota / permitted, targeted[cell])))
    return opened


def trial(plan: Plan, wave: int, targeted: Mapping[Cell, int]) -> float:
    """Share of the attempts of a region that is in the trial in a wave (index), see `controls`.

    Args:
        plan: Of the rollout.
        wave: Index.
        targeted: As in `quotas`.
    """
    fresh = left = 0.0
    for cell, count in targeted.items():
        open_now = waves.reached_share(plan, wave, cell.cohort)
        open_before = waves.reached_share(plan, wave - 1, cell.cohort) if wave else 0.0
        fresh, left = fresh + (open_now - open_before) * count, left + (1.0 - open_now) * count
    return controls.trial_share(plan.gate.controls_per_exposure or 0, fresh, left)


def completed(
    plan: Plan, progress: RegionProgress, targeted: Mapping[Cell, int], apart: tuple[str, ...] = ()
) -> RegionProgress:
    """A region with its trial, and places of cells that had no vehicle when its wave began; others stay as they are.

    Behind the last wave as well: where that opens a part only, who is moved there has no more places than the others.
    """
    if progress.phase is RegionPhase.PENDING:
        return progress
    wanted = of_wave(plan, progress.wave, targeted, progress.openings, apart)
    fresh = {name: opening for name, opening in wanted.items() if name not in progress.openings}
    # A rollout begins before anybody has counted what it targets.
    share = progress.trial or trial(plan, progress.wave, targeted)
    if not fresh and share == progress.trial:
        return progress
    return replace(progress, openings={**progress.openings, **fresh}, trial=share)


def at(progress: RegionProgress, vehicle: Vehicle) -> Opening | None:
    """The opening that a vehicle finds in its region; None when places are not counted for it."""
    return progress.openings.get(place_key(vehicle.hardware, vehicle.cohort))


def places_for(
    habit: Habit, progress: RegionProgress, opening: Opening, soak_ends_at: FleetTime, now: FleetTime
) -> int:
    """How many of a cell's places may be taken before a vehicle of this habit finds none.

    Args:
        habit: Of the vehicle.
        progress: Of its region.
        opening: Of its cell.
        soak_ends_at: When the region's wave has had its least time.
        now: Fleet time.
    """
    if progress.wave == 0 or habit is Habit.SELDOM or now >= soak_ends_at:
        return opening.quota
    return ceil(OFTEN_SHARE * opening.quota)


def _whole(plan: Plan, wave: int, cell: Cell) -> bool:
    return waves.open_share(plan, wave, cell.cohort) >= 1.0


def _fill(places: dict[Cell, int], parts: Mapping[Cell, int], cells: Sequence[Cell], least: int) -> None:
    """Give a stratum places until it has as many as asked for, or as there are vehicles: where most have none."""
    lacking = min(least, sum(parts[cell] for cell in cells)) - sum(places[cell] for cell in cells)
    for _ in range(lacking):
        emptiest = max(cells, key=lambda cell: parts[cell] - places[cell])
        places[emptiest] += 1


def _share(quota: float, targeted: int) -> float:
    wide = max(OVER_OPEN * quota, quota + OVER_OPEN_SIGMAS * (sqrt(quota) + 1.0))
    return min(1.0, wide / targeted)
