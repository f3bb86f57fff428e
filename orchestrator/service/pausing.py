"""Pauses a rollout because nothing proves that the store is complete: after a doubtful start, or a restore.

What the ledger knows and the store has lost is not guessed, with one exception: a person's abort is final, and is made
again. Whatever else stopped the rollout is said in its reason, for whoever may resume it.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from orchestrator.engine.progress import RECOVERY, AbortRequested, Illegal, RecoveryUnproven, step
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.service.decisions import CAS_TRIES, decision_entry
from orchestrator.store.base import Store, StoreUnavailableError

log = structlog.get_logger()

NOTHING: Mapping[str, object] = {}


async def pause_unproven(
    store: Store, rollout: Rollout, reason: str, now: FleetTime, lost: Mapping[str, object] = NOTHING
) -> bool:
    """Pause one rollout if it runs, or abort it if it was aborted before; whether it was changed.

    Args:
        store: Committed to.
        rollout: As it stands.
        reason: What may be missing from the store.
        now: Fleet time.
        lost: What the ledger's last decision about it says, when the store has lost that one.

    Raises:
        StoreUnavailableError: it kept changing, or the store did not answer.
    """
    for _ in range(CAS_TRIES):
        changed = step(rollout, _made_good(rollout, reason, lost), now)
        if isinstance(changed, Illegal) or not changed.changed:
            return False
        entry = decision_entry(changed.rollout, changed.kind, changed.data)
        if await store.transition(changed.rollout, expected_epoch=rollout.epoch, decision=entry):
            stopped = changed.rollout
            log.error(f"rollout_{stopped.status}", rollout_id=stopped.rollout_id, reason=stopped.reason)
            return True
        rollout = next(one for one in await store.rollouts() if one.rollout_id == rollout.rollout_id)
    raise StoreUnavailableError(f"rollout {rollout.rollout_id} kept changing and could not be paused")


def _made_good(rollout: Rollout, reason: str, lost: Mapping[str, object]) -> RecoveryUnproven | AbortRequested:
    was = lost.get("status", RolloutStatus.RUNNING)
    if was in (RolloutStatus.RUNNING, rollout.status):
        return RecoveryUnproven(reason)
    known = f"the ledger has it {was} by {lost['actor']} ({lost['reason']}), which the store has lost"
    return AbortRequested(RECOVERY, known) if was == RolloutStatus.ABORTED else RecoveryUnproven(f"{known}; {reason}")
