"""Preview: what a plan would do to the fleet as it is, before anything moves.

Owns the counts by profile, wave and region, and the warnings about what cannot work with this fleet. What cannot work
with any fleet is refused when the plan is read. Draws are not looked at one by one: wave sizes are what is expected.
When each region can move is said by `calendar`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from orchestrator.engine import calendar, waves
from orchestrator.engine.calendar import Calendar, RegionPreview, Sizes
from orchestrator.engine.gates import AGED_MIN, blast_upper, permit_allowance
from orchestrator.engine.gates_rules import halting_failures
from orchestrator.engine.reach import Reach, reach, regions_of, waiting
from orchestrator.engine.wording import duration, percent
from orchestrator.model.fleet import Cell, Profile, Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.release import Release
from orchestrator.model.tally import AgeGroup

__all__ = ["Preview", "preview", "regions_of", "waiting"]

STRATUM_MIN = 5
"""Vehicles below which a stratum is hardly represented in any wave."""
ROUNDS_MAX = 10_000
"""Rounds of the blast budget after which its pace is not followed any further."""

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
    """By wave, in order: its name and how many vehicles it is expected to add, by region. The holdout is not among
    them.
    """
    excluded: Mapping[str, int]
    """Vehicles left out, by the first rule that does: a field of the target, `already_installed` or
    `region_not_in_plan`.
    """
    warnings: tuple[str, ...]
    """What cannot work as written or deserves a second look, for people."""
    shortest_ms: int
    """Fleet time to the end at best, when every vehicle calls at once and every approval is there: soak, checkpoints,
    followed regions, first openings and starts a minute.
    """
    regions: tuple[RegionPreview, ...] = ()
    """When each region can move, by name."""


def preview(plan: Plan, profiles: Mapping[Profile, int], release: Release | None, now: FleetTime) -> Preview:
    """What a plan would do to the fleet as it is.

    Args:
        plan: As read.
        profiles: How many vehicles have each profile.
        release: The plan's release; None when it is not registered.
        now: Fleet time; windows and freeze days count from it.
    """
    found = reach(plan, profiles)
    cells, regions = found.cells, found.regions
    zones: Counter[tuple[str, str]] = Counter()
    for profile, count in found.profiles.items():
        zones[profile.region, profile.zone] += count
    sizes = _sizes(plan, cells, regions)
    when = Calendar(plan=plan, rules=regions, zones=zones, sizes=sizes, now=now)
    shortest_ms = _shortest_ms(plan, when, found.targeted)
    warnings = (
        *_release_warnings(plan, release),
        *_fleet_warnings(plan, found, profiles),
        *_wave_warnings(plan, cells, sizes),
        *_stratum_warnings(plan, cells),
        *_budget_warnings(plan, found.targeted, shortest_ms),
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
    )


def _sizes(plan: Plan, cells: Mapping[Cell, int], regions: Mapping[str, RegionRules]) -> Sizes:
    """How many each wave adds by region; rounded on the way up, so that the waves add up to what they reach."""
    before = dict.fromkeys(regions, 0)
    sizes = []
    for index, wave in enumerate(plan.waves):
        reached = {
            region: round(
                sum(
                    count * waves.reached_share(plan, index, cell.cohort)
                    for cell, count in cells.items()
                    if cell.region == region
                )
            )
            for region in regions
        }
        sizes.append((wave.name, {region: reached[region] - before[region] for region in regions}))
        before = reached
    return tuple(sizes)


def _shortest_ms(plan: Plan, when: Calendar, targeted: int) -> int:
    """What the calendar allows, or the starts a minute if these take longer."""
    if not targeted:
        return 0
    return max(calendar.shortest_ms(when), ceil(targeted / plan.limits.starts_per_minute_max) * _MINUTE_MS)


def _release_warnings(plan: Plan, release: Release | None) -> Iterator[str]:
    if release is None:
        yield f"release {plan.release} is not registered: publish it first"
    elif not release.images:
        yield f"release {plan.release} has no images: nobody can be admitted"
    elif release.reverts and plan.target.installed.replace(" ", "") != f"=={release.reverts}":
        wanted = f'installed: "=={release.reverts}"'
        yield (
            f"release {plan.release} undoes {release.reverts}, and the target does not say `{wanted}`: "
            "vehicles that never left would be sent what they run already"
        )


def _fleet_warnings(plan: Plan, found: Reach, profiles: Mapping[Profile, int]) -> Iterator[str]:
    if not found.targeted:
        yield "no vehicle is targeted: the rollout would complete at once"
    unproven = sum(count for profile, count in profiles.items() if not profile.installed)
    if plan.target.installed and unproven:
        yield (
            f"{unproven} vehicles have proven no release yet, so `installed` leaves them out: software from the "
            "factory is no release; leave `installed` out to reach them (who has the release is never targeted)"
        )
    populated = {profile.region for profile in found.profiles}
    for region in found.regions:
        if region not in populated:
            yield f"region {region} is in the plan, but no targeted vehicle is in it"
    outside = found.excluded.get("region_not_in_plan", {})
    if outside:
        missing = ", ".join(sorted({profile.region for profile in outside}))
        yield f"{sum(outside.values())} vehicles match the target in regions that are not in the plan: {missing}"


def _wave_warnings(plan: Plan, cells: Mapping[Cell, int], sizes: Sizes) -> Iterator[str]:
    if not cells:
        return
    populated = {cell.cohort for cell in cells}
    for wave, (_, added) in zip(plan.waves, sizes, strict=True):
        for cohort in wave.cohorts:
            if cohort not in populated:
                yield f"wave {wave.name} names cohort {cohort}, but no targeted vehicle is in it"
        if not any(added.values()):
            yield f"wave {wave.name} is expected to add nobody: it only soaks for {duration(wave.soak_ms)}"
    last = len(plan.waves) - 1
    never = sum(count * (1.0 - waves.open_share(plan, last, cell.cohort)) for cell, count in cells.items())
    if round(never):
        yield f"about {round(never)} targeted vehicles are never admitted: no wave opens to all of their cohort"


def _stratum_warnings(plan: Plan, cells: Mapping[Cell, int]) -> Iterator[str]:
    strata: Counter[Stratum] = Counter()
    for cell, count in cells.items():
        strata[cell.stratum] += count
    needed = max(STRATUM_MIN, halting_failures(plan.gate, len(strata)))
    for stratum, count in sorted(strata.items()):
        if count < needed:
            yield f"stratum {stratum} has {count} vehicles: {needed} are needed to judge it on its own"


def _budget_warnings(plan: Plan, targeted: int, shortest_ms: int) -> Iterator[str]:
    budget, age_ms = plan.limits.blast_budget, plan.gate.checkpoints_ms[0]
    if not targeted:
        return
    if budget < min(AGED_MIN, targeted):
        yield (
            f"blast budget {budget} < {min(AGED_MIN, targeted)}: "
            f"the first {AGED_MIN} exposures take {ceil(AGED_MIN / budget)} times {duration(age_ms)} to age"
        )
    paced_ms = _budget_rounds(plan, targeted) * age_ms
    if paced_ms > shortest_ms:
        yield (
            f"blast budget {budget} paces {targeted} vehicles over about {duration(paced_ms)} even if none fails; "
            f"soak and checkpoints alone take {duration(shortest_ms)}. "
            f"{percent(0.002)} of the target would be {max(AGED_MIN, round(0.002 * targeted))}"
        )
    if plan.gate.sample_min > targeted:
        yield f"the gate's sample ({plan.gate.sample_min}) > targeted vehicles ({targeted}): no wave reaches it"


def _budget_rounds(plan: Plan, targeted: int) -> int:
    """Rounds of the first checkpoint until all are aged, if none fails and silence is as expected."""
    reference = plan.gate.silence_reference[0]
    aged, rounds = 0, 0
    while aged < targeted and rounds < ROUNDS_MAX:
        upper = blast_upper(0, AgeGroup(exposed=aged, silent=round(reference * aged)), reference)
        aged += max(1, permit_allowance(plan.limits.blast_budget, upper, 0))
        rounds += 1
    return rounds
