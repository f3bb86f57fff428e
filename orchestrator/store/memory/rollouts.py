"""Rollouts in memory: which keys are whose; what happens on the keys of one is in `rollout`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import (
    JournalEntry,
    PermitRequest,
    Permitted,
    Reserved,
    SlotRequest,
    Standing,
    Unsettled,
)
from orchestrator.store.memory.journal import Journal
from orchestrator.store.memory.rollout import RolloutKeys
from orchestrator.store.refusals import refusal
from orchestrator.store.streams import rollout_stream


class MemoryRollouts:
    """`base.RolloutStore` in dictionaries.

    Args:
        machine_ms: machine time, milliseconds since the epoch.
        dead_man_life_ms: machine time that a sign of life of the evaluator lasts.
    """

    def __init__(self, machine_ms: Callable[[], int], dead_man_life_ms: int) -> None:
        self._machine_ms = machine_ms
        self._dead_man_life_ms = dead_man_life_ms
        self._rollouts: dict[RolloutId, RolloutKeys] = {}

    async def rollouts(self) -> Sequence[Rollout]:
        """See `base.RolloutStore`."""
        found = [keys.rollout for keys in self._rollouts.values()]
        return sorted(found, key=lambda rollout: (rollout.created_at, rollout.rollout_id), reverse=True)

    async def create_rollout(self, rollout: Rollout, decision: JournalEntry) -> Rollout:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout.rollout_id)
        if keys is None:
            log = Journal(rollout_stream(rollout.rollout_id), self._machine_ms)
            log.append(decision.kind, decision.at, decision.data)
            keys = RolloutKeys(rollout, log, self._machine_ms, self._dead_man_life_ms)
            self._rollouts[rollout.rollout_id] = keys
        return keys.rollout

    async def transition(self, rollout: Rollout, *, expected_epoch: int, decision: JournalEntry) -> bool:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout.rollout_id)
        if keys is None or keys.rollout.epoch != expected_epoch:
            return False
        keys.rollout = rollout
        keys.log.append(decision.kind, decision.at, decision.data)
        return True

    async def renew(
        self, rollout_id: RolloutId, *, permit_ceiling: int, grant_ceiling: int, began_ms: int, epoch: int
    ) -> bool:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        return keys is not None and keys.renew(permit_ceiling, grant_ceiling, began_ms, epoch)

    async def reserve(self, rollout_id: RolloutId, attempt_id: AttemptId, request: SlotRequest) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        return keys.reserve(attempt_id, request) if keys else _no_rollout(rollout_id)

    async def authorize(
        self, rollout_id: RolloutId, attempt_id: AttemptId, request: PermitRequest
    ) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        return keys.authorize(attempt_id, request) if keys else _no_rollout(rollout_id)

    async def suspend(self, rollout_id: RolloutId, deferred: Mapping[AttemptId, int]) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].suspend(deferred)

    async def forfeit(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].forfeit(attempt_ids)

    async def confirm(
        self, rollout_id: RolloutId, *, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]
    ) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].confirm(reservations, permits)

    async def release(self, rollout_id: RolloutId, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        if rollout_id in self._rollouts:
            self._rollouts[rollout_id].release(attempt_ids)

    async def unsettled(self, ids: Sequence[RolloutId], *, older_than_ms: int) -> Mapping[RolloutId, Unsettled]:
        """See `base.RolloutStore`."""
        found = {}
        for rollout_id in ids:
            keys = self._rollouts.get(rollout_id)
            found[rollout_id] = keys.unsettled(older_than_ms) if keys else Unsettled(reservations=[], permits={})
        return found

    async def standing(self, rollout_id: RolloutId, *, now: FleetTime) -> Standing:
        """See `base.RolloutStore`."""
        keys = self._rollouts.get(rollout_id)
        if keys is None:
            return Standing(in_flight={}, permits=0, permit_ceiling=0, starts=0, evaluator_alive=False)
        return keys.standing(now)


def _no_rollout(rollout_id: RolloutId) -> Refusal:
    return refusal(RefusalReason.ROLLOUT_OVER, {"rollout_id": rollout_id, "status": "not known"})
