"""Holds: when what the gate holds does not clear by itself any more, of a rollout and of a part of it alike.

Owns the rule. A hold is final when nothing that could still happen speaks about it: every exposure it is about is past
its last checkpoint, or it has lasted as long as the plan allows. Then late good news does not clear it; a person does.
Who is held, and what becomes of it, is the matter of `progress` and `brakes`.
"""

from __future__ import annotations

from orchestrator.engine.gates.signals import OVERDUE, SAFETY, SIGNAL
from orchestrator.engine.wording import duration
from orchestrator.model.attempt import LIVE_STATES
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import Verdict
from orchestrator.model.tally import Tally


def final_because(
    gate: GateLimits, verdict: Verdict | None, tally: Tally, since: FleetTime | None, now: FleetTime
) -> str:
    """Why a hold does not clear by itself any more, for people; empty while it still may.

    Args:
        gate: Of the plan.
        verdict: By which it was held.
        tally: Counts of what is held.
        since: When it began; None: nobody knows.
        now: Fleet time.
    """
    if since is not None and now - since >= gate.hold_final_ms:
        return f"held for {duration(now - since)}"
    rule = verdict.rule if verdict is not None else ""
    external = rule.startswith((SIGNAL, OVERDUE)) or (rule == SAFETY and not tally.safety)
    # Exposures that are past their last checkpoint say nothing new; whoever posted a signal may still take it back.
    if tally.exposed and not external and settled(tally):
        return f"all {tally.exposed} exposures are past the last checkpoint"
    return ""


def settled(tally: Tally) -> bool:
    """Whether nothing is on its way: no attempt is live, and every exposure is past its last checkpoint."""
    aged = tally.age_groups[-1].exposed if tally.age_groups else 0
    return not any(tally.state(state) for state in LIVE_STATES) and aged >= tally.exposed
