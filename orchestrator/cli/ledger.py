"""`outrider ledger`: the append-only record: a rollout's story by the server, proof and replay from the file itself."""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer
from outrider.v1.case_pb2 import Case, ListCasesRequest
from outrider.v1.ledger_pb2 import LedgerEntry, ListLedgerEntriesRequest, ListLedgerEntriesResponse
from outrider.v1.rollout_pb2 import GetRolloutRequest

from orchestrator.cli import ledger_files, ledger_proof
from orchestrator.cli.client import OperatorClient
from orchestrator.cli.completion import rollout_ids
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.ledger_place import ask
from orchestrator.cli.screen import Screen, table
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.story_view import standing, story_view
from orchestrator.cli.words import count, plain, status

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
    older = count(entries.archived_entries)
    archived = [plain(f"The first {older} entries of the ledger are in archives.")] if entries.archived_entries else []
    if not entries.entries:
        session.screen.answer(entries, "Nothing is recorded about that.", *archived)
        return
    now = [] if rollout is None else [standing(rollout, cases)]
    shown = (
        entries.entries if everything or vehicle else [entry for entry in entries.entries if not part_of_import(entry)]
    )
    of_many = not (rollout_id or vehicle or attempt)
    story = story_view(shown, cases if not more else (), of_many=of_many)
    session.screen.answer(entries, *archived, story, *more, *now)


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
            result.next_page_token, result.archived_entries = page.next_page_token, page.archived_entries
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


for part in (ledger_proof.app, ledger_files.app):
    app.add_typer(part)
