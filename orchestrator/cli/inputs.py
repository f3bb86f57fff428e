"""What several commands read from their arguments: ids, files, texts, times, reasons."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.completion import rollout_ids
from orchestrator.cli.errors import BadInputError
from orchestrator.engine.plan.nodes import PlanFault

RolloutArgument = Annotated[str, typer.Argument(metavar="ID", help="Rollout id.", autocompletion=rollout_ids)]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; required; lands in the ledger.")]
EtagOption = Annotated[str, typer.Option("--etag", help="Only if the rollout still has this etag (see --output json).")]
ScopeOption = Annotated[
    str,
    typer.Option(
        "--scope", metavar="SCOPE", help="Only one region, `eu`, or one variant there, `eu/gen1`. Default: everything."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def read_file(path: Path) -> bytes:
    """The content of a file that was named on the command line.

    Raises:
        BadInputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BadInputError(f"{path} cannot be read ({exc.strerror})", remedy="name a file that exists") from exc


def read_text(path: Path) -> str:
    """The content of a text file that was named on the command line.

    Raises:
        BadInputError: it cannot be read, or is not UTF-8.
    """
    content = read_file(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise BadInputError(f"{path}:{line}: not UTF-8", remedy="save the file as UTF-8") from exc


def require_reason(reason: str) -> str:
    """The reason of a change, if it says anything.

    Raises:
        BadInputError: it is blank.
    """
    if not reason.strip():
        raise BadInputError("--reason is empty", remedy="say why in a few words; it lands in the ledger")
    return reason.strip()


def time_given(option: str, text: str) -> datetime:
    """A time that was given to an option; without a zone it is UTC.

    Raises:
        BadInputError: it is no time.
    """
    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise BadInputError(
            f"{option}: {text!r} is no time", remedy="write it as 2031-04-05T06:00, or with a zone behind it"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def faulty(path: Path, faults: Sequence[PlanFault]) -> BadInputError:
    """The error that names every fault of a YAML file with its place."""
    return BadInputError(
        f"{path} has {len(faults)} fault{'s' if len(faults) != 1 else ''}; nothing was signed or registered",
        remedy="correct the lines named above",
        details=[f"{path}:{fault.line}:{fault.column}: {fault.message} ({fault.remedy})" for fault in faults],
    )
