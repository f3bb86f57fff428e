"""What a person and a program read of a run: a table with the breaches in words, and stable JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.status import Status
from rich.table import Table

from agent_sim.conform.clauses import CLAUSES, UNSEEN
from agent_sim.conform.runner import Played, Report
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.verdicts import ClauseVerdict, Verdict

_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.NOT_JUDGED: "dim"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON values; fields are only ever added."""
    return {
        "passed": report.passed,
        "clauses": [
            {
                "id": verdict.clause,
                "verdict": verdict.verdict.value,
                "asks": CLAUSES[verdict.clause],
                "findings": [{"scenario": f.scenario, "seen": f.seen} for f in verdict.findings],
                "why_not_judged": why_not(verdict),
            }
            for verdict in report.verdicts
        ],
        "scenarios": [
            {
                "name": played.scenario.name,
                "story": played.scenario.story,
                "took_s": round(played.took_s, 1),
                "log": str(played.log),
            }
            for played in report.played
        ],
    }


def why_not(verdict: ClauseVerdict) -> str:
    """Why a clause was not judged; empty when it was."""
    if verdict.verdict is not Verdict.NOT_JUDGED:
        return ""
    reasons = [finding.seen for finding in verdict.findings if finding.seen != "no occasion"]
    return UNSEEN.get(verdict.clause) or next(iter(reasons), "no scenario of this run had an occasion")


def show(report: Report, console: Console) -> None:
    """Print the table, then every breach, then the sum."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("clause", "verdict", "the agent"):
        table.add_column(name, no_wrap=name != "the agent")
    for verdict in report.verdicts:
        words = CLAUSES[verdict.clause]
        if why := why_not(verdict):
            words += f" [dim]({why})[/]"
        table.add_row(verdict.clause, f"[{_STYLES[verdict.verdict]}]{verdict.verdict.value}[/]", words)
    console.print(table)
    logs = {played.scenario.name: played.log for played in report.played}
    for verdict in report.verdicts:
        if verdict.verdict is Verdict.FAIL:
            _show_breach(verdict, logs, console)
    counts = {kind: sum(verdict.verdict is kind for verdict in report.verdicts) for kind in Verdict}
    took_s = sum(played.took_s for played in report.played)
    console.print(
        f"\n{counts[Verdict.PASS]} PASS, {counts[Verdict.FAIL]} FAIL, {counts[Verdict.NOT_JUDGED]} NOT JUDGED "
        f"in {len(report.played)} scenarios ({took_s:.0f} s of play)."
    )


def _show_breach(verdict: ClauseVerdict, logs: dict[str, Any], console: Console) -> None:
    console.print(f"\n[bold red]{verdict.clause}[/] wants that an agent {CLAUSES[verdict.clause]}.")
    for finding in verdict.findings:
        console.print(f"  seen in {finding.scenario}: {finding.seen}", markup=False)
        console.print(f"  the agent's log: {logs[finding.scenario]}", markup=False)


class ConformLine:
    """How a run stands: a line for each scenario that is over, and on a terminal what is played now.

    Args:
        console: where; stderr, so that stdout stays clean.
        total: scenarios in all.
        silent: show nothing.
    """

    def __init__(self, console: Console, total: int, *, silent: bool) -> None:
        self._console = console
        self._total = total
        self._silent = silent
        self._status = Status("making keys and images", console=console)
        self._playing: list[str] = []
        self._over = 0

    def __enter__(self) -> ConformLine:
        if not self._silent and self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def tell(self, news: Played | Scenario) -> None:
        """A scenario begins, or is over."""
        if isinstance(news, Scenario):
            self._playing.append(news.name)
        else:
            self._playing.remove(news.scenario.name)
            self._over += 1
            self._say(news)
        self._status.update(f"{self._over} of {self._total}: {', '.join(self._playing)}")

    def _say(self, played: Played) -> None:
        if self._silent:
            return
        broken = sorted({f.clause for f in played.findings if f.verdict is Verdict.FAIL})
        what = f"breaks {', '.join(broken)}" if broken else "well"
        line = f"{self._over:3} of {self._total}  {played.scenario.name}: {played.scenario.story} - {what}"
        self._console.print(line, highlight=False, markup=False)
