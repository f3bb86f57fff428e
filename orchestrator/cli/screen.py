"""What goes to the terminal: answers on stdout, everything said along the way on stderr.

Owns that in JSON mode nothing but JSON reaches stdout, that piped tables are never cut, and when progress is shown.
Leaves the content of tables to the views.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from orchestrator.cli.words import clean

PIPED_WIDTH = 4096
"""Columns assumed when nobody looks: tables only take what they need, and nothing is cut or wrapped."""

Document = Message | Mapping[str, object]


class OutputFormat(StrEnum):
    """How answers are written."""

    TABLE = "table"
    JSON = "json"


class Screen:
    """Both streams of one run.

    Args:
        output: how answers are written.
    """

    def __init__(self, output: OutputFormat) -> None:
        self.output = output
        self.answers = console_for(sys.stdout.isatty(), stderr=False)
        self.notes = console_for(sys.stderr.isatty(), stderr=True)

    @property
    def json(self) -> bool:
        """Whether answers are JSON."""
        return self.output is OutputFormat.JSON

    @property
    def live(self) -> bool:
        """Whether a person watches stdout, so that it can be redrawn."""
        return self.answers.is_terminal and not self.json

    def answer(self, document: Document, *renderables: RenderableType, compact: bool = False) -> None:
        """Give the answer once: the document in JSON mode, otherwise what people read.

        Args:
            document: protobuf message (its JSON with snake_case names) or mapping.
            renderables: the same for people.
            compact: JSON on one line, for streams of documents.
        """
        if self.json:
            self.line(to_json(document, compact=compact))
            return
        for renderable in renderables:
            self.answers.print(renderable)

    def line(self, text: str) -> None:
        """One line on stdout as it stands."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def note(self, text: RenderableType) -> None:
        """Something said along the way: stderr, in either mode."""
        self.notes.print(Text(clean(text)) if isinstance(text, str) else text, soft_wrap=isinstance(text, str))

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Progress]:
        """A bar with its percentage on stderr while the block runs, if a person watches; advance task 0.

        Args:
            label: what is being done.
            total: steps in all; None when nobody knows.
        """
        said = TextColumn("{task.description}")
        columns = (SpinnerColumn(), said, BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.notes, transient=True, disable=not self.notes.is_terminal) as progress:
            progress.add_task(clean(label), total=total)
            yield progress


def console_for(terminal: bool, *, stderr: bool) -> Console:
    """A console as wide as its terminal, or without bounds when there is none."""
    return Console(stderr=stderr, highlight=False, width=None if terminal else PIPED_WIDTH)


def to_json(document: Document, *, compact: bool = False) -> str:
    """JSON of a message by protobuf's rules, with snake_case names and every field; or of a mapping."""
    if isinstance(document, Message):
        document = MessageToDict(document, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return json.dumps(document, indent=None if compact else 2)


def table(*columns: str, numbers: int = 0, title: str = "") -> Table:
    """An empty table in the house's look.

    Args:
        columns: headings.
        numbers: how many of the last columns hold numbers, which stand right.
        title: above the table; empty for none.
    """
    result = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for index, name in enumerate(columns):
        right = index >= len(columns) - numbers
        result.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return result


def fields(*pairs: tuple[str, RenderableType]) -> Table:
    """Names and values, one pair a line."""
    result = Table.grid(padding=(0, 2))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for name, value in pairs:
        result.add_row(name, value)
    return result
