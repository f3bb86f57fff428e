"""Telemetry: bounded labels, usual names, one exposition of many processes, and logs without VINs."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.logs import configure_logging
from orchestrator.model.rollout import RolloutStatus, VerdictKind
from orchestrator.telemetry import (
    OTHER,
    Exposition,
    Metrics,
    forget_worker,
    prepare_workers_folder,
)

VIN = "5YJSA1E26MF123456"
UNITS = ("_seconds", "_bytes", "_ratio", "_info", "_total", "_entries")
COUNTED_THINGS = {
    "outrider_attempts",
    "outrider_exposures",
    "outrider_aged",
    "outrider_silent",
    "outrider_cases_open",
    "outrider_vehicles_registered",
    "outrider_permit_allowance",
    "outrider_silence_expected",
    "outrider_young_exposures",
    "outrider_blast_budget",
    "outrider_rollout_waves",
    "outrider_in_flight",
    "outrider_in_flight_limit",
    "outrider_vehicles",
    "outrider_vehicles_waiting",
    *("outrider_controls", "outrider_controls_silent", "outrider_habit_silence", "outrider_brakes", "outrider_signals"),
    *("outrider_failed_before_permit", "outrider_grants_aged", "outrider_grants_silent"),
    *("outrider_slots_at_risk", "outrider_grant_ceiling", "outrider_signatures_lacking"),
}
STATES = {
    *("outrider_rollout_status", "outrider_rollout_epoch", "outrider_gate_verdict", "outrider_store_up"),
    *("outrider_region_phase", "outrider_region_wave", "outrider_store_durable"),
    *("outrider_hold_final", "outrider_region_dark"),
}
LABELS = {
    *("service", "method", "code", "outcome", "reason", "rollout", "region", "hardware", "state", "checkpoint"),
    *("status", "verdict", "kind", "process", "certificate", "repository", "role", "version", "from_version", "le"),
    *("phase", "quantity", "part", "child", "by", "told_by", "folder", "habit", "group", "signal", "scope"),
    "change",  # what it waits under: a repository, or a supplier
}


def scraped(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample of an exposition, as Prometheus would read it."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def touched() -> Metrics:
    """Metrics with one series in every family."""
    metrics = Metrics(CollectorRegistry())
    for family in metrics.families.values():
        family.labels(**dict.fromkeys(family.label_names, "x"))
    return metrics


def test_every_name_has_the_prefix_and_a_unit_or_counts_a_known_thing():
    """`promtool check metrics` would object, and dashboards guess units from names."""
    for family in touched().registry.collect():
        assert re.fullmatch(r"outrider_[a-z][a-z_]*[a-z]", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "counter":
            assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples)
        else:
            assert family.name.endswith(UNITS) or family.name in COUNTED_THINGS | STATES, family.name
            assert not family.name.endswith("_total")


def test_labels_are_few_known_and_never_a_vehicle():
    """A label with a value a vehicle makes ten million series, and vehicle ids in monitoring are nobody's business."""
    names = {label for family in touched().registry.collect() for sample in family.samples for label in sample.labels}
    assert names <= LABELS
    assert not [name for name in names if "vehicle" in name or "vin" in name or "ecu" in name]


def test_odd_label_values_are_counted_under_other():
    """What a client sends must not become a label: free text, line breaks, endless words."""
    metrics = Metrics(CollectorRegistry())
    for value in ("", "two words", 'a"b', "a\nb", "x" * 81, "-dash-first", "ünï"):
        metrics.refused_requests.labels(reason=value).inc()
    metrics.refused_requests.labels(reason="oversized").inc()
    seen = scraped(Exposition(metrics.registry, None)())
    assert seen[key("outrider_refused_requests_total", reason=OTHER)] == 7
    assert seen[key("outrider_refused_requests_total", reason="oversized")] == 1


