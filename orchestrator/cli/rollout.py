"""`outrider rollout`: preview, start, watch and stop rollouts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import yaml
from outrider.v1.rollout_pb2 import (
    AbortRolloutRequest,
    CreateRolloutRequest,
    GetRolloutRequest,
    ListRolloutsRequest,
    ListRolloutsResponse,
    PauseRolloutRequest,
    PreviewRolloutRequest,
    PreviewRolloutResponse,
    ResumeRolloutRequest,
    Rollout,
)

from orchestrator.cli.client import OperatorClient, request_id
from orchestrator.cli.errors import BadInputError, NotFoundError
from orchestrator.cli.inputs import read_text, require_reason
from orchestrator.cli.preview_view import preview_view
from orchestrator.cli.rollout_view import rollout_view, rollouts_table
from orchestrator.cli.rollout_watch import OVER, Until, watch
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import of_id, plain, rollout_status

app = typer.Typer(no_args_is_help=True, add_completion=False)

PAGE_SIZE = 100

Change = TypeVar("Change", PauseRolloutRequest, ResumeRolloutRequest, AbortRolloutRequest)

PlanArgument = Annotated[Path, typer.Argument(help="Plan file (YAML); see docs/plan-file.md.")]
RolloutArgument = Annotated[str, typer.Argument(metavar="ID", help="Rollout id.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; required; lands in the ledger.")]
EtagOption = Annotated[str, typer.Option("--etag", help="Only if the rollout still has this etag (see --output json).")]


@app.callback()
def group() -> None:
    """Preview, start, watch and stop rollouts."""


@operator_command(app, "preview")
def preview(
    session: Session,
    file: PlanArgument,
    effective: Annotated[
        bool, typer.Option("--effective", help="Show the plan with every default filled in as well.")
    ] = False,
) -> None:
    """Say what a plan would do; change nothing."""
    plan = read_text(file)
    with session.client() as client:
        answer = ask_preview(client, plan, file)
    session.screen.answer(
        answer, *preview_view(answer, with_plan=effective), plain(f"Next: outrider rollout start {file}")
    )


@operator_command(app, "start")
def start(
    session: Session,
    file: PlanArgument,
    rollout_id: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="Id of the rollout. Default: the plan's name, or the server's choice."),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
) -> None:
    """Create a rollout from a plan and start it, after showing what it would do."""
    plan = read_text(file)
    with session.client() as client:
        answer = ask_preview(client, plan, file)
        for part in preview_view(answer):
            session.screen.note(part)
        if not yes:
            confirm(rollout_id or plan_name(plan) or answer.release)
        request = CreateRolloutRequest(
            plan=plan, rollout_id=rollout_id, request_id=request_id(), reason=reason or f"started from {file.name}"
        )
        rollout = client.ask(client.rollouts.CreateRollout, request, file_name=str(file))
    name = of_id(rollout.name)
    session.screen.answer(
        rollout, rollout_view(rollout), plain(f"Rollout {name} is under way. Next: `outrider rollout watch {name}`.")
    )


def ask_preview(client: OperatorClient, plan: str, file: Path) -> PreviewRolloutResponse:
    """What the server says that a plan would do; faults of the plan with line and column."""
    return client.ask(client.rollouts.PreviewRollout, PreviewRolloutRequest(plan=plan), file_name=str(file))


def plan_name(plan: str) -> str:
    """The `name` in a plan that the server has accepted; empty when it has none."""
    document = yaml.safe_load(plan)
    return str(document.get("name", "")) if isinstance(document, dict) else ""


def confirm(name: str) -> None:
    """Have the person type the rollout's name.

    Raises:
        BadInputError: nobody can be asked, or something else was typed.
    """
    if not sys.stdin.isatty():
        raise BadInputError("starting a rollout needs a person to confirm it", remedy="add --yes if you are sure")
    typed = typer.prompt(f"Type {name} to start it", err=True)
    if typed.strip() != name:
        raise BadInputError(f"typed {typed.strip()!r}, not {name!r}: nothing was started", remedy="start it again")


@operator_command(app, "status")
def status_(
    session: Session,
    rollout_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Rollout id. Default: the newest that is not over, else the newest.")
    ] = "",
) -> None:
    """Show where a rollout stands."""
    with session.client() as client:
        name = f"rollouts/{rollout_id}" if rollout_id else newest(client).name
        rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=name))
    session.screen.answer(rollout, rollout_view(rollout))


def newest(client: OperatorClient) -> Rollout:
    """The newest rollout that is not over, else the newest.

    Raises:
        NotFoundError: there is none at all.
    """
    rollouts = client.ask(client.rollouts.ListRollouts, ListRolloutsRequest(page_size=PAGE_SIZE)).rollouts
    if not rollouts:
        raise NotFoundError("there is no rollout yet", remedy="start one: `outrider rollout start PLAN.yaml`")
    return next((item for item in rollouts if rollout_status(item.status) not in OVER), rollouts[0])


@operator_command(app, "watch")
def watch_(
    session: Session,
    rollout_id: RolloutArgument,
    until: Annotated[Until, typer.Option("--until", help="End when the rollout is there.")] = Until.OVER,
) -> None:
    """Watch a rollout until it is over, or where --until wants it."""
    with session.client() as client:
        try:
            watch(client, session.screen, f"rollouts/{rollout_id}", until=until, wait=time.sleep)
        except KeyboardInterrupt:
            session.screen.note(f"stopped watching; rollout {rollout_id} goes on")
            raise


@operator_command(app, "list")
def list_(session: Session) -> None:
    """List all rollouts, newest first."""
    result = ListRolloutsResponse()
    with session.client() as client:
        while True:
            request = ListRolloutsRequest(page_size=PAGE_SIZE, page_token=result.next_page_token)
            page = client.ask(client.rollouts.ListRollouts, request)
            result.rollouts.extend(page.rollouts)
            result.next_page_token = page.next_page_token
            if not page.next_page_token:
                break
    if not result.rollouts:
        session.screen.answer(result, "No rollout yet. Start one: `outrider rollout start PLAN.yaml`.")
        return
    session.screen.answer(result, rollouts_table(result.rollouts))


@operator_command(app, "pause")
def pause(session: Session, rollout_id: RolloutArgument, reason: ReasonOption, etag: EtagOption = "") -> None:
    """Stop grants and permits at once; running installs go on, nothing is taken back."""
    request = change_request(PauseRolloutRequest, rollout_id, reason, etag)
    with session.client() as client:
        show_change(session, client.ask(client.rollouts.PauseRollout, request))


@operator_command(app, "resume")
def resume(session: Session, rollout_id: RolloutArgument, reason: ReasonOption, etag: EtagOption = "") -> None:
    """Let a paused, held or halted rollout go on."""
    request = change_request(ResumeRolloutRequest, rollout_id, reason, etag)
    with session.client() as client:
        show_change(session, client.ask(client.rollouts.ResumeRollout, request))


@operator_command(app, "abort")
def abort(session: Session, rollout_id: RolloutArgument, reason: ReasonOption, etag: EtagOption = "") -> None:
    """End a rollout for good: attempts before their permit are withdrawn, running installs go on."""
    request = change_request(AbortRolloutRequest, rollout_id, reason, etag)
    with session.client() as client:
        show_change(session, client.ask(client.rollouts.AbortRollout, request))


def change_request(kind: type[Change], rollout_id: str, reason: str, etag: str) -> Change:
    """The request for one change of a rollout, with an id that makes it safe to repeat."""
    return kind(name=f"rollouts/{rollout_id}", etag=etag, request_id=request_id(), reason=require_reason(reason))


def show_change(session: Session, rollout: Rollout) -> None:
    """Say where the rollout stands after a change."""
    session.screen.answer(rollout, rollout_view(rollout))
