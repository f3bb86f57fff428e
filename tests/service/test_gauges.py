"""Gauges: what boards and alerts read is what the gate weighed, and a large fleet costs no more than a small one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import log

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.engine.gates import judge, judge_rollout
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Habit, HabitAge, Profile
from orchestrator.model.ids import FleetTime, ReleaseVersion
from orchestrator.model.rollout import Brake, BrakeKind, RegionPhase, Rollout, Signal, SignalKind
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.service.gauges import (
    NO_RELEASE,
    REGIONS_MAX,
    VERSIONS_MAX,
    by_region_and_release,
    show_fleet,
    show_rollout,
)
from orchestrator.telemetry import OTHER, Metrics
from tests.builders import HOUR_MS, NOW, a_cell, a_gate, a_plan, a_rollout, a_signal, a_tally, a_wave, after

OFTEN = HabitAge(Habit.OFTEN, 6 * HOUR_MS)
HABIT_GROUPS = ("exposed", "silent", "controls", "controls_silent")
PARTS = (("eu", BrakeKind.PAUSED), ("us/gen1", BrakeKind.HELD), ("us/gen2", BrakeKind.HELD))
SAID = (
    ("tows", SignalKind.WARNING, 2.0),
    ("codes", SignalKind.WARNING, 0.5),
    ("brakes", SignalKind.SAFETY, 0.0),
)
SERIES_MAX = 6_000
"""Of ten regions with four hardware variants and three rollouts."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def shown(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of one series; None when it is not there."""
    return metrics.registry.get_sample_value(f"outrider_{name}", labels)


def show(
    metrics: Metrics,
    rollout: Rollout,
    cells: Mapping[Cell, Tally],
    waiting: Mapping[Cell, int] | None = None,
    *,
    now: FleetTime = NOW,
):
    judgement = judge(cells, rollout.plan, now=now)
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


def test_evidence_of_all_quantities_together_is_what_halts(metrics: Metrics):
    """Each alone may stay below 1 where their sum does not: the line that crosses must be on the board."""
    by_habit = {OFTEN: AgeGroup(30, 9, 60, 3), HabitAge(Habit.OFTEN, 24 * HOUR_MS): AgeGroup()}
    early = replace(a_tally(succeeded=30, failed=1), habit_groups=by_habit)
    plan = a_plan(gate=a_gate(habit_ages_ms={Habit.OFTEN: (6 * HOUR_MS,)}))
    judgement = show(metrics, a_rollout(plan=plan), {a_cell("eu"): early})
    inputs = judgement.worst.inputs
    together = shown(metrics, "gate_evidence_ratio", rollout="spring", quantity="together")
    assert together == pytest.approx(inputs["log_e"] / log(inputs["evidence_min"]))
    for quantity in ("failures", "silence_often_6h"):
        alone = shown(metrics, "gate_evidence_ratio", rollout="spring", quantity=quantity)
        assert alone is not None
        assert together > alone
    assert shown(metrics, "gate_probability_ratio", rollout="spring", quantity="silence_often_6h") == pytest.approx(
        inputs["silence_posterior_often_0"]
    )
    where = {"rollout": "spring", "habit": "often", "checkpoint": "6h"}
    groups = [shown(metrics, "habit_silence", **where, group=group) for group in HABIT_GROUPS]
    assert groups == [30, 9, 60, 3]
    where["checkpoint"] = "24h"
    assert shown(metrics, "habit_silence", **where, group="exposed") is None, "a checkpoint is told of all, by stratum"


def test_silence_that_is_not_compared_is_on_the_board_without_evidence(metrics: Metrics):
    """Whoever is woken by a hold looks for the line that crossed; of evidence there is none."""
    tally = replace(a_tally(succeeded=600, rebooting=300), habit_groups={OFTEN: AgeGroup(900, 300, 900, 9, 900, 300)})
    plan = a_plan(gate=a_gate(habit_ages_ms={Habit.OFTEN: (6 * HOUR_MS,)}))
    judgement = show(metrics, a_rollout(plan=plan), {a_cell("eu"): tally})
    where = {"rollout": "spring", "quantity": "silence_unpaired_often_6h"}
    likely = shown(metrics, "gate_probability_ratio", **where)
    assert likely == pytest.approx(judgement.worst.inputs["silence_unpaired_posterior_often_0"])
    bounds = [shown(metrics, "gate_hold_above_ratio", rollout="spring", told_by=by) for by in ("word", "silence")]
    assert bounds == [0.8, 0.9]
    assert likely > bounds[1]
    assert shown(metrics, "gate_evidence_ratio", **where) is None


def test_controls_stand_beside_exposures_and_say_what_is_usual(metrics: Metrics):
    """A holiday on which everybody is silent is no alarm: the expected count follows the controls, not the plan."""
    holiday = a_tally(succeeded=400, aged=((400, 80), (0, 0)))
    holiday = replace(holiday, age_groups=(AgeGroup(400, 80, 400, 80), AgeGroup()))
    show(metrics, a_rollout(), {a_cell("eu"): holiday})
    at = {"rollout": "spring", "region": "eu", "hardware": "gen2", "checkpoint": "24h"}
    assert (shown(metrics, "controls", **at), shown(metrics, "controls_silent", **at)) == (400, 80)
    expected = shown(metrics, "silence_expected", **at)
    assert expected is not None
    assert 60 < expected < 100


