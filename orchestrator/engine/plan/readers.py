"""Readers of single values in a plan file: each takes a place and gives the value, or None and a fault there.

Owns types and bounds of one value at a time, their words, and what a JSON Schema can say of them. The schema of a
reader never refuses what the reader takes. Readers of days, zones and other words with a grammar of their own are in
`plan.words`; which field is read by which is the matter of the tables in `plan.file` and beside it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.engine.plan.nodes import Place
from orchestrator.engine.plan.values import (
    COUNT_PATTERN,
    DURATION_PATTERN,
    RATIO_PATTERN,
    read_count,
    read_duration,
    read_ratio,
    write_duration,
    write_ratio,
)
from orchestrator.model.ids import NAME_PATTERN

T = TypeVar("T")
Schema = Mapping[str, Any]
"""A JSON Schema, draft 2020-12."""

_PERCENT_PATTERN = r"([0-9]{1,3})\s*%"
_PERCENT = re.compile(_PERCENT_PATTERN, re.ASCII)
_WHOLE_RATIO = re.compile(r"[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """Reads one value."""

    read: Callable[[Place], T | None]
    """The value; None with a fault."""
    schema: Schema
    """What can be said of it in a schema, of YAML 1.2 as a parser hands it on."""

    def __call__(self, place: Place) -> T | None:
        """The value at a place; None with a fault."""
        return self.read(place)


def take(fields: Mapping[str, Place], key: str, read: Callable[[Place], T | None], default: T) -> T:
    """The value of a field, or its default where it is absent or faulty: then a fault stands and no plan comes out."""
    place = fields.get(key)
    value = read(place) if place is not None else None
    return default if value is None else value


def text_schema(pattern: str) -> Schema:
    """Schema of a text that matches a pattern as a whole."""
    return {"type": "string", "pattern": f"^(?:{pattern})$"}


def word_schema(pattern: str) -> Schema:
    """Schema of a word that a YAML parser may take for a number or a boolean, as region `no` or model `3`."""
    return {"type": ["string", "number", "boolean"], "pattern": f"^(?:{pattern})$"}


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

    return Reader(read, {"type": "string", "pattern": f"^(?=.)(?:{DURATION_PATTERN})$"})


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

    least = {"minimum" if low_allowed else "exclusiveMinimum": low}
    return Reader(read, {"anyOf": [{"type": "number", **least, "maximum": high}, text_schema(RATIO_PATTERN)]})


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

    return Reader(read, {"anyOf": [{"type": "integer", "minimum": low, "maximum": high}, text_schema(COUNT_PATTERN)]})


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

    return Reader(read, word_schema(pattern.pattern))


name = matching(NAME_PATTERN, "a name")
"""Reader of the name of a region, cohort, model, hardware variant, tag or wave."""


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

    return Reader(read_all, {"type": "array", "items": read.schema, "minItems": 1, "maxItems": most})


def different(read: Reader[tuple[T, ...]], written: Callable[[T], str] = str) -> Reader[tuple[T, ...]]:
    """Reader of a list in which nothing stands twice.

    Args:
        read: Of the list.
        written: A value as the file writes it, for the fault.
    """

    def read_all(place: Place) -> tuple[T, ...] | None:
        values = read(place)
        for value in dict.fromkeys(value for value in values or () if (values or ()).count(value) > 1):
            place.fault(f"`{written(value)}` is listed twice", "remove one")
        return values

    # A schema sees what YAML made of the words: `1` and `0x1` are two names and one number.
    return Reader(read_all, read.schema)


names = different(several(name, "a list of names such as [a, b]"))
"""Reader of a list of at least one name, none of them twice."""


def or_word(read: Reader[T], word: str, meaning: T) -> Reader[T]:
    """Reader of what `read` takes, or of one word that stands for a value of its own, as `windows: always`."""

    def read_either(place: Place) -> T | None:
        return meaning if place.word == word else read(place)

    return Reader(read_either, {"anyOf": [{"const": word}, read.schema]})


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

    return Reader(read, {"enum": list(words)})


def mapped(read: Reader[str], meaning: Callable[[str], T]) -> Reader[T]:
    """Reader of a word as what it means, for example a member of an enumeration."""

    def read_meaning(place: Place) -> T | None:
        word = read(place)
        return None if word is None else meaning(word)

    return Reader(read_meaning, read.schema)


def _read_truth(place: Place) -> bool | None:
    text = one_of(("true", "false"))(place)
    return None if text is None else text == "true"


truth = Reader(_read_truth, {"enum": [True, False, "true", "false"]})
"""Reader of `true` or `false`."""


def _read_percent(place: Place) -> int | None:
    wanted = "a whole percentage such as 30%"
    text = place.scalar(wanted)
    if text is None:
        return None
    match = _PERCENT.fullmatch(text)
    if match is None or int(match[1]) > 100:
        place.fault(f"`{text[:40]}` is not {wanted}", "write 0% to 100%")
        return None
    return int(match[1])


percent = Reader(_read_percent, text_schema(_PERCENT_PATTERN))
"""Reader of a whole percentage, 0 to 100."""
