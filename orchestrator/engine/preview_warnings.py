"""What a preview warns of: what cannot work with this fleet as it is, or deserves a second look.

Owns release, reach, waves, strata, controls, budget and offline permits, and their words. Windows, followed regions and
approvals are the matter of `calendar`, limits that starve a wave of `pace`, other rollouts of `conflicts`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from orchestrator.engine import controls, openings, strata, waves
from orchestrator.engine.calendar import Sizes
from orchestrator.engine.gates.budget import AGED_MIN
from orchestrator.engine.gates.rules import halting_failures
from orchestrator.engine.pace import Pace, budget_rounds
from orchestrator.engine.reach import INTERMEDIATE_MISSING, Reach, default_budget
from orchestrator.engine.wording import duration
from orchestrator.model.fleet import OTHER, Cell, Profile, Stratum
from orchestrator.model.plan import OnHalt, Plan, RegionRules
from orchestrator.model.release import Release
from orchestrator.model.rollout import part_of

STRATUM_MIN = 5
"""Vehicles below which a stratum is hardly represented in any wave."""
NAMED_MOST = 8
"""Strata that a warning names one by one; of more it says how many."""
COMPARED_MIN = 0.1
"""Part of the exposures of a wave below which its silence is heard late."""


def of_release(plan: Plan, release: Release | None, releases: Sequence[Release]) -> Iterator[str]:
    """What is wrong with the release, for this plan.

    Args:
        plan: As read.
        release: Its release; None when it is not registered.
        releases: Every release that is registered.
    """
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
    if plan.on_halt is OnHalt.PROPOSE_REVERT and not any(other.reverts == plan.release for other in releases):
        yield (
            f"`on_halt: {plan.on_halt}` needs a release that undoes {plan.release}, and none is registered: "
            "publish it with its way back"
        )


def of_reach(plan: Plan, found: Reach, profiles: Mapping[Profile, int]) -> Iterator[str]:
    """Who is left out, waits, or was expected and is not there."""
    if not found.targeted and INTERMEDIATE_MISSING not in found.excluded:
        yield "no vehicle is targeted: the rollout would complete at once"
    if found.targeted == 1:
        yield "one vehicle is targeted: no gate can judge by it, it stops nobody else"
    unproven = sum(count for profile, count in profiles.items() if not profile.installed)
    if plan.target.installed and unproven:
        yield (
            f"{unproven} vehicles have proven no release yet, so `installed` leaves them out: software from the "
            "factory is no release; leave `installed` out to reach them (who has the release is never targeted)"
        )
    yield from _intermediate(plan, found)
    populated = {profile.region for profile in found.profiles}
    for region in plan.regions:
        if region not in populated:
            yield f"region {region} is in the plan, but no targeted vehicle is in it"
    outside = found.excluded.get("region_not_in_plan", {})
    if outside:
        missing = ", ".join(sorted({profile.region for profile in outside}))
        yield f"{sum(outside.values())} vehicles match the target in regions that are not in the plan: {missing}"


def of_waves(plan: Plan, cells: Mapping[Cell, int], sizes: Sizes) -> Iterator[str]:
    """Waves that add nobody, cohorts nobody is in, vehicles that no wave reaches."""
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


def of_strata(plan: Plan, cells: Mapping[Cell, int]) -> Iterator[str]:
    """Strata too small to be judged, and strata that are first exposed when many others are already."""
    apart = strata.largest_of(cells)
    parts: Counter[Stratum] = Counter()
    for cell, count in cells.items():
        parts[part_of(cell.stratum, apart)] += count
    yield from _together(apart, cells, parts[OTHER])
    needed = max(STRATUM_MIN, plan.gate.stratum_sample_min, halting_failures(plan.gate, len(parts)))
    small = {stratum: count for stratum, count in sorted(parts.items()) if count < needed}
    for stratum, count in list(small.items())[:NAMED_MOST]:
        yield f"stratum {stratum} has {count} vehicles: {needed} are needed to judge it on its own"
    if len(small) > NAMED_MOST:
        rest = len(small) - NAMED_MOST
        yield f"{rest} more strata have fewer than the {needed} vehicles that are needed to judge one on its own"
    yield from _missed(plan, cells)


def of_controls(plan: Plan, cells: Mapping[Cell, int]) -> Iterator[str]:
    """Waves before the last that take so many at once that next to nobody is left to wait beside those that install.

    Args:
        plan: With all its limits.
        cells: Targeted vehicles.
    """
    per_exposure = plan.gate.controls_per_exposure or 0
    if not per_exposure:
        return
    names = []
    for index, wave in enumerate(plan.waves[:-1]):
        added = compared = 0.0
        for region in {cell.region for cell in cells}:
            targeted = {cell: count for cell, count in cells.items() if cell.region == region}
            trial = openings.trial(plan, index, targeted)
            for cell, count in targeted.items():
                if index and waves.reached_share(plan, index - 1, cell.cohort) > 0.0:
                    continue  # A part of it has gone first.
                fresh = waves.reached_share(plan, index, cell.cohort) * count
                added += fresh
                compared += fresh * controls.compared_share(per_exposure, trial)
        if compared < COMPARED_MIN * added:
            names.append(wave.name)
    if names:
        which = f"wave {names[0]} takes" if len(names) == 1 else f"waves {', '.join(names)} take"
        yield (
            f"{which} so many at once that hardly any vehicle is left to wait beside those that install, and shows "
            "what silence is normal, so vehicles that fall silent are missed late. Let a part of them go first: "
            "`share: 25%` in a wave before"
        )


def of_budget(pace: Pace, targeted: int, shortest_ms: int) -> Iterator[str]:
    """A blast budget that paces everything, or that bounds nothing."""
    plan = pace.calendar.plan
    budget, age_ms = plan.limits.blast_budget, plan.gate.checkpoints_ms[0]
    if not targeted:
        return
    usual = default_budget(targeted, safety_critical=plan.gate.safety_critical)
    if budget < min(AGED_MIN, targeted):
        yield (
            f"blast budget {budget} < {min(AGED_MIN, targeted)}: "
            f"the first {AGED_MIN} exposures take {ceil(AGED_MIN / budget)} times {duration(age_ms)} to age"
        )
    paced_ms = budget_rounds(pace, 0, targeted) * age_ms
    if paced_ms > shortest_ms and budget < usual:
        yield (
            f"blast budget {budget} paces {targeted} vehicles over about {duration(paced_ms)} even if none fails; "
            f"soak and checkpoints alone take {duration(shortest_ms)}. Left out, it would be {usual}"
        )
    if budget > max(targeted, AGED_MIN):
        yield f"blast budget {budget} > {targeted} targeted vehicles: it bounds nothing; left out, it would be {usual}"
    elif budget > usual and plan.gate.safety_critical:
        yield f"a failure can hurt people, and blast budget {budget} > {usual}, which it would be if left out"
    if plan.gate.sample_min > targeted:
        yield f"the gate's sample ({plan.gate.sample_min}) > targeted vehicles ({targeted}): no wave reaches it"


def of_offline_permits(plan: Plan, regions: Mapping[str, RegionRules]) -> Iterator[str]:
    """Permits that nothing calls back.

    Args:
        plan: As read.
        regions: Rules of every region that it runs in.
    """
    longest: dict[int, list[str]] = {}
    for region, rules in sorted(regions.items()):
        if rules.offline_permit_ms:
            longest.setdefault(rules.offline_permit_ms, []).append(region)
    for offline_ms, names in sorted(longest.items()):
        yield (
            f"vehicles of {', '.join(names)} may be given permits of up to {duration(offline_ms)} to install out of "
            f"reach: a halt reaches none that is out, and silence of these vehicles is judged so much later; the "
            f"blast budget ({plan.limits.blast_budget}) counts them from when they are given"
        )


def _intermediate(plan: Plan, found: Reach) -> Iterator[str]:
    """How many wait for the intermediate release."""
    missing = found.excluded.get(INTERMEDIATE_MISSING, {})
    if not missing:
        return
    waits = sum(missing.values())
    unproven = sum(count for profile, count in missing.items() if not profile.installed)
    proven = f" ({unproven} of them have proven no release)" if unproven else ""
    yield (
        f"{waits} of {waits + found.targeted} vehicles do not have `requires: {plan.requires}`{proven}: they wait "
        "until another rollout has brought them there, and are left out if this one ends before"
    )


def _together(apart: tuple[str, ...], cells: Mapping[Cell, int], vehicles: int) -> Iterator[str]:
    """Which strata are judged together, and what that costs."""
    names = strata.together(apart, cells)
    if not names:
        return
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    yield (
        f"{len(apart) + len(names)} strata (region x hardware) > {strata.STRATA_MAX}: the {len(apart)} largest are "
        f"judged each on its own, the other {len(names)} with {vehicles} vehicles together as {OTHER}, and stand still "
        f"together: {', '.join(names[:NAMED_MOST])}{more}. What is bad in one of them shows later"
    )


def _missed(plan: Plan, cells: Mapping[Cell, int]) -> Iterator[str]:
    """Strata that the first wave has no vehicle for, by the wave that has."""
    first: dict[Stratum, int] = {}
    for cell in cells:
        reached = (index for index in range(len(plan.waves)) if waves.reached_share(plan, index, cell.cohort) > 0)
        index = next(reached, None)
        if index is not None:
            first[cell.stratum] = min(index, first.get(cell.stratum, index))
    late: dict[int, list[str]] = {}
    for stratum, index in sorted(first.items()):
        if index > 0:
            late.setdefault(index, []).append(str(stratum))
    for index, names in sorted(late.items()):
        more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
        yield (
            f"the first wave ({plan.waves[0].name}) has no vehicle of {', '.join(names[:NAMED_MOST])}{more}: what is "
            f"bad there shows in wave {plan.waves[index].name} only"
        )
