"""`outrider store`: what a person does to the store itself.

Owns the repair of the private store's files, while no orchestrator runs on it. Leaves the counting to `store_verify`.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import store_verify
from orchestrator.cli.errors import NotFoundError, RefusedError
from orchestrator.cli.local import require_folder
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain
from orchestrator.logs import configure_logging
from orchestrator.store.base import StoreError
from orchestrator.store.redis import RepairReport, repair
from orchestrator.store.redis.append_only import check

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """Verify the store's counters; repair its files after a crash."""


@local_command(app, "repair")
def repair_(
    session: Session,
    only_check: Annotated[bool, typer.Option("--check", help="Say what is wrong, change nothing.")] = False,
) -> None:
    """Cut the damaged tail off the store's append-only file; a copy of it is kept.

    What is cut may have been acknowledged: afterwards rollouts come up paused and say why.
    """
    configure_logging(level="warning", log_format="auto", stream=sys.stderr)
    folder = require_folder(session.data) / "store"
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no private store in {folder}",
            remedy="the first `outrider serve` makes it; nothing to repair",
        )
    try:
        if only_check:
            show_check(session, check(folder))
            return
        with session.screen.progress("Checking and repairing the store", None):
            report = repair(folder)
    except StoreError as exc:
        raise RefusedError(str(exc), remedy="see docs/cli.md, `outrider store repair`") from exc
    show_report(session, report)


def show_check(session: Session, damage: str) -> None:
    """Say what is wrong.

    Raises:
        RefusedError: something is, so that a script can tell.
    """
    session.screen.answer({"damage": damage}, damage or "Nothing is damaged.")
    if damage:
        raise RefusedError(
            "the append-only file is damaged",
            remedy=f"cut its tail, which may have been acknowledged: `outrider store repair --data {session.data}`",
        )


def show_report(session: Session, report: RepairReport) -> None:
    """Say what was cut and where the copy is."""
    document = {
        "bytes_cut": report.bytes_cut,
        "files": [
            {
                "name": file.name,
                "reason": file.reason,
                "size_before_bytes": file.size_before_bytes,
                "size_after_bytes": file.size_after_bytes,
                "copy": str(file.copy),
            }
            for file in report.cut
        ],
    }
    if not report.cut:
        session.screen.answer(document, "Nothing is damaged, nothing was changed.")
        return
    cut = table("file", "damage", "copy of it as it was", "bytes before", "bytes after", numbers=2)
    for file in report.cut:
        sizes = (count(file.size_before_bytes), count(file.size_after_bytes))
        cut.add_row(plain(file.name), plain(file.reason), plain(str(file.copy)), *sizes)
    session.screen.answer(
        document,
        f"Cut {count(report.bytes_cut)} bytes; they may have been acknowledged.",
        cut,
        plain(f"Next: outrider serve --data {session.data}; rollouts that may miss something come up paused."),
    )


store_verify.add_commands(app)
