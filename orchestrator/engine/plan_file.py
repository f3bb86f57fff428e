"""The plan file: YAML in, a checked `Plan` out, and back with every default filled in.

Owns the fields, their defaults, their bounds, and what cannot work whatever the fleet; those of regions are read in
`plan_regions`. What cannot work with the fleet as it is (cohorts without vehicles, budgets too small) is said by
`preview`, as a warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import yaml

from orchestrator.engine import plan_readers as read
from orchestrator.engine import plan_regions
from orchestrator.engine.plan_nodes import Place, PlanError, PlanFault, compose
from orchestrator.engine.plan_values import write_duration, write_ratio
from orchestrator.engine.waves import admits, widest_share
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import ROLLOUT_ID_PATTERN, ReleaseVersion
from orchestrator.model.plan import GateLimits, Limits, Plan, Preconditions, Target, Wave

__all__ = ["PlanError", "PlanFault", "effective_plan", "read_plan"]

_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_YEAR = 365 * _DAY
_COUNT_MAX = 100_000_000
_APPROVALS_MAX = 5

DEFAULT_WAVES = tuple(
    Wave(name=name, cohorts=(), share=share, soak_ms=_DAY)
    for name, share in (
        ("first", 0.001),
        ("hundredth", 0.01),
        ("tenth", 0.1),
        ("half", 0.5),
        ("everybody", 1.0),
    )
)
"""Source: docs/decisions, rule PROCEED / HOLD / HALT: stages of 0.1, 1, 10, 50 and 100 %."""

DEFAULT_GATE = GateLimits(
    failure_ratio_max=0.01,
    sample_min=20,
    checkpoints_ms=(_DAY, 3 * _DAY),
    silence_reference=(0.05, 0.043),
    alpha=0.05,
)
DEFAULT_LIMITS = Limits(
    in_flight_max=1000,
    starts_per_minute_max=100,
    blast_budget=20,
    attempts_max=3,
    retry_backoff_ms=10 * _MINUTE,
    permit_valid_ms=15 * _MINUTE,
    patience_ms=14 * _DAY,
)
DEFAULT_DEADLINES: Mapping[AttemptState, int] = MappingProxyType(
    {
        AttemptState.OFFERED: _DAY,
        AttemptState.DOWNLOADING: 7 * _DAY,
        AttemptState.DOWNLOADED: 7 * _DAY,
        AttemptState.PERMITTED: _HOUR,
        AttemptState.INSTALLING: 2 * _HOUR,
        AttemptState.REBOOTING: _DAY,
        AttemptState.VERIFYING: _DAY,
        AttemptState.DEFERRED: 14 * _DAY,
    }
)
DEFAULT_HOLDOUT_SHARE = 0.01

_PLAN_FIELDS = (
    "name",
    "release",
    "target",
    "waves",
    *plan_regions.DEFAULT_FIELDS,
    "regions",
    "conditions",
    "gate",
    "limits",
    "deadlines",
    "holdout",
)
_TARGET_FIELDS = ("model", "hardware", "region", "cohort", "tags", "installed")
_WAVE_FIELDS = ("name", "cohorts", "share", "soak", "approvals")
_CONDITION_FIELDS = ("battery", "parked", "unmetered")
_GATE_FIELDS = ("failure_ratio", "sample", "checkpoints", "silence_reference", "alpha")
_LIMIT_FIELDS = (
    "in_flight",
    "starts_per_minute",
    "blast_budget",
    "attempts",
    "retry_backoff",
    "permit_valid",
    "patience",
)

_Fields = Mapping[str, Place]


def read_plan(text: str) -> Plan:
    """Read and check a plan file.

    Args:
        text: YAML as documented in docs/plan-file.md; only `release` is required. A plan without `regions` has none:
            they are filled in at the start, from the inventory.

    Raises:
        PlanError: anything is wrong with it; carries every fault, with line and column.
    """
    faults: list[PlanFault] = []
    root = Place(node=compose(text), path="", faults=faults)
    fields = root.fields(_PLAN_FIELDS, "a mapping such as `release: 1.1.0`")
    if root.mapping and "release" not in fields:
        root.fault("`release` is missing", "write the version to roll out, for example `release: 1.1.0`")
    target = _target(fields)
    limits = _limits(fields)
    region_defaults = plan_regions.region_defaults(fields, limits.in_flight_max)
    plan = Plan(
        release=read.take(fields, "release", read.release, ReleaseVersion("")),
        target=target,
        waves=_waves(fields, target),
        regions=plan_regions.regions(fields, region_defaults),
        gate=_gate(fields),
        limits=limits,
        deadlines_ms=_deadlines(fields, limits),
        holdout_share=read.take(fields, "holdout", read.ratio(0.0, 0.5, low_allowed=True), DEFAULT_HOLDOUT_SHARE),
        name=read.take(fields, "name", read.matching(ROLLOUT_ID_PATTERN, "a rollout id"), ""),
        region_defaults=region_defaults,
        preconditions=_preconditions(fields),
    )
    if faults:
        raise PlanError(faults)
    return plan


def _section(fields: _Fields, key: str, known: tuple[str, ...]) -> _Fields:
    place = fields.get(key)
    return place.fields(known, f"a mapping with fields of {', '.join(known)}") if place is not None else {}


def _target(fields: _Fields) -> Target:
    section = _section(fields, "target", _TARGET_FIELDS)
    tags = _section(section, "tags", ("all", "none"))
    target = Target(
        model=read.take(section, "model", read.names, ()),
        hardware=read.take(section, "hardware", read.names, ()),
        region=read.take(section, "region", read.names, ()),
        cohort=read.take(section, "cohort", read.names, ()),
        tags_all=read.take(tags, "all", read.names, ()),
        tags_none=read.take(tags, "none", read.names, ()),
        installed=read.take(section, "installed", read.comparisons, ""),
    )
    for tag in sorted(set(target.tags_all) & set(target.tags_none)):
        section["tags"].fault(f"tag `{tag}` is wanted and unwanted: no vehicle matches", "remove it from one list")
    return target


def _waves(fields: _Fields, target: Target) -> tuple[Wave, ...]:
    place = fields.get("waves")
    if place is None:
        return DEFAULT_WAVES
    items = place.items("a list of waves")
    if items is None:
        return DEFAULT_WAVES
    if not 1 <= len(items) <= 50:
        place.fault(f"{len(items)} waves where 1 to 50 should stand", "write waves, or leave the field out")
    read_waves: list[Wave] = []
    for item in items:
        known = len(item.faults)
        wave = _wave(item)
        if len(item.faults) == known:
            # A wave that is faulty in itself would make others look impossible.
            _check_wave(item, wave, read_waves, target)
            read_waves.append(wave)
    return tuple(read_waves)


def _wave(place: Place) -> Wave:
    section = place.fields(_WAVE_FIELDS, "a wave such as {name: canary, cohorts: [canary]}")
    if place.mapping and "name" not in section:
        place.fault("the wave has no `name`", "name it, for example {name: canary, share: 1%}")
    return Wave(
        name=read.take(section, "name", read.name, ""),
        cohorts=read.take(section, "cohorts", read.names, ()),
        share=read.take(section, "share", read.ratio(0.0, 1.0), 1.0),
        soak_ms=read.take(section, "soak", read.duration(0, _YEAR), _DAY),
        approvals=read.take(section, "approvals", read.count(0, _APPROVALS_MAX), 0),
    )


def _check_wave(place: Place, wave: Wave, earlier: list[Wave], target: Target) -> None:
    """Refuse a wave that cannot add anybody, whatever the fleet."""
    if any(wave.name == other.name for other in earlier):
        place.fault(f"a second wave is named `{wave.name}`", "give every wave a name of its own")
    # The empty name stands for every cohort that no wave names.
    anybody = {"", *wave.cohorts, *(cohort for other in earlier for cohort in other.cohorts)}
    universe = sorted(set(target.cohort) or anybody)
    admitted = [cohort for cohort in universe if admits(wave, cohort)]
    if not admitted:
        place.fault(
            f"wave `{wave.name}` is for cohorts that the target leaves out", f"name some of {', '.join(target.cohort)}"
        )
    elif all(wave.share <= widest_share(earlier, cohort) for cohort in admitted):
        place.fault(
            f"wave `{wave.name}` adds nobody: earlier waves admit all that it is for",
            "raise its share, name other cohorts, or remove it",
        )


def _preconditions(fields: _Fields) -> Preconditions:
    section = _section(fields, "conditions", _CONDITION_FIELDS)
    return Preconditions(
        unmetered=read.take(section, "unmetered", read.truth, False),
        parked=read.take(section, "parked", read.truth, False),
        battery_percent_min=read.take(section, "battery", read.percent, 0),
    )


def _gate(fields: _Fields) -> GateLimits:
    section = _section(fields, "gate", _GATE_FIELDS)
    ages = read.several(read.duration(_SECOND, _YEAR), "a list of durations such as [24h, 72h]", most=8)
    shares = read.several(read.ratio(0.0, 0.5), "a list of ratios such as [5%, 4.3%]", most=8)
    checkpoints = read.take(section, "checkpoints", ages, DEFAULT_GATE.checkpoints_ms)
    first, later = DEFAULT_GATE.silence_reference
    default_reference = (first, *(later for _ in checkpoints[1:]))
    reference = read.take(section, "silence_reference", shares, default_reference)
    if list(checkpoints) != sorted(set(checkpoints)):
        section["checkpoints"].fault("checkpoints are not ascending", "write the youngest first, none twice")
    if len(reference) != len(checkpoints):
        section["silence_reference"].fault(
            f"{len(reference)} silence references for {len(checkpoints)} checkpoints", "write one for each checkpoint"
        )
    return GateLimits(
        failure_ratio_max=read.take(section, "failure_ratio", read.ratio(0.0, 0.4), DEFAULT_GATE.failure_ratio_max),
        sample_min=read.take(section, "sample", read.count(1, _COUNT_MAX), DEFAULT_GATE.sample_min),
        checkpoints_ms=checkpoints,
        silence_reference=reference,
        alpha=read.take(section, "alpha", read.ratio(0.0, 0.5), DEFAULT_GATE.alpha),
    )


def _limits(fields: _Fields) -> Limits:
    section = _section(fields, "limits", _LIMIT_FIELDS)
    whole = read.count(1, _COUNT_MAX)
    backoff = read.duration(_SECOND, 30 * _DAY)
    permit = read.duration(_SECOND, _DAY)
    return Limits(
        in_flight_max=read.take(section, "in_flight", whole, DEFAULT_LIMITS.in_flight_max),
        starts_per_minute_max=read.take(section, "starts_per_minute", whole, DEFAULT_LIMITS.starts_per_minute_max),
        blast_budget=read.take(section, "blast_budget", whole, DEFAULT_LIMITS.blast_budget),
        attempts_max=read.take(section, "attempts", read.count(1, 100), DEFAULT_LIMITS.attempts_max),
        retry_backoff_ms=read.take(section, "retry_backoff", backoff, DEFAULT_LIMITS.retry_backoff_ms),
        permit_valid_ms=read.take(section, "permit_valid", permit, DEFAULT_LIMITS.permit_valid_ms),
        patience_ms=read.take(section, "patience", read.duration(_SECOND, _YEAR), DEFAULT_LIMITS.patience_ms),
    )


def _deadlines(fields: _Fields, limits: Limits) -> dict[AttemptState, int]:
    section = _section(fields, "deadlines", tuple(state.value for state in DEFAULT_DEADLINES))
    deadlines = {
        state: read.take(section, state.value, read.duration(_SECOND, _YEAR), default)
        for state, default in DEFAULT_DEADLINES.items()
    }
    permitted = deadlines[AttemptState.PERMITTED]
    if permitted < limits.permit_valid_ms:
        place = section.get("permitted") or fields["limits"]
        place.fault(
            f"an attempt would time out ({write_duration(permitted)}) before its permit does "
            f"({write_duration(limits.permit_valid_ms)})",
            "raise deadlines.permitted or lower limits.permit_valid",
        )
    return deadlines


def effective_plan(plan: Plan) -> str:
    """The plan as a file with every default written out; `read_plan` reads the same plan from it.

    Durations are written in whole seconds, as every plan has them that was read from a file.
    """
    gate, limits = plan.gate, plan.limits
    document: dict[str, Any] = {"name": plan.name} if plan.name else {}
    document |= {
        "release": plan.release,
        "target": _target_document(plan.target),
        "waves": [_wave_document(wave) for wave in plan.waves],
        **plan_regions.rules_document(plan.region_defaults),
        "regions": {region: plan_regions.region_document(rules) for region, rules in plan.regions.items()},
        "conditions": {
            "battery": f"{plan.preconditions.battery_percent_min}%",
            "parked": plan.preconditions.parked,
            "unmetered": plan.preconditions.unmetered,
        },
        "gate": {
            "failure_ratio": write_ratio(gate.failure_ratio_max),
            "sample": gate.sample_min,
            "checkpoints": [write_duration(age_ms) for age_ms in gate.checkpoints_ms],
            "silence_reference": [write_ratio(share) for share in gate.silence_reference],
            "alpha": write_ratio(gate.alpha),
        },
        "limits": {
            "in_flight": limits.in_flight_max,
            "starts_per_minute": limits.starts_per_minute_max,
            "blast_budget": limits.blast_budget,
            "attempts": limits.attempts_max,
            "retry_backoff": write_duration(limits.retry_backoff_ms),
            "permit_valid": write_duration(limits.permit_valid_ms),
            "patience": write_duration(limits.patience_ms),
        },
        "deadlines": {state.value: write_duration(plan.deadlines_ms[state]) for state in DEFAULT_DEADLINES},
        "holdout": write_ratio(plan.holdout_share),
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)


def _target_document(target: Target) -> dict[str, Any]:
    fields = {"model": target.model, "hardware": target.hardware, "region": target.region, "cohort": target.cohort}
    document: dict[str, Any] = {field: list(values) for field, values in fields.items() if values}
    tags = {"all": list(target.tags_all), "none": list(target.tags_none)}
    if target.tags_all or target.tags_none:
        document["tags"] = {field: values for field, values in tags.items() if values}
    if target.installed:
        document["installed"] = target.installed
    return document


def _wave_document(wave: Wave) -> dict[str, Any]:
    document: dict[str, Any] = {"name": wave.name}
    if wave.cohorts:
        document["cohorts"] = list(wave.cohorts)
    return document | {
        "share": write_ratio(wave.share),
        "soak": write_duration(wave.soak_ms),
        "approvals": wave.approvals,
    }
