"""Cuts a fleet CSV into calls that the server accepts, and maps the lines of its complaints back to the file.

Owns that the rows of one vehicle stay in one part. Leaves every check of values to the server, which has the rules.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass

PART_BYTES_MAX = 3 * 1024 * 1024
"""Most bytes of CSV that one ImportVehicles takes."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, with the header."""

    content: bytes
    lines: tuple[int, ...]
    """By line of this part, from 0: the line of the file it came from, from 1."""

    def line_in_file(self, line: int) -> int:
        """The file's line of this part's `line`, both from 1; lines beyond the part stay as they are."""
        return self.lines[line - 1] if 1 <= line <= len(self.lines) else line


def cut(content: bytes, *, size_max: int = PART_BYTES_MAX) -> Sequence[Part]:
    """The file in parts of at most `size_max` bytes; as it stands when it fits into one.

    A vehicle is known by its first column, as docs/fleet-csv.md prescribes. Values cannot hold line breaks, so a line
    is a row.

    Args:
        content: the file.
        size_max: bytes; a single vehicle with more rows than that makes a larger part, which the server refuses.
    """
    rows = content.splitlines(keepends=True)
    if len(content) <= size_max or len(rows) < 2:
        return [Part(content, tuple(range(1, len(rows) + 1)))]
    vehicles: dict[bytes, list[int]] = {}
    for index in range(1, len(rows)):
        vehicles.setdefault(first_column(rows[index]), []).append(index)
    parts: list[Part] = []
    chosen: list[int] = [0]
    size = len(rows[0])
    for indexes in vehicles.values():
        added = sum(len(rows[index]) for index in indexes)
        if len(chosen) > 1 and size + added > size_max:
            parts.append(part_of(rows, chosen))
            chosen, size = [0], len(rows[0])
        chosen += indexes
        size += added
    parts.append(part_of(rows, chosen))
    return parts


def part_of(rows: Sequence[bytes], indexes: Sequence[int]) -> Part:
    """The part that holds these rows, in this order; a last row without a line break gets one."""
    content = b"".join(rows[index] if rows[index].endswith(b"\n") else rows[index] + b"\n" for index in indexes)
    return Part(content, tuple(index + 1 for index in indexes))


def first_column(row: bytes) -> bytes:
    """The first value of a row, without its quotes."""
    text = row.decode("utf-8", errors="replace")
    return next(csv.reader([text]), [""])[0].encode() if text.startswith('"') else row.partition(b",")[0].strip()
