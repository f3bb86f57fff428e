"""Use cases of whoever looks after a fleet: move, tag, remove and exclude vehicles, and count them.

Owns what makes such a change one act: every vehicle named is looked at before the first is changed, every change is by
compare-and-set on what was read, and each lands in the ledger with who and why. A rollout follows a moved vehicle by
itself: admission judges the record as it is, an attempt is counted where it was granted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.clock import FleetClock
from orchestrator.model.decision import Refusal
from orchestrator.model.fleet import Profile, Vehicle
from orchestrator.model.ids import NAME_PATTERN, FleetTime, RolloutId, VehicleId
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion, VehicleRecord
from orchestrator.service.errors import ConflictError, InvalidInputError, NotFoundError, StateError, Violation
from orchestrator.service.fleet_csv import zone_fault
from orchestrator.service.fleet_filter import SHARED_FIELDS, parse_filter
from orchestrator.service.records import still_known
from orchestrator.store.base import ChangeOutcome, InventoryChange, Store

VEHICLES_MAX = 1000
"""Most vehicles of one call."""
CLEAR = "-"
"""New zone that takes a vehicle's own away."""
ROUNDS = 3
"""How often vehicles that somebody else changed meanwhile are read again."""
GROUP_FIELDS = tuple(name for name in SHARED_FIELDS if name != "tag")


@dataclass(frozen=True, slots=True)
class Amendment:
    """What shall be different about vehicles; empty fields stay."""

    region: str = ""
    cohort: str = ""
    zone: str = ""
    """CLEAR takes it away."""
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()

    def of(self, vehicle: Vehicle) -> Vehicle:
        """The vehicle as it shall be."""
        tags = (set(vehicle.tags) | set(self.add_tags)) - set(self.remove_tags)
        zone = "" if self.zone == CLEAR else self.zone or vehicle.zone
        return replace(
            vehicle,
            region=self.region or vehicle.region,
            cohort=self.cohort or vehicle.cohort,
            zone=zone,
            tags=tuple(sorted(tags)),
        )


@dataclass(frozen=True, slots=True)
class Count:
    """Vehicles that share values."""

    values: Mapping[str, str]
    """By field asked for; an absent zone or release is empty."""
    count: int


