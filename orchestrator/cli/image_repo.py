"""`outrider image-repo`: renews the Image repository's online signatures; the orchestrator cannot reach their keys."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.client import fleet_time
from orchestrator.cli.errors import CliError, NotFoundError, UnreachableError
from orchestrator.cli.local import images_of
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.words import moment_of
from orchestrator.clock import MachineClock
from signing.errors import SigningError
from signing.image_export import export
from signing.image_repo import ImageRepository
from signing.image_store import open_store

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def group() -> None:
    """Keep the Image repository's metadata fresh."""


@operator_command(app, "renew")
def renew(
    session: Session,
    every: Annotated[
        float | None,
        typer.Option("--every", metavar="SECONDS", min=0.1, help="Go on, looking this often, until ended by a signal."),
    ] = None,
) -> None:
    """Re-sign the Image repository's timestamp and snapshot when half of their life is over.

    The time of signing is fleet time, asked from the orchestrator; this machine's date when none runs.
    """
    if every is None:
        renew_once(session)
        return
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    while not ended.is_set():
        # A pass that fails is said and repeated: an expired timestamp would stop every vehicle.
        try:
            renew_once(session)
        except CliError as error:
            session.screen.note(f"renewal failed, next try in {every:g} s: {error.cause}")
        ended.wait(every)


@local_command(app, "export")
def export_(
    session: Session,
    to: Annotated[str, typer.Argument(metavar="TARGET", help="A folder, or s3://bucket/prefix.")],
) -> None:
    """Copy images and metadata to where any web server or CDN serves them; repeat it after each publication."""
    folder = session.data / "image-repo"
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no Image repository in {folder}", remedy=f"make one: `outrider keys init --data {session.data}`"
        )
    try:
        done = export(ImageRepository(folder, images_of(session.data)), folder, open_store(to, Path(to)))
    except (SigningError, OSError) as exc:
        raise CliError(str(exc), remedy="what was copied stays and is not copied again: repeat it") from exc
    document = {"to": to, "images": done.images, "copied": done.copied, "metadata": list(done.metadata)}
    session.screen.answer(
        document,
        f"{to} has {done.images} images ({done.copied} files were new) and {len(done.metadata)} metadata files.",
        "Serve TARGET/targets and TARGET/metadata; a timestamp lasts a day, so repeat this after each renewal.",
    )


def renew_once(session: Session) -> None:
    """Look once, sign what is due, and say what was done."""
    now = time_of_signing(session)
    signed = resign(session.data, now)
    document = {"signed": list(signed), "fleet_time": now.isoformat()}
    words = f"re-signed {', '.join(signed)}" if signed else "nothing was due"
    session.screen.answer(document, f"{moment_of(now)}  {words}", compact=True)


def resign(data: Path, now: datetime) -> Sequence[str]:
    """Re-sign what is due in the Image repository of a data folder; names of the roles signed.

    Raises:
        CliError: there is no repository, or a key is missing.
    """
    folder = data / "image-repo"
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no Image repository in {folder}", remedy=f"make one: `outrider keys init --data {data}`"
        )
    try:
        return ImageRepository(folder).renew(data / "keys" / "image", now)
    except (SigningError, OSError) as exc:
        raise CliError(str(exc), remedy="run it where the Image repository's snapshot and timestamp keys are") from exc


def time_of_signing(session: Session) -> datetime:
    """Fleet time in whole seconds; this machine's date, with a word about it, when no orchestrator answers.

    Raises:
        CliError: --server names an orchestrator, and it does not answer.
    """
    fallback = () if session.options.server else (UnreachableError, NotFoundError)
    with suppress(*fallback), session.client() as client:
        return fleet_time(client)
    session.screen.note("no orchestrator answers: signing by this machine's date")
    wall_ms = MachineClock().wall_ms()
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=wall_ms)).replace(microsecond=0)
