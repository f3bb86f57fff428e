"""The configurations that we ship: read by the programs that they are for, and pages reach whoever is paged."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dashboards import __main__ as generator
from tests.dashboards.asked import RULES, alerts
from tests.dashboards.monitoring import run

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus" / "prometheus.yml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
GRAFANA = DEPLOY / "grafana" / "provisioning"


def test_prometheus_takes_its_configuration_and_our_rules():
    """It names the rules by a path that must hold wherever the repository lies."""
    assert "SUCCESS" in run("promtool", "check", "config", PROMETHEUS)
    (named,) = yaml.safe_load(PROMETHEUS.read_text("utf-8"))["rule_files"]
    assert (PROMETHEUS.parent / named).resolve() == RULES.resolve()


def test_alertmanager_takes_its_configuration():
    """A mistake here is silence on the day it matters."""
    assert "SUCCESS" in run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_alerts_go_to_whom_their_severity_says(severity: str):
    """A page in the tickets' inbox wakes nobody."""
    labels = [f"alertname={alert['alert']}" for alert in alerts() if alert["labels"]["severity"] == severity]
    assert labels
    for label in labels:
        said = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}", label)
        assert said.splitlines()[0] == severity


def test_inhibitions_name_alerts_that_exist():
    """An inhibition by a name that was changed inhibits nothing, and three pages come for one cause."""
    known = {alert["alert"] for alert in alerts()}
    for rule in yaml.safe_load(ALERTMANAGER.read_text("utf-8"))["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            name, _, value = matcher.partition("=")
            if name == "alertname":
                assert set(value.strip('~"').split("|")) <= known


def test_grafana_is_pointed_at_the_boards():
    """Provisioning by a folder that is not there shows an empty Grafana."""
    (provider,) = yaml.safe_load((GRAFANA / "dashboards" / "outrider.yml").read_text("utf-8"))["providers"]
    assert provider["options"]["path"] == "$OUTRIDER_BOARDS"
    words = (DEPLOY.parent / "docs" / "monitoring.md").read_text("utf-8")
    assert 'OUTRIDER_BOARDS="$PWD/dashboards/grafana"' in words
    assert DEPLOY.parent / "dashboards" / "grafana" == generator.FOLDER
    (source,) = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"]
    assert source["type"] == "prometheus"


def test_the_page_on_monitoring_lists_every_alert():
    """Who looks for an alert by name finds when it fires."""
    words = (DEPLOY.parent / "docs" / "monitoring.md").read_text("utf-8")
    for alert in alerts():
        assert f"`{alert['alert']}`" in words
