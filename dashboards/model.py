"""What a Grafana board is made of, typed, and how it becomes JSON.

Owns the classic dashboard JSON (schema version 41, read by Grafana 11 and later) and the layout: below the title of
its section, panels flow from left to right. Leaves to each board which questions it answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 41
BOARD_WIDTH = 24
SECTION_HEIGHT = 1
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "outrider"

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]
Kind = Literal["timeseries", "stat", "bargauge", "table"]


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression."""

    expr: str
    """May use the board's variables and `$__rate_interval`."""
    legend: str
    """What a series is called, for example `{{state}}`."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A value from which a panel changes its colour."""

    at: float
    color: Literal["green", "orange", "red", "blue"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture that answers one question."""

    title: str
    description: str
    """How to read it, and when to worry."""
    kind: Kind
    unit: str
    """Grafana's name: `short`, `percentunit`, `s`, `reqps`, `bytes`, `none`."""
    queries: tuple[Query, ...]
    width: int = 12
    """Of 24."""
    height: int = 8
    by_name: bool = False
    """A stat that shows the names of its series instead of their values."""
    limits: tuple[Limit, ...] = ()
    """Ascending; below the first it is green. In a timeseries they are drawn as lines."""
    stacked: bool = False
    """A timeseries whose areas add up."""
    maximum: float | None = None
    """Of the axis or the bar; None lets the data decide."""
    lowest: float | None = 0
    """Of the axis; None lets the data decide."""

    def to_json(self, number: int, x: int, y: int) -> Json:
        """The panel at its place.

        Args:
            number: Id within the board, from 1.
            x: Column, from 0.
            y: Row, from 0.
        """
        panel: dict[str, Json] = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": {**DATASOURCE},
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [_target(index, query, self.kind) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
        }
        if self.kind == "table":
            # The time of an instant query says nothing, and metadata of the scrape is the same in every row.
            hidden: Json = {"excludeByName": {"Time": True, "job": True, "instance": True}}
            panel["transformations"] = [{"id": "merge", "options": {}}, {"id": "organize", "options": hidden}]
        return panel

    def _defaults(self) -> Json:
        defaults: dict[str, Json] = {"unit": self.unit}
        if self.lowest is not None:
            defaults["min"] = self.lowest
        if self.maximum is not None:
            defaults["max"] = self.maximum
        if self.limits:
            steps: list[Json] = [{"color": "green", "value": None}]
            steps += [{"color": limit.color, "value": limit.at} for limit in self.limits]
            defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        if self.kind == "timeseries":
            custom: dict[str, Json] = {"showPoints": "never", "fillOpacity": 30 if self.stacked else 0}
            custom["stacking"] = {"mode": "normal" if self.stacked else "none"}
            custom["thresholdsStyle"] = {"mode": "line" if self.limits else "off"}
            defaults["custom"] = custom
        return defaults

    def _options(self) -> Json:
        reduced: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        match self.kind:
            case "timeseries":
                return {
                    "legend": {"displayMode": "table", "placement": "right", "calcs": ["lastNotNull"]},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }
            case "bargauge":
                return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic"}
            case "table":
                return {"showHeader": True, "cellHeight": "sm"}
            case "stat":
                return {
                    "reduceOptions": reduced,
                    "textMode": "name" if self.by_name else "auto",
                    "colorMode": "value" if self.limits else "none",
                    "graphMode": "none",
                }


@dataclass(frozen=True, slots=True)
class Section:
    """Panels that belong together, below a title."""

    title: str
    panels: tuple[Panel, ...]


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
    sections: tuple[Section, ...]

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Of every section, in order."""
        return tuple(panel for section in self.sections for panel in section.panels)

    def to_json(self) -> Json:
        """The board as Grafana imports it."""
        datasource: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "time": {"from": "now-6h", "to": "now"},
            "refresh": "30s",
            "timezone": "browser",
            "templating": {"list": [datasource, *(variable.to_json() for variable in self.variables)]},
            "annotations": {"list": [_alerts()]},
            "links": [_other_boards()],
            "panels": self._placed(),
        }

    def text(self) -> str:
        """The board's file: equal boards give equal bytes."""
        return json.dumps(self.to_json(), indent=2) + "\n"

    def _placed(self) -> list[Json]:
        placed: list[Json] = []
        y = 0
        for section in self.sections:
            placed.append(_title(section.title, len(placed) + 1, y))
            x, y, row_height = 0, y + SECTION_HEIGHT, 0
            for panel in section.panels:
                if x + panel.width > BOARD_WIDTH:
                    x, y, row_height = 0, y + row_height, 0
                placed.append(panel.to_json(len(placed) + 1, x, y))
                x, row_height = x + panel.width, max(row_height, panel.height)
            y += row_height
        return placed


ALERTS_FIRING = 'ALERTS{alertname=~"Outrider.+", alertstate="firing", job="$job"}'


def _title(title: str, number: int, y: int) -> Json:
    place: Json = {"x": 0, "y": y, "w": BOARD_WIDTH, "h": SECTION_HEIGHT}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _alerts() -> Json:
    """Marks on every panel while an alert fires."""
    return {
        "name": "Alerts",
        "datasource": {**DATASOURCE},
        "enable": True,
        "iconColor": "red",
        "expr": ALERTS_FIRING,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{severity}} {{rollout}} {{region}}",
        "step": "60s",
    }


def _other_boards() -> Json:
    """A menu of the boards with our tag, which takes time and variables along."""
    return {
        "type": "dashboards",
        "title": "Outrider",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _target(index: int, query: Query, kind: Kind) -> Json:
    instant = kind != "timeseries"
    return {
        "refId": chr(ord("A") + index),
        "datasource": {**DATASOURCE},
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": instant,
        "range": not instant,
        "format": "table" if kind == "table" else "time_series",
    }
