"""One shard's inventory in memory: vehicles that are in it, those that were removed, profile counts, exclusions.

Says in Python what `import.lua` and `exclude.lua` of `store/redis/functions` say in Lua.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.fleet import Profile, Vehicle
from orchestrator.model.ids import FleetTime, ReleaseVersion, VehicleId
from orchestrator.model.vehicle import EVERY_ROLLOUT, DirectorState, Exclusion, Gaps, VehicleRecord
from orchestrator.store.base import InventoryChange, Json
from orchestrator.store.inventory import change_data
from orchestrator.store.memory.journal import Journal
from orchestrator.store.refusals import refusal


class Inventory:
    """The vehicles of one shard.

    Args:
        journal: the shard's stream.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.records: dict[VehicleId, VehicleRecord] = {}
        """The attempt in a record is the latest, kept up with every change. Those of removed vehicles stay."""
        self.removed: set[VehicleId] = set()
        self.profiles: dict[Profile, int] = {}

    def import_vehicle(self, vehicle: Vehicle) -> str:
        """Add or replace one vehicle; `added`, `changed` or `unchanged`."""
        record = self.present(vehicle.vehicle_id)
        if record is not None and record.vehicle == vehicle:
            return "unchanged"
        if record is None:
            self._admit(vehicle)
            return "added"
        self._replace_inventory(record, vehicle)
        return "changed"

    def present(self, vehicle_id: VehicleId) -> VehicleRecord | None:
        """The record of a vehicle that is in the inventory."""
        return None if vehicle_id in self.removed else self.records.get(vehicle_id)

    def present_or_key_error(self, vehicle_id: VehicleId) -> VehicleRecord:
        """The same, where the caller has looked it up before."""
        record = self.present(vehicle_id)
        if record is None:
            raise KeyError(vehicle_id)
        return record

    def _admit(self, vehicle: Vehicle) -> None:
        """Take a vehicle into the inventory, with what stayed of it when it was removed."""
        left = self.records.get(vehicle.vehicle_id) or _new_record(vehicle)
        self.removed.discard(vehicle.vehicle_id)
        # What was written behind about somebody who was not in the inventory does not count.
        self.records[vehicle.vehicle_id] = replace(
            left, vehicle=vehicle, last_seen_at=None, conditions=None, diagnostics=(), gaps=Gaps()
        )
        self.count_profile(vehicle.profile(left.installed), 1)

    def _replace_inventory(self, record: VehicleRecord, vehicle: Vehicle) -> None:
        self.count_profile(record.vehicle.profile(record.installed), -1)
        self.count_profile(vehicle.profile(record.installed), 1)
        self.records[vehicle.vehicle_id] = replace(record, vehicle=vehicle)

    def change_vehicle(self, change: InventoryChange, *, actor: str, reason: str, now: FleetTime) -> bool:
        """See `base.VehicleStore.change_vehicles`; False when it was overtaken."""
        record = self.present(change.before.vehicle_id)
        if record is None or record.vehicle != change.before:
            return False
        self._replace_inventory(record, change.after)
        self.journal.append("vehicle_changed", now, change_data(change, actor=actor, reason=reason))
        return True

    def remove_vehicle(self, vehicle_id: VehicleId, *, actor: str, reason: str, now: FleetTime) -> bool | Refusal:
        """See `base.VehicleStore`."""
        record = self.present(vehicle_id)
        if record is None:
            return False
        if record.attempt is not None and not record.attempt.state.terminal:
            live = record.attempt.attempt_id
            return refusal(RefusalReason.ATTEMPT_LIVE, {"attempt_id": live, "live": live})
        self.count_profile(record.vehicle.profile(record.installed), -1)
        self.removed.add(vehicle_id)
        self.journal.append("vehicle_removed", now, {"vehicle_id": vehicle_id, "actor": actor, "reason": reason})
        return True

    def exclude(self, vehicle_id: VehicleId, exclusion: Exclusion) -> bool:
        """See `base.VehicleStore`."""
        record = self.present_or_key_error(vehicle_id)
        if any(each.scope == exclusion.scope for each in record.exclusions):
            return False
        standing = sorted((*record.exclusions, exclusion), key=lambda each: each.scope)
        self.records[vehicle_id] = replace(record, exclusions=tuple(standing))
        data = _about_exclusion(vehicle_id, exclusion.scope, exclusion.actor, exclusion.reason)
        self.journal.append("vehicle_excluded", exclusion.at, data)
        return True

    def readmit(self, vehicle_id: VehicleId, scope: str, *, actor: str, reason: str, now: FleetTime) -> bool:
        """See `base.VehicleStore`."""
        record = self.present_or_key_error(vehicle_id)
        left = tuple(each for each in record.exclusions if each.scope != scope)
        if left == record.exclusions:
            return False
        forgiven_at = now if scope == EVERY_ROLLOUT else record.forgiven_at
        self.records[vehicle_id] = replace(record, exclusions=left, forgiven_at=forgiven_at)
        self.journal.append("vehicle_readmitted", now, _about_exclusion(vehicle_id, scope, actor, reason))
        return True

    def count_profile(self, profile: Profile, amount: int) -> None:
        """Add to how many vehicles have a profile."""
        count = self.profiles.get(profile, 0) + amount
        if count > 0:
            self.profiles[profile] = count
        else:
            self.profiles.pop(profile, None)


def _new_record(vehicle: Vehicle) -> VehicleRecord:
    return VehicleRecord(
        vehicle=vehicle,
        enrolled=False,
        installed=ReleaseVersion(""),
        manifest_sha256="",
        manifest_counter=0,
        outbox_id="",
        acknowledged_number=0,
        director=DirectorState(),
        tries={},
        attempt=None,
        last_seen_at=None,
    )


def _about_exclusion(vehicle_id: VehicleId, scope: str, actor: str, reason: str) -> dict[str, Json]:
    """What every journal entry about an exclusion says; a denial is about its rollout too."""
    data: dict[str, Json] = {"vehicle_id": vehicle_id, "scope": scope, "actor": actor, "reason": reason}
    return {**data, "rollout_id": scope} if scope != EVERY_ROLLOUT else data
