"""`outrider ledger`: looks into the append-only record of an installation, from its file."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from orchestrator.cli.errors import CliError, NotFoundError
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain, status
from orchestrator.ledger import Ledger, LedgerError

app = typer.Typer(no_args_is_help=True, add_completion=False)

T = TypeVar("T")
FILE_NAME = "ledger.sqlite3"


@app.callback()
def group() -> None:
    """Verify and read the append-only record of decisions and outcomes."""


@local_command(app, "verify")
def verify(session: Session) -> None:
    """Follow the hash chain from the first entry to the last; ends with code 1 where it breaks."""
    report = ask(session, lambda ledger: ledger.verify())
    document = {"ok": report.ok, "entries": report.entries, "head_hash": report.head_hash, "reason": report.reason}
    session.screen.answer(
        document, f"{count(report.entries)} entries are as they were written; head {report.head_hash}"
    )
    if not report.ok:
        raise CliError(
            f"entry {report.broken_seq} is not what was written: {report.reason}",
            remedy="keep the file as evidence and compare it with the last backup",
        )


@local_command(app, "outcomes")
def outcomes(session: Session, rollout: Annotated[str, typer.Argument(metavar="ID", help="The rollout's id.")]) -> None:
    """Attempts of a rollout by state, replayed from the record alone."""
    states = ask(session, lambda ledger: ledger.outcomes(rollout))
    permitted = ask(session, lambda ledger: ledger.permitted(rollout))
    rows = table("state", "attempts")
    for state, number in sorted(states.items()):
        rows.add_row(status(state), plain(count(number)))
    document = {"rollout_id": rollout, "states": dict(states), "permitted": permitted}
    session.screen.answer(document, rows, f"{count(permitted)} had a permit.")


def ask(session: Session, question: Callable[[Ledger], Awaitable[T]]) -> T:
    """The ledger's answer to one question.

    Raises:
        CliError: there is no ledger, or it cannot be read.
    """
    path = session.data / FILE_NAME
    if not path.is_file():
        raise NotFoundError(f"there is no ledger {path}", remedy="it is made when `outrider serve` first runs")

    async def answer() -> T:
        ledger = Ledger(path)
        try:
            return await question(ledger)
        finally:
            await ledger.close()

    try:
        return asyncio.run(answer())
    except LedgerError as exc:
        raise CliError(str(exc), remedy="nothing was changed") from exc
