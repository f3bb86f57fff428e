"""Conflicts: other rollouts that want some of the same vehicles, and who goes first.

Owns the comparison of a plan with rollouts that are there. The rule itself (priority, then age) is that of `admission`:
a vehicle takes one attempt at a time, and is granted to the rollout with the higher priority, of equal ones the older.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.engine.reach import reach
from orchestrator.model.fleet import Profile
from orchestrator.model.plan import Plan
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout


def conflicts(
    plan: Plan, profiles: Mapping[Profile, int], others: Sequence[Rollout], releases: Sequence[Release]
) -> tuple[str, ...]:
    """Which other rollouts want some of the vehicles that a plan targets, in the order in which they would go.

    Args:
        plan: Not started yet.
        profiles: How many vehicles have each profile.
        others: Every rollout.
        releases: Every release that is registered.
    """
    wanted = reach(plan, profiles, releases).profiles
    by_version = {release.version: release for release in releases}
    found = []
    for other in sorted(others, key=lambda rollout: (-rollout.plan.priority, rollout.created_at, rollout.rollout_id)):
        shared = reach(other.plan, wanted, releases).targeted
        if shared and not other.status.over and other.rollout_id != plan.supersedes:
            ecus = _shared_ecus(by_version.get(plan.release), by_version.get(other.plan.release))
            found.append(f"{_who(other)} wants {shared} of these vehicles as well: {_order(plan, other)}{ecus}")
    return (*_superseded(plan, others), *found)


def _who(other: Rollout) -> str:
    return f"rollout {other.rollout_id} ({other.plan.release}, {other.status})"


def _order(plan: Plan, other: Rollout) -> str:
    if plan.priority > other.plan.priority:
        return f"this one goes first (priority {plan.priority} > {other.plan.priority})"
    if plan.priority < other.plan.priority:
        return f"it goes first (priority {other.plan.priority} > {plan.priority})"
    return f"it goes first, being older (both have priority {plan.priority})"


def _shared_ecus(one: Release | None, other: Release | None) -> str:
    """What both would write to, as the end of a sentence."""
    if one is None or other is None:
        return ""
    if one.version == other.version:
        return "; it is the same release"
    shared = sorted({image.hardware_id for image in one.images} & {image.hardware_id for image in other.images})
    if not shared:
        return "; they are for different control units"
    return f"; both bring images for {', '.join(shared)}, and a vehicle ends with the newer by release counter"


def _superseded(plan: Plan, others: Sequence[Rollout]) -> Iterator[str]:
    if not plan.supersedes:
        return
    named = next((other for other in others if other.rollout_id == plan.supersedes), None)
    if named is None:
        yield f"rollout {plan.supersedes}, whose place this one takes, is not there: check `supersedes`"
    elif named.status.over:
        yield f"rollout {plan.supersedes}, whose place this one takes, is {named.status} already"
    else:
        yield f"{_who(named)} ends when this one starts: what it granted without a permit is withdrawn"
