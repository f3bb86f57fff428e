"""Judges any vehicle agent against docs/agent-protocol.md: plays a server that misbehaves, and looks at the wire."""

from __future__ import annotations

from agent_sim.conform.clauses import CLAUSES, UNSEEN
from agent_sim.conform.runner import Played, Report, chosen, conform
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.scenarios import SCENARIOS
from agent_sim.conform.stage import Conditions

__all__ = ["CLAUSES", "SCENARIOS", "UNSEEN", "Conditions", "Played", "Report", "Scenario", "chosen", "conform"]
