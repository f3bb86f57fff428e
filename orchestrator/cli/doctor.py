"""`outrider doctor`: says what is wrong with an installation and how to mend it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import typer
from rich.console import RenderableType
from rich.text import Text

from orchestrator.app.doctor import CHECKS, Finding, Level, Patient, examine
from orchestrator.cli.errors import CliError
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import AMBER, DIM, GREEN, RED, plain
from orchestrator.clock import MachineClock

app = typer.Typer(add_completion=False)

MARKS = {Level.OK: ("✓", GREEN), Level.SKIPPED: ("·", DIM), Level.WARNING: ("!", AMBER), Level.ERROR: ("✗", RED)}


@local_command(app, "doctor")
def doctor(session: Session) -> None:
    """Check an installation, running or not: what is wrong, and how to mend it. Changes nothing."""
    patient = Patient(session.data, machine=MachineClock())
    findings: list[Finding] = []
    with session.screen.progress("Examining", len(CHECKS)) as progress:
        for check in CHECKS:
            progress.update(progress.task_ids[0], description=f"Examining {check.about}")
            findings += examine(patient, checks=(check,))
            progress.advance(progress.task_ids[0])
    counts = Counter(finding.level for finding in findings)
    session.screen.answer(document(findings), *view(findings), plain(summary(counts)))
    if counts[Level.ERROR]:
        raise CliError(
            f"{counts[Level.ERROR]} thing{'s are' if counts[Level.ERROR] != 1 else ' is'} wrong",
            remedy="mend what is marked ✗, from the top down: later ones often follow from earlier ones",
        )


def document(findings: Sequence[Finding]) -> dict[str, object]:
    """The findings for programs."""
    levels = Counter(finding.level for finding in findings)
    return {
        "ok": not levels[Level.ERROR],
        "errors": levels[Level.ERROR],
        "warnings": levels[Level.WARNING],
        "findings": [
            {"check": item.check, "level": item.level.value, "cause": item.cause, "remedy": item.remedy}
            for item in findings
        ],
    }


def view(findings: Sequence[Finding]) -> list[RenderableType]:
    """The findings for people: one a line, its remedy below it."""
    rows = table("", "check", "found")
    for finding in findings:
        mark, style = MARKS[finding.level]
        found = Text(finding.cause, style=DIM if finding.level is Level.SKIPPED else "")
        if finding.remedy:
            found.append(f"\n-> {finding.remedy}", style=style)
        rows.add_row(Text(mark, style=style), plain(finding.check), found)
    return [rows]


def summary(counts: Counter[Level]) -> str:
    """One line."""
    return (
        f"{counts[Level.OK]} well, {counts[Level.WARNING]} to look at, {counts[Level.ERROR]} wrong, "
        f"{counts[Level.SKIPPED]} not looked at."
    )
