"""The live page of a watch: everything about one rollout that fits the terminal, most important first.

Owns what is shown in how many lines and what gives way when the terminal is small. Draws itself anew at the size that
it finds, so that a resize needs nothing. Leaves where the facts come from to `rollout_watch` and `watch_facts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.ledger_pb2 import LedgerEntry
from outrider.v1.rollout_pb2 import Rollout
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orchestrator.cli import words
from orchestrator.cli.gate_words import deciding
from orchestrator.cli.rollout_counts import Counts, Silence, by_stratum, silence, total
from orchestrator.cli.rollout_parts import FINAL, PART_FINAL, alarms, bare, brake_kind, loudest_first
from orchestrator.cli.rollout_view import last_word, region_waits
from orchestrator.cli.story import told
from orchestrator.cli.story_view import data_of, mark
from orchestrator.cli.watch_bars import progress_line, wave_line
from orchestrator.cli.words import count, of_id, percent, phase_of, plain, rollout_status, since, status

NARROW = 100
"""Columns below which the tables are set tight."""
WITH_TIME = 64
"""Columns from which the first line has room for the time."""
EVENTS_MIN = 2
"""Lines that the last events get even where tables must be cut for it."""
GATE_LINES_MAX = 3
BRAKES_MAX = 2
"""Parts that stand still and have a line of their own; tables must keep some room."""
NAMES_MAX = 3
GAP, GAP_TIGHT = 3, 1
"""Columns between those of a table."""
REGION_COLUMNS = ("region", "phase", "wave", "since", "waits for")


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the page shows."""

    rollout: Rollout
    now: Timestamp
    """Fleet time, as fresh as the last answer of the server."""
    events: Sequence[LedgerEntry] = ()
    """Decisions, oldest first."""
    open_cases: int | None = None
    """None when not known yet."""
    trouble: str = ""
    """Why the page may be behind; empty when it is live."""

    def with_rollout(self, rollout: Rollout) -> Facts:
        """The same with a newer state."""
        return replace(self, rollout=rollout, now=rollout.fleet_time, trouble="")


