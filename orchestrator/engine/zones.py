"""Time zones: which names there are, and how far their clocks are from UTC at an instant.

Owns every look into the IANA database. The answer follows from a name, an instant and the edition of the database that
is installed; nothing here reads a clock. Windows and freeze days are the matter of `windows`.
"""

from __future__ import annotations

import difflib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_PLACES = frozenset({"localtime", "Factory", "posixrules"})
"""Names that stand for the machine's own setting, or for none."""
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


@lru_cache(maxsize=1024)
def known(zone: str) -> bool:
    """Whether a name is a zone of the IANA database, for example `Europe/Berlin`; in exactly its spelling."""
    return zone in _names()


def close_to(zone: str, most: int = 3) -> tuple[str, ...]:
    """Zones whose names are like a misspelt one, or end in it, best first; empty when none is like it."""
    lowered = {name.lower(): name for name in sorted(_names())}
    wanted = zone.lower().replace(" ", "_")
    cities = [name for low, name in lowered.items() if low.rsplit("/", 1)[-1] == wanted.rsplit("/", 1)[-1]]
    alike = [lowered[low] for low in difflib.get_close_matches(wanted, lowered, n=most, cutoff=0.85)]
    return tuple(dict.fromkeys((*alike, *cities)))[:most]


@lru_cache(maxsize=16_384)
def offsets(zone: str, day: int) -> tuple[tuple[int, int], ...]:
    """The offsets of a zone within one UTC day, to the second.

    Args:
        zone: A known name.
        day: Days since 1970-01-01, UTC.

    Returns:
        In order of time: from which instant (milliseconds since 1970) which offset from UTC (milliseconds) holds. The
        first begins with the day. Two changes within one hour would be missed; no zone ever did that.
    """
    info = ZoneInfo(zone)
    begin = day * _DAY_MS
    found = [(begin, _offset(info, begin))]
    for low in range(begin, begin + _DAY_MS, _HOUR_MS):
        high = low + _HOUR_MS
        after = _offset(info, high)
        if after != found[-1][1]:
            at = _change(info, low, high)
            # A change at midnight is the next day's.
            if at < begin + _DAY_MS:
                found.append((at, after))
    return tuple(found)


def offset_at(zone: str, at: int) -> int:
    """The offset of a known zone from UTC at an instant, both in milliseconds."""
    return next(offset for since, offset in reversed(offsets(zone, at // _DAY_MS)) if at >= since)


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones()) - _NO_PLACES


def _offset(info: ZoneInfo, at: int) -> int:
    found = (_EPOCH + timedelta(milliseconds=at)).astimezone(info).utcoffset()
    assert found is not None
    return round(found.total_seconds() * 1000)


def _change(info: ZoneInfo, low: int, high: int) -> int:
    """The instant within (low, high] from which the offset is that of `high`; offsets change at whole seconds."""
    before = _offset(info, low)
    while high - low > 1000:
        middle = low + (high - low) // 2000 * 1000
        low, high = (middle, high) if _offset(info, middle) == before else (low, middle)
    return high
