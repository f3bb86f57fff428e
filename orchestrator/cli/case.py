"""`outrider case`: vehicles that an update hurt, or may have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.case_pb2 import Case, ListCasesRequest, ListCasesResponse
from rich.table import Table

from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import attempt_state, count, moment, plain, status

app = typer.Typer(no_args_is_help=True, add_completion=False)

PAGE_SIZE = 1000


@app.callback()
def group() -> None:
    """List vehicles that an update hurt, or may have."""


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
