"""`outrider ledger`: the append-only record: a rollout's story by the server, proof and replay from the file itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from outrider.v1.case_pb2 import Case, ListCasesRequest
from outrider.v1.ledger_pb2 import LedgerEntry, ListLedgerEntriesRequest, ListLedgerEntriesResponse
from outrider.v1.rollout_pb2 import GetRolloutRequest

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import public_keys
from orchestrator.cli.client import OperatorClient
from orchestrator.cli.completion import rollout_ids
from orchestrator.cli.errors import BadInputError, CliError, NotFoundError
from orchestrator.cli.local import settings_of
from orchestrator.cli.screen import Screen, table
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.story_view import standing, story_view
from orchestrator.cli.words import count, plain, status
from orchestrator.ledger import Ledger, LedgerError, SignedHead, VerifyReport
from orchestrator.ledger.heads import public_key, read_head

app = typer.Typer(no_args_is_help=True, add_completion=False)

T = TypeVar("T")
PAGE_SIZE = 1000


@app.callback()
def group() -> None:
    """Verify and read the append-only record of decisions and outcomes."""


@operator_command(app, "show")
def show(
    session: Session,
    rollout_id: Annotated[str, typer.Argument(metavar="[ID]", help="Rollout id.", autocompletion=rollout_ids)] = "",
    vehicle: Annotated[str, typer.Option("--vehicle", metavar="VEHICLE", help="What happened to one vehicle.")] = "",
    attempt: Annotated[str, typer.Option("--attempt", metavar="ATTEMPT", help="What became of one attempt.")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="What happened to single vehicles as well, not decisions alone.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most this many entries; 0 for all.")] = 1000,
) -> None:
    """Tell the story of a rollout, a vehicle or an attempt; of the installation when none is named."""
    if everything and (vehicle or attempt):
        raise BadInputError("--all goes with a rollout or alone", remedy="leave it out: a vehicle's story is whole")
    request = ListLedgerEntriesRequest(
        rollout=f"rollouts/{rollout_id}" if rollout_id else "",
        vehicle=f"vehicles/{vehicle}" if vehicle else "",
        attempt_id=attempt,
        decisions_only=not (vehicle or attempt or everything),
    )
    whole = bool(rollout_id) and request.decisions_only
    with session.client() as client:
        rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=request.rollout)) if whole else None
        entries = read_entries(client, session.screen, request, limit)
        cases = [] if rollout is None or session.screen.json else read_cases(client, request.rollout)
    more = [plain("There is more: --limit 0 shows all.")] if entries.next_page_token else []
    if not entries.entries:
        session.screen.answer(entries, "Nothing is recorded about that.")
        return
    now = [] if rollout is None else [standing(rollout, cases)]
    shown = (
        entries.entries if everything or vehicle else [entry for entry in entries.entries if not part_of_import(entry)]
    )
    of_many = not (rollout_id or vehicle or attempt)
    story = story_view(shown, cases if not more else (), of_many=of_many)
    session.screen.answer(entries, story, *more, *now)


def part_of_import(entry: LedgerEntry) -> bool:
    """Whether it is the part of an import that one shard of the store wrote; the whole is an entry of its own."""
    return entry.kind == "vehicles_imported" and "actor" not in entry.data


def read_entries(
    client: OperatorClient, screen: Screen, request: ListLedgerEntriesRequest, limit: int
) -> ListLedgerEntriesResponse:
    """Entries over all pages, at most `limit` of them (0 for all), with the token for what follows."""
    result = ListLedgerEntriesResponse()
    with screen.progress("Reading the ledger", limit or None) as progress:
        while True:
            request.page_size = min(PAGE_SIZE, limit - len(result.entries)) if limit else PAGE_SIZE
            request.page_token = result.next_page_token
            page = client.ask(client.ledger.ListLedgerEntries, request)
            result.entries.extend(page.entries)
            result.next_page_token = page.next_page_token
            progress.advance(progress.task_ids[0], len(page.entries))
            if not page.next_page_token or (limit and len(result.entries) >= limit):
                return result


def read_cases(client: OperatorClient, rollout: str) -> list[Case]:
    """Every case of a rollout, settled ones as well.

    Args:
        client: to ask.
        rollout: `rollouts/{rollout_id}`.
    """
    cases: list[Case] = []
    token = ""
    while True:
        request = ListCasesRequest(rollout=rollout, show_settled=True, page_size=PAGE_SIZE, page_token=token)
        page = client.ask(client.cases.ListCases, request)
        cases.extend(page.cases)
        token = page.next_page_token
        if not token:
            return cases


@local_command(app, "verify")
def verify(
    session: Session,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="A signed head that was kept elsewhere: compare.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Public half of the ledger's key, kept elsewhere; by it alone."),
    ] = None,
) -> None:
    """Follow the hash chain from the first entry to the last, and check its signed heads; code 1 where it breaks."""
    kept = None if head is None else head_of(head)
    keys = [key_of(path) for path in ([key] if key else public_keys(Installation(session.data)))]
    with session.screen.progress("Following the chain", None) as progress:

        def show(done: int, of: int) -> None:
            progress.update(progress.task_ids[0], completed=done, total=of)

        report = ask(session, lambda ledger: ledger.verify(keys=keys, kept=kept, progress=show))
    document = {
        "ok": report.ok,
        "entries": report.entries,
        "head_hash": report.head_hash,
        "reason": report.reason,
        "heads": report.heads,
        "signatures_checked": report.signatures_checked,
    }
    session.screen.answer(document, *verdict(report, kept))
    if not report.ok:
        raise CliError(
            f"entry {report.broken_seq} is not what was written: {report.reason}",
            remedy="keep the file as evidence and compare it with the last backup",
        )


def verdict(report: VerifyReport, kept: SignedHead | None) -> list[str]:
    """The report for people."""
    told = [f"{count(report.entries)} entries are as they were written; head {report.head_hash}"]
    if report.ok and report.heads:
        checked = "signed by this ledger's key" if report.signatures_checked else "no key is at hand to check them by"
        told.append(f"{count(report.heads)} signed head{'s' if report.heads > 1 else ''}: {checked}.")
    if report.ok and kept is not None:
        told.append(f"The first {count(kept.head.seq)} are those of the head that was kept elsewhere.")
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
    place = Installation(session.data).ledger_at(settings_of(session.data).ledger_url)
    if isinstance(place, Path) and not place.is_file():
        raise NotFoundError(f"there is no ledger {place}", remedy="it is made when `outrider serve` first runs")

    async def answer() -> T:
        ledger = Ledger(place)
        try:
            return await question(ledger)
        finally:
            await ledger.close()

    try:
        return asyncio.run(answer())
    except LedgerError as exc:
        raise CliError(str(exc), remedy="nothing was changed") from exc
