"""Every scenario."""

from __future__ import annotations

from agent_sim.conform.scenario import Scenario
from agent_sim.conform.scenarios import consent, downloads, identity, outbox, pace, permits, trust, updates

SCENARIOS: tuple[Scenario, ...] = (
    *updates.SCENARIOS,
    *identity.SCENARIOS,
    *outbox.SCENARIOS,
    *permits.SCENARIOS,
    *trust.SCENARIOS,
    *downloads.SCENARIOS,
    *consent.SCENARIOS,
    *pace.SCENARIOS,
)

__all__ = ["SCENARIOS"]
