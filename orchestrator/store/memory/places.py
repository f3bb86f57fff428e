"""Places of one rollout in memory: who holds an in-flight slot, a place in a quota, a permit; and how many of each.

Says in Python what the first half of `store/redis/functions/places.lua` says in Lua.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId, FleetTime
from orchestrator.store.refusals import refusal
from orchestrator.store.values import PermitRequest, Permitted


@dataclass(frozen=True, slots=True)
class _Place:
    """Of a live attempt."""

    cell: Cell
    taken_ms: int | None
    """Machine time since which it holds its slot; None while it is suspended, or stands aside, and holds none."""
    aside: bool = False
    """Whether it stands aside: it is not admitted either until it is permitted."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The permits of an attempt."""

    cell: Cell
    first: FleetTime
    """When it was permitted first."""
    latest: FleetTime
    """And last."""
    offline_ms: int
    """How long the latest is good for if it is an offline one; 0: it is an ordinary one."""
    paired: bool
    """Whether the attempt is compared with controls, as at the first."""

    def told(self, at: FleetTime) -> Permitted:
        """The permit as of its first or its latest time."""
        return Permitted(permitted_at=at, offline_ms=self.offline_ms, paired=self.paired)

    def good(self, now: FleetTime, valid_ms: int) -> bool:
        """Whether the latest is known to be good; of one that was given much later than now nobody knows."""
        return self.latest - valid_ms < now < self.latest + (self.offline_ms or valid_ms)


class Places:
    """An attempt is admitted from its reservation on until it is over, but for the time for which it stands aside, and
    for ever once it has a permit.
    """

    def __init__(self) -> None:
        self._places: dict[AttemptId, _Place] = {}
        self._permits: dict[AttemptId, Permit] = {}
        self._spent: Counter[Cell] = Counter()
        """Permits of attempts that are over, of which the shard is known to have heard: no longer kept one by one."""
        self._outstanding: dict[AttemptId, FleetTime] = {}
        """When the permit of an attempt that is not over lapses."""
        self._in_flight: Counter[str] = Counter()
        self._admitted: Counter[Cell] = Counter()
        self.at_risk = 0
        """Slots held without a permit."""

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Slots held, by region, where there are any."""
        return {region: count for region, count in self._in_flight.items() if count}

    @property
    def admitted(self) -> Mapping[Cell, int]:
        """Live attempts and permits, by cell, where there are any."""
        return {cell: count for cell, count in self._admitted.items() if count}

    @property
    def permits(self) -> int:
        """Permits so far."""
        return len(self._permits) + self._spent.total()

    def permit_of(self, attempt_id: AttemptId) -> Permit | None:
        """The permits of an attempt."""
        return self._permits.get(attempt_id)

    def outstanding(self, now: FleetTime) -> list[FleetTime]:
        """When each permit lapses that has not, of attempts that are not over."""
        return [ends_at for ends_at in self._outstanding.values() if ends_at > now]

    def known(self, attempt_id: AttemptId) -> bool:
        """Whether an attempt took a place once, and is not over."""
        return attempt_id in self._places

    def counted(self, attempt_id: AttemptId) -> bool:
        """Whether an attempt has a place in the quota, and is not over."""
        place = self._places.get(attempt_id)
        return place is not None and not place.aside

    def holds(self, attempt_id: AttemptId) -> bool:
        """Whether an attempt holds a slot."""
        place = self._places.get(attempt_id)
        return place is not None and place.taken_ms is not None

    def no_slot(self, region: str, region_max: int, total_max: int) -> Refusal | None:
        """The refusal of one more slot; None when there is one."""
        total = self._in_flight.total()
        for scope, held, limit in ((region, self._in_flight[region], region_max), ("all regions", total, total_max)):
            if held >= limit:
                facts = {"scope": scope, "in_flight": str(held), "limit": str(limit)}
                return refusal(RefusalReason.IN_FLIGHT_SPENT, facts)
        return None

    def no_quota(self, cell: Cell, quota: int | None) -> Refusal | None:
        """The refusal of one more of a cell; None when there is a place in its quota."""
        if quota is None or self._admitted[cell] < quota:
            return None
        facts = {"cell": f"{cell.stratum}/{cell.cohort}", "admitted": str(self._admitted[cell]), "quota": str(quota)}
        return refusal(RefusalReason.QUOTA_SPENT, facts)

    def take(self, attempt_id: AttemptId, cell: Cell, machine_ms: int) -> None:
        """Hold a slot from now on."""
        if not self.counted(attempt_id):
            self._admitted[cell] += 1
        if not self.holds(attempt_id):
            self._in_flight[cell.region] += 1
            self.at_risk += attempt_id not in self._permits
        self._places[attempt_id] = _Place(cell, machine_ms)

    def permit(self, attempt_id: AttemptId, request: PermitRequest) -> Permit:
        """Permit an attempt that holds a slot, or permit it again; its permits."""
        now, offline_ms = request.now, request.offline_ms
        permit = self._permits.get(attempt_id)
        if permit is None:
            self._permits[attempt_id] = Permit(request.cell, now, now, offline_ms, request.paired)
            self.at_risk -= 1
        else:
            self._permits[attempt_id] = replace(permit, latest=now, offline_ms=offline_ms)
        # Of an attempt that is over it is nobody's: the shard will not know it.
        if self.known(attempt_id):
            self._outstanding[attempt_id] = FleetTime(now + (offline_ms or request.valid_ms))
        return self._permits[attempt_id]

    def forfeit(self, attempt_id: AttemptId) -> None:
        """Take back a permit, and all that its attempt holds, which is over."""
        permit = self._permits.get(attempt_id)
        if permit is None:
            return
        self.release(attempt_id)
        del self._permits[attempt_id]
        self._admitted[permit.cell] -= 1

    def suspend(self, attempt_id: AttemptId, before_ms: int) -> bool:
        """Give back the slot of an attempt without a permit that was taken before a machine time; whether it was."""
        place = self._places.get(attempt_id)
        if place is None or place.taken_ms is None or attempt_id in self._permits or place.taken_ms >= before_ms:
            return False
        self._leave(attempt_id, place)
        self._places[attempt_id] = replace(place, taken_ms=None)
        return True

    def stand_aside(self, attempt_id: AttemptId) -> None:
        """Give back the slot and the place in the quota of an attempt without a permit, which stays known."""
        place = self._places.get(attempt_id)
        if place is None or place.aside:
            return
        if place.taken_ms is not None:
            self._leave(attempt_id, place)
        self._admitted[place.cell] -= 1
        self._places[attempt_id] = replace(place, taken_ms=None, aside=True)

    def release(self, attempt_id: AttemptId) -> None:
        """Give back all that an attempt holds that is over; a permit keeps its place in the quota."""
        place = self._places.pop(attempt_id, None)
        self._outstanding.pop(attempt_id, None)
        if place is None:
            return
        if place.taken_ms is not None:
            self._leave(attempt_id, place)
        self._admitted[place.cell] -= attempt_id not in self._permits and not place.aside

    def spend(self, attempt_id: AttemptId) -> None:
        """Let the permit of an attempt that is over be a number, as its shard is known to have heard of it."""
        permit = None if self.known(attempt_id) else self._permits.pop(attempt_id, None)
        if permit is not None:
            self._spent[permit.cell] += 1

    def _leave(self, attempt_id: AttemptId, place: _Place) -> None:
        self._in_flight[place.cell.region] -= 1
        self.at_risk -= attempt_id not in self._permits
