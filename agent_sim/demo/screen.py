"""What the demonstration shows: steps with their time, a rollout as it moves, and the tables at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agent_sim.clock import machine_ms
from agent_sim.demo.view import Counts, View

BAR = 40
STATUS_STYLES = {"running": "green", "completed": "green", "held": "yellow", "paused": "yellow"}


class Screen:
    """Writes to one console; redraws only where someone watches."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began_ms = machine_ms()
        self._told = ""

    def say(self, renderable: RenderableType = "") -> None:
        """Print something."""
        self._console.print(renderable)

    def quote(self, text: str) -> None:
        """Print what another part of the house said, below the line that says which."""
        self._console.print(inset(Text(text)))

    def command(self, line: str) -> None:
        """Print a command to copy: in one piece, however long."""
        self._console.print(Text(f"  {line}", style="cyan"), soft_wrap=True)

    def heading(self, text: str) -> None:
        """Begin a chapter."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def done(self, text: str, began_ms: float) -> None:
        """A step is done."""
        seconds = (machine_ms() - began_ms) / 1000
        self._console.print(Text("  ✓ ", style="green").append(text, "default").append(f"  {seconds:.1f} s", "dim"))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a step while it runs."""
        began_ms = machine_ms()
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            yield
        self.done(text, began_ms)

    @contextmanager
    def rollout(self) -> Iterator[RolloutPanel]:
        """Show a rollout while it moves."""
        panel = RolloutPanel(self._console)
        if not self._console.is_terminal:
            yield panel
            return
        with Live(console=self._console, refresh_per_second=8, transient=True) as live:
            panel.live = live
            yield panel

    @property
    def elapsed_s(self) -> float:
        """Since the demonstration began."""
        return (machine_ms() - self._began_ms) / 1000


class RolloutPanel:
    """A rollout as it moves: redrawn on a terminal, a line for each change of status or wave elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: tuple[object, ...] = ()
        self.live: Live | None = None

    def show(self, view: View) -> None:
        """Show the rollout as it is now."""
        if self.live is not None:
            self.live.update(panel(view))
            return
        places = [f"{region} {where}" for region, where, _ in view.regions]
        key = (view.status, *places)
        if key != self._told:
            self._told = key
            total = view.total()
            numbers = f"{total.done} of {total.targeted} done, {total.exposed} exposed"
            self._console.print(f"    {view.status}: {', '.join(places)}; {numbers}", highlight=False)


def panel(view: View) -> RenderableType:
    """Bar, regions, and what the gate says."""
    total = view.total()
    regions = Table.grid(padding=(0, 2))
    for region, where, waiting_for in view.regions:
        regions.add_row(f"    {region}", where, Text(waiting_for, style="dim"))
    line = Text("    ").append(view.status, STATUS_STYLES.get(view.status, "bold red"))
    line.append(f"  {total.exposed} exposed, {total.failed} failed, {total.silent} silent")
    return Group(bar(total), regions, line, inset(Text(f"gate: {view.gate.get('message', '')}", style="dim")))


def inset(text: Text) -> Padding:
    """A text as far in as what stands around it, in every line of it."""
    return Padding(text, (0, 0, 0, 4), expand=False)


def bar(total: Counts) -> Text:
    """Done, under way, hurt and waiting as one bar, and the numbers in the colours of its parts."""
    whole = max(1, total.targeted)
    text, numbers = Text("    "), Text(f"  {total.done} of {total.targeted} done", "green")
    used = 0
    for number, style, mark, what in (
        (total.done, "green", "█", ""),
        (total.under_way, "cyan", "▓", "under way"),
        (total.failed + total.silent, "red", "▒", "failed or silent"),
    ):
        width = min(BAR - used, round(number / whole * BAR))
        used += width
        text.append(mark * width, style)
        if number and what:
            numbers.append(f", {number} {what}", style)
    return text.append("░" * (BAR - used), "dim").append(numbers)


def variant_table(view: View) -> Table:
    """Region x hardware variant: done, failed, silent, waiting. A variant that breaks is a column of red."""
    sums: defaultdict[tuple[str, str], Counts] = defaultdict(Counts)
    for region, hardware, _, counts in view.cells():
        for place in product((region, "all"), (hardware, "all")):
            sums[place] += counts
    rows, columns = (sorted({place[axis] for place in sums} - {"all"}) for axis in (0, 1))
    table = Table(title="done/failed/silent/waiting", title_style="dim", header_style="bold", box=None)
    table.add_column("region")
    for hardware in (*columns, "all"):
        table.add_column(hardware, justify="right")
    for region in (*rows, "all"):
        table.add_row(region, *(quadruple(sums[region, hardware]) for hardware in (*columns, "all")))
    return table


def quadruple(counts: Counts) -> Text:
    """The four numbers of one field; what is bad stands out."""
    text = Text(f"{counts.done}", style="green" if counts.done else "dim", no_wrap=True).append("/", "dim")
    text.append(f"{counts.failed}", "bold red" if counts.failed else "dim").append("/", "dim")
    text.append(f"{counts.silent}", "bold red" if counts.silent else "dim").append("/", "dim")
    return text.append(f"{counts.waiting + counts.under_way}", "default" if counts.waiting else "dim")
