"""Which shard a vehicle lives on: the same answer in every store and every process, for ever."""

from __future__ import annotations

import hashlib

from orchestrator.model.ids import AttemptId, VehicleId, split_attempt_id

SHARDS_MAX = 256
"""A shard is chosen by one byte."""


def shard_of(vehicle_id: VehicleId, shards: int) -> int:
    """The shard of a vehicle: first byte of its BLAKE2b digest (8 bytes) modulo the number of shards."""
    return hashlib.blake2b(vehicle_id.encode(), digest_size=8).digest()[0] % shards


def vehicle_of(attempt_id: AttemptId) -> VehicleId | None:
    """The vehicle that an attempt id names; None when it is no attempt id, hence no attempt of anybody."""
    parts = split_attempt_id(attempt_id)
    return parts[1] if parts else None


def check_shards(shards: int) -> None:
    """Refuse a number of shards that one byte cannot choose among.

    Raises:
        ValueError: not within 1 to 256.
    """
    if not 1 <= shards <= SHARDS_MAX:
        raise ValueError(f"shards ({shards}) must be between 1 and {SHARDS_MAX}")
