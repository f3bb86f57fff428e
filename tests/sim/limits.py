"""What was taken of one rollout's limits, counted by other means than the store counts it.

Owns caps, quotas, ceilings, starts, bandwidth, fences, brakes and the sign of life: each grant and permit is held
against the rollout as it stands in that step. Leaves attempts and their journal to `witness`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import zip_longest
from math import ceil
from typing import Any

from orchestrator.engine.gates import AGED_MIN
from orchestrator.engine.permits import rules_of
from orchestrator.model.attempt import Control
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.store.base import BANDWIDTH_AHEAD_MS, DEAD_MAN_LIFE_MS, Permitted, Standing
from tests.sim.scenario import VEHICLE_BYTES

MINUTE_MS = 60_000


class BrokenPromiseError(AssertionError):
    """A promise was not kept."""


def fields_of(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a value, one level deep."""
    return ((each.name, getattr(value, each.name)) for each in fields(value))


@dataclass(slots=True)
class Limits:
    """A rollout, and what was taken of its limits."""

    rollout: Rollout
    cells: dict[AttemptId, Cell] = field(default_factory=dict)
    """Of every attempt that was granted a slot, ever."""
    slots: dict[AttemptId, int] = field(default_factory=dict)
    """Held now, with the machine time since when."""
    suspended: set[AttemptId] = field(default_factory=set)
    """Attempts that wait and hold none."""
    aside: set[AttemptId] = field(default_factory=set)
    """Attempts that stand aside: they hold neither slot nor place."""
    watches: int = 0
    """Controls ever."""
    permits: dict[AttemptId, tuple[FleetTime, FleetTime]] = field(default_factory=dict)
    """First and latest."""
    good_ms: dict[AttemptId, int] = field(default_factory=dict)
    """How long the latest may be used, as it was given."""
    starts: list[tuple[FleetTime, str]] = field(default_factory=list)
    """First permits ever, with their region."""
    sent: dict[str, list[tuple[FleetTime, int]]] = field(default_factory=dict)
    """By region: grants, each with the fleet time for which its bytes fill the region's bandwidth."""
    permit_ceiling: int = 0
    grant_ceiling: int = 0
    alive_from_ms: int = -(10**12)
    """Store time at which the last tick began that came to its last act."""

    def renewed(self, asked: Mapping[str, Any], tallies: Iterable[Tally]) -> None:
        """The evaluator gave a sign of life, and said how many may be permitted."""
        if asked["epoch"] != self.rollout.epoch:
            raise BrokenPromiseError(f"renewed at epoch {asked['epoch']}, the rollout is at {self.rollout.epoch}")
        self.permit_ceiling, self.grant_ceiling = asked["permit_ceiling"], asked["grant_ceiling"]
        self.alive_from_ms = asked["began_ms"]
        aged = sum(tally.age_groups[0].exposed for tally in tallies if tally.age_groups)
        budget = self.rollout.plan.limits.blast_budget
        # While nothing is known yet, no more may be at risk than the budget says.
        if aged < AGED_MIN and self.permit_ceiling > max(len(self.permits), aged + budget):
            raise BrokenPromiseError(f"ceiling {self.permit_ceiling} with {aged} aged and a blast budget of {budget}")

    def moved(self, after: Rollout) -> None:
        """A transition was made."""
        before = self.rollout
        if after.epoch != before.epoch + 1:
            raise BrokenPromiseError(f"epoch {before.epoch} -> {after.epoch}")
        falls = [scope for scope, fence in before.fences.items() if after.fences.get(scope, 0) < fence]
        if after.fence < before.fence or falls:
            raise BrokenPromiseError(f"fence {before.fence} -> {after.fence}, parts {falls}")
        if before.status.over:
            raise BrokenPromiseError(f"{before.rollout_id} was {before.status} and is {after.status}")
        stops = after.status in (RolloutStatus.HALTED, RolloutStatus.ABORTED, RolloutStatus.SUPERSEDED)
        if stops and before.status is not after.status and after.fence <= before.epoch:
            raise BrokenPromiseError(
                f"{after.status} at epoch {before.epoch} with fence {after.fence}: earlier grants live on"
            )
        for name, progress in after.regions.items():
            if progress.wave < before.regions[name].wave:
                raise BrokenPromiseError(f"region {name} went back to wave {progress.wave}")
        self.rollout = after

    def reserved(self, attempt_id: AttemptId, asked: Mapping[str, Any], machine_ms: int) -> None:
        """A slot was granted, or is held already."""
        if attempt_id in self.slots:
            return
        self._stands_open(attempt_id, asked["cell"], machine_ms, "granted")
        self.cells[attempt_id], self.slots[attempt_id] = asked["cell"], machine_ms
        self.suspended.discard(attempt_id)
        self.aside.discard(attempt_id)
        self._caps(attempt_id)
        self._links(asked["cell"].region, asked["now"], attempt_id)
        at_risk = len(self.slots.keys() - self.permits.keys())
        if at_risk > self.grant_ceiling:
            raise BrokenPromiseError(f"{at_risk} without a permit with {attempt_id}, ceiling {self.grant_ceiling}")
        self._quota(attempt_id, asked)

    def authorized(self, attempt_id: AttemptId, asked: Mapping[str, Any], permit: Permitted, machine_ms: int) -> None:
        """A permit was given, or told again."""
        known, at = self.permits.get(attempt_id), permit.permitted_at
        good_ms = permit.offline_ms or asked["valid_ms"]
        if known is not None and at == known[1]:
            if asked["now"] - at >= self.good_ms[attempt_id]:
                raise BrokenPromiseError(f"{attempt_id} told of a permit that has lapsed")
            return
        longest_ms = rules_of(asked["cell"].region, self.rollout).offline_permit_ms
        if permit.offline_ms != asked["offline_ms"] or permit.offline_ms > longest_ms:
            raise BrokenPromiseError(f"{attempt_id} permitted out of reach for {permit.offline_ms} ms of {longest_ms}")
        self._stands_open(attempt_id, asked["cell"], machine_ms, "permitted")
        if asked["cell"] != self.cells[attempt_id]:
            raise BrokenPromiseError(
                f"{attempt_id} permitted in {asked['cell']}, but it is counted in {self.cells[attempt_id]}"
            )
        fence = self.rollout.fence_of(asked["cell"].stratum)
        if asked["attempt_epoch"] < fence:
            raise BrokenPromiseError(f"{attempt_id} permitted below the fence {fence}")
        self.permits[attempt_id], self.good_ms[attempt_id] = (known[0] if known else at, at), good_ms
        if known is not None:
            return
        self.cells[attempt_id], self.slots[attempt_id] = asked["cell"], machine_ms
        self.suspended.discard(attempt_id)
        self._caps(attempt_id)
        if attempt_id in self.aside:
            self.aside.discard(attempt_id)
            self._quota(attempt_id, asked)
        self._started(attempt_id, asked["cell"].region, at)

    def stood_aside(self, attempt_id: AttemptId, asked: Mapping[str, Any], machine_ms: int, standing: Standing) -> None:
        """An attempt could have had its permit and waits by a coin: it holds nothing from this step on."""
        self._stands_open(attempt_id, asked["cell"], machine_ms, "told to stand aside")
        if attempt_id in self.permits:
            raise BrokenPromiseError(f"{attempt_id} stands aside, and has a permit")
        if attempt_id in self.slots or attempt_id in self.suspended:
            self.released(attempt_id)
            self.aside.add(attempt_id)
        admitted = len(self.slots.keys() | self.suspended | self.permits.keys())
        held = (standing.in_flight_total, sum(standing.admitted.values()), standing.permits)
        if held != (len(self.slots), admitted, len(self.permits)):
            raise BrokenPromiseError(
                f"slots, places and permits {held} with {attempt_id} aside, counted {len(self.slots)}, {admitted}, "
                f"{len(self.permits)}"
            )

    def watched(self, control: Control) -> None:
        """A vehicle is watched as a control: one that was granted, and was told to stand aside."""
        self.watches += 1
        if control.cell not in self.cells.values():
            raise BrokenPromiseError(f"{control.vehicle_id} watched in {control.cell}, where nobody was granted")

    def compared(self, tallies: Sequence[Tally]) -> None:
        """What silence is judged by: controls are counted as controls, exposures as exposures."""
        for groups in zip_longest(*(tally.age_groups for tally in tallies), fillvalue=AgeGroup()):
            exposed, controls = sum(group.exposed for group in groups), sum(group.controls for group in groups)
            if exposed > len(self.permits) or controls > self.watches:
                raise BrokenPromiseError(
                    f"{exposed} exposures aged of {len(self.permits)} permits, {controls} controls of {self.watches}"
                )
            if any(not 0 <= group.unpaired_silent <= group.unpaired <= group.exposed for group in groups):
                raise BrokenPromiseError(f"more left out than there are: {groups}")

    def given_back(self, deferred: Mapping[AttemptId, int]) -> None:
        """Attempts wait: what they took before they said so is given back, what they took since is not."""
        for attempt_id, at_ms in deferred.items():
            if attempt_id not in self.permits and self.slots.get(attempt_id, at_ms) < at_ms:
                del self.slots[attempt_id]
                self.suspended.add(attempt_id)

    def released(self, attempt_id: AttemptId) -> None:
        """An attempt is over, or never was."""
        self.slots.pop(attempt_id, None)
        self.suspended.discard(attempt_id)
        self.aside.discard(attempt_id)

    def forfeited(self, attempt_id: AttemptId) -> None:
        """A permit was taken back that nobody was told of, and with it all that its attempt holds, which is over."""
        self.permits.pop(attempt_id, None)
        self.released(attempt_id)

    def outstanding(self, now: FleetTime) -> int:
        """Permits that may still be used, of attempts that are not over."""
        return sum(self.permits[name][1] + self.good_ms[name] > now for name in self.slots.keys() & self.permits.keys())

    def _stands_open(self, attempt_id: AttemptId, cell: Cell, machine_ms: int, what: str) -> None:
        rollout = self.rollout
        if rollout.status is not RolloutStatus.RUNNING:
            raise BrokenPromiseError(f"{attempt_id} {what} while {rollout.rollout_id} is {rollout.status}")
        if brake := rollout.brake_on(cell.stratum):
            raise BrokenPromiseError(f"{attempt_id} {what} while {brake.scope} is {brake.kind}")
        silent_ms = machine_ms - self.alive_from_ms
        if silent_ms >= DEAD_MAN_LIFE_MS:
            raise BrokenPromiseError(f"{attempt_id} {what} {silent_ms} ms after the last finished tick began")

    def _quota(self, attempt_id: AttemptId, asked: Mapping[str, Any]) -> None:
        admitted = self.slots.keys() | self.suspended | self.permits.keys()
        of_cell = sum(self.cells[other] == asked["cell"] for other in admitted)
        if asked["quota"] is not None and of_cell > asked["quota"]:
            raise BrokenPromiseError(f"{of_cell} of {asked['cell']} with {attempt_id}, quota {asked['quota']}")

    def _caps(self, attempt_id: AttemptId) -> None:
        plan, region = self.rollout.plan, self.cells[attempt_id].region
        here = sum(self.cells[held].region == region for held in self.slots)
        if here > plan.regions[region].in_flight_max or len(self.slots) > plan.limits.in_flight_max:
            raise BrokenPromiseError(f"{here} in flight in {region} and {len(self.slots)} in all with {attempt_id}")

    def _links(self, region: str, at: FleetTime, attempt_id: AttemptId) -> None:
        """What was granted since any earlier grant fits through the links by now, and for the time given in advance."""
        rules = self.rollout.plan.regions[region]
        if not rules.bandwidth_bytes_per_s:
            return
        sent = self.sent.setdefault(region, [])
        before_ms = 0
        for earlier, fills_ms in reversed(sent):
            before_ms += fills_ms
            if before_ms > at - earlier + BANDWIDTH_AHEAD_MS:
                raise BrokenPromiseError(
                    f"bandwidth of {region} exceeded with {attempt_id}: {before_ms} ms of it given away "
                    f"within {at - earlier} ms"
                )
        sent.append((at, ceil(VEHICLE_BYTES * 1000 / rules.bandwidth_bytes_per_s)))

    def _started(self, attempt_id: AttemptId, region: str, at: FleetTime) -> None:
        plan = self.rollout.plan
        self.starts.append((at, region))
        recent = [where for other, where in self.starts if at - MINUTE_MS < other <= at]
        region_max = plan.regions[region].starts_per_minute_max or plan.limits.starts_per_minute_max
        if len(recent) > plan.limits.starts_per_minute_max or recent.count(region) > region_max:
            raise BrokenPromiseError(f"{len(recent)} starts within a minute with {attempt_id}")
        if len(self.permits) > self.permit_ceiling:
            raise BrokenPromiseError(f"{len(self.permits)} permits with {attempt_id}, ceiling {self.permit_ceiling}")


def asked_for(args: tuple[Any, ...]) -> tuple[RolloutId, AttemptId, Mapping[str, Any]]:
    """What `reserve` and `authorize` were asked: rollout, attempt, and the request's fields by name."""
    rollout_id, attempt_id, request = args
    return rollout_id, attempt_id, dict(fields_of(request))
