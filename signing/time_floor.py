"""Fleet time as a control unit may believe it: it never goes back behind what was proven. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from signing.errors import AttackCode, VerificationError
from signing.versions import require_utc

CLOCK_SLACK = timedelta(minutes=5)
"""How far fleet time may lag behind the floor without being called an attack; the floor is used instead."""


def believed_time(now: datetime, floor: datetime) -> datetime:
    """The time to verify by.

    Args:
        now: Fleet time as it was told, UTC.
        floor: The latest time that was proven, UTC.

    Raises:
        VerificationError: `now` lies well before the floor.
        ValueError: `now` is not in UTC.
    """
    now = require_utc(now)
    if now < floor - CLOCK_SLACK:
        raise VerificationError(
            AttackCode.CLOCK, f"fleet time {now.isoformat()} lies before {floor.isoformat()}, which was proven"
        )
    return max(now, floor)
