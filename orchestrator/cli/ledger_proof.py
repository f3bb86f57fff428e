"""`outrider ledger verify|head`: proof of the record from the record itself, and from what was kept elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import public_keys
from orchestrator.cli.errors import BadInputError, CliError, NotFoundError
from orchestrator.cli.ledger_place import ask
from orchestrator.cli.session import Session, local_command
from orchestrator.cli.words import count, plain
from orchestrator.ledger import LedgerError, SignedHead, VerifyReport, verify_exports
from orchestrator.ledger.heads import public_key, read_head

app = typer.Typer(no_args_is_help=True, add_completion=False)


@local_command(app, "verify")
def verify(
    session: Session,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="A signed head that was kept elsewhere: compare.")
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="Public half of the ledger's key, kept elsewhere; by it alone. Once for each key that it had.",
        ),
    ] = None,
    archive: Annotated[
        list[Path] | None,
        typer.Option("--archive", metavar="FILE", help="What was archived before: follow it as well. May be repeated."),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="The files of --archive only; needs no installation.")] = False,
) -> None:
    """Follow the hash chain from the first entry to the last, and check its signed heads; code 1 where it breaks."""
    archives = archive or []
    if alone and not archives:
        raise BadInputError("--alone without a file", remedy="name at least one: --archive FILE")
    kept = None if head is None else head_of(head)
    keys = [key_of(path) for path in (key or public_keys(Installation(session.data)))]
    with session.screen.progress("Following the chain", None) as progress:

        def show(done: int, of: int) -> None:
            progress.update(progress.task_ids[0], completed=done, total=of)

        if alone:
            report = exports_report(archives, keys, kept, show)
        else:
            report = ask(session, lambda ledger: ledger.verify(keys=keys, kept=kept, archives=archives, progress=show))
    document = {
        "ok": report.ok,
        "entries": report.entries,
        "head_hash": report.head_hash,
        "reason": report.reason,
        "archived": report.archived,
        "heads": report.heads,
        "signatures_checked": report.signatures_checked,
    }
    session.screen.answer(document, *verdict(report, kept))
    if not report.ok:
        raise CliError(
            f"entry {report.broken_seq} is not what was written: {report.reason}",
            remedy="keep the file as evidence and compare it with the last backup",
        )


def exports_report(
    files: Sequence[Path],
    keys: Sequence[Ed25519PublicKey],
    kept: SignedHead | None,
    progress: Callable[[int, int], None],
) -> VerifyReport:
    """What files say by themselves.

    Raises:
        CliError: one cannot be used.
    """
    try:
        return verify_exports(files, keys=keys, kept=kept, progress=progress)
    except LedgerError as exc:
        raise CliError(
            str(exc), remedy="name whole files, as `outrider ledger archive` and `export` write them"
        ) from exc


def verdict(report: VerifyReport, kept: SignedHead | None) -> list[str]:
    """The report for people."""
    told = [f"{count(report.entries)} entries are as they were written; head {report.head_hash}"]
    if report.archived:
        told.append(
            f"The {count(report.archived)} before them are archived, as a signed entry says; --archive FILE follows "
            "them too."
        )
    if report.ok and report.heads:
        checked = "signed by this ledger's key" if report.signatures_checked else "no key is at hand to check them by"
        told.append(f"{count(report.heads)} signed head{'s' if report.heads > 1 else ''}: {checked}.")
    if report.ok and kept is not None:
        told.append(f"Those up to {count(kept.head.seq)} are those of the head that was kept elsewhere.")
    return told


@local_command(app, "head")
def head_(session: Session) -> None:
    """Show the newest signed head, to be kept where a thief of this machine does not come: DATA/ledger-head.json."""
    newest = ask(session, lambda ledger: ledger.newest_head())
    if newest is None:
        raise NotFoundError("no head is signed yet", remedy="one is signed when a day of fleet time is over")
    text = f"{count(newest.head.seq)} entries, hash {newest.head.hash}, signed by key {newest.key_id[:16]}"
    session.screen.answer(newest.document(), text, plain(f"As a file: {Installation(session.data).ledger_head}"))


def head_of(path: Path) -> SignedHead:
    """A signed head from a file.

    Raises:
        BadInputError: it cannot be read, or is none.
    """
    try:
        return read_head(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as exc:
        raise BadInputError(f"{path}: {exc}", remedy="name a copy of ledger-head.json") from exc


def key_of(path: Path) -> Ed25519PublicKey:
    """The public half of a ledger's key from a file.

    Raises:
        BadInputError: it cannot be read, or is none.
    """
    try:
        return public_key(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise BadInputError(f"{path}: {exc}", remedy="name a copy of keys/ledger/head.pub") from exc