def test_the_number_of_series_is_bounded():
    """A fault that invents label values must not fill Prometheus; nothing is lost from the sum."""
    metrics = Metrics(CollectorRegistry())
    for number in range(5_000):
        metrics.refusals.labels(reason=f"reason_{number}").inc()
    counts = [value for (name, _), value in scraped(Exposition(metrics.registry, None)()).items() if "refusals" in name]
    assert len(counts) == 2_001
    assert sum(counts) == 5_000


def test_wrong_label_names_are_refused():
    """A mistake of ours is found where it is made."""
    with pytest.raises(ValueError, match="expected"):
        Metrics(CollectorRegistry()).checkins.labels(reason="ok")


def test_a_rollout_has_exactly_one_status_and_verdict():
    """An alert on status == halted must not fire for a rollout that was resumed."""
    metrics = Metrics(CollectorRegistry())
    for status, verdict in ((RolloutStatus.HALTED, VerdictKind.HALT), (RolloutStatus.RUNNING, VerdictKind.PROCEED)):
        metrics.show_status(
            "spring", status=status, statuses=list(RolloutStatus), verdict=verdict, verdicts=list(VerdictKind)
        )
    seen = scraped(Exposition(metrics.registry, None)())
    for status in RolloutStatus:
        expected = float(status is RolloutStatus.RUNNING)
        assert seen[key("outrider_rollout_status", rollout="spring", status=status.value)] == expected
    for verdict in VerdictKind:
        expected = float(verdict is VerdictKind.PROCEED)
        assert seen[key("outrider_gate_verdict", rollout="spring", verdict=verdict.value)] == expected


def test_a_rollout_that_is_long_over_leaves_nothing_behind():
    """Series of every rollout ever would add up without end; other rollouts keep theirs."""
    metrics = Metrics(CollectorRegistry())
    for rollout in ("old", "new"):
        for family in metrics.families.values():
            labels = {name: rollout if name == "rollout" else "x" for name in family.label_names}
            family.labels(**labels)
    before = scraped(Exposition(metrics.registry, None)())
    metrics.drop_rollout("old")
    after = scraped(Exposition(metrics.registry, None)())
    assert {labels for _, labels in after if ("rollout", "old") in labels} == set()
    assert after == {sample: value for sample, value in before.items() if ("rollout", "old") not in sample[1]}
    metrics.attempts.labels(rollout="old", region="eu", hardware="gen1", state="failed").set(3)
    assert "old" in Exposition(metrics.registry, None)().decode()


WORKER = """
import sys
from prometheus_client import CollectorRegistry
from orchestrator.telemetry import Metrics
metrics = Metrics(CollectorRegistry())
metrics.checkins.labels(outcome="install").inc(int(sys.argv[1]))
metrics.grpc_handling.labels(service="s", method="m").observe(0.004)
metrics.store_up.labels(process="worker").set(int(sys.argv[2]))
"""


