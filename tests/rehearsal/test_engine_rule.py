"""The engine as a rule: its waves, its ceiling and its verdicts reach the modelled vehicles."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.model.fleet import Cell
from orchestrator.model.plan import Plan
from orchestrator.rehearsal import Ending, FleetModel, Outcome, ReleaseModel, draw_vehicles, run
from orchestrator.rehearsal.engine_rule import EngineRule
from tests.builders import a_plan, a_wave, some_limits
from tests.rehearsal.fleets import GOOD, a_fleet

WAVES = (a_wave("first", share=0.05), a_wave("tenth", share=0.2), a_wave("everybody"))


def a_rehearsed_plan(**limits: Any) -> Plan:
    """Three waves by share, a holdout, and no limit that binds unless it is named."""
    roomy = {"in_flight_max": 100_000, "starts_per_minute_max": 1_000, "blast_budget": 200}
    return a_plan(regions=(), waves=WAVES, limits=some_limits(**{**roomy, **limits}), holdout_share=0.01)


def rehearsed(plan: Plan, fleet: FleetModel, release: ReleaseModel, seed: int = 1) -> tuple[Outcome, EngineRule]:
    """One run of the engine on a fleet."""
    vehicles = draw_vehicles(fleet, seed).under(release)
    rule = EngineRule(vehicles, plan, step_h=1.0)
    return run(vehicles, rule, seed=seed), rule


@pytest.fixture
def fleet() -> FleetModel:
    """Vehicles of two regions."""
    cells = ((Cell("eu", "gen2", "general"), 0.6), (Cell("us", "gen2", "general"), 0.4))
    return a_fleet(4_000, cells=cells)


def test_good_release_reaches_everybody(fleet: FleetModel) -> None:
    """The holdout included, or the rollout would never be over."""
    outcome, rule = rehearsed(a_rehearsed_plan(), fleet, GOOD)
    assert outcome.ending is Ending.COMPLETED
    assert outcome.exposed == 4_000
    assert outcome.days_to_95 is not None
    assert {progress.wave for progress in rule.rollout.regions.values()} == {2}


def test_bad_release_is_stopped_in_its_first_wave(fleet: FleetModel) -> None:
    """The verdict of the gate stops modelled vehicles as it stops real ones."""
    outcome, rule = rehearsed(a_rehearsed_plan(), fleet, ReleaseModel(0.5, 0.3))
    assert outcome.ending in (Ending.HALTED, Ending.HELD)
    assert outcome.failed < 60
    assert rule.rollout.verdict is not None


def test_blast_budget_bounds_what_is_young(fleet: FleetModel) -> None:
    """Nothing has aged on the first day: at most B exposures."""
    vehicles = draw_vehicles(fleet, 1).under(GOOD)
    rule = EngineRule(vehicles, a_rehearsed_plan(blast_budget=30), step_h=1.0)
    outcome = run(vehicles, rule, seed=1, horizon_h=23.0)
    assert outcome.exposed == 30


def test_slots_bound_what_is_in_flight(fleet: FleetModel) -> None:
    """A vehicle keeps its slot until it is heard: at most as many begin in an hour."""
    vehicles = draw_vehicles(fleet, 1).under(GOOD)
    rule = EngineRule(vehicles, a_rehearsed_plan(in_flight_max=3), step_h=1.0)
    outcome = run(vehicles, rule, seed=1, horizon_h=20.0)
    assert 3 < outcome.exposed <= 3 * 21


def test_hold_that_nothing_can_clear_is_for_a_person(fleet: FleetModel) -> None:
    """A rehearsal that waits for ever would hide that somebody is needed."""
    endings = [rehearsed(a_rehearsed_plan(), fleet, ReleaseModel(0.03, 0.0), seed)[0] for seed in range(6)]
    held = [outcome for outcome in endings if outcome.ending is Ending.HELD]
    assert held
    assert all(outcome.days <= 21 for outcome in held)
