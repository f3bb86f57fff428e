"""A real Prometheus on a running demonstration: every question has an answer, and no answer is too large."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from agent_sim import demo
from dashboards.model import ALERTS_FIRING
from tests.dashboards.asked import RULES, alerts, board_expressions, rules, variable_queries
from tests.dashboards.monitoring import Prometheus, a_prometheus, program, run
from tests.dashboards.test_deploy import PROMETHEUS
from tests.e2e.rolling import SIMULATOR
from tests.e2e.test_demo import DEMO_TIMEOUT_S, SIZE, ended
from tests.processes import eventually

SERIES_MAX = 2_500
"""Of a fleet with three regions, two hardware variants and two rollouts. Most of it are attempts by state (13), latency
buckets by method, and what the gate counts by stratum and checkpoint."""
SELECTOR = re.compile(r"\boutrider[_:][a-z_:0-9]+(?:\{[^}]*\})?")
RANGE = "[15m:2s]"
"""Has it answered at any time of the run? Some questions are about a rollout that runs; the last one was stopped."""
MAY_BE_EMPTY = {
    # Nothing has gone wrong with it in a run that goes well: the series comes with the first fault.
    'code!="OK"': "no call was answered with an error",
    "outrider_refused_requests_total": "no request was refused at the edge",
    "outrider_evaluator_failures_total": "no tick has failed",
    "outrider_signal_age_ratio": "nobody outside measures anything",
    "outrider_signatures_lacking": "no ceremony waits for anybody",
    "outrider_controls": "of fewer than 100 vehicles nobody waits by a coin",
    "outrider_habit_silence": "a checkpoint after an hour leaves no earlier age for frequent callers",
}
READY = "The fleet drives on"

pytestmark = [pytest.mark.processes, pytest.mark.timeout(900), pytest.mark.xdist_group("live")]


@dataclass(frozen=True)
class Live:
    """A demonstration that stays up, and the Prometheus that watched it from its first second."""

    prometheus: Prometheus
    folder: Path

    def metrics(self) -> str:
        """What is scraped."""
        (target,) = json.loads((self.folder / "prometheus-targets.json").read_text())[0]["targets"]
        with urllib.request.urlopen(f"http://{target}/metrics") as reply:
            return str(reply.read().decode())


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The demonstration with fewer vehicles, at its end."""
    program("prometheus")
    root = tmp_path_factory.mktemp("live")
    folder = root / "demo"
    scenario = root / "demo.toml"
    scenario.write_text(
        re.sub(r"(?m)^size = \d+", f"size = {SIZE}", Path(demo.__file__).with_name("demo.toml").read_text())
    )
    config = shipped_config(root, folder)
    said = root / "said.txt"
    with ended(folder), a_prometheus(root, config) as prometheus, said.open("wb") as out:
        command = [SIMULATOR, "demo", "--folder", folder, "--scenario", scenario, "--keep"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            eventually(lambda: kept(process, said), timeout_s=DEMO_TIMEOUT_S, what="the demonstration stays up")
            yield Live(prometheus, folder)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def kept(process: subprocess.Popen[bytes], said: Path) -> bool:
    """Whether the story was told to its end."""
    text = said.read_text()
    if process.poll() is not None:
        raise RuntimeError(f"the demonstration ended:\n{text[-3000:]}")
    return READY in text


def shipped_config(root: Path, folder: Path) -> Path:
    """The configuration that we ship, for a demonstration elsewhere and with a look each second."""
    config = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(RULES)]
    (scrape,) = config["scrape_configs"]
    scrape["file_sd_configs"][0]["files"] = [str(folder / "prometheus-targets.json")]
    path = root / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


def asked_of(expr: str, rollout: str = "bad") -> str:
    """A board's question as Grafana would ask it."""
    for name, value in (("$__rate_interval", "1m"), ("$job", "outrider"), ("$rollout", rollout)):
        expr = expr.replace(name, value)
    return expr


def answered(live: Live, expr: str) -> bool:
    """Whether an expression had an answer at any time of the run."""
    return bool(live.prometheus.ask(f"count_over_time(({expr}){RANGE})"))