class FleetCareDesk:
    """Serves operators in what they do to vehicles.

    Args:
        store: committed to.
        clock: fleet time.
    """

    def __init__(self, *, store: Store, clock: FleetClock) -> None:
        self._store = store
        self._clock = clock

    async def amend(
        self, vehicle_ids: Sequence[VehicleId], amendment: Amendment, *, actor: str, reason: str
    ) -> ChangeOutcome:
        """Change region, cohort, zone or tags.

        Raises:
            InvalidInputError: a new value is none, or nothing is to change.
            NotFoundError: a vehicle is not in the inventory; nothing was changed.
            ConflictError: somebody else keeps changing the same vehicles; some were changed.
        """
        check_amendment(amendment)
        records = await self._records(vehicle_ids)
        changed = unchanged = 0
        for _ in range(ROUNDS):
            changes = [InventoryChange(record.vehicle, amendment.of(record.vehicle)) for record in records]
            outcome = await self._store.change_vehicles(changes, actor=actor, reason=reason, now=self._now())
            changed += outcome.changed
            unchanged += outcome.unchanged
            if not outcome.overtaken:
                return ChangeOutcome(changed=changed, unchanged=unchanged, overtaken=())
            records = await self._records(outcome.overtaken)
        raise ConflictError(
            f"{len(records)} of {len(vehicle_ids)} vehicles were changed by somebody else at the same time",
            reason="VEHICLES_OVERTAKEN",
            remedy="repeat the command: vehicles that are as wanted stay as they are",
        )

    async def remove(self, vehicle_ids: Sequence[VehicleId], *, actor: str, reason: str) -> int:
        """Take vehicles out of the inventory; how many were in it.

        Raises:
            NotFoundError: one is not in the inventory; nothing was removed.
            StateError: one has a live attempt; nothing was removed, unless it began at this very moment.
        """
        records = await self._records(vehicle_ids)
        live = [record for record in records if record.attempt is not None and not record.attempt.state.terminal]
        if live:
            raise live_refused([record.vehicle.vehicle_id for record in live], "nothing was removed")
        ids = [record.vehicle.vehicle_id for record in records]
        answers = await asyncio.gather(
            *(self._store.remove_vehicle(each, actor=actor, reason=reason, now=self._now()) for each in ids)
        )
        removed = sum(answer is True for answer in answers)
        refused = [each for each, answer in zip(ids, answers, strict=True) if isinstance(answer, Refusal)]
        if refused:
            raise live_refused(refused, f"{removed} of {len(records)} were removed as it began")
        return removed

    async def exclude(
        self, vehicle_ids: Sequence[VehicleId], rollout_id: RolloutId | None, *, actor: str, reason: str
    ) -> int:
        """Keep vehicles out of one rollout, or of every one (None); how many were not before.

        Raises:
            NotFoundError: a vehicle, or the rollout, is not known; nothing was changed, unless the vehicle was removed
                at this very moment.
        """
        await self._known_rollout(rollout_id)
        records = await self._records(vehicle_ids)
        exclusion = Exclusion(scope=rollout_id or EVERY_ROLLOUT, actor=actor, reason=reason, at=self._now())

        async def exclude(vehicle_id: VehicleId) -> bool:
            with still_known(vehicle_id):
                return await self._store.exclude(vehicle_id, exclusion)

        return sum(await asyncio.gather(*(exclude(record.vehicle.vehicle_id) for record in records)))

    async def readmit(
        self, vehicle_ids: Sequence[VehicleId], rollout_id: RolloutId | None, *, actor: str, reason: str
    ) -> int:
        """Take such exclusions back; how many there were.

        Raises:
            NotFoundError: a vehicle is not in the inventory; nothing was changed, unless it was removed at this very
                moment.
        """
        records = await self._records(vehicle_ids)
        scope, now = rollout_id or EVERY_ROLLOUT, self._now()

        async def readmit(vehicle_id: VehicleId) -> bool:
            with still_known(vehicle_id):
                return await self._store.readmit(vehicle_id, scope, actor=actor, reason=reason, now=now)

        return sum(await asyncio.gather(*(readmit(record.vehicle.vehicle_id) for record in records)))

    async def count(self, group_by: Sequence[str], filter_text: str) -> Sequence[Count]:
        """How many vehicles share values, largest group first, from the profiles: no vehicle is looked at.

        Raises:
            InvalidInputError: a field cannot be grouped by, or the filter cannot be read.
        """
        unknown = [name for name in group_by if name not in GROUP_FIELDS]
        if unknown:
            raise InvalidInputError(
                f"cannot count by {', '.join(unknown)[:80]}",
                reason="GROUP_UNKNOWN",
                remedy=f"count by any of {', '.join(GROUP_FIELDS)}",
            )
        wanted = parse_filter(filter_text, fields=SHARED_FIELDS)
        summed: Counter[tuple[str, ...]] = Counter()
        for profile, count in (await self._store.profiles()).items():
            if wanted.matches_profile(profile):
                summed[tuple(_value(profile, name) for name in group_by)] += count
        ordered = sorted(summed.items(), key=lambda item: (-item[1], item[0]))
        return [Count(dict(zip(group_by, values, strict=True)), count) for values, count in ordered]

    async def _known_rollout(self, rollout_id: RolloutId | None) -> None:
        if rollout_id is None:
            return
        if rollout_id not in {rollout.rollout_id for rollout in await self._store.rollouts()}:
            raise NotFoundError(
                f"there is no rollout {rollout_id}; nothing was changed",
                reason="ROLLOUT_UNKNOWN",
                remedy="`outrider rollout list` shows all rollouts",
            )

    async def _records(self, vehicle_ids: Sequence[VehicleId]) -> Sequence[VehicleRecord]:
        """Records of all of these, once each.

        Raises:
            InvalidInputError: none, or too many, are named.
            NotFoundError: one or more are not in the inventory.
        """
        wanted = list(dict.fromkeys(vehicle_ids))
        if not 1 <= len(wanted) <= VEHICLES_MAX:
            raise InvalidInputError(
                f"{len(wanted)} vehicles are named, 1 to {VEHICLES_MAX} can be", reason="VEHICLES_COUNT"
            )
        records = await asyncio.gather(*(self._store.vehicle(vehicle_id) for vehicle_id in wanted))
        missing = [vehicle_id for vehicle_id, record in zip(wanted, records, strict=True) if record is None]
        if missing:
            raise NotFoundError(
                f"not in the inventory: {listed(missing)}; nothing was changed",
                reason="VEHICLE_UNKNOWN",
                remedy="`outrider fleet list` shows those that are there",
            )
        return [record for record in records if record is not None]

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def check_amendment(amendment: Amendment) -> None:
    """Refuse values that the inventory does not take.

    Raises:
        InvalidInputError: every fault, by field.
    """
    form = "needs 1 to 32 of A-Z a-z 0-9 _ -, starting with a letter or digit"
    faults = [
        Violation(field, f"`{value[:40]}` {form}")
        for field, values in (
            ("region", [amendment.region] if amendment.region else []),
            ("cohort", [amendment.cohort] if amendment.cohort else []),
            ("add_tags", amendment.add_tags),
            ("remove_tags", amendment.remove_tags),
        )
        for value in values
        if not NAME_PATTERN.fullmatch(value)
    ]
    if amendment.zone != CLEAR and (problem := zone_fault(amendment.zone)):
        faults.append(Violation("zone", problem))
    both = sorted(set(amendment.add_tags) & set(amendment.remove_tags))
    if both:
        faults.append(Violation("add_tags", f"`{both[0]}` is to be added and removed: say which"))
    if amendment == Amendment():
        faults.append(Violation("region", "nothing is to change: give a region, cohort, zone or tag"))
    if faults:
        raise InvalidInputError(
            f"the change has {len(faults)} fault{'s' if len(faults) > 1 else ''}; nothing was changed",
            reason="AMENDMENT_MALFORMED",
            remedy="correct what is named and repeat",
            violations=faults,
        )


def live_refused(vehicle_ids: Sequence[VehicleId], what: str) -> StateError:
    """The refusal to remove vehicles in the middle of an update."""
    return StateError(
        f"{what}: {listed(vehicle_ids)} {'has' if len(vehicle_ids) == 1 else 'have'} a live attempt",
        reason="ATTEMPT_LIVE",
        remedy="wait until it ends (`outrider vehicle show VEHICLE`); quarantine keeps it from another",
    )


def listed(vehicle_ids: Sequence[VehicleId]) -> str:
    """A few ids, and how many more."""
    shown = ", ".join(vehicle_ids[:5])
    return f"{shown} and {len(vehicle_ids) - 5} more" if len(vehicle_ids) > 5 else shown


def _value(profile: Profile, field: str) -> str:
    value: str = getattr(profile, field)
    return value