@dataclass(frozen=True, slots=True)
class WatchPage:
    """The page."""

    facts: Facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines for the size at hand: never more than its height."""
        height = options.height or console.height
        width = options.max_width
        for line in self._lines(console, options.update(height=None), width, height)[:height]:
            yield from line
            yield Segment.line()

    def _lines(self, console: Console, options: ConsoleOptions, width: int, height: int) -> list[list[Segment]]:
        def lines(*parts: RenderableType) -> list[list[Segment]]:
            return [line for part in parts for line in console.render_lines(part, options, pad=False)]

        top = lines(*head(self.facts, width))
        middle = lines(*sums(self.facts))
        middle += lines(gate_lines(self.facts))[:GATE_LINES_MAX]
        bottom = lines(foot(self.facts))
        room = height - len(top) - len(middle) - len(bottom)
        airy = room >= len(self.facts.rollout.regions) + len(by_stratum(self.facts.rollout)) + 10
        gap: list[list[Segment]] = [[]] if airy else []
        room -= 4 * len(gap)
        kept = min(EVENTS_MIN, len(self.facts.events))
        regions = lines(regions_table(self.facts, rows_max=max(1, (room - kept) // 2 - 1), width=width))
        strata_room = max(1, room - kept - len(regions) - 2)
        strata = lines(strata_table(self.facts, rows_max=strata_room, tight=width < NARROW))
        left = max(0, room - len(regions) - len(strata))
        events = lines(*event_lines(self.facts, left))[:left] if left else []
        page = [*top, *gap, *regions, *gap, *strata, *gap, *middle, *gap, *events]
        filler: list[list[Segment]] = [[]] * max(0, height - len(page) - len(bottom))
        return [*page[: height - len(bottom)], *filler, *bottom]


def head(facts: Facts, width: int) -> Iterable[RenderableType]:
    """Name, status and time; why; how far; wave by wave."""
    rollout = facts.rollout
    left = plain(f"{of_id(rollout.name)} ", "bold")
    left.append_text(plain(f"release {rollout.release}  ")).append_text(status(rollout_status(rollout.status)))
    right = plain(words.moment(facts.now) if width >= WITH_TIME else "", words.DIM)
    right.append_text(Text("  ● live", words.GREEN) if not facts.trouble else Text("  ○ waits", words.AMBER))
    title = Table.grid(expand=True)
    title.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    title.add_column(no_wrap=True, justify="right")
    title.add_row(left, right)
    counts = total(rollout.cells)
    why = Text("because ", words.DIM).append_text(last_word(rollout))
    return title, one_line(why), progress_line(counts, width), wave_line(rollout, width)


def regions_table(facts: Facts, *, rows_max: int, width: int) -> Table:
    """Where each region stands and what it waits for; those that wait for a person first where not all fit."""
    tight = width < NARROW
    result = page_table(*REGION_COLUMNS, numbers=0, tight=tight)
    regions = list(facts.rollout.regions)
    if len(regions) > rows_max:
        regions.sort(key=lambda region: not region.approval_wanted)
    rows = [
        (
            plain(region.region, "bold"),
            status(phase_of(facts.rollout, region)),
            plain(facts.rollout.waves[region.wave] if region.wave < len(facts.rollout.waves) else words.NONE),
            plain(since(region.wave_start_time, facts.now).removesuffix(" ago")),
            region_waits(region, facts.now),
        )
        for region in regions[:rows_max]
    ]
    # The last column gives way alone: rich would take from each.
    gaps = 4 * (GAP_TIGHT if tight else GAP)
    before = sum(max([row[column].cell_len for row in rows] + [len(REGION_COLUMNS[column])]) for column in range(4))
    for row in rows:
        row[-1].truncate(max(1, width - before - gaps), overflow="ellipsis")
        result.add_row(*row)
    if len(regions) > rows_max:
        result.add_row(f"+{len(regions) - rows_max}", "", "", "", "more regions", style=words.DIM)
    return result


def strata_table(facts: Facts, *, rows_max: int, tight: bool) -> Table:
    """Region x hardware; where not all fit, those that are hurt most."""
    columns = ("region", "hardware", "target", "done", "active", "exposed", "failed", "silent/exp", "waiting")
    result = page_table(*columns, numbers=7, tight=tight)
    strata = [
        (region, hardware, sum_of, silence(cells, facts.rollout.gate))
        for (region, hardware), (sum_of, cells) in by_stratum(facts.rollout).items()
    ]
    if len(strata) > rows_max:
        strata.sort(key=lambda row: (-row[2].failed - row[3].silent, row[0], row[1]))
    for region, hardware, sum_of, silent in strata[:rows_max]:
        result.add_row(plain(region, "bold"), plain(hardware), *counted(sum_of, silent))
    if len(strata) > rows_max:
        result.add_row(f"+{len(strata) - rows_max}", "less hurt", style=words.DIM)
    return result


def counted(counts: Counts, silent: Silence) -> list[Text]:
    """One row's numbers. What is bad has a mark beside its colour."""
    failed = Text(f"✗ {count(counts.failed)}", words.RED) if counts.failed else Text("0", words.DIM)
    return [
        *(Text(count(value), "" if value else words.DIM) for value in (counts.targeted, counts.done, counts.active)),
        Text(count(counts.exposed), "" if counts.exposed else words.DIM),
        failed,
        silent_words(silent),
        Text(count(counts.waiting), "" if counts.waiting else words.DIM),
    ]


def silent_words(silent: Silence) -> Text:
    """For example `9/3.8`, marked where more are silent than expected."""
    if not silent.aged:
        return Text(words.NONE, words.DIM)
    text = f"{count(silent.silent)}/{silent.expected:.1f}"
    return Text(f"✗ {text}", words.RED) if silent.silent > silent.expected + 1 else Text(text)


def sums(facts: Facts) -> Iterable[RenderableType]:
    """Exposure with the budget, harm with what is normal, and what asks for a person."""
    rollout = facts.rollout
    counts, silent = total(rollout.cells), silence(rollout.cells, rollout.gate)
    inputs = rollout.gate.inputs
    exposed = f"exposed {count(counts.exposed)}"
    if "young" in inputs and "blast_budget" in inputs:
        exposed += f", {count(inputs['young'])} of them young (budget {count(inputs['blast_budget'])})"
    exposed += f"; {count(rollout.gate.permit_allowance)} more may be now"
    if facts.open_cases is not None:
        exposed += f"; {count(facts.open_cases)} open case{'' if facts.open_cases == 1 else 's'}"
    limit = f", limit {percent(inputs['failure_ratio_max'])}" if "failure_ratio_max" in inputs else ""
    rate = f" ({percent(counts.failed / counts.exposed)}{limit})" if counts.exposed else ""
    harm = f"failed {count(counts.failed)}{rate}"
    if counts.safety:
        harm += f", ✗ {count(counts.safety)} of safety"
    if silent.aged and silent.controls:
        # They are what the expectation follows from; both do not fit 80 columns.
        harm += f"; silent {count(silent.silent)} of {count(silent.aged)}"
        harm += f", controls {count(silent.controls_silent)} of {count(silent.controls)}"
    elif silent.aged:
        harm += f"; silent {count(silent.silent)} of {count(silent.aged)} aged, expected {silent.expected:.1f}"
    return one_line(plain(exposed)), one_line(plain(harm)), *approvals(rollout), *asks_for_a_person(facts)


