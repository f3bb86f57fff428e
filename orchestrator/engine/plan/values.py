"""Values as a plan file writes them: durations, ratios, whole numbers, sizes and rates, read and written.

Owns their grammar. Reading returns None for what is not such a value; the reader of the file says where it stood.
"""

from __future__ import annotations

import re
from decimal import Decimal

DURATION_PATTERN = r"(?:([0-9]{1,7})d)?(?:([0-9]{1,7})h)?(?:([0-9]{1,7})m)?(?:([0-9]{1,9})s)?"
RATIO_PATTERN = r"([0-9]{1,9}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})(?:\s*(%))?"
COUNT_PATTERN = r"0|[1-9][0-9]{0,11}"
SIZE_PATTERN = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kKMGT]i?)?B"
RATE_PATTERN = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*(?:([kKMGT]i?)?B|([kKMGT])?bit)/s"

_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000))
_DURATION = re.compile(DURATION_PATTERN, re.ASCII)
_RATIO = re.compile(RATIO_PATTERN, re.ASCII)
_COUNT = re.compile(COUNT_PATTERN, re.ASCII)
_SIZE = re.compile(SIZE_PATTERN, re.ASCII)
_RATE = re.compile(RATE_PATTERN, re.ASCII)
_PREFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_WRITTEN_PREFIXES = ("T", "G", "M", "k")
_BITS_A_BYTE = 8


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


def read_size(text: str) -> int | None:
    """Bytes of `2GB`, `500 MB`, `1.5GiB` or `0B`; None when it is none, or no whole number of bytes."""
    match = _SIZE.fullmatch(text)
    return None if match is None else _whole(Decimal(match[1]) * _factor(match[2]))


def write_size(size_bytes: int) -> str:
    """A size as the file writes it, in the largest decimal unit that needs no fraction."""
    for prefix in _WRITTEN_PREFIXES:
        if size_bytes and size_bytes % _factor(prefix) == 0:
            return f"{size_bytes // _factor(prefix)}{prefix}B"
    return f"{size_bytes}B"


def read_rate(text: str) -> int | None:
    """Bytes a second of `50MB/s`, `1.5GiB/s` or `400Mbit/s`; None when it is none, or no whole number of bytes."""
    match = _RATE.fullmatch(text)
    if match is None:
        return None
    if text.endswith("bit/s"):
        return _whole(Decimal(match[1]) * _factor(match[3]) / _BITS_A_BYTE)
    return _whole(Decimal(match[1]) * _factor(match[2]))


def write_rate(bytes_per_s: int) -> str:
    """A rate as the file writes it, for example `50MB/s`."""
    return f"{write_size(bytes_per_s)}/s"


def _factor(prefix: str | None) -> int:
    return _PREFIXES[(prefix or "").upper()]


def _whole(number: Decimal) -> int | None:
    return int(number) if number == number.to_integral_value() else None
