"""Boards: what they ask for exists, what is committed is what the code says, and a person can read them."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from dashboards import __main__ as generator
from dashboards.model import Board
from orchestrator.model.attempt import AttemptState
from orchestrator.model.rollout import RegionPhase, RolloutStatus
from tests.dashboards.asked import BOARDS, GROUPING, WORDS, board_expressions, known_series, rules, variable_queries

MATCHER = re.compile(r'([a-z_]+)(=~|!~|!=|=)"([^"]*)"')
SELECTOR = re.compile(r"\boutrider[_:][a-z_:0-9]+(?:\{([^}]*)\})?")
FROM_THE_SCRAPE = {"job", "instance"}
UNITS = {"none", "short", "s", "bytes", "percentunit", "reqps"}
EVERY_BOARD = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)


def expressions() -> list[str]:
    return [*board_expressions(), *variable_queries(), *(rule["expr"] for rule in rules())]


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
    known = {"status": set(RolloutStatus), "state": set(AttemptState), "phase": set(RegionPhase)}
    for name, _, value in MATCHER.findall(expr):
        assert name not in known or set(value.split("|")) <= known[name]


@pytest.mark.parametrize("expr", board_expressions())
def test_panels_ask_of_one_installation_at_the_scrapes_own_pace(expr: str):
    """Without `job` two installations would be added up; a fixed range breaks with another scrape interval."""
    for selector in SELECTOR.findall(expr):
        assert 'job="$job"' in selector
    assert set(re.findall(r"\[([^\]]+)\]", expr)) <= {"$__rate_interval"}
    for name in WORDS.findall(expr):
        assert not name.endswith(("_total", "_bucket")) or re.search(rf"(?:rate|increase)\({name}", expr)


@EVERY_BOARD
def test_variables_that_are_used_are_there(board: Board):
    """`$rollout` without its choice at the top asks for a rollout of that very name."""
    offered = {variable.name for variable in board.variables}
    used = {name for panel in board.panels for query in panel.queries for name in re.findall(r"\$(\w+)", query.expr)}
    assert used - {"__rate_interval"} <= offered
    assert "job" in offered


def test_committed_boards_are_what_the_code_says(capsys: pytest.CaptureFixture[str]):
    """Grafana imports the JSON; who changes the code has to run `.venv/bin/python -m dashboards`."""
    assert generator.main(["--check"]) == 0
    assert capsys.readouterr().err == ""
    assert {path.name for path in generator.FOLDER.iterdir()} == set(generator.BOARDS)


def test_the_check_finds_a_board_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A check that cannot fail is none; writing makes it pass."""
    monkeypatch.setattr(generator, "FOLDER", tmp_path / "grafana")
    assert generator.main(["--check"]) == 1
    assert "run: .venv/bin/python -m dashboards" in capsys.readouterr().err
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    assert generator.main(["--frobnicate"]) == 2


def test_boards_keep_their_addresses():
    """Links in chats and runbooks point at a uid for years."""
    assert [board.uid for board in BOARDS] == ["outrider-fleet", "outrider-rollout", "outrider-service"]
    assert [board.title for board in BOARDS] == ["Outrider / Fleet", "Outrider / Rollout", "Outrider / Service"]


@EVERY_BOARD
def test_panels_say_what_they_show(board: Board):
    """At three in the morning a picture without unit, legend and words is a riddle."""
    written = json.loads(board.text())
    assert (written["uid"], written["schemaVersion"]) == (board.uid, 41)
    assert [variable["name"] for variable in written["templating"]["list"]][:2] == ["datasource", "job"]
    panels = [panel for panel in written["panels"] if panel["type"] != "row"]
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert [panel["id"] for panel in written["panels"]] == list(range(1, len(written["panels"]) + 1))
    for panel in panels:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert panel["datasource"]["uid"] == "${datasource}"
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert all(legends)
        assert len(set(legends)) == len(legends)
        assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])


@EVERY_BOARD
def test_legends_name_labels_that_the_answer_has(board: Board):
    """`{{region}}` of an expression that summed regions away shows as an empty name."""
    series = known_series()
    for panel in board.panels:
        for query in panel.queries:
            groups = GROUPING.findall(query.expr)
            left = {name.strip() for group in groups for name in group.split(",")}
            if not groups:
                left = set().union(*(series[name] for name in WORDS.findall(query.expr)))
            assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= left, query


@EVERY_BOARD
def test_panels_fill_the_grid_and_do_not_overlap(board: Board):
    """Grafana would move them, and every import would look different; a hole looks like a picture that failed."""
    panels = json.loads(board.text())["panels"]
    places = [panel["gridPos"] for panel in panels]
    for place in places:
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)
    for y in {place["y"] for place in places}:
        assert sum(place["w"] for place in places if place["y"] == y) == 24, f"row {y} of {board.uid} has a hole"
