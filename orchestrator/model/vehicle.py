"""What is hot about one vehicle: inventory, what it runs, how far it was heard, and its latest attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.model.attempt import Attempt, Try
from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId


@dataclass(frozen=True, slots=True)
class DirectorState:
    """What the vehicle's Director files are made from, deterministically: bytes follow from this and the key."""

    version: int = 0
    """Of targets and snapshot; `max(previous + 1, minutes since 2020-01-01)`; 0 means never issued."""
    issued_at: FleetTime = FleetTime(0)
    """When targets and snapshot were issued."""
    timestamp_version: int = 0
    timestamp_issued_at: FleetTime = FleetTime(0)
    release: ReleaseVersion = ReleaseVersion("")
    """Release that the targets assign; empty means no images."""


@dataclass(frozen=True, slots=True)
class VehicleRecord:
    """All that is hot about one vehicle."""

    vehicle: Vehicle
    enrolled: bool
    installed: ReleaseVersion
    """Release that the last accepted manifest proves; empty when none."""
    manifest_sha256: str
    """Of the last accepted manifest; empty when none."""
    manifest_counter: int
    """Of the last accepted manifest; a later one must be higher."""
    outbox_id: str
    acknowledged_number: int
    director: DirectorState
    tries: Mapping[RolloutId, Try]
    """What became of it in each rollout that reached it."""
    attempt: Attempt | None
    """The latest attempt, live or over; None when there was none."""
    last_seen_at: FleetTime | None
    """Written behind, up to a second late."""
