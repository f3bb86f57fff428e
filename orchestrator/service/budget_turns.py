"""When a vehicle that waits for the budget asks again: when exposures age that fill it.

A budget is full of exposures below the first checkpoint, and has room again as they pass it. Each worker remembers when
it gave its own permits and tells whoever waits the age of one of them, by lot: as many come at any time as room comes
then. A hint and no promise: what it forgets by a restart, or never knew of another worker's permits, costs a call.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from orchestrator.engine import selection
from orchestrator.model.attempt import Attempt
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout

ROLLOUTS_MAX = 64
"""Rollouts remembered; the longest without a permit are forgotten first."""
PERMITS_MAX = 10_000
"""Permits remembered of each; the oldest are forgotten first."""
SPREAD_SHARE = 0.05
"""Of the first checkpoint: by so much those are spread that would come at once."""


class BudgetTurns:
    """Remembers permits."""

    def __init__(self) -> None:
        self._exposed: OrderedDict[RolloutId, deque[int]] = OrderedDict()

    def exposed(self, rollout_id: RolloutId, at: FleetTime, *, offline_ms: int) -> None:
        """Note a permit.

        Args:
            rollout_id: whose.
            at: when it was given.
            offline_ms: so much later its ages begin to count.
        """
        self._exposed.setdefault(rollout_id, deque(maxlen=PERMITS_MAX)).append(at + offline_ms)
        self._exposed.move_to_end(rollout_id)
        if len(self._exposed) > ROLLOUTS_MAX:
            self._exposed.popitem(last=False)

    def wait_ms(self, attempt: Attempt, rollout: Rollout, now: FleetTime) -> int | None:
        """How long an attempt waits for room, at most half of what is left to it; None when no exposure is known that
        will age.
        """
        first_ms = rollout.plan.gate.checkpoints_ms[0]
        known = self._exposed.get(rollout.rollout_id, deque())
        while known and known[0] + first_ms <= now:
            known.popleft()
        if not known:
            return None
        lot = selection.lot(attempt.attempt_id)
        room_in_ms = known[int(lot * len(known))] + first_ms - now + int(lot * SPREAD_SHARE * first_ms)
        return room_in_ms if attempt.deadline_at is None else min(room_in_ms, (attempt.deadline_at - now) // 2)
