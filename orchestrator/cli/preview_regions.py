"""When each region of a preview can move: by its own clock and in UTC, after whom, with whose consent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.rollout_pb2 import OpenWindow, RegionPreview
from outrider.v1.vehicle_pb2 import ConsentPolicy
from rich.table import Table
from rich.text import Text

from orchestrator.cli import words
from orchestrator.cli.screen import table
from orchestrator.cli.words import count, plain

WINDOWS_SHOWN = 2
"""Openings shown of each zone: the next, and the one after it if somebody misses that."""
OWNER_WORDS = {"NOTICE": "is told", "REQUIRED": "is asked"}


def regions_table(regions: Iterable[RegionPreview], plan: Mapping[str, Any]) -> Table:
    """One region a line, or more where it has several windows.

    Args:
        regions: as the server previews them.
        plan: the plan with its defaults, empty when it cannot be read.
    """
    result = table("region", "vehicles", "follows", "owner", "may install", "in UTC", title="When each region can move")
    for region in regions:
        first = (
            plain(region.region, "bold"),
            count(region.targeted),
            plain(region.follow or words.NONE),
            owner_words(region.consent),
        )
        spans = windows_shown(region.windows)
        if not spans:
            result.add_row(*first, when_without_openings(region, plan), words.NONE)
        several = len({span.zone for span in spans}) > 1
        for index, span in enumerate(spans):
            before = first if not index else ("",) * len(first)
            result.add_row(*before, local_words(span, several=several), utc_words(span))
    return result


def when_without_openings(region: RegionPreview, plan: Mapping[str, Any]) -> Text:
    """What no opening means: nothing binds the region, or something does and it never opens."""
    own: Mapping[str, Any] = (plan.get("regions") or {}).get(region.region) or {}
    bound = [own.get(name, plan.get(name)) for name in ("windows", "freeze")]
    if all(value in (None, "always", "none") for value in bound):
        return plain("at any time")
    return plain("never, as far as one sees" if region.targeted else words.NONE, words.AMBER if region.targeted else "")


def messages(regions: Iterable[RegionPreview]) -> list[str]:
    """What the server says of the regions, one sentence a line with all whom it is about."""
    about: dict[str, list[str]] = {}
    for region in regions:
        if region.message:
            about.setdefault(region.message, []).append(region.region)
    return [f"{', '.join(names)}: {message}" for message, names in about.items()]


def windows_shown(windows: Sequence[OpenWindow]) -> list[OpenWindow]:
    """The next openings of each zone, zones with most vehicles first."""
    zones: dict[str, list[OpenWindow]] = {}
    for window in windows:
        zones.setdefault(window.zone, []).append(window)
    ordered = sorted(zones.values(), key=lambda spans: -spans[0].vehicles)
    return [span for spans in ordered for span in spans[:WINDOWS_SHOWN]]


def local_words(window: OpenWindow, *, several: bool) -> Text:
    """For example `Sat 28 Nov 22:00-05:00 Europe/Berlin`; with the number of vehicles where zones are several."""
    many = f" ({count(window.vehicles)})" if several else ""
    zone = zone_of(window.zone)
    if zone is None:
        return plain(f"by the clock of {window.zone or 'a zone that is not named'}{many}")
    return plain(f"{span_words(window, zone)} {window.zone}{many}")


def utc_words(window: OpenWindow) -> Text:
    """The same span by UTC."""
    return plain(span_words(window, UTC), words.DIM)


def span_words(window: OpenWindow, zone: tzinfo) -> str:
    """Begin and end by the clock of a zone; the day of the end only where the span is longer than a day."""
    begin, end = local(window.start_time, zone), local(window.end_time, zone)
    last = f"{end:%H:%M}" if end - begin < timedelta(days=1) else f" {end:%a %d %b %H:%M}"
    return f"{begin:%a %d %b %H:%M}–{last}"


def local(timestamp: Timestamp, zone: tzinfo) -> datetime:
    """A moment by the clock of a zone."""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone(zone)


def zone_of(name: str) -> tzinfo | None:
    """A zone by its IANA name; None when this machine does not know it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def owner_words(consent: ConsentPolicy.ValueType) -> Text:
    """Whether owners are told or asked."""
    name = ConsentPolicy.Name(consent).removeprefix("CONSENT_POLICY_")
    return plain(OWNER_WORDS.get(name, words.NONE))
