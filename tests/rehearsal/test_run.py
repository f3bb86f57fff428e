"""A run: limits hold, counters equal a recount, and the size of the step decides nothing."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from orchestrator.model.fleet import Cell
from orchestrator.rehearsal import CallPattern, Cap, Delays, Ending, ReleaseModel, draw_vehicles, run
from orchestrator.rehearsal.roads import Outage, Spans
from tests.rehearsal.fleets import OpenRule, a_fleet, some_vehicles
from tests.rehearsal.test_roads import some_roads


def test_everybody_opened_is_exposed_once_and_heard() -> None:
    """A vehicle lost by the loop would look like silence, one met twice like two."""
    rule = OpenRule(until_h=240.0)
    outcome = run(some_vehicles(), rule, seed=1)
    last = rule.seen[-1][1]
    assert outcome.ending is Ending.COMPLETED
    assert outcome.exposed == last.exposed.sum() == last.succeeded.sum() == 2_000
    assert last.aged[1].sum() == 2_000
    assert last.in_flight.sum() == 0


def test_counts_equal_a_recount_of_vehicles() -> None:
    """The counters are all that a rule sees."""
    vehicles = some_vehicles(release=ReleaseModel(0.2, 0.5))
    rule = OpenRule(until_h=240.0)
    outcome = run(vehicles, rule, seed=1)
    last = rule.seen[-1][1]
    assert outcome.failed == vehicles.fails.sum()
    assert last.failed.sum() == (vehicles.fails & ~vehicles.silent).sum()
    assert last.silent[1].sum() == vehicles.silent.sum()
    assert last.succeeded.sum() == (~vehicles.fails).sum()


def test_counts_only_rise_and_ages_come_in_order() -> None:
    """A gate that is read continuously relies on it."""
    rule = OpenRule(until_h=200.0, mirrored=500, opened=1_000)
    run(some_vehicles(release=ReleaseModel(0.1, 0.5)), rule, seed=1)
    for (_, before), (_, after) in zip(rule.seen, rule.seen[1:], strict=False):
        for name in ("exposed", "succeeded", "failed", "aged", "silent", "controls", "controls_silent"):
            assert np.all(getattr(after, name) >= getattr(before, name)), name
        assert after.aged[0].sum() >= after.aged[1].sum()
        assert np.all(after.silent <= after.aged)


def test_room_is_never_exceeded() -> None:
    """The blast budget is a limit, not a suggestion."""
    rule = OpenRule(room=7, until_h=48.0)
    run(some_vehicles(), rule, seed=1)
    exposed = [int(counts.exposed.sum()) for _, counts in rule.seen]
    assert max(np.diff(exposed)) == 7


def test_caps_bind_their_groups_alone() -> None:
    """A halted stratum stands, the others go on."""
    cells = ((Cell("eu", "a", "general"), 0.5), (Cell("eu", "b", "general"), 0.5))
    vehicles = some_vehicles(a_fleet(cells=cells))
    halted = Cap(np.repeat([0, -1], 4), np.array([0]))
    rule = OpenRule(cells=2, caps=(halted,))
    run(vehicles, rule, seed=1)
    by_cell = rule.seen[-1][1].exposed.reshape(2, 4).sum(axis=1)
    assert by_cell[0] == 0
    assert by_cell[1] == vehicles.size(1)


def test_first_come_is_first_served_by_draw() -> None:
    """Only vehicles whose draws are open are met, whoever calls."""
    vehicles = some_vehicles()
    rule = OpenRule(opened=100)
    outcome = run(vehicles, rule, seed=1)
    assert outcome.exposed == 100
    worst = np.sort(vehicles.draw)[99]
    assert vehicles.drawn(0, worst) == 99


def test_controls_are_as_many_as_exposures_and_none_of_them() -> None:
    """Silence is compared with vehicles that installed nothing, at a cost that grows with exposures."""
    rule = OpenRule(opened=300, mirrored=600, until_h=240.0)
    run(some_vehicles(), rule, seed=1)
    last = rule.seen[-1][1]
    assert last.exposed.sum() == 300
    assert last.controls[0].sum() == 300


def test_controls_of_a_mixed_fleet_are_as_silent_as_healthy_exposures() -> None:
    """Who took just any vehicle that calls would compare with those that call most, and stop every good release."""
    patterns = (CallPattern("often", 0.5, 1.0, scatter=0.3), CallPattern("seldom", 0.5, 60.0, scatter=0.5))
    fleet = a_fleet(40_000, patterns=patterns, delays=Delays(stays_in_touch=False, garage_share=0.0))
    rule = OpenRule(opened=10_000, mirrored=20_000, until_h=120.0)
    run(some_vehicles(fleet), rule, seed=1)
    last = rule.seen[-1][1]
    silent = last.silent[0].sum() / last.aged[0].sum()
    control = last.controls_silent[0].sum() / last.controls[0].sum()
    assert silent > 0.2
    assert control == pytest.approx(silent, abs=0.02)


@pytest.mark.parametrize("step_h", [0.25, 0.5, 2.0])
def test_step_decides_nothing(step_h: float) -> None:
    """Looks are for the rule; what vehicles do lies between them at its own moment."""
    vehicles = some_vehicles(release=ReleaseModel(0.1, 0.5))
    fine, coarse = OpenRule(until_h=96.0), OpenRule(until_h=96.0)
    run(vehicles, fine, seed=1, step_h=1.0)
    run(vehicles, coarse, seed=1, step_h=step_h)
    at_48 = [next(counts for at, counts in rule.seen if at == 48.0) for rule in (fine, coarse)]
    assert at_48[0].exposed.sum() == at_48[1].exposed.sum()
    assert at_48[0].failed.sum() == at_48[1].failed.sum()
    assert at_48[0].silent[0].sum() == at_48[1].silent[0].sum()


@pytest.mark.parametrize("waits", [True, False])
def test_nobody_who_was_refused_is_lost_in_a_step_that_has_no_exact_number(waits: bool) -> None:
    """Seven steps of 0.05 h are a rounding away from 0.35 h: who was to call then must not fall before it."""
    fleet = replace(a_fleet(), waits_when_refused=waits)
    rule = OpenRule(room=5, until_h=100.0)
    outcome = run(some_vehicles(fleet), rule, seed=1, step_h=0.05)
    assert outcome.exposed == 2_000


def test_a_run_that_nothing_ends_is_stalled() -> None:
    """A rollout that waits for ever is not a success."""
    outcome = run(some_vehicles(), OpenRule(opened=10, until_h=inf), seed=1, horizon_h=48.0)
    assert outcome.ending is Ending.STALLED
    assert outcome.days == 2.0
    assert outcome.days_to_95 is None


def test_no_exposure_while_a_region_is_out_of_reach_and_none_is_lost() -> None:
    """Words of the outage arrive after it: nothing looks broken that only could not call."""
    vehicles = some_vehicles()
    roads = some_roads(outages=(Outage("eu", 10.0, 34.0),), vehicles=2_000)
    rule = OpenRule(until_h=240.0)
    outcome = run(vehicles, rule, seed=1, roads=roads)
    exposed = {now_h: int(counts.exposed.sum()) for now_h, counts in rule.seen}
    assert 0 < exposed[10.0] == exposed[34.0] < exposed[36.0]
    assert outcome.exposed == 2_000
    last = rule.seen[-1][1]
    assert last.succeeded.sum() == last.aged[1].sum() == 2_000
    # A few take longer than a day to install. Did checkpoints not wait, it would be 155.
    assert last.silent[0].sum() < 10


def test_exposures_fall_into_windows_alone() -> None:
    """Whoever calls while the window is closed comes back when it opens."""
    nights = Spans(np.array([12.0, 36.0, 60.0, 84.0]), np.array([19.0, 43.0, 67.0, 91.0]))
    rule = OpenRule(until_h=96.0)
    outcome = run(some_vehicles(), rule, seed=1, roads=some_roads(open=nights, vehicles=2_000))
    exposed = {now_h: int(counts.exposed.sum()) for now_h, counts in rule.seen}
    assert exposed[12.0] == 0
    assert 0 < exposed[19.0] == exposed[36.0] < exposed[43.0]
    assert outcome.exposed == 2_000


def test_cells_and_draws_that_are_given_are_kept() -> None:
    """Those of a fleet file are no model."""
    cells = ((Cell("eu", "a", "general"), 0.5), (Cell("eu", "b", "general"), 0.5))
    cell, draw = np.arange(100) % 2, np.linspace(0.0, 0.99, 100)
    vehicles = draw_vehicles(a_fleet(100, cells=cells), 1, cell=cell, draw=draw)
    assert (vehicles.cell == cell).all()
    assert vehicles.drawn(1, 0.5) == int((draw[1::2] < 0.5).sum())
