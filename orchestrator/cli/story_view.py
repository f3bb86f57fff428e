"""How a story from the ledger looks: when, after how long, what; with the cases that opened in between.

Leaves the words for each entry to `story`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.case_pb2 import Case
from outrider.v1.ledger_pb2 import LedgerEntry
from outrider.v1.rollout_pb2 import Rollout
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import durations, words
from orchestrator.cli.rollout_counts import total
from orchestrator.cli.story import Told, told
from orchestrator.cli.words import count, plain, rollout_status, status

Line = tuple[Timestamp, Told]


def story_view(entries: Sequence[LedgerEntry], cases: Sequence[Case] = (), *, of_many: bool = False) -> Table:
    """Entries as sentences, oldest first; cases are counted between the entries that they fell between.

    Args:
        entries: Of the ledger, in order.
        cases: Of the same rollout, settled ones as well; empty where entries tell of them.
        of_many: Whether entries may be of different rollouts: each names its own.
    """
    result = Table.grid(padding=(0, 2))
    for column in ("time", "after", "mark"):
        result.add_column(column, no_wrap=True, justify="right" if column == "after" else "left")
    result.add_column("what", overflow="fold")
    entry_lines = ((entry.create_time, told_of(entry, of_many=of_many)) for entry in entries)
    lines = sorted(chain(entry_lines, case_lines(entries, cases)), key=lambda line: line[0].ToNanoseconds())
    first = lines[0][0].seconds if lines else 0
    for at, line in lines:
        after = f"+{durations.in_words(at.seconds - first)}"
        result.add_row(words.moment(at), plain(after, words.DIM), mark(line.word), sentence(line))
    return result


def case_lines(entries: Sequence[LedgerEntry], cases: Iterable[Case]) -> list[Line]:
    """One line for the cases that opened before each entry, and one for those after the last."""
    places = sorted(entry.create_time.ToNanoseconds() for entry in entries)
    batches: dict[int, list[Case]] = {}
    for case in cases:
        opened = case.open_time.ToNanoseconds()
        batches.setdefault(sum(place <= opened for place in places), []).append(case)
    lines: list[Line] = []
    for batch in batches.values():
        causes = Counter(case.cause for case in batch)
        parts = ", ".join(f"{count(number)} {cause.replace('_', ' ')}" for cause, number in causes.most_common())
        noun = "case" if len(batch) == 1 else "cases"
        at = min((case.open_time for case in batch), key=lambda moment: moment.ToNanoseconds())
        lines.append((at, Told("open", f"{count(len(batch))} {noun} opened from here on: {parts}")))
    return lines


def told_of(entry: LedgerEntry, *, of_many: bool) -> Told:
    """An entry in words; where several rollouts are told of, with the name of its own in front."""
    data = data_of(entry)
    line = told(entry.kind, data)
    rollout = data.get("rollout_id")
    return replace(line, text=f"{rollout}: {line.text}") if of_many and rollout else line


def data_of(entry: LedgerEntry) -> dict[str, Any]:
    """An entry's data as plain values."""
    return dict(MessageToDict(entry.data))


def mark(word: str) -> Text:
    """The mark of a status word, in its colour; the sentence has the word."""
    sign, style = words.STYLES.get(word, ("·", words.DIM))
    return Text(sign, style=style)


def sentence(line: Told) -> Text:
    """What happened, and below it in dim the numbers that decided."""
    text = plain(line.text)
    if line.numbers:
        text.append("\n").append_text(plain(line.numbers, words.DIM))
    return text


def standing(rollout: Rollout, cases: Sequence[Case]) -> RenderableType:
    """Where the rollout stands now, in one line."""
    counts = total(rollout.cells)
    still_open = sum(not case.HasField("settle_time") for case in cases)
    text = Text("Now: ").append_text(status(rollout_status(rollout.status)))
    text.append(
        f"; {count(counts.done)} of {count(counts.targeted)} done, {count(counts.exposed)} exposed, "
        f"{count(counts.failed)} failed, {count(counts.silent)} silent; {count(len(cases))} cases, "
        f"{count(still_open)} open."
    )
    return text
