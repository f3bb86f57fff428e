"""Numbers in the words of people: shares, durations and instants as messages show them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.model.ids import FleetTime

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def percent(share: float) -> str:
    """A share as a percentage of at most four significant digits, for example `0.1 %`."""
    return f"{share * 100:.4g} %"


def duration(milliseconds: int) -> str:
    """A duration in its two largest units, for example `3 d 4 h`; less than a second is `0 s`."""
    parts: list[str] = []
    rest = max(0, milliseconds)
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def instant(at: FleetTime) -> str:
    """A fleet time in UTC to the second, for example `2026-01-01T00:00:00Z`."""
    return (_EPOCH + timedelta(milliseconds=at)).strftime("%Y-%m-%dT%H:%M:%SZ")


def listed(words: tuple[str, ...]) -> str:
    """Words one after the other; `any` when there is none, since an empty list matches anything."""
    return ", ".join(words) or "any"
