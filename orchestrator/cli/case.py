"""`outrider case`: vehicles that an update hurt, or may have: list them, look into one, close one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.case_pb2 import Case, CloseCaseRequest, GetCaseRequest, ListCasesRequest, ListCasesResponse
from outrider.v1.ledger_pb2 import ListLedgerEntriesRequest, ListLedgerEntriesResponse
from rich.console import RenderableType
from rich.table import Table

from orchestrator.cli.inputs import require_reason
from orchestrator.cli.screen import fields, table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.story_view import story_view
from orchestrator.cli.words import attempt_state, count, moment, plain, status

app = typer.Typer(no_args_is_help=True, add_completion=False)

PAGE_SIZE = 1000
HISTORY_MAX = 200
"""Most entries of an attempt that are shown with its case."""

CaseArgument = Annotated[str, typer.Argument(metavar="CASE", help="Id of the case, which is that of its attempt.")]


@app.callback()
def group() -> None:
    """List, show and close cases: vehicles that an update hurt, or may have."""


@operator_command(app, "list")
def list_(
    session: Session,
    rollout: Annotated[str, typer.Option("--rollout", metavar="ID", help="Only this rollout.")] = "",
    settled: Annotated[bool, typer.Option("--settled", help="Settled cases as well.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most this many cases; 0 for all.")] = 1000,
) -> None:
    """List cases, newest first."""
    result = ListCasesResponse()
    with session.client() as client, session.screen.progress("Reading cases", limit or None):
        while True:
            room = limit - len(result.cases) if limit else PAGE_SIZE
            request = ListCasesRequest(
                rollout=f"rollouts/{rollout}" if rollout else "",
                show_settled=settled,
                page_size=min(PAGE_SIZE, room),
                page_token=result.next_page_token,
            )
            page = client.ask(client.cases.ListCases, request)
            result.cases.extend(page.cases)
            result.next_page_token = page.next_page_token
            result.open_count = page.open_count
            if not page.next_page_token or (limit and len(result.cases) >= limit):
                break
    if limit:
        del result.cases[limit:]
    summary = f"{count(len(result.cases))} shown, {count(result.open_count)} open."
    if result.next_page_token:
        summary += " There are more: --limit 0 shows all."
    session.screen.answer(result, *([cases_table(result.cases)] if result.cases else []), summary)


@operator_command(app, "show")
def show(session: Session, case: CaseArgument) -> None:
    """Show a case: what happened, and what could be done."""
    with session.client() as client:
        answer = client.ask(client.cases.GetCase, GetCaseRequest(name=f"cases/{attempt_of(case)}"))
        history = client.ask(
            client.ledger.ListLedgerEntries,
            ListLedgerEntriesRequest(attempt_id=answer.attempt_id, page_size=HISTORY_MAX),
        )
    session.screen.answer(answer, case_view(answer), *history_view(history), "", *advice_view(answer))


@operator_command(app, "close")
def close(
    session: Session,
    case: CaseArgument,
    reason: Annotated[str, typer.Option("--reason", help="What was found and done; required; lands in the ledger.")],
) -> None:
    """Settle a case by hand. A later failure of the same attempt opens it again."""
    request = CloseCaseRequest(name=f"cases/{attempt_of(case)}", reason=require_reason(reason))
    with session.client() as client:
        answer = client.ask(client.cases.CloseCase, request)
    session.screen.answer(answer, plain(f"Case {answer.attempt_id} is closed."))


def attempt_of(case: str) -> str:
    """The attempt of a case that was named by it, or by its resource name."""
    return case.removeprefix("cases/")


def case_view(case: Case) -> Table:
    """A case for people."""
    closed = [("closed by", plain(f"{case.close_actor}: {case.close_reason}"))] if case.close_actor else []
    return fields(
        ("case", plain(case.attempt_id, "bold")),
        ("is", status("settled" if is_set(case.settle_time) else "open")),
        ("vehicle", plain(case.vehicle_id)),
        ("rollout", plain(case.rollout_id)),
        ("cause", status(case.cause)),
        ("detail", plain(case.detail)),
        ("attempt is", status(attempt_state(case.attempt_state))),
        ("counted in", plain(f"{case.region}, {case.hardware}, {case.cohort}")),
        ("opened", moment(case.open_time)),
        ("settled", moment(case.settle_time)),
        *closed,
    )


def history_view(history: ListLedgerEntriesResponse) -> list[RenderableType]:
    """What the ledger says of the attempt, oldest first."""
    if not history.entries:
        return ["", "The ledger has no entry of this attempt yet; it follows within seconds."]
    more = ["There is more: `outrider ledger show --attempt` tells all of it."] if history.next_page_token else []
    return ["", plain("What happened", "bold"), story_view(history.entries), *more]


def advice_view(case: Case) -> list[RenderableType]:
    """What could be done, numbered."""
    result = Table.grid(padding=(0, 2))
    result.add_column(style="dim", no_wrap=True)
    result.add_column(overflow="fold")
    for number, line in enumerate(case.advice, start=1):
        result.add_row(f"{number}.", plain(line))
    return [plain("What could be done", "bold"), result]


def cases_table(cases: Iterable[Case]) -> Table:
    """One case a line."""
    result = table(
        "vehicle", "rollout", "cause", "detail", "attempt is", "region", "hardware", "cohort", "opened", "case"
    )
    for case in cases:
        result.add_row(
            plain(case.vehicle_id),
            plain(case.rollout_id),
            status(case.cause),
            plain(case.detail),
            status(attempt_state(case.attempt_state)),
            *map(plain, (case.region, case.hardware, case.cohort)),
            moment(case.open_time),
            status("settled" if is_set(case.settle_time) else "open"),
        )
    return result


def is_set(timestamp: Timestamp) -> bool:
    """Whether a moment is given."""
    return timestamp.ByteSize() > 0
