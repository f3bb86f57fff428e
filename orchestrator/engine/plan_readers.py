"""Readers of single values in a plan file: each takes a place and gives the value, or None and a fault there.

Owns types and bounds of one value at a time, and their words. Which field is read by which is `plan_file`'s matter.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TypeVar

from semver import Version

from orchestrator.engine import zones
from orchestrator.engine.plan_nodes import Place
from orchestrator.engine.plan_values import (
    read_count,
    read_duration,
    read_ratio,
    write_duration,
    write_ratio,
)
from orchestrator.engine.targets import TargetError, compile_comparisons
from orchestrator.model.ids import NAME_PATTERN, ReleaseVersion

T = TypeVar("T")
Reader = Callable[[Place], T | None]

_VERSION_LENGTH_MAX = 64
_CLOCK_TIME = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_PERCENT = re.compile(r"([0-9]{1,3})\s*%", re.ASCII)
_WHOLE_RATIO = re.compile(r"[0-9]+", re.ASCII)


def take(fields: Mapping[str, Place], key: str, read: Reader[T], default: T) -> T:
    """The value of a field, or its default where it is absent or faulty: then a fault stands and no plan comes out."""
    place = fields.get(key)
    value = read(place) if place is not None else None
    return default if value is None else value


def duration(low_ms: int, high_ms: int) -> Reader[int]:
    """Reader of a duration within bounds, in milliseconds."""
    wanted = "a duration such as 90s, 15m, 24h or 14d"

    def read(place: Place) -> int | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        value = read_duration(text)
        if value is None:
            place.fault(f"`{text[:40]}` is not {wanted}", "write a whole number with s, m, h or d")
        elif not low_ms <= value <= high_ms:
            bounds = f"{write_duration(low_ms)} to {write_duration(high_ms)}"
            place.fault(f"{text} is out of bounds ({bounds})", f"write {bounds}")
            return None
        return value

    return read


def ratio(low: float, high: float, *, low_allowed: bool = False) -> Reader[float]:
    """Reader of a ratio above `low` (or from `low`) and up to `high`."""
    wanted = "a ratio such as 1% or 0.01"
    bounds = f"{'from' if low_allowed else 'above'} {write_ratio(low)} up to {write_ratio(high)}"

    def read(place: Place) -> float | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        value = read_ratio(text)
        if value is None:
            place.fault(f"`{text[:40]}` is not {wanted}", "write a percentage")
        elif _WHOLE_RATIO.fullmatch(text) and text != "0":
            place.fault(f"`{text}` may mean {text} % or {text} times", f"write {text}%, or a decimal such as 0.01")
            return None
        elif not (low <= value <= high and (low_allowed or value > low)):
            place.fault(f"{text} is out of bounds ({bounds})", f"write a ratio {bounds}")
            return None
        return value

    return read


def count(low: int, high: int) -> Reader[int]:
    """Reader of a whole number within bounds."""
    wanted = "a whole number"

    def read(place: Place) -> int | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        value = read_count(text)
        if value is None:
            place.fault(f"`{text[:40]}` is not {wanted}", f"write {low} to {high}")
        elif not low <= value <= high:
            place.fault(f"{text} is out of bounds ({low} to {high})", f"write {low} to {high}")
            return None
        return value

    return read


def matching(pattern: re.Pattern[str], wanted: str) -> Reader[str]:
    """Reader of a word of a given form."""

    def read(place: Place) -> str | None:
        text = place.scalar(wanted)
        if text is None:
            return None
        if not pattern.fullmatch(text):
            place.fault(f"`{text[:40]}` is not {wanted}", f"write {pattern.pattern}")
            return None
        return text

    return read


name = matching(NAME_PATTERN, "a name")
"""Reader of the name of a region, cohort, model, hardware variant, tag or wave."""


def names(place: Place) -> tuple[str, ...] | None:
    """Reader of a list of at least one name, none of them twice."""
    values = several(name, "a list of names such as [a, b]")(place)
    if values is None:
        return None
    for value in sorted({value for value in values if values.count(value) > 1}):
        place.fault(f"`{value}` is listed twice", "remove one")
    return values


def several(read: Reader[T], wanted: str, *, most: int = 1000) -> Reader[tuple[T, ...]]:
    """Reader of a list of one to `most` values."""

    def read_all(place: Place) -> tuple[T, ...] | None:
        items = place.items(wanted)
        if items is None:
            return None
        if not 1 <= len(items) <= most:
            place.fault(f"{len(items)} items where 1 to {most} should stand", f"write {wanted}, or leave the field out")
            return None
        values = [read(item) for item in items]
        found = tuple(value for value in values if value is not None)
        return found if len(found) == len(values) else None

    return read_all


def one_of(words: Sequence[str]) -> Reader[str]:
    """Reader of one of a few words."""
    wanted = f"one of {', '.join(words)}"

    def read(place: Place) -> str | None:
        text = place.scalar(wanted)
        if text is None or text in words:
            return text
        close = difflib.get_close_matches(text.lower(), words, n=1)
        place.fault(f"`{text[:40]}` is not {wanted}", f"did you mean `{close[0]}`?" if close else f"write {wanted}")
        return None

    return read


def truth(place: Place) -> bool | None:
    """Reader of `true` or `false`."""
    text = one_of(("true", "false"))(place)
    return None if text is None else text == "true"


def percent(place: Place) -> int | None:
    """Reader of a whole percentage, 0 to 100."""
    wanted = "a whole percentage such as 30%"
    text = place.scalar(wanted)
    if text is None:
        return None
    match = _PERCENT.fullmatch(text)
    if match is None or int(match[1]) > 100:
        place.fault(f"`{text[:40]}` is not {wanted}", "write 0% to 100%")
        return None
    return int(match[1])


def zone(place: Place) -> str | None:
    """Reader of the name of an IANA time zone."""
    text = place.scalar("a time zone such as Europe/Berlin")
    if text is None or zones.known(text):
        return text
    close = " or ".join(f"`{name}`" for name in zones.close_to(text[:40]))
    remedy = f"did you mean {close}?" if close else "write an IANA name such as Europe/Berlin, America/New_York or UTC"
    place.fault(f"`{text[:40]}` is not a known time zone", remedy)
    return None


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

    return read


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

    return read


def release(place: Place) -> ReleaseVersion | None:
    """Reader of a full semantic version."""
    text = place.scalar("a semantic version such as 1.1.0")
    if text is None:
        return None
    if len(text) > _VERSION_LENGTH_MAX or not Version.is_valid(text):
        place.fault(f"`{text[:40]}` is not a semantic version", "write three numbers, for example 1.1.0")
        return None
    return ReleaseVersion(text)


def comparisons(place: Place) -> str | None:
    """Reader of an `installed` clause."""
    text = place.scalar("comparisons such as >=1.0.0,<1.1.0")
    if text is None:
        return None
    try:
        compile_comparisons(text)
    except TargetError as error:
        place.fault(str(error), "write comparisons such as >=1.0.0,<1.1.0")
        return None
    return text
