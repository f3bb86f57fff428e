"""Pauses a rollout because nothing proves that the store is complete: after a doubtful start, or a restore."""

from __future__ import annotations

import structlog

from orchestrator.engine.progress import Illegal, RecoveryUnproven, step
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout
from orchestrator.service.decisions import CAS_TRIES, decision_entry
from orchestrator.store.base import Store, StoreUnavailableError

log = structlog.get_logger()


async def pause_unproven(store: Store, rollout: Rollout, reason: str, now: FleetTime) -> bool:
    """Pause one rollout if it runs; whether it did.

    Raises:
        StoreUnavailableError: it kept changing, or the store did not answer.
    """
    for _ in range(CAS_TRIES):
        changed = step(rollout, RecoveryUnproven(reason), now)
        if isinstance(changed, Illegal) or not changed.changed:
            return False
        entry = decision_entry(changed.rollout, changed.kind, changed.data)
        if await store.transition(changed.rollout, expected_epoch=rollout.epoch, decision=entry):
            log.error("rollout_paused", rollout_id=rollout.rollout_id, reason=reason)
            return True
        rollout = next(one for one in await store.rollouts() if one.rollout_id == rollout.rollout_id)
    raise StoreUnavailableError(f"rollout {rollout.rollout_id} kept changing and could not be paused")
