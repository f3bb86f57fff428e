"""What a Grafana board is made of, typed, and how it becomes JSON.

Owns the classic dashboard JSON (schema version 41, read by Grafana 11 and later) and the layout: panels flow from left
to right. Leaves to each board which questions it answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 41
BOARD_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression."""

    expr: str
    """May use `$rollout` and `$__rate_interval`."""
    legend: str
    """What a series is called, for example `{{state}}`."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture that answers one question."""

    title: str
    description: str
    """How to read it, and when to worry."""
    kind: Literal["timeseries", "stat"]
    unit: str
    """Grafana's name: `short`, `percentunit`, `s`, `reqps`, `none`."""
    queries: tuple[Query, ...]
    width: int = 12
    """Of 24."""
    height: int = 8
    by_name: bool = False
    """A stat that shows the names of its series instead of their values."""

    def to_json(self, number: int, x: int, y: int) -> Json:
        """The panel at its place.

        Args:
            number: Id within the board, from 1.
            x: Column, from 0.
            y: Row, from 0.
        """
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": {**DATASOURCE},
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [_target(index, query, self.kind) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0}, "overrides": []},
            "options": self._options(),
        }

    def _options(self) -> Json:
        if self.kind == "timeseries":
            return {
                "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "name" if self.by_name else "auto",
            "colorMode": "none",
            "graphMode": "none",
        }


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of the board, filled from the values of a label."""

    name: str
    label: str
    """For people."""
    query: str
    """For example `label_values(metric, label)`."""

    def to_json(self) -> Json:
        """The variable, newest values on every time range."""
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": {**DATASOURCE},
            "query": {"query": self.query, "refId": f"{self.name}Variable"},
            "refresh": 2,
            "sort": 2,
            "includeAll": False,
            "multi": False,
        }


@dataclass(frozen=True, slots=True)
class Board:
    """One page for one kind of question."""

    uid: str
    """Stable: links point at it."""
    title: str
    description: str
    variables: tuple[Variable, ...]
    panels: tuple[Panel, ...]

    def to_json(self) -> Json:
        """The board as Grafana imports it."""
        datasource: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["outrider"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "time": {"from": "now-6h", "to": "now"},
            "refresh": "30s",
            "timezone": "browser",
            "templating": {"list": [datasource, *(variable.to_json() for variable in self.variables)]},
            "annotations": {"list": []},
            "links": [],
            "panels": self._placed(),
        }

    def text(self) -> str:
        """The board's file: equal boards give equal bytes."""
        return json.dumps(self.to_json(), indent=2) + "\n"

    def _placed(self) -> list[Json]:
        placed: list[Json] = []
        x = y = row_height = 0
        for number, panel in enumerate(self.panels, start=1):
            if x + panel.width > BOARD_WIDTH:
                x, y, row_height = 0, y + row_height, 0
            placed.append(panel.to_json(number, x, y))
            x, row_height = x + panel.width, max(row_height, panel.height)
        return placed


def _target(index: int, query: Query, kind: str) -> Json:
    return {
        "refId": chr(ord("A") + index),
        "datasource": {**DATASOURCE},
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": kind == "stat",
        "range": kind != "stat",
    }
