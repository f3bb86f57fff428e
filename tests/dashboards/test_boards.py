"""Boards and rules: what they ask for exists, and what is committed is what the code says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from dashboards import __main__ as generator
from dashboards.rollout import ROLLOUT
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import RolloutStatus
from orchestrator.telemetry import Metrics

RULES = Path(generator.__file__).parent / "prometheus" / "rules.yaml"
WORDS = re.compile(r"\boutrider[_:][a-z_:0-9]+")
MATCHER = re.compile(r'([a-z_]+)(=~|!=|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([a-z_, ]+)\)")
FROM_THE_SCRAPE = {"job", "instance"}


def known_series() -> dict[str, set[str]]:
    """Every sample name that the orchestrator exposes, with its labels."""
    metrics = Metrics(CollectorRegistry())
    for family in metrics.families.values():
        family.labels(**dict.fromkeys(family.label_names, "x"))
    series: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    for rule in rules():
        if "record" in rule:
            series[rule["record"]] = {"job", "rollout", "region", "hardware", "checkpoint", "folder"}
    # What every process of Python's client says of itself.
    series["outrider_process_start_time_seconds"] = set()
    return series


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def board_expressions() -> list[str]:
    asked = [query.expr for panel in ROLLOUT.panels for query in panel.queries]
    return asked + [variable.query for variable in ROLLOUT.variables]


def expressions() -> list[str]:
    return board_expressions() + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("expr", expressions())
def test_every_metric_and_label_asked_for_exists(expr: str):
    """A renamed metric would leave a panel empty, and an alert silent for ever."""
    series = known_series()
    names = WORDS.findall(expr)
    assert names
    assert [name for name in names if name not in series] == []
    labels = {name for name, _, _ in MATCHER.findall(expr)}
    labels |= {name.strip() for group in GROUPING.findall(expr) for name in group.split(",")}
    assert labels - FROM_THE_SCRAPE <= set().union(*(series[name] for name in names))


@pytest.mark.parametrize("expr", expressions())
def test_values_that_are_matched_are_values_that_occur(expr: str):
    """`status="stopped"` would never be true."""
    known = {"status": set(RolloutStatus), "state": set(AttemptState)}
    for name, _, value in MATCHER.findall(expr):
        assert name not in known or set(value.split("|")) <= known[name]


@pytest.mark.parametrize("expr", board_expressions())
def test_expressions_are_balanced_and_rates_fit_the_scrape(expr: str):
    """A fixed range breaks with another scrape interval; a lost bracket breaks at once."""
    for opening, closing in ("()", "{}", "[]"):
        assert expr.count(opening) == expr.count(closing)
    for window in re.findall(r"\[([^\]]+)\]", expr):
        assert window == "$__rate_interval"
    for name in WORDS.findall(expr):
        assert not name.endswith("_total") or f"rate({name}" in expr


def test_committed_boards_are_what_the_code_says(capsys: pytest.CaptureFixture[str]):
    """Grafana imports the JSON; who changes the code has to run `python -m dashboards`."""
    assert generator.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


def test_the_check_finds_a_board_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A check that cannot fail is none; writing makes it pass."""
    monkeypatch.setattr(generator, "FOLDER", tmp_path / "grafana")
    assert generator.main(["--check"]) == 1
    assert "run: python -m dashboards" in capsys.readouterr().err
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert generator.main(["--frobnicate"]) == 2


def test_panels_say_what_they_show():
    """At three in the morning a picture without unit, legend and words is a riddle."""
    board = json.loads(ROLLOUT.text())
    assert (board["uid"], board["schemaVersion"]) == ("outrider-rollout", 41)
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "rollout"]
    assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])
    assert [panel["id"] for panel in board["panels"]] == list(range(1, len(board["panels"]) + 1))
    for panel in board["panels"]:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(
            target["legendFormat"] and target["datasource"] == panel["datasource"] for target in panel["targets"]
        )


def test_panels_do_not_overlap():
    """Grafana would move them, and every import would look different."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(ROLLOUT.text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        taken |= cells


def test_alerts_say_how_urgent_they_are_and_what_to_do():
    """Whoever is paged reads the summary first, the description second, and then follows the link."""
    alerts = [rule for rule in rules() if "alert" in rule]
    assert {
        *("OutriderRolloutHalted", "OutriderRolloutHeld", "OutriderWaveStalled", "OutriderSilenceAboveHoldout"),
        *("OutriderVehiclesSilentInRegion", "OutriderAbsent", "OutriderOrchestratorCrashLoop"),
        *("OutriderEvaluatorLate", "OutriderJournalLag", "OutriderStoreDown", "OutriderStoreNotDurable"),
        *("OutriderCertificateNearExpiry", "OutriderMetadataNearExpiry", "OutriderDiskAlmostFull"),
        "OutriderCheckInBudgetBurn",
    } == {rule["alert"] for rule in alerts}
    for rule in alerts:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert set(rule["labels"]) <= {"severity", "window"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert not rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(".")
        assert re.fullmatch(r"docs/runbooks/[a-z-]+\.md", rule["annotations"]["runbook_url"])