def test_every_panel_of_every_board_shows_something(live: Live):
    """A picture that stays empty in a run with everything in it is a wrong question."""
    empty = [
        expr
        for expr in board_expressions()
        if not any(answered(live, asked_of(expr, rollout)) for rollout in ("bad", "good"))
    ]
    assert [expr for expr in empty if not any(words in expr for words in MAY_BE_EMPTY)] == []


def test_every_choice_at_the_top_of_a_board_has_values(live: Live):
    """Without an installation to choose every panel stays empty."""
    for query in variable_queries():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
        assert found
        series = live.prometheus.get("series", **{"match[]": asked_of(found[1])})
        assert {one[found[2]] for one in series} in ({"outrider"}, {"good", "bad"})


def test_every_recorded_series_is_recorded(live: Live):
    """An alert on a series that no rule writes never fires."""
    health = [rule for group in live.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert [rule["lastError"] for rule in health if rule["health"] != "ok"] == []
    assert [rule["record"] for rule in rules() if "record" in rule and not answered(live, rule["record"])] == []


def test_whatever_an_alert_asks_is_there_to_be_asked(live: Live):
    """An alert whose series do not exist is as quiet as one without a cause."""
    selectors = {selector for alert in alerts() for selector in SELECTOR.findall(alert["expr"])}
    assert len(selectors) > 15
    # Their first series come with the first signal that somebody posts, and with the first ceremony that waits.
    selectors -= {"outrider_signal_age_ratio", "outrider_signatures_lacking"}
    assert [selector for selector in selectors if not answered(live, selector)] == []


def test_the_bad_release_is_told_and_nothing_else_is_wrong(live: Live):
    """The demonstration's own alerts, from the faults that it makes; a false one would be ignored at three o'clock."""
    told = eventually(
        lambda: {
            (alert["labels"]["alertname"], alert["labels"].get("rollout"))
            for name in ("OutriderRolloutHeld", "OutriderRolloutHalted")
            for alert in live.prometheus.alerts(name)
        },
        timeout_s=90,
        what="the stopped rollout is told",
    )
    assert {rollout for _, rollout in told} == {"bad"}
    assert live.prometheus.ask(asked_of(ALERTS_FIRING))
    pages = {
        alert["labels"]["alertname"] for alert in live.prometheus.get("alerts")["alerts"] if alert["state"] == "firing"
    }
    assert pages <= {"OutriderRolloutHeld", "OutriderRolloutHalted", "OutriderSilenceAboveHoldout"}


def test_series_stay_within_their_budget(live: Live):
    """Ten million vehicles must cost Prometheus no more than two hundred."""
    samples = [line for line in live.metrics().splitlines() if line and not line.startswith("#")]
    assert 300 < len(samples) < SERIES_MAX
    scraped = live.prometheus.ask('count({job="outrider", __name__=~"outrider_.+"})')
    assert int(scraped[0]["value"][1]) < SERIES_MAX


def test_no_label_is_a_vehicle(live: Live):
    """A series for each vehicle would fill Prometheus, and where a vehicle is concerns nobody there."""
    text = live.metrics()
    ids = {path.name for path in (live.folder / "fleet").rglob("*") if re.fullmatch(r"[a-z]+-\d{6}", path.name)}
    assert len(ids) >= SIZE
    assert not [vehicle_id for vehicle_id in ids if vehicle_id in text]
    assert not re.search(r"[a-z]+-\d{6}", text)


def test_what_is_scraped_passes_promtool(live: Live):
    """Also with the values of a run."""
    run("promtool", "check", "metrics", stdin=live.metrics().encode())


def test_a_demo_that_runs_is_where_the_shipped_configuration_looks():
    """Otherwise the first thing that an SRE tries shows nothing."""
    config = yaml.safe_load(PROMETHEUS.read_text("utf-8"))
    (named,) = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
    root = PROMETHEUS.parents[2]
    assert (PROMETHEUS.parent / named).resolve() == root / "demo-data" / "prometheus-targets.json"
    assert os.path.isabs(root)
