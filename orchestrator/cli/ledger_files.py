"""`outrider ledger export|archive`: entries as files: a copy of some or all, or the oldest for good.

Leaves the format and the order of the steps to the ledger. Nothing is archived unless a person says so.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import open_key
from orchestrator.cli.completion import rollout_ids
from orchestrator.cli.errors import BadInputError, CliError, RefusedError
from orchestrator.cli.inputs import ReasonOption, require_reason, time_given
from orchestrator.cli.ledger_place import place_of
from orchestrator.cli.screen import Screen
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain
from orchestrator.ledger import (
    Archived,
    Archiving,
    EntryFilter,
    LedgerError,
    NothingToArchiveError,
    archive_ledger,
    export_ledger,
)
from signing.errors import SigningError

app = typer.Typer(no_args_is_help=True, add_completion=False)

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="Where to; must not exist. JSON Lines, compressed if it ends in `.gz`.")
]


@local_command(app, "export")
def export(
    session: Session,
    file: FileArgument,
    rollout: Annotated[
        str, typer.Option("--rollout", metavar="ID", help="Only about one rollout.", autocompletion=rollout_ids)
    ] = "",
    vehicle: Annotated[str, typer.Option("--vehicle", metavar="VEHICLE", help="Only about one vehicle.")] = "",
    decisions: Annotated[bool, typer.Option("--decisions", help="Leave out what happened to single vehicles.")] = False,
) -> None:
    """Copy entries into a file that any tool can read, with their hashes; nothing is removed."""
    if decisions and vehicle:
        raise BadInputError("--decisions with --vehicle leaves nothing", remedy="leave one of them out")
    wanted = EntryFilter(rollout_id=rollout, vehicle_id=vehicle, decisions_only=decisions)
    with session.screen.progress("Writing", None) as progress:

        def show(done: int) -> None:
            progress.update(progress.task_ids[0], description=f"Writing: {count(done)} entries")

        try:
            number = export_ledger(place_of(session), file.absolute(), wanted, progress=show)
        except (LedgerError, OSError) as exc:
            raise CliError(str(exc), remedy="no file was written") from exc
    whole = "" if wanted.named() else f" Prove it anywhere: outrider ledger verify --alone --archive {file}"
    text = f"{file}: {count(number)} entries, {count(file.stat().st_size)} bytes.{whole}"
    session.screen.answer({"file": str(file), "entries": number, "size_bytes": file.stat().st_size}, plain(text))


@local_command(app, "archive")
def archive(
    session: Session,
    file: FileArgument,
    before: Annotated[
        str, typer.Option("--before", metavar="TIME", help="Entries older than this, UTC, for example `2031-01-01`.")
    ],
    reason: ReasonOption,
) -> None:
    """Move the oldest entries out of the ledger into a file, proven first; of rollouts that are not over, none."""
    older = round(time_given("--before", before).timestamp() * 1000)
    asked = Archiving(older, getpass.getuser(), require_reason(reason))
    place, target = place_of(session), file.absolute()
    try:
        signer = open_key(Installation(session.data))
        with session.screen.progress("Looking", None) as progress:

            def show(step: str, done: int, of: int) -> None:
                progress.update(progress.task_ids[0], description=step, completed=done, total=of)

            archived = archive_ledger(place, target, asked, signer, progress=show)
    except NothingToArchiveError as exc:
        raise RefusedError(str(exc), remedy="nothing was changed") from exc
    except (LedgerError, SigningError, OSError) as exc:
        raise CliError(str(exc), remedy="what is not in the file is still in the ledger; run it again") from exc
    tell(session.screen, archived)


def tell(screen: Screen, archived: Archived) -> None:
    """What was archived, and what to do with it."""
    note = archived.note
    number = note.last - note.first + 1
    held = f"Younger ones stay: rollout {archived.held_by} is not over." if archived.held_by else ""
    document = {
        "file": str(archived.path),
        "size_bytes": archived.size_bytes,
        "sha256": note.sha256,
        "first": note.first,
        "last": note.last,
        "hash": note.hash,
        "held_by": archived.held_by,
    }
    screen.answer(
        document,
        plain(f"{archived.path}: {count(number)} entries, to {count(note.last)}, {count(archived.size_bytes)} bytes."),
        plain(f"SHA-256 {note.sha256}; a signed entry of the ledger says so."),
        *([plain(held)] if held else []),
        plain("Next: keep the file where evidence is kept; the ledger has these entries no more."),
    )
