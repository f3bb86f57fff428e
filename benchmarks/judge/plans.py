"""The plans that the engine judges by in the study: the default one, those whose own limits bind, and by cohorts."""

from __future__ import annotations

from benchmarks.judge.cells import Case
from orchestrator.engine import openings
from orchestrator.engine.plan.file import read_plan
from orchestrator.model.plan import Plan
from orchestrator.rehearsal.fleets import VARIANT

PLAN = """\
release: 1.1.0
limits:
  in_flight: 100000
  starts_per_minute: 10000
  blast_budget: 200
"""
"""The default plan at a limit of 1 %; neither slots nor starts bind. The budget is what a start makes of 100,000
vehicles.
"""

PACED = PLAN.replace("starts_per_minute: 10000", "starts_per_minute: 5")
"""Seven thousand starts a day: the last two waves wait for them."""

SLOTS = PLAN.replace("in_flight: 100000", "in_flight: 1500")
"""A slot is taken until a vehicle is heard of: the last two waves wait for slots."""

COHORTS = (
    PLAN
    + """\
waves:
  - {name: canary, cohorts: [internal, canary], soak: 24h}
  - {name: early, cohorts: [early], soak: 24h}
  - {name: general, soak: 24h}
"""
)
"""A thousandth, a hundredth and a tenth of the fleet go first, each as a whole."""

_KINDS = {"paced": PACED, "slots": SLOTS, "cohorts": COHORTS}


def plan_text(fleet: str) -> str:
    """The plan by which the engine judges on a fleet of the study, without its limit."""
    return _KINDS.get(fleet.rpartition("-")[2], PLAN)


def plan_of(case: Case) -> Plan:
    """The engine's plan in a cell."""
    return read_plan(f"{plan_text(case.fleet)}gate: {{failure_ratio: {case.limit:.4f}, controls: 3}}\n")


def variant_places(case: Case) -> int:
    """Vehicles of the hardware variant that the first wave of a cell has places for."""
    counts = {cell: round(share * VARIANT.size) for cell, share in VARIANT.cells}
    return openings.quotas(plan_of(case), 0, counts)[VARIANT.cells[1][0]]
