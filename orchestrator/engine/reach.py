"""Reach: which vehicles of a fleet a plan is for, counted by profile, and what follows from how many they are.

Owns the rules by which a profile is left out, in the order in which admission looks, the regions of a plan that names
none, and the limits of a plan that leaves them to the start. One vehicle at a time is the matter of `admission`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.engine import controls
from orchestrator.engine.targets import CompiledTarget, compile_plan, compile_target, lacks_intermediate, mismatch
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.release import Release

BUDGET_MIN = 20
"""Smallest blast budget that is filled in: so many exposures must age before the gate can exclude anything."""
BUDGET_SHARE = 0.002
"""Part of the targeted vehicles that may be hurt at worst. Source: the reference study (docs/decisions/0006)."""
SAFETY_BUDGET_SHARE = BUDGET_SHARE / 4
"""The same where a failure can hurt people."""
IN_FLIGHT_MIN = 1000
"""Fewest slots that are filled in: no fleet of so many waits for slots."""
IN_FLIGHT_SHARE = 0.1
"""Part of the targeted vehicles that may hold a slot at once: a vehicle that calls seldom holds its slot until it calls
again. Where the figure comes from: docs/decisions/0021.
"""
IN_FLIGHT_STARTS_MINUTES = 24 * 60
"""More slots than permits in a day are of no use: they would download what they may not install for long."""


INTERMEDIATE_MISSING = "intermediate_missing"
"""The rule that leaves out who lacks the required intermediate release, until another rollout brings it."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom a plan is for."""

    regions: Mapping[str, RegionRules]
    """That a rollout of the plan runs in."""
    profiles: Mapping[Profile, int]
    """Targeted vehicles."""
    excluded: Mapping[str, Mapping[Profile, int]]
    """Vehicles left out, by the first rule that does: a field of the target, `already_installed`, `newer_installed`,
    `region_not_in_plan` or `intermediate_missing`.
    """

    @property
    def targeted(self) -> int:
        """Vehicles that the rollout is for."""
        return sum(self.profiles.values())

    @property
    def cells(self) -> Mapping[Cell, int]:
        """Targeted vehicles by region, hardware and cohort."""
        cells: Counter[Cell] = Counter()
        for profile, count in self.profiles.items():
            cells[cell_of(profile)] += count
        return dict(sorted(cells.items()))


def cell_of(profile: Profile) -> Cell:
    """Where vehicles of a profile are counted."""
    return Cell(region=profile.region, hardware=profile.hardware, cohort=profile.cohort)


def reach(plan: Plan, profiles: Mapping[Profile, int], releases: Iterable[Release] = ()) -> Reach:
    """Whom a plan is for, of the fleet as it is.

    Args:
        plan: As read.
        profiles: How many vehicles have each profile.
        releases: Every registered one; without them nothing counts as newer.
    """
    regions = regions_of(plan, profiles)
    target = compile_plan(plan, releases)
    targeted: dict[Profile, int] = {}
    excluded: dict[str, dict[Profile, int]] = {}
    for profile, count in profiles.items():
        if count > 0:
            rule = _excluded_by(plan, target, regions, profile)
            (excluded.setdefault(rule, {}) if rule else targeted)[profile] = count
    return Reach(regions=regions, profiles=targeted, excluded=excluded)


def regions_of(plan: Plan, profiles: Mapping[Profile, int]) -> Mapping[str, RegionRules]:
    """The regions that a rollout of the plan runs in: the plan's, or every region of the vehicles it targets.

    Args:
        plan: As read.
        profiles: How many vehicles have each profile.
    """
    if plan.regions:
        return plan.regions
    target = compile_target(plan.target)
    found = {profile.region for profile, count in profiles.items() if count > 0 and mismatch(target, profile) is None}
    return dict.fromkeys(sorted(found), plan.region_defaults)


