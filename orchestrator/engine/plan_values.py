"""Values as a plan file writes them: durations, ratios and whole numbers, read and written.

Owns their grammar. Reading returns None for what is not such a value; the reader of the file says where it stood.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))
_DURATION = re.compile(r"(?:([0-9]{1,7})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?", re.ASCII)
_RATIO = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})(?:\s*(%))?", re.ASCII)
_COUNT = re.compile(r"0|[1-9][0-9]{0,11}", re.ASCII)


def read_duration(text: str) -> int | None:
    """Milliseconds of `90s`, `15m`, `24h`, `14d` or a sequence such as `1d12h`; None when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return sum(int(count or 0) * size for count, (_, size) in zip(match.groups(), _UNITS_MS, strict=True))


def write_duration(milliseconds: int) -> str:
    """A duration of whole seconds as the file writes it, in as many units as it takes."""
    parts: list[str] = []
    rest = milliseconds
    for unit, size in _UNITS_MS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def read_ratio(text: str) -> float | None:
    """The ratio of `1%`, `0.5 %` or `0.01`; None when it is none."""
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    number = Decimal(match[1])
    return float(number / 100 if match[2] else number)


def write_ratio(ratio: float) -> str:
    """A ratio as a percentage that reads back as the same number."""
    percentage = (Decimal(repr(ratio)) * 100).normalize()
    return f"{percentage:f}%"


def read_count(text: str) -> int | None:
    """A whole number, decimal, without sign; None when it is none."""
    return int(text) if _COUNT.fullmatch(text) else None
