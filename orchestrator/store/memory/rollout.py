"""One rollout's keys in memory: its record, slots, permits and signs of life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import AttemptId, FleetTime
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import Permitted, Reserved, Standing, Unsettled
from orchestrator.store.memory.journal import Journal
from orchestrator.store.refusals import REFUSED_BY_STATUS, refusal

MINUTE_MS = 60_000


class RolloutKeys:
    """What stands under one rollout's tag.

    Args:
        rollout: as it is.
        log: its stream.
        machine_ms: machine time.
        dead_man_life_ms: how long a sign of life lasts.
    """

    def __init__(self, rollout: Rollout, log: Journal, machine_ms: Callable[[], int], dead_man_life_ms: int) -> None:
        self.rollout = rollout
        self.log = log
        self._machine_ms = machine_ms
        self._life_ms = dead_man_life_ms
        self._alive_until = 0
        self._began_ms = 0
        self._ceiling = 0
        self._slots: dict[AttemptId, str] = {}
        self._permits: dict[AttemptId, tuple[FleetTime, FleetTime]] = {}
        """By attempt: first and latest permit."""
        self._starts: dict[AttemptId, FleetTime] = {}
        """First permits of the last minute; forfeiting takes none away."""
        self._unsettled_slots: dict[AttemptId, int] = {}
        self._unsettled_permits: dict[AttemptId, int] = {}

    def renew(self, permit_ceiling: int, began_ms: int, epoch: int) -> bool:
        """See `base.RolloutStore`."""
        now = self._machine_ms()
        if epoch != self.rollout.epoch or began_ms > now:
            return False
        # A last begin that is still to come was written before the clock was set back; it must not lock everybody out.
        if began_ms < self._began_ms <= now:
            return False
        self._alive_until = began_ms + self._life_ms
        self._began_ms = began_ms
        self._ceiling = permit_ceiling
        return True

    def reserve(
        self, attempt_id: AttemptId, *, region: str, region_max: int, total_max: int, epoch: int
    ) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        if no := self._status_refusal():
            return no
        if epoch != self.rollout.epoch:
            return refusal(RefusalReason.STALE_EPOCH, {"epoch": str(epoch), "current": str(self.rollout.epoch)})
        if no := self._dead_man_refusal():
            return no
        if attempt_id in self._slots:
            return Reserved()
        in_region = sum(1 for held in self._slots.values() if held == region)
        for scope, held, limit in ((region, in_region, region_max), ("all regions", len(self._slots), total_max)):
            if held >= limit:
                facts = {"scope": scope, "in_flight": str(held), "limit": str(limit)}
                return refusal(RefusalReason.IN_FLIGHT_SPENT, facts)
        self._slots[attempt_id] = region
        self._unsettled_slots[attempt_id] = self._machine_ms()
        return Reserved()

    def authorize(
        self, attempt_id: AttemptId, *, attempt_epoch: int, starts_per_minute_max: int, valid_ms: int, now: FleetTime
    ) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        permit = self._permits.get(attempt_id)
        if permit is not None and now < permit[1] + valid_ms:
            return Permitted(permitted_at=permit[1])
        if no := self._status_refusal():
            return no
        if attempt_epoch < self.rollout.fence:
            return refusal(RefusalReason.FENCED, {"epoch": str(attempt_epoch), "fence": str(self.rollout.fence)})
        if no := self._dead_man_refusal():
            return no
        if permit is not None:
            self._permits[attempt_id] = (permit[0], now)
            return Permitted(permitted_at=now)
        if no := self._budget_refusal(starts_per_minute_max, now):
            return no
        self._permits[attempt_id] = (now, now)
        self._starts[attempt_id] = now
        self._unsettled_permits[attempt_id] = self._machine_ms()
        return Permitted(permitted_at=now)

    def forfeit(self, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in attempt_ids:
            self._permits.pop(attempt_id, None)
            self._unsettled_permits.pop(attempt_id, None)

    def confirm(self, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in reservations:
            self._unsettled_slots.pop(attempt_id, None)
        for attempt_id in permits:
            self._unsettled_permits.pop(attempt_id, None)

    def release(self, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in attempt_ids:
            self._slots.pop(attempt_id, None)
            self._unsettled_slots.pop(attempt_id, None)

    def unsettled(self, older_than_ms: int) -> Unsettled:
        """See `base.RolloutStore`."""
        before = self._machine_ms() - older_than_ms
        return Unsettled(
            reservations=[attempt_id for attempt_id, at in self._unsettled_slots.items() if at < before],
            permits={
                attempt_id: self._permits[attempt_id][0]
                for attempt_id, at in self._unsettled_permits.items()
                if at < before
            },
        )

    def standing(self, now: FleetTime) -> Standing:
        """See `base.RolloutStore`."""
        return Standing(
            in_flight=Counter(self._slots.values()),
            permits=len(self._permits),
            permit_ceiling=self._ceiling,
            starts=sum(at > now - MINUTE_MS for at in self._starts.values()),
            evaluator_alive=self._dead_man_refusal() is None,
        )

    def _status_refusal(self) -> Refusal | None:
        reason = REFUSED_BY_STATUS.get(self.rollout.status)
        if reason is None:
            return None
        return refusal(reason, {"rollout_id": self.rollout.rollout_id, "status": self.rollout.status.value})

    def _dead_man_refusal(self) -> Refusal | None:
        # What reaches further than a life was given before the clock was set back, and says nothing.
        if 0 < self._alive_until - self._machine_ms() <= self._life_ms:
            return None
        return refusal(RefusalReason.EVALUATOR_SILENT, {"life_ms": str(self._life_ms)})

    def _budget_refusal(self, starts_max: int, now: FleetTime) -> Refusal | None:
        self._starts = {name: at for name, at in self._starts.items() if at > now - MINUTE_MS}
        if len(self._starts) >= starts_max:
            return refusal(RefusalReason.STARTS_SPENT, {"starts": str(len(self._starts)), "limit": str(starts_max)})
        if len(self._permits) >= self._ceiling:
            facts = {"permits": str(len(self._permits)), "ceiling": str(self._ceiling)}
            return refusal(RefusalReason.BLAST_BUDGET_SPENT, facts)
        return None
