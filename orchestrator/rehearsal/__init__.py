"""Rehearsal: a rollout over a modelled fleet, in virtual time. Needs NumPy, the extra `judge`."""

from orchestrator.rehearsal.caps import Cap
from orchestrator.rehearsal.fleet import CallPattern, Delays, FleetModel, ReleaseModel
from orchestrator.rehearsal.run import Decision, Ending, Outcome, Rule, Witness, run
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
    "Witness",
    "draw_vehicles",
    "run",
]
