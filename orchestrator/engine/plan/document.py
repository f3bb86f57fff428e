"""The way back: a plan as a file with every default written out.

Owns target, waves, conditions and the order of the file; `plan.regions` and `plan.gate` write what they read.
"""

from __future__ import annotations

from typing import Any

import yaml

from orchestrator.engine.plan import gate as plan_gate
from orchestrator.engine.plan import regions as plan_regions
from orchestrator.engine.plan.values import write_duration, write_ratio, write_size
from orchestrator.model.plan import Plan, Preconditions, Target, Wave


def effective_plan(plan: Plan) -> str:
    """The plan as a file with every default written out; `read_plan` reads the same plan from it.

    What may be left out for good (a name, what is required, limits not filled in yet) is left out. Durations
    are written in whole seconds, as every plan has them that was read from a file.
    """
    document: dict[str, Any] = {"name": plan.name} if plan.name else {}
    document |= {
        "release": plan.release,
        "purpose": plan.purpose.value,
        "priority": plan.priority,
        "target": _target(plan.target),
    }
    document |= {"requires": plan.requires} if plan.requires else {}
    document |= {"supersedes": plan.supersedes} if plan.supersedes else {}
    document |= {
        "approvals": plan.approvals,
        "waves": [_wave(wave) for wave in plan.waves],
        **plan_regions.rules_document(plan.region_defaults),
        "regions": {region: plan_regions.region_document(rules) for region, rules in plan.regions.items()},
        "conditions": _conditions(plan.preconditions),
        "gate": plan_gate.gate_document(plan.gate),
        "limits": plan_gate.limits_document(plan.limits),
        "retries": plan_gate.retries_document(plan.retries),
        "deadlines": plan_gate.deadlines_document(plan.deadlines_ms),
        "on_halt": plan.on_halt.value,
        "holdout": write_ratio(plan.holdout_share),
    }
    return yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)


def _target(target: Target) -> dict[str, Any]:
    fields = {"model": target.model, "hardware": target.hardware, "region": target.region, "cohort": target.cohort}
    document: dict[str, Any] = {field: list(values) for field, values in fields.items() if values}
    tags = {"all": list(target.tags_all), "none": list(target.tags_none)}
    if target.tags_all or target.tags_none:
        document["tags"] = {field: values for field, values in tags.items() if values}
    if target.installed:
        document["installed"] = target.installed
    return document


def _wave(wave: Wave) -> dict[str, Any]:
    document: dict[str, Any] = {"name": wave.name}
    if wave.cohorts:
        document["cohorts"] = list(wave.cohorts)
    return document | {
        "share": write_ratio(wave.share),
        "soak": write_duration(wave.soak_ms),
        "approvals": wave.approvals,
    }


def _conditions(wanted: Preconditions) -> dict[str, Any]:
    return {
        "battery": f"{wanted.battery_percent_min}%",
        "parked": wanted.parked,
        "unmetered": wanted.unmetered,
        "storage": write_size(wanted.storage_free_bytes_min),
        "links": [link.value for link in wanted.links] or "any",
    }
