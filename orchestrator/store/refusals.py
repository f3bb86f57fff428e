"""Refusals as the stores word them: one home, so that both stores say the same about the same facts."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.rollout import BrakeKind, RolloutStatus

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
    RefusalReason.QUOTA_SPENT: "admitted in {cell} ({admitted}) >= quota ({quota})",
    RefusalReason.BANDWIDTH_SPENT: "links of {scope} are given away for ({ahead_ms} ms) > limit ({limit_ms} ms)",
    RefusalReason.BLAST_BUDGET_SPENT: "permits so far ({permits}) >= ceiling of the blast budget ({ceiling})",
    RefusalReason.WATCHED: (
        "nothing is in its way: by a coin it waits for one more call, watched beside the vehicles that install now"
    ),
    RefusalReason.ATTEMPT_LIVE: "attempt {live} of this vehicle is live",
    RefusalReason.TOMBSTONED: "attempt {attempt_id} was given up as lost",
    RefusalReason.UNKNOWN_ATTEMPT: "attempt {attempt_id} is not known",
    RefusalReason.ATTEMPT_OVER: "attempt {attempt_id} is over: {state}",
    RefusalReason.WRONG_STATE: "attempt {attempt_id} is {state}, not ready for a permit",
}
_MORE_PRECISE: Mapping[tuple[RefusalReason, str], str] = {
    (RefusalReason.ROLLOUT_PAUSED, "scope"): "rollout {rollout_id} is paused in {scope}",
    (RefusalReason.ROLLOUT_HELD, "scope"): "rollout {rollout_id} is held by its gate in {scope}",
    (RefusalReason.ROLLOUT_HALTED, "scope"): "rollout {rollout_id} is halted in {scope}",
    (RefusalReason.STARTS_SPENT, "scope"): "permits of {scope} in the last minute ({starts}) >= limit ({limit})",
    (RefusalReason.BLAST_BUDGET_SPENT, "at_risk"): (
        "slots without a permit ({at_risk}) >= ceiling of the blast budget ({ceiling})"
    ),
    (RefusalReason.STALE_EPOCH, "standing"): (
        "Director timestamp version ({expected}) is not the one on record ({standing})"
    ),
    (RefusalReason.STALE_EPOCH, "held"): "manifest counter ({counter}) <= counter on record ({held})",
}
"""Where a reason has several causes: the message by a fact that only one of them has."""

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

REFUSED_BY_BRAKE: Mapping[BrakeKind, RefusalReason] = {
    BrakeKind.PAUSED: RefusalReason.ROLLOUT_PAUSED,
    BrakeKind.HELD: RefusalReason.ROLLOUT_HELD,
    BrakeKind.HALTED: RefusalReason.ROLLOUT_HALTED,
}
"""The same for a part of a rollout that stands still."""


def refusal(reason: RefusalReason, facts: Mapping[str, str]) -> Refusal:
    """Word a refusal from the facts that decided."""
    precise = (_MORE_PRECISE[reason, name] for name in facts if (reason, name) in _MORE_PRECISE)
    template = next(precise, None) or _MESSAGES[reason]
    return Refusal(reason=reason, message=template.format(**facts), facts=dict(facts))
