"""Enrols vehicles that wait as controls, at the call at which they are told to wait.

Owns how often the store is asked: a fleet that waits calls thousands of times a second, and its shards owe a control
now and then. Who may be one is the matter of `engine/controls`, whether one is owed of the store.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.clock import MachineClock
from orchestrator.engine.admission import Candidate, in_turn
from orchestrator.engine.controls import CONTROLS_PER_EXPOSURE, WATCHED_WHEN, ahead, control_of, mirrors
from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import Habit, Stratum
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.store.base import VehicleStore
from orchestrator.store.shards import shard_of

NONE_OWED_MS = 5_000
"""Machine time for which a shard that owed no control of a kind is not asked again."""
KINDS_MAX = 100_000
"""Kinds remembered; beyond, all are forgotten, which costs a question each."""

_Kind = tuple[RolloutId, int, Stratum, Habit]


class ControlWatch:
    """Enrols controls.

    Args:
        store: asked and committed to.
        machine: between questions.
    """

    def __init__(self, *, store: VehicleStore, machine: MachineClock) -> None:
        self._store = store
        self._machine = machine
        self._ahead = ahead(store.shards)
        self._quiet_until: dict[_Kind, int] = {}

    async def refused(
        self, record: VehicleRecord, candidates: Sequence[Candidate], refusals: Sequence[Refusal], now: FleetTime
    ) -> None:
        """A vehicle called and waits for each of several rollouts; watch it for those in which its turn has not come.

        Args:
            record: the vehicle.
            candidates: what it was considered for, as given to `engine.admission.choose`.
            refusals: what that said.
            now: fleet time of its call.

        Raises:
            StoreUnavailableError: nobody may have been enrolled; the next call makes it good.
        """
        for candidate, refusal in zip(in_turn(candidates), refusals, strict=True):
            await self.waits(record, candidate.rollout, refusal, now)

    async def waits(self, record: VehicleRecord, rollout: Rollout, refusal: Refusal, now: FleetTime) -> None:
        """The same for one rollout."""
        if refusal.reason not in WATCHED_WHEN or not mirrors(record, rollout):
            return
        control = control_of(record, rollout, now)
        shard = shard_of(control.vehicle_id, self._store.shards)
        kind = (rollout.rollout_id, shard, control.cell.stratum, control.habit)
        asked_ms = self._machine.monotonic_ms()
        if asked_ms < self._quiet_until.get(kind, asked_ms):
            return
        if await self._store.enrol(control, ahead=self._ahead, per_exposure=CONTROLS_PER_EXPOSURE):
            return
        if len(self._quiet_until) >= KINDS_MAX:
            self._quiet_until.clear()
        self._quiet_until[kind] = asked_ms + NONE_OWED_MS
