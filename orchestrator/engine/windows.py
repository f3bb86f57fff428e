"""Windows and freeze days: when an installation may begin, by the clock on the vehicle's dashboard.

Owns the answer for one region's rules in one zone at one moment, and the next openings. A window is a question about
local wall time: it is open when the local time lies in [from, to), a window across midnight belonging to the day on
which it began; and neither that day nor the present one is a freeze day. Whatever the clock does in spring and autumn
follows from the question: a window inside the hour that is skipped does not open that day, one inside the hour that
comes twice opens twice. What a closed window means for an attempt is the matter of `permits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from orchestrator.engine import zones
from orchestrator.model.decision import RefusalReason
from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Freeze, RegionRules, Window

HORIZON_DAYS = 400
"""How far an opening is looked for: more than a year, so that none that comes once a year is missed."""

_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_MINUTES_A_DAY = 1440
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_EPOCH_WEEKDAY = date(1970, 1, 1).weekday()


@dataclass(frozen=True, slots=True)
class Open:
    """Installations may begin."""

    until: FleetTime | None
    """When they may no more; None when no end is within the horizon."""


@dataclass(frozen=True, slots=True)
class Closed:
    """No installation may begin."""

    opens_at: FleetTime | None
    """When they may again; None when never within the horizon."""
    why: RefusalReason
    """WINDOW_CLOSED or FREEZE_DAY."""


@dataclass(frozen=True, slots=True)
class Span:
    """Time in which installations may begin."""

    start: FleetTime
    end: FleetTime | None
    """The first instant after it; None when no end is within the horizon."""


def zone_of(vehicle: Vehicle, rules: RegionRules) -> str:
    """The zone whose time a vehicle's dashboard shows: its own, else its region's.

    A name that the installed database does not know (an older edition) is passed over, and in the end UTC holds.
    """
    return zone_among(vehicle.zone, rules)


def zone_among(own: str, rules: RegionRules) -> str:
    """As `zone_of`, for a zone by inventory, which may be empty."""
    return next((zone for zone in (own, rules.zone) if zone and zones.known(zone)), "UTC")


def at(rules: RegionRules, zone: str, now: FleetTime) -> Open | Closed:
    """Whether installations may begin now.

    Args:
        rules: Of the region; its windows and freeze days.
        zone: A known zone, see `zone_of`.
        now: Fleet time.
    """
    span = next(_spans(rules, zone, now), None)
    if span is not None and span.start <= now:
        return Open(until=span.end)
    return Closed(opens_at=span.start if span is not None else None, why=_why_closed(rules, zone, now))


def openings(rules: RegionRules, zone: str, now: FleetTime, count: int) -> tuple[Span, ...]:
    """The next times in which installations may begin, the present one (as from now) included.

    Args:
        rules: Of the region.
        zone: A known zone.
        now: Fleet time.
        count: At most this many.
    """
    found: list[Span] = []
    for span in _spans(rules, zone, now):
        if len(found) == count:
            break
        found.append(span)
    return tuple(found)


def local_time(zone: str, at: FleetTime) -> str:
    """What the dashboard shows, for people: `2026-03-29 03:15 Europe/Berlin`."""
    local = at + zones.offset_at(zone, at)
    day, rest = divmod(local, _DAY_MS)
    hour, minute = divmod(rest // _MINUTE_MS, 60)
    return f"{date.fromordinal(_EPOCH_ORDINAL + day).isoformat()} {hour:02}:{minute:02} {zone}"


def frozen(freezes: tuple[Freeze, ...], day: int) -> bool:
    """Whether a local day (since 1970-01-01) is a freeze day."""
    on = date.fromordinal(_EPOCH_ORDINAL + day)
    return any(freeze.first <= on <= freeze.last for freeze in freezes)


def crosses_midnight(window: Window) -> bool:
    """Whether a window ends on the day after it began."""
    return window.end_minute <= window.start_minute


def _why_closed(rules: RegionRules, zone: str, now: FleetTime) -> RefusalReason:
    local = now + zones.offset_at(zone, now)
    day, minute = local // _DAY_MS, local % _DAY_MS / _MINUTE_MS
    # Past midnight, the window that began on a freeze day stays closed: the freeze is the reason, not the window.
    unfrozen = any(low <= minute < high for low, high in _minutes(rules.windows, (), day))
    return RefusalReason.FREEZE_DAY if unfrozen or frozen(rules.freezes, day) else RefusalReason.WINDOW_CLOSED


def _spans(rules: RegionRules, zone: str, now: FleetTime) -> Iterator[Span]:
    """Every time from `now` in which installations may begin, in order, apart from each other, up to the horizon."""
    horizon = (now // _DAY_MS + HORIZON_DAYS) * _DAY_MS
    if not rules.windows and not rules.freezes:
        yield Span(start=now, end=None)
        return
    start: int | None = None
    end = 0
    for low, high in _pieces(rules, zone, now, horizon):
        if start is not None and low > end:
            yield Span(start=FleetTime(start), end=FleetTime(end))
            start = None
        start = low if start is None else start
        end = high
    if start is not None:
        yield Span(start=FleetTime(start), end=FleetTime(end) if end < horizon else None)


def _pieces(rules: RegionRules, zone: str, now: int, horizon: int) -> Iterator[tuple[int, int]]:
    """Open time in pieces of one local day and one offset each, as instants [low, high), in order of time."""
    for utc_day in range(now // _DAY_MS, horizon // _DAY_MS):
        segments = zones.offsets(zone, utc_day)
        ends = [since for since, _ in segments[1:]] + [(utc_day + 1) * _DAY_MS]
        for (since, offset), until in zip(segments, ends, strict=True):
            since = max(since, now)
            for local_day in range((since + offset) // _DAY_MS, (until - 1 + offset) // _DAY_MS + 1):
                midnight = local_day * _DAY_MS - offset
                for first, last in _minutes(rules.windows, rules.freezes, local_day):
                    low = max(since, midnight + first * _MINUTE_MS)
                    high = min(until, midnight + last * _MINUTE_MS)
                    if low < high:
                        yield low, high


def _minutes(windows: tuple[Window, ...], freezes: tuple[Freeze, ...], day: int) -> list[tuple[int, int]]:
    """The open minutes [low, high) of a local day, merged, in order."""
    if frozen(freezes, day):
        return []
    if not windows:
        return [(0, _MINUTES_A_DAY)]
    weekday = (_EPOCH_WEEKDAY + day) % 7
    found = [
        (window.start_minute, _MINUTES_A_DAY if crosses_midnight(window) else window.end_minute)
        for window in windows
        if weekday in window.weekdays
    ]
    if not frozen(freezes, day - 1):
        found += [
            (0, window.end_minute)
            for window in windows
            if crosses_midnight(window) and (weekday - 1) % 7 in window.weekdays
        ]
    merged: list[tuple[int, int]] = []
    for low, high in sorted(found):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
