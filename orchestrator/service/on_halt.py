"""On halt: the draft of the way back, written at once when a plan asks for it, so that a person only has to start it.

Owns when it is written and that it is written once: at a tick, for a rollout that the gate halted and that nothing
undoes or ever undid. What the plan of a revert is stands in `reverts`; whoever starts the draft has looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import structlog

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.engine.brakes import EVALUATOR
from orchestrator.model.ids import RolloutId
from orchestrator.model.plan import OnHalt
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.service.errors import ServiceError
from orchestrator.service.rollouts import RolloutDesk
from orchestrator.store.base import Store

log = structlog.get_logger()


class RevertProposer:
    """Writes drafts of reverts.

    Args:
        store: Committed to.
        clock: Fleet time.
        machine: For the desk that writes them.
    """

    def __init__(self, *, store: Store, clock: FleetClock, machine: MachineClock) -> None:
        self._store = store
        self._clock = clock
        self._machine = machine
        self._told: set[RolloutId] = set()
        """Halted rollouts without a way back: said once, and not every second."""

    async def look(self, rollouts: Sequence[Rollout]) -> None:
        """Write what is missing.

        Args:
            rollouts: Every one.

        Raises:
            StoreError: the store did not answer.
        """
        undone = {rollout.reverts for rollout in rollouts}
        for rollout in rollouts:
            wanted = rollout.status is RolloutStatus.HALTED and rollout.plan.on_halt is OnHalt.PROPOSE_REVERT
            if wanted and rollout.rollout_id not in undone:
                await self._propose(rollout)

    async def _propose(self, rollout: Rollout) -> None:
        # Its salt follows from one that nobody could foresee: two evaluators write the same draft, and once.
        desk = RolloutDesk(
            store=self._store,
            clock=self._clock,
            machine=self._machine,
            random_bytes=lambda size: blake2b(b"revert\x00" + rollout.salt, digest_size=size).digest(),
        )
        try:
            text, _ = await desk.propose_revert(rollout.rollout_id)
            draft = await desk.create(
                text,
                rollout_id="",
                request_id=f"on-halt-{rollout.rollout_id}"[:64],
                actor=EVALUATOR,
                reason=f"rollout {rollout.rollout_id} was halted: {rollout.reason}",
                reverts=rollout.rollout_id,
                draft=True,
            )
        except ServiceError as error:
            if rollout.rollout_id not in self._told:
                log.warning("revert_not_proposed", rollout_id=rollout.rollout_id, why=str(error), remedy=error.remedy)
            self._told.add(rollout.rollout_id)
            return
        log.info("revert_proposed", rollout_id=rollout.rollout_id, draft=draft.rollout_id)
