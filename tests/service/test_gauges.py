"""Gauges: what boards and alerts read is what the gate weighed, and a large fleet costs no more than a small one."""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.engine.gates import judge
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.rollout import RegionPhase, Rollout
from orchestrator.model.tally import Tally
from orchestrator.service.gauges import (
    NO_RELEASE,
    REGIONS_MAX,
    VERSIONS_MAX,
    by_region_and_release,
    show_fleet,
    show_rollout,
)
from orchestrator.telemetry import OTHER, Metrics
from tests.builders import NOW, a_cell, a_gate, a_plan, a_rollout, a_tally, a_wave

SERIES_MAX = 6_000
"""Of ten regions with four hardware variants and three rollouts."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series; None when it is not there."""
    return metrics.registry.get_sample_value(f"outrider_{name}", labels)


def show(metrics: Metrics, rollout: Rollout, cells: Mapping[Cell, Tally], waiting: Mapping[Cell, int] | None = None):
    judgement = judge(cells, rollout.plan)
    show_rollout(metrics, rollout, cells, judgement=judgement, waiting=waiting or {})
    return judgement


def a_profile(region: str = "eu", installed: str = "1.0.0") -> Profile:
    return Profile(
        model="S", hardware="gen2", region=region, cohort="canary", tags=(), installed=ReleaseVersion(installed)
    )


def test_evidence_is_shown_as_a_share_of_what_halts(metrics: Metrics):
    """1 on the board must mean what the gate means by HALT, in the stratum where it is worst."""
    cells = {a_cell("eu"): a_tally(succeeded=100), a_cell("us"): a_tally(succeeded=12, failed=8)}
    judgement = show(metrics, a_rollout(), cells)
    assert judgement.worst.kind == "halt"
    share = shown(metrics, "gate_evidence_ratio", rollout="spring", quantity="failures")
    inputs = judgement.worst.inputs
    assert share is not None
    assert share >= inputs["failures_log_e"] / log(inputs["evidence_min"]) > 1
    assert shown(metrics, "gate_evidence_ratio", rollout="spring", quantity="silence_24h") == 0
    assert shown(metrics, "gate_probability_ratio", rollout="spring", quantity="failures") == pytest.approx(
        max(verdict.inputs["failures_posterior"] for verdict in judgement.verdicts)
    )


def test_evidence_below_one_is_no_halt(metrics: Metrics):
    """A line that crosses 1 without a halt would teach people to ignore it."""
    judgement = show(metrics, a_rollout(), {a_cell("eu"): a_tally(succeeded=5, failed=1)})
    assert judgement.worst.kind == "proceed"
    share = shown(metrics, "gate_evidence_ratio", rollout="spring", quantity="failures")
    assert share is not None
    assert 0 < share < 1


def test_counters_that_contradict_themselves_leave_the_gauges_whole(metrics: Metrics):
    """The gate holds and weighs nothing; the tick must not end there."""
    judgement = show(metrics, a_rollout(), {a_cell("eu"): a_tally(succeeded=5, aged=((9, 0), (0, 0)))})
    assert judgement.worst.rule == "inconsistent_counters"
    assert shown(metrics, "gate_verdict", rollout="spring", verdict="hold") == 1
    assert shown(metrics, "gate_evidence_ratio", rollout="spring", quantity="failures") == 0


def test_silence_is_shown_beside_what_is_usual(metrics: Metrics):
    """Silence says nothing without what it is compared with."""
    show(metrics, a_rollout(), {a_cell("eu"): a_tally(succeeded=90, timed_out=10, aged=((100, 9), (50, 4)))})
    where = {"rollout": "spring", "region": "eu", "hardware": "gen2"}
    assert shown(metrics, "silent", **where, checkpoint="24h") == 9
    assert shown(metrics, "silence_expected", **where, checkpoint="24h") == pytest.approx(5.0)
    assert shown(metrics, "silence_expected", **where, checkpoint="72h") == pytest.approx(50 * 0.043)


