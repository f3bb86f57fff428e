"""Selection by hash: which share of a rollout's target a vehicle belongs to.

Owns the draw and the thresholds it is compared with. Which thresholds are open is the matter of admission and progress.
No list is written: a vehicle's draw follows from the rollout's salt and its id, so a threshold that only rises admits
whoever was admitted before, and a vehicle that joins late falls where it would have fallen from the start.
"""

from __future__ import annotations

from hashlib import blake2b

from orchestrator.model.ids import AttemptId, VehicleId

DRAW_RANGE = 2**64
"""Draws lie in [0, DRAW_RANGE)."""


def draw(salt: bytes, vehicle_id: VehicleId) -> int:
    """The vehicle's place in this rollout: an unsigned 64-bit integer, uniform over salts.

    Args:
        salt: Of the rollout; 16 random bytes.
        vehicle_id: Whose.

    Returns:
        The 8-byte BLAKE2b digest of salt, a zero byte and the id in UTF-8, read big endian. Whoever computes it in
        another language has the vectors in tests/engine/test_selection.py.
    """
    return int.from_bytes(blake2b(salt + b"\x00" + vehicle_id.encode(), digest_size=8).digest(), "big")


def lot(attempt_id: AttemptId) -> float:
    """An attempt's own place in [0, 1), uniform over all: spreads those that would come back at the same moment. Their
    draws are no use for that: in a first wave all are low.
    """
    digest = blake2b(attempt_id.encode(), digest_size=8).digest()
    # As many bits as a float holds exactly: rounded up, the largest would be 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def threshold(share: float) -> int:
    """The draw below which a vehicle belongs to `share` of the target.

    Args:
        share: 0 to 1. At 1 every draw is below.

    Raises:
        ValueError: the share is not within 0 and 1.
    """
    if not 0.0 <= share <= 1.0:
        msg = f"share ({share}) is not within 0 and 1"
        raise ValueError(msg)
    # Exact: a product with a power of two only moves the exponent.
    return int(share * DRAW_RANGE)


def in_holdout(u: int, holdout_share: float) -> bool:
    """Whether a draw lies in the top `holdout_share` of the range, whose vehicles stay out until the last wave aged."""
    return u >= DRAW_RANGE - threshold(holdout_share)
