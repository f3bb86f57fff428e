"""What begins a rollout: the form of a plan, a preview, a start, and a revert, whose plan the server writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from outrider.v1.rollout_pb2 import (
    CreateRolloutRequest,
    PreviewRolloutRequest,
    PreviewRolloutResponse,
    ProposeRevertRequest,
    Rollout,
)

from orchestrator.cli.client import OperatorClient, request_id
from orchestrator.cli.confirm import confirm_name
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.inputs import ReasonOption, RolloutArgument, YesOption, read_text, require_reason
from orchestrator.cli.preview_view import plan_of, preview_view, what_starts
from orchestrator.cli.rollout_view import rollout_view
from orchestrator.cli.rollout_watch import following
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.words import of_id, plain, rollout_status
from orchestrator.engine.plan.schema import plan_schema_text

app = typer.Typer(add_completion=False)

PlanArgument = Annotated[Path, typer.Argument(help="Plan file (YAML); see docs/plan-file.md.")]
EffectiveOption = Annotated[
    bool, typer.Option("--effective", help="Show the plan with every default filled in as well.")
]
IdOption = Annotated[
    str, typer.Option("--id", metavar="ID", help="Id of the rollout. Default: the plan's name, or the server's choice.")
]


@operator_command(app, "preview")
def preview(session: Session, file: PlanArgument, effective: EffectiveOption = False) -> None:
    """Say what a plan would do; change nothing."""
    plan = read_text(file)
    with session.client() as client:
        answer = ask_preview(client, plan, str(file))
    session.screen.answer(
        answer, *preview_view(answer, with_plan=effective), plain(f"Next: outrider rollout start {file}")
    )


@local_command(app, "schema")
def schema(session: Session) -> None:
    """Print the JSON Schema of plan files, for editors and programs."""
    session.screen.line(plan_schema_text().rstrip())


@operator_command(app, "start")
def start(
    session: Session,
    file: PlanArgument,
    rollout_id: IdOption = "",
    reverts: Annotated[
        str, typer.Option("--reverts", metavar="ID", help="The rollout that this one undoes; links them in the ledger.")
    ] = "",
    draft: Annotated[
        bool, typer.Option("--draft", help="Only write it down: people may approve it, `rollout launch` starts it.")
    ] = False,
    yes: YesOption = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
) -> None:
    """Create a rollout from a plan and start it, after showing what it would do."""
    plan = read_text(file)
    request = CreateRolloutRequest(
        plan=plan,
        rollout_id=rollout_id,
        request_id=request_id(),
        reason=reason or f"{'written down' if draft else 'started'} from {file.name}",
        reverts=f"rollouts/{reverts}" if reverts else "",
        draft=draft,
    )
    with session.client() as client:
        rollout = create(client, session, request, file_name=str(file), yes=yes)
    show_started(session, rollout)


@operator_command(app, "revert")
def revert(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the plan to a new file and start nothing."),
    ] = None,
    new_id: IdOption = "",
    yes: YesOption = False,
) -> None:
    """Bring vehicles back to what they ran before: a rollout of its own, in waves as well."""
    why = require_reason(reason)
    with session.client() as client:
        proposal = client.ask(client.rollouts.ProposeRevert, ProposeRevertRequest(name=f"rollouts/{rollout_id}"))
        if out is not None:
            write_new(out, proposal.plan)
            session.screen.answer(
                {"file": str(out), "release": proposal.release, "reverts": rollout_id},
                plain(f"Wrote {out}: a rollout of {proposal.release}, which undoes {rollout_id}. Nothing was started."),
                plain(f"Next: outrider rollout start {out} --reverts {rollout_id}"),
            )
            return
        request = CreateRolloutRequest(
            plan=proposal.plan,
            rollout_id=new_id,
            request_id=request_id(),
            reason=why,
            reverts=f"rollouts/{rollout_id}",
        )
        session.screen.note(f"Undoing rollout {rollout_id} by a rollout of release {proposal.release}:")
        rollout = create(client, session, request, file_name=f"revert of {rollout_id}", yes=yes)
    show_started(session, rollout)


def create(
    client: OperatorClient, session: Session, request: CreateRolloutRequest, *, file_name: str, yes: bool
) -> Rollout:
    """Show what a plan would do, have it confirmed, create the rollout.

    Raises:
        BadInputError: the plan is faulty, or was not confirmed.
        CliError: the server refuses.
    """
    answer = ask_preview(client, request.plan, file_name)
    for part in preview_view(answer):
        session.screen.note(part)
    # A draft begins nothing: nothing has to be confirmed.
    if not yes and not request.draft and not plan_of(answer).get("approvals"):
        session.screen.note(what_starts(answer))
        confirm_name(request.rollout_id or plan_name(request.plan) or answer.release, to="start it")
    return client.ask(client.rollouts.CreateRollout, request, file_name=file_name)


def show_started(session: Session, rollout: Rollout) -> None:
    """Say that a rollout is under way, or written down, and what is next."""
    name = of_id(rollout.name)
    said = f"Rollout {name} is under way. Next: outrider rollout watch {name}"
    if rollout_status(rollout.status) == "draft":
        said = f"Rollout {name} is a draft: nothing begins. {following(rollout)}"
    session.screen.answer(rollout, rollout_view(rollout), plain(said))


def ask_preview(client: OperatorClient, plan: str, file_name: str) -> PreviewRolloutResponse:
    """What the server says that a plan would do; faults of the plan with line and column."""
    return client.ask(client.rollouts.PreviewRollout, PreviewRolloutRequest(plan=plan), file_name=file_name)


def plan_name(plan: str) -> str:
    """The `name` in a plan that the server has accepted; empty when it has none."""
    document = yaml.safe_load(plan)
    return str(document.get("name", "")) if isinstance(document, dict) else ""


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        BadInputError: it is there, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise BadInputError(f"{path} cannot be written ({exc.strerror})", remedy="name a new file") from exc
