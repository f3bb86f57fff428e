"""`outrider store verify`: whether every counter of the store is what its records say, and the repair of the others."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.table import Table

from orchestrator.app.installation import Installation, InstallationError
from orchestrator.app.recount import Recount, recount
from orchestrator.cli.errors import BadInputError, NotFoundError, RefusedError
from orchestrator.cli.inputs import require_reason
from orchestrator.cli.local import require_folder, settings_of
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import NONE, count, plain
from orchestrator.clock import MachineClock
from orchestrator.store.base import StoreError
from orchestrator.store.redis.verify import Difference


def add_commands(app: typer.Typer) -> None:
    """Put the command into a group."""
    local_command(app, "verify")(verify)


def verify(
    session: Session,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what differs, and journal it.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; required with --repair; lands in the ledger.")] = "",
) -> None:
    """Count all records of the store anew, while it is in use, and compare every counter with them."""
    if reason and not repair:
        raise BadInputError("--reason is for a repair", remedy="add --repair, or leave the reason out")
    why = require_reason(reason) if repair else None
    installation = Installation(require_folder(session.data).resolve())
    settings = settings_of(session.data)
    with session.screen.progress("Counting the store anew", None) as progress:

        def step(done: int, of: int) -> None:
            progress.update(progress.task_ids[0], completed=done, total=of)

        try:
            found = recount(
                installation, settings, MachineClock(), actor=getpass.getuser(), repair_reason=why, step=step
            )
        except InstallationError as exc:
            raise NotFoundError(str(exc), remedy="name the folder of an installation: --data") from exc
        except StoreError as exc:
            raise RefusedError(str(exc), remedy="nothing that was not named as repaired was changed") from exc
    show(session, found, repaired=repair)


def show(session: Session, found: Recount, *, repaired: bool) -> None:
    """Say what differs, and what was put right.

    Raises:
        RefusedError: something differs and stays so, so that a script can tell.
    """
    looked_at = f"{count(found.shards)} shards and {count(found.rollouts)} rollouts"
    document = {
        "shards": found.shards,
        "rollouts": found.rollouts,
        "differences": [as_document(each) for each in found.differences],
        "corrections": [
            {**as_document(each.difference), "was": each.was, "is": each.now} for each in found.corrections
        ],
        "packed": found.packed,
    }
    if found.packed:
        session.screen.note(f"{count(found.packed)} attempts that an earlier build had left take less room now.")
    if not found.differences:
        session.screen.answer(document, f"Every counter of {looked_at} is what the records say.")
        return
    number = count(len(found.differences))
    if repaired:
        heading = f"{number} counters of {looked_at} were wrong and were put right:"
        following = "Each correction is journalled; the ledger has it a second later, or once it is served again."
        session.screen.answer(document, heading, differences_table(found.differences), following)
        return
    heading = f"{number} counters of {looked_at} are not what the records say:"
    session.screen.answer(document, heading, differences_table(found.differences))
    raise RefusedError(
        f"{number} counters differ from the records",
        remedy=f"put them right: `outrider store verify --repair --reason WHY --data {session.data}`",
    )


def as_document(difference: Difference) -> dict[str, object]:
    """One difference as JSON."""
    return {
        "stream": difference.stream,
        "counter": difference.counter,
        "field": readable(difference.field),
        "stands": difference.stands,
        "recounted": difference.recounted,
    }


def differences_table(differences: tuple[Difference, ...]) -> Table:
    """One counter a line."""
    result = table("where", "counter", "of", "stands", "records say", numbers=2)
    for each in differences:
        numbers = (NONE if value is None else str(value) for value in (each.stands, each.recounted))
        result.add_row(plain(each.stream), plain(each.counter), plain(readable(each.field)), *numbers)
    return result


def readable(field: str) -> str:
    """A field of a counter without what no screen shows."""
    return field.replace("\x1f", "|").replace("\x1e", ";")
