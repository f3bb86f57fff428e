"""Everything that boards and rules ask of Prometheus, and what there is to be asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from dashboards import __main__ as generator
from dashboards.model import Board
from orchestrator.telemetry import PREFIX, Metrics

BOARDS: list[Board] = list(generator.BOARDS.values())
FOLDER = Path(generator.__file__).parent / "prometheus"
RULES = FOLDER / "rules.yaml"
RULE_TESTS = (FOLDER / "rules_test.yaml", FOLDER / "rules_slow_test.yaml")
WORDS = re.compile(r"\boutrider[_:][a-z_:0-9]+")
GROUPING = re.compile(r"\b(?:by|on|group_left|group_right) \(([a-z_, ]+)\)")


def rules() -> list[dict[str, Any]]:
    """Every rule of the committed file."""
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Rules that tell somebody."""
    return [rule for rule in rules() if "alert" in rule]


def board_expressions() -> list[str]:
    """What panels ask."""
    return [query.expr for board in BOARDS for panel in board.panels for query in panel.queries]


def variable_queries() -> list[str]:
    """What fills the choices at the top."""
    return sorted({variable.query for board in BOARDS for variable in board.variables})


def known_series() -> dict[str, set[str]]:
    """Every sample name that the orchestrator exposes or a rule records, with its labels."""
    metrics = Metrics(CollectorRegistry())
    ProcessCollector(namespace=PREFIX, registry=metrics.registry)
    for family in metrics.families.values():
        family.labels(**dict.fromkeys(family.label_names, "x"))
    series: dict[str, set[str]] = {}
    for collected in metrics.registry.collect():
        for sample in collected.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    # What the recording rules make has the labels of whatever they ask; enough to find a misspelt one.
    for rule in rules():
        if "record" in rule:
            series[rule["record"]] = set().union(*(series.get(name, set()) for name in WORDS.findall(rule["expr"])))
    return series
