"""What was recorded, read as a worker reads it for those who ask: from beside the writer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.ledger import EntryFilter, LedgerReader, Recorded

ALL_OF_THEM = 10_000


async def rollout_story(place: Path | str, rollout_id: str) -> Sequence[Recorded]:
    """Decisions and actions on a rollout as a whole, in order."""
    return await recorded(place, EntryFilter(rollout_id=rollout_id, decisions_only=True))


async def vehicle_history(place: Path | str, vehicle_id: str) -> Sequence[Recorded]:
    """All about a vehicle, in order."""
    return await recorded(place, EntryFilter(vehicle_id=vehicle_id))


async def recorded(place: Path | str, wanted: EntryFilter) -> Sequence[Recorded]:
    """What is wanted, in order."""
    reader = LedgerReader(place)
    try:
        return await reader.entries(wanted, after=0, count=ALL_OF_THEM)
    finally:
        await reader.close()
