"""What the journal says about a change of a vehicle's inventory: one statement for both stores."""

from __future__ import annotations

from orchestrator.store.values import InventoryChange, Json

CHANGING = ("model", "hardware", "region", "cohort", "zone", "tags")
"""Fields that are told apart; control units are told by their number only."""


def change_data(change: InventoryChange, *, actor: str, reason: str) -> dict[str, Json]:
    """Data of `vehicle_changed`: who, why, and `[before, after]` of every field that differs."""
    fields: dict[str, Json] = {}
    for name in CHANGING:
        before, after = (_plain(getattr(vehicle, name)) for vehicle in (change.before, change.after))
        if before != after:
            fields[name] = [before, after]
    if change.before.ecus != change.after.ecus:
        fields["ecus"] = [len(change.before.ecus), len(change.after.ecus)]
    return {"vehicle_id": change.before.vehicle_id, "actor": actor, "reason": reason, "changed": fields}


def _plain(value: str | tuple[str, ...]) -> Json:
    return value if isinstance(value, str) else list(value)
