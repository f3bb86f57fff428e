"""Refusals as the stores word them: one home, so that both stores say the same about the same facts."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.rollout import RolloutStatus

_MESSAGES: Mapping[RefusalReason, str] = {
    RefusalReason.ROLLOUT_NOT_STARTED: "rollout {rollout_id} is a draft",
    RefusalReason.ROLLOUT_PAUSED: "rollout {rollout_id} is paused",
    RefusalReason.ROLLOUT_HELD: "rollout {rollout_id} is held by its gate",
    RefusalReason.ROLLOUT_HALTED: "rollout {rollout_id} is halted",
    RefusalReason.ROLLOUT_OVER: "rollout {rollout_id} is {status}",
    RefusalReason.STALE_EPOCH: "epoch ({epoch}) is not the rollout's ({current})",
    RefusalReason.FENCED: "granted at epoch ({epoch}) < fence ({fence})",
    RefusalReason.EVALUATOR_SILENT: "no finished evaluator tick for more than its life ({life_ms} ms)",
    RefusalReason.IN_FLIGHT_SPENT: "in flight in {scope} ({in_flight}) >= limit ({limit})",
    RefusalReason.STARTS_SPENT: "permits in the last minute ({starts}) >= limit ({limit})",
    RefusalReason.BLAST_BUDGET_SPENT: "permits so far ({permits}) >= ceiling of the blast budget ({ceiling})",
    RefusalReason.ATTEMPT_LIVE: "attempt {live} of this vehicle is live",
    RefusalReason.TOMBSTONED: "attempt {attempt_id} was given up as lost",
    RefusalReason.UNKNOWN_ATTEMPT: "attempt {attempt_id} is not known",
    RefusalReason.ATTEMPT_OVER: "attempt {attempt_id} is over: {state}",
    RefusalReason.WRONG_STATE: "attempt {attempt_id} is {state}, not ready for a permit",
}
_DIRECTOR_OVERTAKEN = "Director timestamp version ({expected}) is not the one on record ({standing})"
_MANIFEST_REPLAYED = "manifest counter ({counter}) <= counter on record ({held})"

REFUSED_BY_STATUS: Mapping[RolloutStatus, RefusalReason] = {
    RolloutStatus.DRAFT: RefusalReason.ROLLOUT_NOT_STARTED,
    RolloutStatus.APPROVED: RefusalReason.ROLLOUT_NOT_STARTED,
    RolloutStatus.PAUSED: RefusalReason.ROLLOUT_PAUSED,
    RolloutStatus.HELD: RefusalReason.ROLLOUT_HELD,
    RolloutStatus.HALTED: RefusalReason.ROLLOUT_HALTED,
    RolloutStatus.COMPLETED: RefusalReason.ROLLOUT_OVER,
    RolloutStatus.ABORTED: RefusalReason.ROLLOUT_OVER,
    RolloutStatus.SUPERSEDED: RefusalReason.ROLLOUT_OVER,
}
"""Every status that admits nobody, and the word for it."""


def refusal(reason: RefusalReason, facts: Mapping[str, str]) -> Refusal:
    """Word a refusal from the facts that decided."""
    template = _MANIFEST_REPLAYED if "held" in facts else _MESSAGES[reason]
    template = _DIRECTOR_OVERTAKEN if "standing" in facts else template
    return Refusal(reason=reason, message=template.format(**facts), facts=dict(facts))