def test_a_region_shows_its_wave_phase_slots_and_who_waits(metrics: Metrics):
    """Which region does not get on, since when, and what it could wait for."""
    plan = a_plan(waves=[a_wave("canary", soak_ms=3_600_000), a_wave("all")], gate=a_gate(checkpoints_ms=(7_200_000,)))
    rollout = a_rollout(plan=plan, wave=1)
    show(metrics, rollout, {a_cell("eu"): a_tally(installing=2, succeeded=1)}, {a_cell("us"): 7, a_cell("eu"): 4})
    eu = {"rollout": "spring", "region": "eu"}
    assert shown(metrics, "region_wave", **eu) == shown(metrics, "rollout_waves", rollout="spring") == 2
    phases = {phase: shown(metrics, "region_phase", **eu, phase=phase) for phase in RegionPhase}
    assert phases == {phase: float(phase is RegionPhase.ROLLING) for phase in RegionPhase}
    assert shown(metrics, "wave_started_timestamp_seconds", **eu) == NOW / 1000
    assert shown(metrics, "wave_least_seconds", **eu) == 86_400
    assert (shown(metrics, "in_flight", **eu), shown(metrics, "in_flight_limit", **eu)) == (2, 1000)
    assert (
        shown(metrics, "vehicles_waiting", **eu),
        shown(metrics, "vehicles_waiting", rollout="spring", region="us"),
    ) == (
        4,
        7,
    )


def test_the_least_time_of_a_wave_is_its_soak_or_the_first_checkpoint(metrics: Metrics):
    """A wave without soak still waits until its exposures have aged: before that it is not stalled."""
    plan = a_plan(waves=[a_wave(soak_ms=0)], gate=a_gate(checkpoints_ms=(7_200_000, 9_000_000)))
    show(metrics, a_rollout(plan=plan), {})
    assert shown(metrics, "wave_least_seconds", rollout="spring", region="eu") == 7_200


def test_releases_that_nobody_runs_any_more_are_forgotten(metrics: Metrics):
    """Otherwise each release ever would keep its series, at its last count."""
    show_fleet(
        metrics, profiles={a_profile(installed="1.0.0"): 3, a_profile(installed=""): 2}, open_cases={}, rollouts=()
    )
    assert shown(metrics, "vehicles", region="eu", version="1.0.0") == 3
    assert shown(metrics, "vehicles", region="eu", version=NO_RELEASE) == 2
    show_fleet(metrics, profiles={a_profile(installed="1.1.0"): 5}, open_cases={}, rollouts=())
    assert shown(metrics, "vehicles", region="eu", version="1.0.0") is None
    assert shown(metrics, "vehicles", region="eu", version="1.1.0") == 5
    assert shown(metrics, "vehicles_registered") == 5


def test_many_regions_and_releases_are_folded_and_none_is_lost():
    """A thousand of either is nobody's chart; the sum must stay the fleet."""
    profiles = {a_profile(f"region-{number:03}", f"1.{number % 60}.0"): number + 1 for number in range(300)}
    counts = by_region_and_release(profiles)
    assert sum(counts.values()) == sum(profiles.values())
    assert len({region for region, _ in counts}) == REGIONS_MAX + 1
    assert len({release for _, release in counts}) == VERSIONS_MAX + 1
    assert ("region-299", OTHER) in counts or any(region == "region-299" for region, _ in counts)
    assert not any(region == "region-000" for region, _ in counts)


def test_a_large_fleet_stays_within_its_budget_of_series(metrics: Metrics):
    """Series grow with strata and rollouts, never with vehicles."""
    regions = [f"region-{number}" for number in range(10)]
    cells = {
        a_cell(region, f"gen{hardware}"): a_tally(succeeded=1_000_000, aged=((900_000, 40_000), (800_000, 30_000)))
        for region in regions
        for hardware in range(4)
    }
    for name in ("spring", "summer", "autumn"):
        show(metrics, a_rollout(rollout_id=name, plan=a_plan(regions=regions)), cells)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert 1_000 < len(samples) < SERIES_MAX
