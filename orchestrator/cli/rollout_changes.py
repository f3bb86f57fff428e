"""What changes a rollout that is there: launch, pause, resume, abort, approve. Each with a reason that lands in the
ledger.

Leaves signals from outside to `rollout_signals`.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import typer
from outrider.v1.rollout_pb2 import (
    AbortRolloutRequest,
    ApproveWaveRequest,
    GetRolloutRequest,
    PauseRolloutRequest,
    PreviewRolloutRequest,
    ResumeRolloutRequest,
    Rollout,
    StartRolloutRequest,
)

from orchestrator.cli.client import request_id
from orchestrator.cli.confirm import confirm_name
from orchestrator.cli.errors import BadInputError, RefusedError
from orchestrator.cli.inputs import (
    EtagOption,
    ReasonOption,
    RolloutArgument,
    ScopeOption,
    YesOption,
    require_reason,
)
from orchestrator.cli.preview_view import preview_view, what_starts
from orchestrator.cli.rollout_counts import total
from orchestrator.cli.rollout_parts import still_stands
from orchestrator.cli.rollout_view import rollout_view
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import DRAFTS, count, of_id, plain, rollout_status

app = typer.Typer(add_completion=False)

Change = TypeVar("Change", StartRolloutRequest, PauseRolloutRequest, ResumeRolloutRequest, AbortRolloutRequest)


@operator_command(app, "launch")
def launch(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    etag: EtagOption = "",
    yes: YesOption = False,
) -> None:
    """Start a draft, after showing what it would do."""
    request = change_request(StartRolloutRequest, rollout_id, reason, etag)
    with session.client() as client:
        if not yes:
            draft = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=request.name))
            request.etag = etag or draft.etag
            preview = client.ask(client.rollouts.PreviewRollout, PreviewRolloutRequest(plan=draft.plan))
            for part in (*preview_view(preview), what_starts(preview)):
                session.screen.note(part)
            confirm_name(rollout_id, to="start it")
        rollout = client.ask(client.rollouts.StartRollout, request)
    show_change(session, rollout, f"Rollout {rollout_id} is under way.", f"outrider rollout watch {rollout_id}")


@operator_command(app, "pause")
def pause(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    scope: ScopeOption = "",
    etag: EtagOption = "",
) -> None:
    """Stop grants and permits at once; running installs go on, nothing is taken back."""
    request = change_request(PauseRolloutRequest, rollout_id, reason, etag)
    request.scope = scope
    with session.client() as client:
        rollout = client.ask(client.rollouts.PauseRollout, request)
    active = count(total(rollout.cells).active)
    said = (
        f"In {scope} nobody new begins and no permit is given; the rest goes on."
        if scope
        else f"Nobody new begins and no permit is given; {active} under way keep their place."
    )
    show_change(session, rollout, said, f'outrider rollout resume {rollout_id}{scoped(scope)} --reason "..."')


@operator_command(app, "resume")
def resume(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    scope: ScopeOption = "",
    etag: EtagOption = "",
) -> None:
    """Let a paused, held or halted rollout go on, or one part of it."""
    request = change_request(ResumeRolloutRequest, rollout_id, reason, etag)
    request.scope = scope
    with session.client() as client:
        rollout = client.ask(client.rollouts.ResumeRollout, request)
    said = f"Vehicles in {scope} may begin again." if scope else "Vehicles may begin again."
    following = f"outrider rollout watch {rollout_id}"
    if stands := still_stands(rollout, scope):
        said = f"Resumed. But {'; '.join(stands)}."
        if rollout.brakes:
            part = scope or rollout.brakes[0].scope
            following = f'outrider rollout resume {rollout_id} --scope {part} --reason "..."   # once looked at'
    show_change(session, rollout, said, following)


@operator_command(app, "abort")
def abort(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    etag: EtagOption = "",
    yes: YesOption = False,
) -> None:
    """End a rollout for good: attempts before their permit are withdrawn, running installs go on."""
    request = change_request(AbortRolloutRequest, rollout_id, reason, etag)
    with session.client() as client:
        if not yes:
            rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=request.name))
            session.screen.note(plain(what_ends(rollout)))
            confirm_name(rollout_id, to="end it for good")
        rollout = client.ask(client.rollouts.AbortRollout, request)
    show_change(
        session,
        rollout,
        "It is over. Whoever has a permit finishes; everybody else keeps what they run.",
        f'outrider rollout revert {rollout_id} --reason "..."   # back to what they ran before',
    )


@operator_command(app, "approve")
def approve(
    session: Session,
    rollout_id: RolloutArgument,
    reason: ReasonOption,
    wave: Annotated[
        str, typer.Option("--wave", metavar="NAME", help="The wave. Default: the one that wants approval now.")
    ] = "",
    region: Annotated[str, typer.Option("--region", metavar="NAME", help="Only there. Default: every region.")] = "",
    etag: EtagOption = "",
) -> None:
    """Let a wave begin that needs an approval, or a draft start; not by whoever created the rollout."""
    request = ApproveWaveRequest(
        name=f"rollouts/{rollout_id}",
        wave=wave,
        region=region,
        etag=etag,
        request_id=request_id(),
        reason=require_reason(reason),
    )
    with session.client() as client:
        if not wave:
            rollout = client.ask(client.rollouts.GetRollout, GetRolloutRequest(name=request.name))
            request.wave = "" if rollout_status(rollout.status) in DRAFTS else wanted_wave(rollout, region)
        rollout = client.ask(client.rollouts.ApproveWave, request)
    if not request.wave:
        show_change(session, rollout, approved_draft(rollout), next_of_draft(rollout))
        return
    where = f"region {region}" if region else "every region"
    show_change(
        session, rollout, f"Wave {request.wave} is approved for {where}.", f"outrider rollout watch {rollout_id}"
    )


def approved_draft(rollout: Rollout) -> str:
    """How far the approvals of a draft are."""
    given = sum(not each.wave for each in rollout.approvals)
    missing = rollout.approvals_wanted - given
    if missing > 0:
        return f"Approved; {missing} more {'person' if missing == 1 else 'people'} must approve before it starts."
    return "Approved: it may be started."


def next_of_draft(rollout: Rollout) -> str:
    """What a draft waits for now."""
    name = of_id(rollout.name)
    if rollout_status(rollout.status) == "approved":
        return f'outrider rollout launch {name} --reason "..."'
    return f'outrider --as APPROVER rollout approve {name} --reason "..."'


def scoped(scope: str) -> str:
    """The option that names a part, to be put into a command line; empty for the whole."""
    return f" --scope {scope}" if scope else ""


def wanted_wave(rollout: Rollout, region: str) -> str:
    """The wave that wants an approval now.

    Args:
        rollout: as it stands.
        region: look at this one only; empty for all.

    Raises:
        RefusedError: none does.
        BadInputError: there is no such region, or different regions want different waves.
    """
    name = of_id(rollout.name)
    regions = [item for item in rollout.regions if region in ("", item.region)]
    if not regions:
        known = ", ".join(item.region for item in rollout.regions)
        raise BadInputError(f"rollout {name} has no region {region}", remedy=f"its regions are {known}")
    wanted = {item.approval_wanted: item.region for item in regions if item.approval_wanted}
    if not wanted:
        raise RefusedError(
            f"no wave of rollout {name} waits for an approval now",
            remedy="see what it waits for: `outrider rollout status " + name + "`, or name one ahead by --wave",
        )
    if len(wanted) > 1:
        waves = ", ".join(f"{wave} ({where})" for wave, where in wanted.items())
        raise BadInputError(f"several waves want approval: {waves}", remedy="name one by --wave, or a --region")
    return next(iter(wanted))


def change_request(kind: type[Change], rollout_id: str, reason: str, etag: str) -> Change:
    """The request for one change of a rollout, with an id that makes it safe to repeat."""
    return kind(name=f"rollouts/{rollout_id}", etag=etag, request_id=request_id(), reason=require_reason(reason))


def what_ends(rollout: Rollout) -> str:
    """What an abort does now, in numbers."""
    counts = total(rollout.cells)
    installing = counts.installing
    return (
        f"Rollout {of_id(rollout.name)} is {rollout_status(rollout.status)}: {count(counts.done)} of "
        f"{count(counts.targeted)} done. An abort is for good: {count(counts.active - installing)} under way without a "
        f"permit are withdrawn, {count(installing)} with a permit finish, {count(counts.waiting)} never begin."
    )


def show_change(session: Session, rollout: Rollout, said: str, following: str) -> None:
    """Say what a change did, where the rollout stands, and what could be next."""
    session.screen.answer(rollout, plain(said, "bold"), rollout_view(rollout), plain(f"Next: {following}"))
