"""Preview: what a plan would do to the fleet as it is, before anything moves.

Owns the counts by profile, wave and region, and the order of what is warned of. Who is meant is said by `reach`, when
each region can move by `calendar`, how long it takes by `pace`, what cannot work with this fleet by `preview_warnings`;
what cannot work with any fleet is refused when the plan is read. Draws are not looked at one by one: where places are
counted (`openings`) wave sizes are exact, elsewhere they are what is expected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from orchestrator.engine import calendar, openings, preview_warnings, strata, waves
from orchestrator.engine import pace as paces
from orchestrator.engine.calendar import Calendar, RegionPreview, Sizes
from orchestrator.engine.conflicts import conflicts
from orchestrator.engine.pace import Pace
from orchestrator.engine.reach import reach, with_limits
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout

_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Preview:
    """What a plan would do."""

    registered: int
    """Vehicles in the inventory."""
    targeted: int
    """Vehicles that the rollout is for."""
    cells: Mapping[Cell, int]
    """Targeted vehicles by region, hardware and cohort."""
    waves: Sizes
    """By wave, in order: its name and how many vehicles it adds, by region. The holdout is not among them."""
    excluded: Mapping[str, int]
    """Vehicles left out, by the first rule that does, see `Reach.excluded`."""
    warnings: tuple[str, ...]
    """What cannot work as written or deserves a second look, for people."""
    shortest_ms: int
    """Fleet time to the end at best, when every vehicle calls at once and every approval is there: soak, checkpoints,
    followed regions, first openings and starts a minute.
    """
    regions: tuple[RegionPreview, ...] = ()
    """When each region can move, by name."""
    expected_ms: int | None = None
    """Fleet time to the end as it is expected when nothing is wrong (`pace`), and some vehicles call seldom; None when
    it cannot be told.
    """
    expected_often_ms: int | None = None
    """The same where all vehicles call often; None when it cannot be told."""
    conflicts: tuple[str, ...] = ()
    """Other rollouts that want some of the same vehicles, and who goes first, for people."""


def preview(
    plan: Plan,
    profiles: Mapping[Profile, int],
    release: Release | None,
    now: FleetTime,
    *,
    others: Sequence[Rollout] = (),
    releases: Sequence[Release] = (),
) -> Preview:
    """What a plan would do to the fleet as it is.

    Args:
        plan: As read.
        profiles: How many vehicles have each profile.
        release: The plan's release; None when it is not registered.
        now: Fleet time; windows and freeze days count from it.
        others: Every rollout; those that are over want nobody.
        releases: Every release that is registered.
    """
    plan = with_limits(plan, profiles, releases)
    found = reach(plan, profiles, releases)
    cells, regions = found.cells, found.regions
    zones: Counter[tuple[str, str]] = Counter()
    for profile, count in found.profiles.items():
        zones[profile.region, profile.zone] += count
    sizes = _sizes(plan, cells, regions)
    when = Calendar(plan=plan, rules=regions, zones=zones, sizes=sizes, now=now)
    pace = Pace(calendar=when, transfer_bytes=sum(image.length_bytes for image in release.images) if release else 0)
    shortest_ms = _shortest_ms(plan, when, found.targeted)
    warnings = (
        *preview_warnings.of_release(plan, release, releases),
        *preview_warnings.of_reach(plan, found, profiles),
        *preview_warnings.of_waves(plan, cells, sizes),
        *preview_warnings.of_strata(plan, cells),
        *preview_warnings.of_controls(plan, cells),
        *preview_warnings.of_budget(pace, found.targeted, shortest_ms),
        *preview_warnings.of_offline_permits(plan, regions),
        *paces.warnings(pace),
        *calendar.warnings(when),
    )
    return Preview(
        registered=sum(count for count in profiles.values() if count > 0),
        targeted=found.targeted,
        cells=cells,
        waves=sizes,
        excluded={rule: sum(counts.values()) for rule, counts in sorted(found.excluded.items())},
        warnings=warnings,
        shortest_ms=shortest_ms,
        regions=calendar.regions(when),
        expected_ms=paces.expected_ms(pace, often=False),
        expected_often_ms=paces.expected_ms(pace, often=True),
        conflicts=conflicts(plan, profiles, others, releases),
    )


def _sizes(plan: Plan, cells: Mapping[Cell, int], regions: Mapping[str, RegionRules]) -> Sizes:
    """How many each wave adds by region: its places where they are counted, elsewhere all but the holdout."""
    before = dict.fromkeys(regions, 0)
    places: dict[Cell, int] = {}
    sizes = []
    apart = strata.largest_of(cells)
    for index, wave in enumerate(plan.waves):
        for region in regions:
            own = {cell: count for cell, count in cells.items() if cell.region == region}
            for cell, quota in openings.quotas(plan, index, own, apart).items():
                places[cell] = max(quota, places.get(cell, 0))
        reached = {
            region: max(before[region], _reached(plan, index, region, cells=cells, places=places)) for region in regions
        }
        sizes.append((wave.name, {region: reached[region] - before[region] for region in regions}))
        before = reached
    return tuple(sizes)


def _reached(plan: Plan, wave: int, region: str, *, cells: Mapping[Cell, int], places: Mapping[Cell, int]) -> int:
    """Vehicles that a region reaches in a wave (index) and those before it."""
    own = {cell: count for cell, count in cells.items() if cell.region == region}
    counted = [cell for cell in own if openings.in_part(plan, wave, cell.cohort)]
    whole = sum(
        count * waves.reached_share(plan, wave, cell.cohort) for cell, count in own.items() if cell not in counted
    )
    return sum(places[cell] for cell in counted) + round(whole)


def _shortest_ms(plan: Plan, when: Calendar, targeted: int) -> int:
    """What the calendar allows, or the starts a minute if these take longer."""
    if not targeted:
        return 0
    return max(calendar.shortest_ms(when), ceil(targeted / plan.limits.starts_per_minute_max) * _MINUTE_MS)
