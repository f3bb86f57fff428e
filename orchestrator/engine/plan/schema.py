"""The JSON Schema of plan files, for editors and for whoever writes plans by program.

Owns what stands around the tables of fields: the head, and the default of each field as a file writes it. The schema is
made from the same rows as the reader (`plan.file.PLAN`), so the two cannot drift apart; `docs/plan.schema.json` is its
committed form. It never refuses a plan that the reader takes; it cannot know what contradicts itself across fields, the
order of ages, the bounds of durations, sizes and ratios with a percent sign, or which zones there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from orchestrator.engine.plan.file import PLAN, effective_plan, read_plan
from orchestrator.engine.plan.readers import Schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def plan_schema() -> dict[str, Any]:
    """The schema of a plan file, as parsed from YAML 1.2."""
    defaults = yaml.safe_load(effective_plan(read_plan("release: 0.0.0")))
    del defaults["release"]
    schema = _with_defaults(PLAN.schema, defaults)
    return {
        "$schema": DIALECT,
        "title": "Outrider plan file",
        "description": f"{PLAN.meaning} See docs/plan-file.md.",
        **schema,
    }


def plan_schema_text() -> str:
    """The schema as a file."""
    return json.dumps(plan_schema(), indent=2, ensure_ascii=False) + "\n"


def _with_defaults(schema: Schema, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of a mapping whose fields say what holds where they are left out."""
    properties = {}
    for name, field in schema["properties"].items():
        below = defaults.get(name)
        if "properties" in field and isinstance(below, Mapping):
            properties[name] = _with_defaults(field, below)
        else:
            properties[name] = {**field, "default": below} if name in defaults and below != {} else dict(field)
    return {**schema, "properties": properties}