def asks_for_a_person(facts: Facts) -> list[RenderableType]:
    """A line for each part that stands still, the loudest first, for signals, and for a hold that is final."""
    rollout = facts.rollout
    lines: list[RenderableType] = []
    if rollout.hold_final:
        lines.append(one_line(plain(f"▲ the hold {FINAL}", words.AMBER)))
    brakes = loudest_first(rollout.brakes)
    for each in brakes[:BRAKES_MAX]:
        text = status(brake_kind(each.kind)).append_text(plain(f" {each.scope}", "bold"))
        when = since(each.since_time, facts.now).removesuffix(" ago")
        when += f", {PART_FINAL}" if each.final else ""
        lines.append(one_line(text.append_text(plain(f" for {when}: {bare(each.scope, each.reason)}"))))
    if len(brakes) > BRAKES_MAX:
        lines.append(one_line(plain(f"  and {len(brakes) - BRAKES_MAX} more parts stand still", words.AMBER)))
    if loud := alarms(rollout.signals):
        lines.append(one_line(plain(f"▲ signals: {', '.join(loud)}", words.AMBER)))
    return lines


def approvals(rollout: Rollout) -> list[RenderableType]:
    """A line where a wave wants an approval."""
    wanted: dict[str, list[str]] = {}
    for region in rollout.regions:
        if region.approval_wanted:
            wanted.setdefault(region.approval_wanted, []).append(region.region)
    return [
        one_line(
            plain(
                f"▲ wave {wave} wants approval ({listed(regions)}): outrider rollout approve {of_id(rollout.name)}",
                words.AMBER,
            )
        )
        for wave, regions in wanted.items()
    ]


def listed(regions: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    return ", ".join(regions) if len(regions) <= NAMES_MAX else f"{regions[0]} and {len(regions) - 1} more"


def gate_lines(facts: Facts) -> RenderableType:
    """What the gate last said; the rule and its numbers where it stopped something."""
    gate = facts.rollout.gate
    if not gate.verdict:
        return plain("gate: has not judged yet", words.DIM)
    verdict = words.verdict_kind(gate.verdict)
    text = Text("gate ").append_text(status(verdict)).append_text(plain(f" {gate.message or words.NONE}"))
    if verdict != "proceed":
        text.append_text(plain(f" [{gate.rule}: {deciding(gate.rule, gate.inputs)}]", words.DIM))
    return text


def event_lines(facts: Facts, room: int) -> list[RenderableType]:
    """The last decisions, newest last, a line each."""
    shown: list[RenderableType] = []
    for entry in facts.events[-room:]:
        line = told(entry.kind, data_of(entry))
        text = plain(f"{since(entry.create_time, facts.now):>14}  ", words.DIM).append_text(mark(line.word))
        shown.append(one_line(text.append_text(plain(f" {line.text}"))))
    return shown


def foot(facts: Facts) -> RenderableType:
    """How to leave, or why nothing moves."""
    if facts.trouble:
        return one_line(plain(f"○ {facts.trouble}", words.AMBER))
    return one_line(plain("Ctrl-C leaves; the rollout goes on.", words.DIM))


def one_line(text: Text) -> Text:
    """Text that is cut rather than wrapped."""
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def page_table(*columns: str, numbers: int, tight: bool) -> Table:
    """A table without rules: lines are dear here."""
    result = Table(box=None, pad_edge=False, padding=(0, GAP_TIGHT if tight else GAP, 0, 0), header_style=words.DIM)
    for index, name in enumerate(columns):
        right = index >= len(columns) - numbers
        result.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return result
