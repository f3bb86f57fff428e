"""`outrider rollout`: where rollouts stand; and the group of all commands about them.

Leaves what begins a rollout to `rollout_start`, what changes one to `rollout_changes`, and what is said of one from
outside to `rollout_signals`.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from outrider.v1.rollout_pb2 import (
    GetRolloutRequest,
    ListRolloutsRequest,
    ListRolloutsResponse,
    Rollout,
)

from orchestrator.cli import rollout_changes, rollout_signals, rollout_start
from orchestrator.cli.client import OperatorClient
from orchestrator.cli.completion import rollout_ids
from orchestrator.cli.errors import NotFoundError
from orchestrator.cli.inputs import RolloutArgument
from orchestrator.cli.rollout_view import one_line, rollout_view, rollouts_table
from orchestrator.cli.rollout_watch import OVER, Until, WatchEndedError, following, watch
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import DRAFTS, rollout_status

app = typer.Typer(no_args_is_help=True, add_completion=False)
looks = typer.Typer(add_completion=False)

PAGE_SIZE = 100


@app.callback()
def group() -> None:
    """Preview, start, watch and stop rollouts."""


@operator_command(looks, "status")
def status_(
    session: Session,
    rollout_id: Annotated[
        str,
        typer.Argument(
            metavar="[ID]",
            help="Rollout id. Default: the newest that is under way, else the newest draft, else the newest.",
            autocompletion=rollout_ids,
        ),
    ] = "",
) -> None:
    """Show where a rollout stands."""
    with session.client() as client:
        name = f"rollouts/{rollout_id}" if rollout_id else newest(client).name
        rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=name))
    session.screen.answer(rollout, rollout_view(rollout))


def newest(client: OperatorClient) -> Rollout:
    """The newest rollout that is under way, else the newest draft, else the newest. The draft of a way back, written
    when the gate halts a rollout, must not hide that rollout.

    Raises:
        NotFoundError: there is none at all.
    """
    rollouts = client.ask(client.rollouts.ListRollouts, ListRolloutsRequest(page_size=PAGE_SIZE)).rollouts
    if not rollouts:
        raise NotFoundError("there is no rollout yet", remedy="start one: `outrider rollout start PLAN.yaml`")
    open_ = [item for item in rollouts if rollout_status(item.status) not in OVER]
    begun = [item for item in open_ if rollout_status(item.status) not in DRAFTS]
    return (begun or open_ or list(rollouts))[0]


@operator_command(looks, "watch")
def watch_(
    session: Session,
    rollout_id: RolloutArgument,
    until: Annotated[Until, typer.Option("--until", help="End when the rollout is there.")] = Until.OVER,
) -> None:
    """Watch a rollout live until it is over, or where --until wants it. Ctrl-C leaves; the rollout goes on."""
    with session.client() as client:
        try:
            watch(client, session.screen, f"rollouts/{rollout_id}", until=until, wait=time.sleep)
        except WatchEndedError as ending:
            session.screen.note(stopped_watching(rollout_id, ending.rollout))
            raise KeyboardInterrupt from ending


def stopped_watching(rollout_id: str, rollout: Rollout | None) -> str:
    """Where the rollout stood when the person left, on one line, and what they could do next."""
    said = f"Stopped watching; rollout {rollout_id} goes on"
    if rollout is None:
        return f"{said}. Next: outrider rollout status {rollout_id}"
    return f"{said}: {one_line(rollout)}. {following(rollout)}"


@operator_command(looks, "list")
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


# In the order of a rollout's life, which is the order of the help.
for part in (rollout_start.app, looks, rollout_changes.app):
    app.add_typer(part)
app.add_typer(rollout_signals.app, name="signal")
