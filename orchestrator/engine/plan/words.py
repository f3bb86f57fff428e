"""Readers of words with a grammar of their own: zones, times of day, days, versions, comparisons, sizes and rates.

As in `plan.readers`, each takes a place and gives the value, or None and a fault there.
"""

from __future__ import annotations

import re
from datetime import date

from semver import Version

from orchestrator.engine import zones
from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.readers import Reader, text_schema
from orchestrator.engine.plan.values import (
    RATE_PATTERN,
    SIZE_PATTERN,
    read_rate,
    read_size,
    write_rate,
    write_size,
)
from orchestrator.engine.targets import TargetError, compile_comparisons
from orchestrator.model.ids import ReleaseVersion

_VERSION_LENGTH_MAX = 64
_CLOCK_TIME_PATTERN = r"([01]?[0-9]|2[0-4]):([0-5][0-9])"
_CLOCK_TIME = re.compile(_CLOCK_TIME_PATTERN, re.ASCII)
_DAY_PATTERN = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_DAY = re.compile(_DAY_PATTERN, re.ASCII)
_VERSION_PATTERN = r"[0-9]+\.[0-9]+\.[0-9]+([-+].*)?"
_COMPARISONS_PATTERN = r"\s*|(,?\s*([<>=!]=?)?\s*[0-9]\S*\s*)+"


def _read_zone(place: Place) -> str | None:
    text = place.scalar("a time zone such as Europe/Berlin")
    if text is None or zones.known(text):
        return text
    close = " or ".join(f"`{name}`" for name in zones.close_to(text[:40]))
    remedy = f"did you mean {close}?" if close else "write an IANA name such as Europe/Berlin, America/New_York or UTC"
    place.fault(f"`{text[:40]}` is not a known time zone", remedy)
    return None


zone = Reader(_read_zone, {"type": "string", "minLength": 1})
"""Reader of the name of an IANA time zone."""


def clock_time(low: int, high: int) -> Reader[int]:
    """Reader of a time of day between two minutes of it, in minutes from its beginning; `24:00` is its end."""
    wanted = 'a time of day such as "22:00"'
    bounds = f"{low // 60:02}:{low % 60:02} to {high // 60:02}:{high % 60:02}"

    def read(place: Place) -> int | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        match = _CLOCK_TIME.fullmatch(text)
        minute = int(match[1]) * 60 + int(match[2]) if match is not None else -1
        if not low <= minute <= high:
            place.fault(f"`{text[:40]}` is not {wanted}", f"write {bounds}")
            return None
        return minute

    return Reader(read, text_schema(_CLOCK_TIME_PATTERN))


def day(wanted: str) -> Reader[date]:
    """Reader of a day of the calendar."""

    def read(place: Place) -> date | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        if _DAY.fullmatch(text):
            try:
                return date.fromisoformat(text)
            except ValueError as error:
                place.fault(f"{text} is not a day of the calendar: {error}", "write a day that there is")
                return None
        place.fault(f"`{text[:40]}` is not {wanted}", "write year, month and day as 2026-12-24")
        return None

    return Reader(read, text_schema(_DAY_PATTERN))


def _read_release(place: Place) -> ReleaseVersion | None:
    text = place.scalar("a semantic version such as 1.1.0")
    if text is None:
        return None
    if len(text) > _VERSION_LENGTH_MAX or not Version.is_valid(text):
        place.fault(f"`{text[:40]}` is not a semantic version", "write three numbers, for example 1.1.0")
        return None
    return ReleaseVersion(text)


release = Reader(_read_release, {**text_schema(_VERSION_PATTERN), "maxLength": _VERSION_LENGTH_MAX})
"""Reader of a full semantic version."""


def _read_comparisons(place: Place) -> str | None:
    text = place.scalar("comparisons such as >=1.0.0,<1.1.0")
    if text is None:
        return None
    try:
        compile_comparisons(text)
    except TargetError as error:
        place.fault(str(error), "write comparisons such as >=1.0.0,<1.1.0")
        return None
    return text


comparisons = Reader(
    # `1.0` alone is a version to us and a number to YAML.
    _read_comparisons,
    {"anyOf": [{"type": "number"}, text_schema(_COMPARISONS_PATTERN)]},
)
"""Reader of an `installed` clause."""


def size(low_bytes: int, high_bytes: int) -> Reader[int]:
    """Reader of a size within bounds, in bytes."""
    wanted = "a size such as 500MB, 2GB or 1.5GiB"

    def read(place: Place) -> int | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        value = read_size(text)
        if value is None:
            place.fault(f"`{text[:40]}` is not {wanted}", "write a number with B, kB, MB, GB, or KiB, MiB, GiB")
        elif not low_bytes <= value <= high_bytes:
            bounds = f"{write_size(low_bytes)} to {write_size(high_bytes)}"
            place.fault(f"{text} is out of bounds ({bounds})", f"write {bounds}")
            return None
        return value

    return Reader(read, text_schema(SIZE_PATTERN))


def rate(low_bytes_per_s: int, high_bytes_per_s: int) -> Reader[int]:
    """Reader of a rate within bounds, in bytes a second."""
    wanted = "a rate such as 50MB/s or 400Mbit/s"

    def read(place: Place) -> int | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        value = read_rate(text)
        if value is None:
            # `50Mb/s` means bits to some and bytes to others, eight times apart.
            place.fault(f"`{text[:40]}` is not {wanted}", "write MB/s for bytes, Mbit/s for bits")
        elif not low_bytes_per_s <= value <= high_bytes_per_s:
            bounds = f"{write_rate(low_bytes_per_s)} to {write_rate(high_bytes_per_s)}"
            place.fault(f"{text} is out of bounds ({bounds})", f"write {bounds}")
            return None
        return value

    return Reader(read, text_schema(RATE_PATTERN))
