"""Rehearsal: a rollout over a modelled fleet, in virtual time. Needs NumPy, the extra `judge`."""

from orchestrator.rehearsal.fleet import CallPattern, Delays, FleetModel, ReleaseModel
from orchestrator.rehearsal.run import Cap, Decision, Ending, Outcome, Rule, run
from orchestrator.rehearsal.vehicles import Vehicles, draw_vehicles

__all__ = [
    "CallPattern",
    "Cap",
    "Decision",
    "Delays",
    "Ending",
    "FleetModel",
    "Outcome",
    "ReleaseModel",
    "Rule",
    "Vehicles",
    "draw_vehicles",
    "run",
]
