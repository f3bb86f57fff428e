"""Successors: rollouts that take the place of another when they start.

Owns ending the one whose place is taken, and what a plan may say of it. The desk ends it at once; the evaluator at each
tick, in case that whoever started the successor died in between. Either is one step by compare-and-set.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from orchestrator.engine.progress import Illegal, SupersedeRequested, step
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.service.decisions import CAS_TRIES, decision_entry
from orchestrator.service.errors import InvalidInputError
from orchestrator.store.base import RolloutStore

log = structlog.get_logger()


def check_supersedes(plan: Plan, rollout_id: str, others: Sequence[Rollout]) -> None:
    """Whether a rollout of this id may say that it takes another's place.

    Raises:
        InvalidInputError: there is no such rollout, or it is the rollout itself.
    """
    if not plan.supersedes:
        return
    if plan.supersedes == rollout_id:
        raise InvalidInputError(
            f"rollout {rollout_id} cannot supersede itself",
            reason="SUPERSEDES_ITSELF",
            remedy="give it another id with --id, or another `name` in the plan",
        )
    if all(other.rollout_id != plan.supersedes for other in others):
        raise InvalidInputError(
            f"the plan supersedes rollout {plan.supersedes}, which was never started",
            reason="SUPERSEDES_UNKNOWN",
            remedy="`outrider rollout list` shows all rollouts; leave the line out if it takes nobody's place",
        )


async def end_superseded(store: RolloutStore, rollouts: Sequence[Rollout], now: FleetTime) -> None:
    """End every rollout whose place another one took when it started.

    Args:
        store: Committed to.
        rollouts: Every one.
        now: Fleet time.
    """
    by_id = {rollout.rollout_id: rollout for rollout in rollouts}
    for successor in rollouts:
        ended = by_id.get(RolloutId(successor.plan.supersedes))
        # One that was aborted may never have begun: a draft takes nobody's place.
        took = successor.status.begun and successor.status not in (RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED)
        if ended is not None and ended is not successor and not ended.status.over and took:
            await _end(store, ended, successor, now)


async def _end(store: RolloutStore, rollout: Rollout, successor: Rollout, now: FleetTime) -> None:
    reason = f"rollout {successor.rollout_id} takes its place"
    event = SupersedeRequested(successor.rollout_id, successor.creator or successor.actor, reason)
    for _ in range(CAS_TRIES):
        answer = step(rollout, event, now)
        if isinstance(answer, Illegal) or not answer.changed:
            return
        entry = decision_entry(answer.rollout, answer.kind, answer.data)
        if await store.transition(answer.rollout, expected_epoch=rollout.epoch, decision=entry):
            log.info("rollout_superseded", rollout_id=rollout.rollout_id, by=successor.rollout_id)
            return
        rollout = next(one for one in await store.rollouts() if one.rollout_id == rollout.rollout_id)
