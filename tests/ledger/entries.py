"""Entries for ledgers under test."""

from __future__ import annotations

import dataclasses

from orchestrator.ledger import LedgerEntry


def an_entry(number: int = 1, **changes: object) -> LedgerEntry:
    """An entry on shard 0 at position `number`."""
    entry = LedgerEntry(
        stream="shard/0",
        entry_id=f"1700000000000-{number}",
        kind="attempt_changed",
        at=1_700_000_000_000 + number,
        data={"rollout_id": "spring", "vehicle_id": "v1", "attempt_id": "spring.v1.1", "to": "downloading"},
    )
    return dataclasses.replace(entry, **changes)


def a_change(
    number: int, vehicle: str, to: str, rollout: str = "spring", *, kind: str = "attempt_changed"
) -> LedgerEntry:
    """What one attempt of a vehicle came to."""
    data = {"rollout_id": rollout, "vehicle_id": vehicle, "attempt_id": f"{rollout}.{vehicle}.1"}
    return an_entry(number, kind=kind, data=data if kind == "attempt_granted" else {**data, "to": to})


def a_decision(number: int, rollout: str = "spring") -> LedgerEntry:
    """A decision about a whole rollout."""
    return an_entry(number, stream=f"rollout/{rollout}", kind="rollout_held", data={"rollout_id": rollout})
