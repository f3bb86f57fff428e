"""What contradicts itself in a plan whatever the fleet: one field against another.

Owns what a tired engineer writes and no fleet can carry out. One value out of its bounds is the matter of its reader;
what only this fleet cannot carry out is a warning of `preview`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.engine.plan.fields import Places
from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.regions import OFFLINE_PERMIT
from orchestrator.engine.plan.values import write_duration
from orchestrator.engine.targets import compile_comparisons, satisfiable
from orchestrator.engine.waves import admits, widest_share
from orchestrator.model.plan import Plan, Target, Wave


def check(plan: Plan, fields: Places) -> None:
    """Refuse a plan whose fields, each good in itself, contradict each other.

    Args:
        plan: As read so far.
        fields: Of the top level, where faults go.
    """
    _check_tags(plan.target, fields)
    _check_versions(plan, fields)
    _check_supersedes(plan, fields)
    _check_regions(plan, fields)
    _check_offline_permits(plan, fields)


def check_wave(place: Place, wave: Wave, earlier: Sequence[Wave], target: Target, holdout_share: float) -> None:
    """Refuse a wave that cannot add anybody, whatever the fleet.

    Args:
        place: Where it stands.
        wave: The wave.
        earlier: Those before it.
        target: Of the plan.
        holdout_share: Part of the target that no wave admits.
    """
    if any(wave.name == other.name for other in earlier):
        place.fault(f"a second wave is named `{wave.name}`", "give every wave a name of its own")
    # The empty name stands for every cohort that no wave names.
    anybody = {"", *wave.cohorts, *(cohort for other in earlier for cohort in other.cohorts)}
    universe = sorted(set(target.cohort) or anybody)
    admitted = [cohort for cohort in universe if admits(wave, cohort)]
    most = 1.0 - holdout_share
    if not admitted:
        place.fault(
            f"wave `{wave.name}` is for cohorts that the target leaves out", f"name some of {', '.join(target.cohort)}"
        )
    elif all(wave.share <= widest_share(earlier, cohort) for cohort in admitted):
        place.fault(
            f"wave `{wave.name}` adds nobody: earlier waves admit all that it is for",
            "raise its share, name other cohorts, or remove it",
        )
    elif all(widest_share(earlier, cohort) >= most for cohort in admitted):
        place.fault(
            f"wave `{wave.name}` adds nobody: all that earlier waves leave is the holdout",
            "lower `holdout`, lower the share of earlier waves, or remove it",
        )


def _check_tags(target: Target, fields: Places) -> None:
    for tag in sorted(set(target.tags_all) & set(target.tags_none)):
        _below(fields, "target", "tags").fault(
            f"tag `{tag}` is wanted and unwanted: no vehicle matches", "remove it from one list"
        )


def _check_versions(plan: Plan, fields: Places) -> None:
    """Refuse clauses that no release satisfies, each alone, then both together."""
    installed, requires = plan.target.installed, plan.requires
    clauses = ((installed, ("target", "installed")), (requires, ("requires",)))
    for clause, path in clauses:
        if clause and not satisfiable(compile_comparisons(clause), but=plan.release):
            what = "no release" if not satisfiable(compile_comparisons(clause)) else f"only {plan.release} itself"
            _below(fields, *path).fault(
                f"{what} satisfies `{clause}`, and who has {plan.release} is never targeted",
                "write comparisons that hold of an earlier release, for example >=1.0.0,<1.1.0",
            )
            return
    if installed and requires and not satisfiable(compile_comparisons(f"{installed},{requires}"), but=plan.release):
        _below(fields, "requires").fault(
            f"whoever satisfies `{requires}` is outside of target.installed (`{installed}`): all would wait for ever",
            "widen target.installed, so that vehicles are still targeted after the intermediate release",
        )


def _check_supersedes(plan: Plan, fields: Places) -> None:
    if plan.supersedes and plan.supersedes == plan.name:
        _below(fields, "supersedes").fault(
            f"rollout `{plan.name}` would take its own place", "name the rollout that it replaces"
        )


def _check_regions(plan: Plan, fields: Places) -> None:
    """Refuse rules for a region that the target leaves out."""
    if not plan.target.region:
        return
    for region, place in _entries(fields.get("regions")):
        if region in plan.regions and region not in plan.target.region:
            place.fault(
                f"region `{region}` has rules, and target.region leaves it out",
                f"add it to target.region, or remove it; the target has {', '.join(plan.target.region)}",
            )


def _check_offline_permits(plan: Plan, fields: Places) -> None:
    """Refuse offline permits that lapse before an ordinary one would."""
    own = {region: dict(_entries(place)) for region, place in _entries(fields.get("regions"))}
    written = [(plan.region_defaults, fields.get(OFFLINE_PERMIT))]
    written += [(rules, own.get(region, {}).get(OFFLINE_PERMIT)) for region, rules in plan.regions.items()]
    for rules, place in written:
        if place is not None and 0 < rules.offline_permit_ms < plan.limits.permit_valid_ms:
            place.fault(
                f"an offline permit would be shorter ({write_duration(rules.offline_permit_ms)}) than an ordinary one "
                f"({write_duration(plan.limits.permit_valid_ms)})",
                "raise it, lower limits.permit_valid, or write `none`",
            )


def _entries(place: Place | None) -> Iterator[tuple[str, Place]]:
    if place is not None and place.mapping:
        for key, value in place.node.value:
            yield str(key.value), place.at(value, str(key.value))


def _below(fields: Places, first: str, *further: str) -> Place:
    """The place of a field of a mapping, which is there."""
    place = fields[first]
    for step in further:
        place = next(below for name, below in _entries(place) if name == step)
    return place
