"""Cuts a fleet CSV into calls that the server accepts, and maps the lines of its complaints back to the file.

Owns that the rows of one vehicle stay in one part, that a file of any size takes little memory, and the one rule that
no part can check: a serial stands once in the whole file. Leaves every check of values to the server, which has the
rules.

A file is read three times: for what stands apart or twice, then in parts to be checked, then in parts to be imported.
Only rows of vehicles whose rows stand apart are held, until the end of the file.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from orchestrator.cli.errors import BadInputError

PART_BYTES_MAX = 3 * 1024 * 1024
"""Most bytes of CSV that one ImportVehicles takes."""
SERIAL_COLUMN = b"ecu_serial"
_BITS = 1 << 27
"""Of a table in which each value sets one: of two million values some 15,000 meet a bit that another has set."""

Row = tuple[int, bytes]
"""Line of the file, from 1, and its bytes with the line break."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a file, with the header."""

    content: bytes
    lines: tuple[int, ...]
    """By line of this part, from 0: the line of the file it came from, from 1."""

    def line_in_file(self, line: int) -> int:
        """The file's line of this part's `line`, both from 1; lines beyond the part stay as they are."""
        return self.lines[line - 1] if 1 <= line <= len(self.lines) else line


class FleetFile:
    """A CSV that is read as often as it takes.

    A vehicle is known by its first column, as docs/fleet-csv.md prescribes. Values cannot hold line breaks, so a line
    is a row.

    Args:
        stream: the file; can be read from any place.
        size_max: bytes of a part; a single vehicle with more rows than that makes a larger one, which the server
            refuses.
    """

    def __init__(self, stream: BinaryIO, *, size_max: int = PART_BYTES_MAX) -> None:
        self._stream = stream
        self._size_max = size_max
        self.size_bytes = stream.seek(0, 2)
        self.whole = self.size_bytes <= size_max
        """Whether it fits into one part, which then is the file as it stands."""
        self.repeated: list[str] = []
        """Complaints about serials that stand twice, each `line:ecu_serial: ...`; after all parts were made."""
        self._apart, self._twice = (frozenset[int](), frozenset[int]()) if self.whole else self._survey()

    def parts(self) -> Iterator[Part]:
        """The file in parts, in its order; vehicles whose rows stand apart come last."""
        if self.whole:
            self._stream.seek(0)
            content = self._stream.read()
            yield Part(content, tuple(range(1, len(content.splitlines()) + 1)))
            return
        yield from self._packed(self._vehicles())

    def _survey(self) -> tuple[frozenset[int], frozenset[int]]:
        """Hashes of vehicles that may have rows apart, and of serials that may stand twice: these and a few more."""
        vehicles, serials = _Seen(), _Seen()
        last = b""
        for _, row in self._rows():
            name = first_column(row)
            if name != last:
                vehicles.add(name)
                last = name
            if serial := self._serial_of(row):
                serials.add(serial)
        return frozenset(vehicles.again), frozenset(serials.again)

    def _vehicles(self) -> Iterator[list[Row]]:
        """The rows of each vehicle."""
        self.repeated = []
        stood: dict[bytes, int] = {}
        aside: dict[bytes, list[Row]] = {}
        together: list[Row] = []
        last = b""
        for line, row in self._rows():
            self._note_serial(stood, line, row)
            name = first_column(row)
            if hash(name) in self._apart:
                aside.setdefault(name, []).append((line, row))
                continue
            if name != last and together:
                yield together
                together = []
            together.append((line, row))
            last = name
        if together:
            yield together
        yield from aside.values()

    def _note_serial(self, stood: dict[bytes, int], line: int, row: bytes) -> None:
        serial = self._serial_of(row)
        if not serial or hash(serial) not in self._twice:
            return
        first = stood.setdefault(serial, line)
        if first != line:
            text = serial.decode(errors="replace")
            self.repeated.append(f"{line}:ecu_serial: {text} stands on line {first} already")

    def _packed(self, vehicles: Iterable[list[Row]]) -> Iterator[Part]:
        header = (1, self._header())
        chosen, size = [header], len(header[1])
        for rows in vehicles:
            added = sum(len(row) for _, row in rows)
            if len(chosen) > 1 and size + added > self._size_max:
                yield part_of(chosen)
                chosen, size = [header], len(header[1])
            chosen += rows
            size += added
        yield part_of(chosen)

    def _header(self) -> bytes:
        self._stream.seek(0)
        return self._stream.readline()

    def _rows(self) -> Iterator[Row]:
        """Every row but the header."""
        header = self._header().rstrip(b"\r\n").split(b",")
        self._serial_at = header.index(SERIAL_COLUMN) if SERIAL_COLUMN in header else None
        yield from enumerate(self._stream, start=2)

    def _serial_of(self, row: bytes) -> bytes:
        """The serial on a row; nothing where there is none, which is the server's to say."""
        if self._serial_at is None:
            return b""
        values = columns(row)
        return values[self._serial_at] if self._serial_at < len(values) else b""


class _Seen:
    """Which values came again, as far as a table of bits can tell: all of these, and a few that did not."""

    def __init__(self) -> None:
        self._table = bytearray(_BITS // 8)
        self.again: set[int] = set()
        """Their hashes."""

    def add(self, value: bytes) -> None:
        number = hash(value)
        place, bit = (number % _BITS) >> 3, 1 << (number & 7)
        if self._table[place] & bit:
            self.again.add(number)
        self._table[place] |= bit


@contextmanager
def fleet_file(path: Path, *, size_max: int = PART_BYTES_MAX) -> Iterator[FleetFile]:
    """A fleet CSV, opened; what is no plain file, as a pipe, is copied to the disk for the while.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            if path.is_file():
                yield FleetFile(stream, size_max=size_max)
                return
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(stream, copy)
                yield FleetFile(cast(BinaryIO, copy), size_max=size_max)
    except OSError as exc:
        raise BadInputError(f"{path} cannot be read ({exc.strerror})", remedy="name a file that exists") from exc


def part_of(rows: Iterable[Row]) -> Part:
    """The part that holds these rows, in this order; a last row without a line break gets one."""
    lines, texts = zip(*rows, strict=True)
    return Part(b"".join(text if text.endswith(b"\n") else text + b"\n" for text in texts), tuple(lines))


def first_column(row: bytes) -> bytes:
    """The first value of a row, without its quotes."""
    return columns(row)[0] if row.startswith(b'"') else row.partition(b",")[0].strip()


def columns(row: bytes) -> list[bytes]:
    """The values of a row, without quotes; at least one."""
    if b'"' not in row:
        return row.rstrip(b"\r\n").split(b",")
    return [value.encode() for value in next(csv.reader([row.decode("utf-8", errors="replace")]), [""])] or [b""]