def run_worker(folder: Path, *arguments: int) -> int:
    """Count in a process of its own, as a gRPC worker does; returns its process id."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", WORKER, *map(str, arguments)], env=environment)
    assert process.wait(60) == 0
    return process.pid


def test_counts_of_workers_are_added_up_and_the_evaluators_gauges_stand(tmp_path: Path):
    """One scrape shows the service, not whichever worker answered."""
    folder = tmp_path / "metrics"
    prepare_workers_folder(folder)
    (folder / "counter_1.db").write_bytes(b"left by an earlier run")
    prepare_workers_folder(folder)
    metrics = Metrics(CollectorRegistry())
    metrics.vehicles_registered.set(200)
    metrics.checkins.labels(outcome="install").inc(1)
    healthy, ill = run_worker(folder, 2, 1), run_worker(folder, 40, 0)
    seen = scraped(Exposition(metrics.registry, folder)())
    assert seen[key("outrider_checkins_total", outcome="install")] == 43
    assert seen[key("outrider_grpc_server_handling_seconds_count", service="s", method="m")] == 2
    assert seen[key("outrider_grpc_server_handling_seconds_bucket", service="s", method="m", le="0.0025")] == 0
    assert seen[key("outrider_grpc_server_handling_seconds_bucket", service="s", method="m", le="0.005")] == 2
    assert seen[key("outrider_vehicles_registered")] == 200
    assert seen[key("outrider_store_up", process="worker")] == 0
    forget_worker(folder, ill)
    seen = scraped(Exposition(metrics.registry, folder)())
    assert seen[key("outrider_store_up", process="worker")] == 1
    assert seen[key("outrider_checkins_total", outcome="install")] == 43
    forget_worker(folder, healthy)


@pytest.fixture
def log(request: pytest.FixtureRequest):
    """A stream that takes the log of this test, with logging put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(level="info", log_format=getattr(request, "param", "json"), stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_log_lines_are_json_with_the_ids_of_their_context(log: io.StringIO):
    """Whoever reads the log of one attempt greps for its id."""
    logger = structlog.get_logger("orchestrator.test")
    with structlog.contextvars.bound_contextvars(rollout_id="spring", attempt_id="spring.v1.1"):
        logger.info("permit_issued", valid_for_s=900)
    logger.info("after")
    first, second = lines(log)
    assert first["event"] == "permit_issued"
    assert (first["rollout_id"], first["attempt_id"]) == ("spring", "spring.v1.1")
    assert (first["level"], first["logger"], first["valid_for_s"]) == ("info", "orchestrator.test", 900)
    assert str(first["timestamp"]).endswith("Z")
    assert "rollout_id" not in second
    assert "attempt_id" not in second


def test_libraries_log_in_the_same_form(log: io.StringIO):
    """Half a log in JSON is a log that no machine reads."""
    logging.getLogger("grpc").warning("lost %s", "a peer", extra={"peer": "ipv4"})
    (line,) = lines(log)
    assert (line["event"], line["level"], line["logger"], line["peer"]) == ("lost a peer", "warning", "grpc", "ipv4")


def test_what_is_less_severe_than_the_level_is_not_logged(log: io.StringIO):
    """Debug lines of a fleet's polls would fill any disk."""
    structlog.get_logger("x").debug("noise")
    logging.getLogger("y").debug("noise")
    assert log.getvalue() == ""


def test_no_log_line_carries_a_vin(log: io.StringIO):
    """A VIN is personal data, whichever way it gets into a message."""
    logger = structlog.get_logger("x")
    logger.info(f"saw {VIN}", vin="anything", Vin="anything", rows=[{"id": VIN, "vin": 1}], vehicle_id="veh-000123")
    try:
        raise ValueError(f"no such car: {VIN}")
    except ValueError:
        logger.exception("failed")
    logging.getLogger("y").warning("car %s", VIN)
    assert VIN not in log.getvalue()
    first, second, third = lines(log)
    assert first["event"] == "saw [vin]"
    assert {"vin", "Vin"}.isdisjoint(first)
    assert first["rows"] == [{"id": "[vin]"}]
    assert first["vehicle_id"] == "veh-000123"
    assert "no such car: [vin]" in str(second["exception"])
    assert third["event"] == "car [vin]"


@pytest.mark.parametrize(
    "word", ["12345678901234567", "ABCDEFGHJKLMNPRST", "spring-1-1-0.veh-1.1", "evaluator_started"]
)
def test_what_is_no_vin_stays_readable(log: io.StringIO, word: str):
    """Ids and numbers of 17 characters are needed to follow what happened."""
    structlog.get_logger("x").info("event", word=word)
    assert lines(log)[0]["word"] == word


@pytest.mark.parametrize("log", ["console"], indirect=True)
def test_the_console_form_is_for_people(log: io.StringIO):
    """A person who starts the service by hand must not have to read JSON."""
    structlog.get_logger("x").info("rollout_started", waves=3)
    text = log.getvalue()
    assert "rollout_started" in text
    assert "waves=3" in text
    assert not text.startswith("{")