def waiting(plan: Plan, profiles: Mapping[Profile, int], releases: Iterable[Release] = ()) -> dict[Cell, int]:
    """Vehicles by cell that match the target now and could be brought the release, in any region.

    Who has it, or a newer one, is not among them; nor who lacks the required intermediate release: no wave can reach a
    vehicle that another rollout has to reach first.

    Args:
        plan: Of the rollout.
        profiles: How many vehicles have each profile.
        releases: Every registered one; without them nothing counts as newer.
    """
    target = compile_plan(plan, releases)
    cells: Counter[Cell] = Counter()
    for profile, count in profiles.items():
        if count > 0 and _waits(plan, target, profile):
            cells[cell_of(profile)] += count
    return dict(cells)


def _waits(plan: Plan, target: CompiledTarget, profile: Profile) -> bool:
    installed = profile.installed
    if installed == plan.release or installed in target.newer or lacks_intermediate(target, installed):
        return False
    return mismatch(target, profile) is None


def with_limits(plan: Plan, profiles: Mapping[Profile, int], releases: Iterable[Release] = ()) -> Plan:
    """The plan with all its limits: its own, and those that follow from how many vehicles it targets now.

    Args:
        plan: As read; 0 where the file leaves a limit to the start.
        profiles: How many vehicles have each profile.
        releases: Every registered one; without them nothing counts as newer.
    """
    known = plan.limits.blast_budget and plan.limits.in_flight_max
    if known and plan.gate.controls_per_exposure is not None:
        return plan
    return with_limits_for(plan, reach(plan, profiles, releases).targeted)


def with_limits_for(plan: Plan, targeted: int) -> Plan:
    """The plan with all its limits: its own, and those that follow from so many targeted vehicles."""
    limits, per_exposure = plan.limits, plan.gate.controls_per_exposure
    if per_exposure is None:
        many = targeted >= controls.FLEET_MIN and controls.can_be_heard(plan.gate)
        per_exposure = controls.CONTROLS_PER_EXPOSURE if many else 0
    budget = limits.blast_budget or default_budget(targeted, safety_critical=plan.gate.safety_critical)
    slots = limits.in_flight_max or default_in_flight(targeted, limits.starts_per_minute_max)
    return replace(
        plan,
        gate=replace(plan.gate, controls_per_exposure=per_exposure),
        limits=replace(limits, blast_budget=budget, in_flight_max=slots),
        regions={region: _with_slots(rules, slots) for region, rules in plan.regions.items()},
        region_defaults=_with_slots(plan.region_defaults, slots),
    )


def default_in_flight(targeted: int, starts_per_minute: int) -> int:
    """The slots of so many targeted vehicles.

    Args:
        targeted: Vehicles that the rollout is for.
        starts_per_minute: Permits a minute over all regions.
    """
    return max(IN_FLIGHT_MIN, min(round(IN_FLIGHT_SHARE * targeted), IN_FLIGHT_STARTS_MINUTES * starts_per_minute))


def _with_slots(rules: RegionRules, slots: int) -> RegionRules:
    """Rules of a region that may take as many slots as there are in all, unless it has a limit of its own."""
    return rules if rules.in_flight_max else replace(rules, in_flight_max=slots)


def default_budget(targeted: int, *, safety_critical: bool) -> int:
    """The blast budget of so many targeted vehicles."""
    share = SAFETY_BUDGET_SHARE if safety_critical else BUDGET_SHARE
    return max(BUDGET_MIN, round(share * targeted))


def _excluded_by(plan: Plan, target: CompiledTarget, regions: Mapping[str, RegionRules], profile: Profile) -> str:
    """The rule that leaves a profile out; empty when none does. In the order in which admission looks."""
    if profile.installed == plan.release:
        return "already_installed"
    if profile.installed in target.newer:
        return "newer_installed"
    found = mismatch(target, profile)
    if found is not None:
        return found.field
    if profile.region not in regions:
        return "region_not_in_plan"
    return INTERMEDIATE_MISSING if lacks_intermediate(target, profile.installed) else ""