def test_what_stands_still_and_what_warns_is_counted_by_kind(metrics: Metrics):
    """A rollout that runs with a halted variant is not well, and its status does not say so."""
    brakes = tuple(Brake(scope, kind, NOW, "gate", "because") for scope, kind in PARTS)
    brakes = (*brakes[:-1], replace(brakes[-1], final=True))
    signals = tuple(Signal(name, kind, "all", value, 1.0, "ci", "", NOW) for name, kind, value in SAID)
    rollout = a_rollout(brakes=brakes, signals=signals, hold_final=True)
    dark = replace(rollout.regions["eu"], dark_since=NOW)
    show(metrics, replace(rollout, regions={**rollout.regions, "eu": dark}), {})
    counted = {kind: shown(metrics, "brakes", rollout="spring", kind=kind) for kind in BrakeKind}
    assert counted == {"paused": 1, "held": 2, "halted": 0}
    said = {kind: shown(metrics, "signals", rollout="spring", kind=kind) for kind in SignalKind}
    assert said == {"warning": 1, "safety": 1}
    assert shown(metrics, "hold_final", rollout="spring") == 2, "the rollout's and a part's"
    regions = [shown(metrics, "region_dark", rollout="spring", region=region) for region in ("eu", "us")]
    assert regions == [1, 0]
    show(metrics, a_rollout(), {})
    assert [shown(metrics, "brakes", rollout="spring", kind=kind) for kind in BrakeKind] == [0, 0, 0]
    assert shown(metrics, "hold_final", rollout="spring") == 0


def test_age_of_each_measurement_is_shown_until_it_is_taken_back(metrics: Metrics):
    """An alert on a feed that died must name the feed, and end with it."""
    feed = a_signal(measured_at=NOW, good_for_ms=4 * HOUR_MS)
    safety = a_signal("airbag", kind=SignalKind.SAFETY)
    rollout = a_rollout(signals=(replace(feed, scope="eu"), feed, safety))
    for hours, ratio in ((1, 0.25), (4, 1.0), (6, 1.5)):
        show(metrics, rollout, {}, now=after(hours * HOUR_MS))
        for scope in ("all", "eu"):
            where = {"rollout": "spring", "signal": "tow_rate", "scope": scope}
            assert shown(metrics, "signal_age_ratio", **where) == ratio
    assert shown(metrics, "signal_age_ratio", rollout="spring", signal="airbag", scope="all") is None
    show(metrics, rollout, {}, now=after(-HOUR_MS))
    assert shown(metrics, "signal_age_ratio", **where) == 1.0, "the clock went back"
    show(metrics, a_rollout(), {})
    assert shown(metrics, "signal_age_ratio", **where) is None


def test_strata_that_are_judged_together_are_shown_as_one(metrics: Metrics):
    """A thousand variants must not fill Prometheus, and the board shows what the gate judges."""
    cells = {a_cell("eu", f"h{number:03}"): a_tally(succeeded=200 - number) for number in range(100)}
    rollout = a_rollout()
    judgement = judge_rollout(rollout, cells, {}, NOW)
    show_rollout(metrics, rollout, cells, judgement=judgement, waiting={})
    assert shown(metrics, "exposures", rollout="spring", region="eu", hardware="h000") == 200
    assert shown(metrics, "exposures", rollout="spring", region="eu", hardware="h063") is None
    assert shown(metrics, "exposures", rollout="spring", region=OTHER, hardware=OTHER) == sum(range(101, 138))


def test_losses_before_the_permit_are_shown_beside_their_ceiling(metrics: Metrics):
    """A payload that crashes whoever downloads it never gets as far as a permit."""
    before = {AttemptState.FAILED: 3, AttemptState.REJECTED: 1, AttemptState.DOWNLOADING: 6}
    tally = replace(a_tally(before=before, succeeded=2), grants=AgeGroup(9, 4))
    judgement = show(metrics, a_rollout(), {a_cell("eu"): tally})
    where = {"rollout": "spring", "region": "eu", "hardware": "gen2"}
    assert shown(metrics, "failed_before_permit", **where) == 4
    assert shown(metrics, "grants_aged", rollout="spring") == 9
    assert shown(metrics, "grants_silent", rollout="spring") == 4
    assert shown(metrics, "slots_at_risk", rollout="spring") == 6
    assert shown(metrics, "grant_ceiling", rollout="spring") == judgement.grant_ceiling


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
    habits = {HabitAge(habit, 6 * HOUR_MS): AgeGroup(9, 1, 9, 1) for habit in Habit}
    tally = a_tally(succeeded=1_000_000, aged=((900_000, 40_000), (800_000, 30_000)))
    cells = {
        a_cell(region, f"gen{hardware}"): replace(tally, habit_groups=habits)
        for region in regions
        for hardware in range(4)
    }
    for name in ("spring", "summer", "autumn"):
        show(metrics, a_rollout(rollout_id=name, plan=a_plan(regions=regions)), cells)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    assert 1_000 < len(samples) < SERIES_MAX
