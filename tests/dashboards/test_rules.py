"""Rules: they mean what they say by Prometheus's own tools, and whoever is woken finds out what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.telemetry import Exposition, Metrics
from tests.dashboards.asked import RULE_TESTS, RULES, alerts, rules
from tests.dashboards.monitoring import run

ROOT = Path(__file__).parents[2]


def test_promtool_finds_nothing_wrong_with_the_rules():
    """Prometheus refuses the whole file for one bad expression, and then nothing is watched."""
    assert f"SUCCESS: {len(rules())} rules found" in run(
        "promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES
    )


def test_every_alert_fires_when_it_should_and_not_before():
    """The unit tests beside the rules, by promtool."""
    told = run("promtool", "test", "rules", *RULE_TESTS)
    assert told.count("SUCCESS") == len(RULE_TESTS)


def test_every_alert_has_its_unit_test():
    """An alert that no test has seen fire may never."""
    text = "".join(path.read_text("utf-8") for path in RULE_TESTS)
    fired = set(re.findall(r'alertname="(\w+)", alertstate="firing"', text))
    assert {rule["alert"] for rule in alerts()} == fired


def test_promtool_finds_nothing_wrong_with_our_metrics():
    """Names, units and help as every other exporter has them."""
    metrics = Metrics(CollectorRegistry())
    for family in metrics.families.values():
        family.labels(**dict.fromkeys(family.label_names, "x"))
    run("promtool", "check", "metrics", stdin=Exposition(metrics.registry, None)())


def test_the_alerts_are_these():
    """Who takes one away, or renames it, has to say so here: runbooks and routes name them."""
    assert {rule["alert"] for rule in alerts()} == {
        *("OutriderRolloutHalted", "OutriderRolloutHeld", "OutriderWaveStalled", "OutriderSilenceAboveHoldout"),
        *("OutriderHoldFinal", "OutriderPartHalted", "OutriderRegionDark", "OutriderSignalOverdue"),
        *("OutriderVehiclesSilentInRegion", "OutriderAbsent", "OutriderOrchestratorCrashLoop"),
        *("OutriderEvaluatorLate", "OutriderJournalLag", "OutriderStoreDown", "OutriderStoreNotDurable"),
        "OutriderFleetTimeAhead",
        *("OutriderCertificateNearExpiry", "OutriderMetadataNearExpiry", "OutriderDiskAlmostFull"),
        *("OutriderCheckInBudgetBurn", "OutriderCeremonyWaits"),
    }


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_alerts_say_how_urgent_they_are_and_what_to_do(rule: dict[str, dict[str, str]]):
    """Whoever is paged reads the summary first, the description second, and then follows the link."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert set(rule["labels"]) <= {"severity", "window"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert not notes["summary"].endswith(".")
    assert notes["description"].endswith(".")
    assert re.fullmatch(r"docs/runbooks/[a-z-]+\.md", notes["runbook_url"])


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_the_runbook_of_every_alert_is_there_and_names_it(rule: dict[str, dict[str, str]]):
    """A link into nothing at three in the morning is worse than none."""
    page = ROOT / rule["annotations"]["runbook_url"]
    assert str(rule["alert"]) in page.read_text("utf-8")
