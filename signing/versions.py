"""Versions of metadata: which are held, which comes next, and times as metadata writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from signing.errors import SigningError
from signing.names import VERSION_MAX

_EPOCH = datetime(2020, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SECONDS = len("2031-05-01T12:00:00")


@dataclass(frozen=True, slots=True)
class MetadataVersions:
    """Versions of one repository's metadata; 0 means none."""

    root: int = 0
    timestamp: int = 0
    snapshot: int = 0
    targets: int = 0


def next_version(previous: int, now: datetime) -> int:
    """The version after `previous`, at least the minutes since 2020-01-01.

    Following the clock lets versions jump forward after a restored backup, so that vehicles do not refuse them.

    Args:
        previous: The highest version that is known to be used; 0 when none.
        now: Fleet time, UTC.

    Raises:
        SigningError: No version below 2^31 is left.
    """
    version = max(previous + 1, (now - _EPOCH) // timedelta(minutes=1))
    if version > VERSION_MAX:
        raise SigningError(f"version {version} is above {VERSION_MAX}; rotate the keys of this role to start again")
    return version


def require_utc(now: datetime) -> datetime:
    """`now` without fractions of a second.

    Raises:
        ValueError: `now` is not in UTC. That is a mistake of the caller.
    """
    if now.utcoffset() != timedelta(0):
        raise ValueError(f"{now!r} is not in UTC")
    return now.astimezone(UTC).replace(microsecond=0)


def format_time(value: datetime) -> str:
    """`value` as metadata writes it, whole seconds in UTC."""
    return f"{require_utc(value).isoformat()[:_SECONDS]}Z"


@lru_cache(maxsize=1024)
def parse_time(text: str) -> datetime:
    """The time that `format_time` wrote. The reports of one manifest mostly name the same; what is no time is not kept.

    Raises:
        ValueError: `text` is not such a time.
    """
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:32]!r} is not a time as 2031-05-01T12:00:00Z")
    return datetime.fromisoformat(text[:_SECONDS]).replace(tzinfo=UTC)
