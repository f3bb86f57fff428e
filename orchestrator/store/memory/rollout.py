"""One rollout's keys in memory: its record, limits and signs of life; who holds what is in `places`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import AttemptId, FleetTime
from orchestrator.model.rollout import Rollout
from orchestrator.store.base import (
    BANDWIDTH_AHEAD_MS,
    PermitRequest,
    Permitted,
    Reserved,
    SlotRequest,
    Standing,
    Unsettled,
)
from orchestrator.store.memory.journal import Journal
from orchestrator.store.memory.places import Places
from orchestrator.store.refusals import REFUSED_BY_BRAKE, REFUSED_BY_STATUS, refusal

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
        self._permit_ceiling = 0
        self._grant_ceiling = 0
        self._places = Places()
        self._starts: dict[AttemptId, tuple[str, FleetTime]] = {}
        """First permits of the last minute, with their regions; forfeiting takes none away."""
        self._links_busy_until: dict[str, int] = {}
        """By region: fleet time until which its bandwidth is given away."""
        self._unsettled_slots: dict[AttemptId, int] = {}
        self._unsettled_permits: dict[AttemptId, int] = {}

    def renew(self, permit_ceiling: int, grant_ceiling: int, began_ms: int, epoch: int) -> bool:
        """See `base.RolloutStore`."""
        now = self._machine_ms()
        if epoch != self.rollout.epoch or began_ms > now:
            return False
        # A last begin that is still to come was written before the clock was set back; it must not lock everybody out.
        if began_ms < self._began_ms <= now:
            return False
        self._alive_until = began_ms + self._life_ms
        self._began_ms = began_ms
        self._permit_ceiling = permit_ceiling
        self._grant_ceiling = grant_ceiling
        return True

    def reserve(self, attempt_id: AttemptId, request: SlotRequest) -> Reserved | Refusal:
        """See `base.RolloutStore`."""
        if no := self._standstill(request.cell.stratum):
            return no
        if request.epoch != self.rollout.epoch:
            facts = {"epoch": str(request.epoch), "current": str(self.rollout.epoch)}
            return refusal(RefusalReason.STALE_EPOCH, facts)
        if no := self._dead_man_refusal():
            return no
        if self._places.holds(attempt_id):
            return Reserved()
        if no := self._slot_refusal(attempt_id, request):
            return no
        region = request.cell.region
        if request.transfer_ms:
            busy_until = max(self._links_busy_until.get(region, 0), request.now)
            self._links_busy_until[region] = busy_until + request.transfer_ms
        self._places.take(attempt_id, request.cell, self._machine_ms())
        self._unsettled_slots[attempt_id] = self._machine_ms()
        return Reserved()

    def _slot_refusal(self, attempt_id: AttemptId, request: SlotRequest) -> Refusal | None:
        """Why an attempt gets no slot; None when it does."""
        region, places = request.cell.region, self._places
        if no := places.no_slot(region, request.region_max, request.total_max):
            return no
        if not places.counted(attempt_id) and (no := places.no_quota(request.cell, request.quota)):
            return no
        if places.at_risk >= self._grant_ceiling:
            facts = {"at_risk": str(places.at_risk), "ceiling": str(self._grant_ceiling)}
            return refusal(RefusalReason.BLAST_BUDGET_SPENT, facts)
        ahead_ms = self._links_busy_until.get(region, 0) - request.now
        if request.transfer_ms and ahead_ms > BANDWIDTH_AHEAD_MS:
            facts = {"scope": region, "ahead_ms": str(ahead_ms), "limit_ms": str(BANDWIDTH_AHEAD_MS)}
            return refusal(RefusalReason.BANDWIDTH_SPENT, facts)
        return None

    def authorize(self, attempt_id: AttemptId, request: PermitRequest) -> Permitted | Refusal:
        """See `base.RolloutStore`."""
        now = request.now
        permit = self._places.permit_of(attempt_id)
        if permit is not None and request.repeats and permit.good(now, request.valid_ms):
            return permit.told(permit.latest)
        if no := self._standstill(request.cell.stratum):
            return no
        fence = self.rollout.fence_of(request.cell.stratum)
        if request.attempt_epoch < fence:
            return refusal(RefusalReason.FENCED, {"epoch": str(request.attempt_epoch), "fence": str(fence)})
        if no := self._dead_man_refusal():
            return no
        if permit is None:
            if not self._places.known(attempt_id):
                return refusal(RefusalReason.ATTEMPT_OVER, {"attempt_id": attempt_id, "state": "released"})
            if no := self._permit_refusal(attempt_id, request):
                return no
            if request.stands_aside:
                self._places.stand_aside(attempt_id)
                self._unsettled_slots.pop(attempt_id, None)
                return refusal(RefusalReason.WATCHED, {})
            # Also where it holds one: a deferral from before this permit must not give it back.
            self._places.take(attempt_id, request.cell, self._machine_ms())
            self._starts[attempt_id] = (request.cell.region, now)
            self._unsettled_permits[attempt_id] = self._machine_ms()
        return self._places.permit(attempt_id, request).told(now)

    def _permit_refusal(self, attempt_id: AttemptId, request: PermitRequest) -> Refusal | None:
        """Why an attempt gets no first permit; None when it does."""
        region = request.cell.region
        if not self._places.holds(attempt_id):
            no = self._places.no_slot(region, request.region_max, request.total_max)
            if no is not None:
                return no
        if not self._places.counted(attempt_id) and (no := self._places.no_quota(request.cell, request.quota)):
            return no
        # Another caller's clock may be behind, and its minute begin earlier.
        kept = request.now - 2 * MINUTE_MS
        self._starts = {name: start for name, start in self._starts.items() if start[1] > kept}
        starts, starts_max = self._starts_since(request.now - MINUTE_MS), request.starts_per_minute_max
        if starts >= starts_max:
            return refusal(RefusalReason.STARTS_SPENT, {"starts": str(starts), "limit": str(starts_max)})
        starts, starts_max = self._starts_since(request.now - MINUTE_MS, region), request.region_starts_per_minute_max
        if starts >= starts_max:
            facts = {"scope": region, "starts": str(starts), "limit": str(starts_max)}
            return refusal(RefusalReason.STARTS_SPENT, facts)
        if self._places.permits >= self._permit_ceiling:
            facts = {"permits": str(self._places.permits), "ceiling": str(self._permit_ceiling)}
            return refusal(RefusalReason.BLAST_BUDGET_SPENT, facts)
        return None

    def _starts_since(self, since: int, region: str = "") -> int:
        """Starts after a moment, of one region or of all."""
        return sum(at > since and region in ("", where) for where, at in self._starts.values())

    def suspend(self, deferred: Mapping[AttemptId, int]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id, at_ms in deferred.items():
            if self._places.suspend(attempt_id, at_ms):
                self._unsettled_slots.pop(attempt_id, None)

    def forfeit(self, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in attempt_ids:
            self._places.forfeit(attempt_id)
            self._unsettled_permits.pop(attempt_id, None)

    def confirm(self, reservations: Sequence[AttemptId], permits: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in reservations:
            self._unsettled_slots.pop(attempt_id, None)
        for attempt_id in permits:
            self._unsettled_permits.pop(attempt_id, None)
            self._places.spend(attempt_id)

    def release(self, attempt_ids: Sequence[AttemptId]) -> None:
        """See `base.RolloutStore`."""
        for attempt_id in attempt_ids:
            self._places.release(attempt_id)
            self._unsettled_slots.pop(attempt_id, None)
            if attempt_id not in self._unsettled_permits:
                self._places.spend(attempt_id)

    def unsettled(self, older_than_ms: int) -> Unsettled:
        """See `base.RolloutStore`."""
        before = self._machine_ms() - older_than_ms
        permits = {name: self._places.permit_of(name) for name, at in self._unsettled_permits.items() if at < before}
        return Unsettled(
            reservations=[attempt_id for attempt_id, at in self._unsettled_slots.items() if at < before],
            permits={name: permit.told(permit.first) for name, permit in permits.items() if permit},
        )

    def standing(self, now: FleetTime) -> Standing:
        """See `base.RolloutStore`."""
        outstanding = self._places.outstanding(now)
        return Standing(
            in_flight=self._places.in_flight,
            permits=self._places.permits,
            permit_ceiling=self._permit_ceiling,
            starts=self._starts_since(now - MINUTE_MS),
            evaluator_alive=self._dead_man_refusal() is None,
            at_risk=self._places.at_risk,
            grant_ceiling=self._grant_ceiling,
            admitted=self._places.admitted,
            outstanding=len(outstanding),
            outstanding_until=max(outstanding, default=FleetTime(0)),
        )

    def _standstill(self, stratum: Stratum) -> Refusal | None:
        """The refusal by the rollout's status, or by a brake on a part of it."""
        name = self.rollout.rollout_id
        reason = REFUSED_BY_STATUS.get(self.rollout.status)
        if reason is not None:
            return refusal(reason, {"rollout_id": name, "status": self.rollout.status.value})
        brake = self.rollout.brake_on(stratum)
        if brake is None:
            return None
        return refusal(REFUSED_BY_BRAKE[brake.kind], {"rollout_id": name, "scope": brake.scope})

    def _dead_man_refusal(self) -> Refusal | None:
        # What reaches further than a life was given before the clock was set back, and says nothing.
        if 0 < self._alive_until - self._machine_ms() <= self._life_ms:
            return None
        return refusal(RefusalReason.EVALUATOR_SILENT, {"life_ms": str(self._life_ms)})
