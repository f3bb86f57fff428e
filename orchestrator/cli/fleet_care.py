"""The commands of `outrider fleet` that look after vehicles: set, remove, quarantine, deny, count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from outrider.v1.fleet_pb2 import (
    CountVehiclesRequest,
    CountVehiclesResponse,
    ExcludeVehiclesRequest,
    ExcludeVehiclesResponse,
    ReadmitVehiclesRequest,
    ReadmitVehiclesResponse,
    RemoveVehiclesRequest,
    RemoveVehiclesResponse,
    UpdateVehiclesRequest,
    UpdateVehiclesResponse,
)
from rich.table import Table

from orchestrator.cli.errors import BadInputError
from orchestrator.cli.fleet_selection import ReasonOption, VehiclesArgument, WhereOption, YesOption, in_steps, selected
from orchestrator.cli.inputs import require_reason
from orchestrator.cli.screen import table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import NONE, count, plain

STEP_S = 60.0
"""Least deadline of a call on a thousand vehicles."""


def add_commands(app: typer.Typer) -> None:
    """Put the commands below into a group."""
    for name, command in (
        ("set", set_),
        ("remove", remove),
        ("quarantine", quarantine),
        ("deny", deny),
        ("count", count_),
    ):
        operator_command(app, name)(command)


def set_(
    session: Session,
    *,
    vehicles: VehiclesArgument = None,
    where: WhereOption = None,
    region: Annotated[str, typer.Option("--region", help="New region.")] = "",
    cohort: Annotated[str, typer.Option("--cohort", help="New cohort.")] = "",
    zone: Annotated[
        str, typer.Option("--zone", help="New IANA time zone, for example Europe/Berlin; - for that of the region.")
    ] = "",
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Tag to add; may be repeated.")] = None,
    untag: Annotated[list[str] | None, typer.Option("--untag", help="Tag to take away; may be repeated.")] = None,
    reason: ReasonOption,
    yes: YesOption = False,
) -> None:
    """Move vehicles to another region, cohort or zone, or change their tags.

    Rollouts follow at a vehicle's next call; a running attempt stays counted where it was granted.
    """
    change = UpdateVehiclesRequest(
        region=region,
        cohort=cohort,
        zone=zone,
        add_tags=tag or [],
        remove_tags=untag or [],
        reason=require_reason(reason),
    )
    if not (region or cohort or zone or tag or untag):
        raise BadInputError("nothing is to change", remedy="give --region, --cohort, --zone, --tag or --untag")
    total = UpdateVehiclesResponse()
    with session.client() as client:
        ids = selected(session, client, vehicles=vehicles, where=where, to="change them", yes=yes)

        def act(step: Sequence[str]) -> None:
            request = UpdateVehiclesRequest()
            request.CopyFrom(change)
            request.vehicle_ids.extend(step)
            answer = client.ask(client.fleet.UpdateVehicles, request, timeout_s=max(STEP_S, client.timeout_s))
            total.changed_count += answer.changed_count
            total.unchanged_count += answer.unchanged_count

        in_steps(session.screen, "Changing vehicles", ids, act)
    session.screen.answer(
        total, f"{count(total.changed_count)} changed, {count(total.unchanged_count)} were so already."
    )


def remove(
    session: Session,
    *,
    vehicles: VehiclesArgument = None,
    where: WhereOption = None,
    reason: ReasonOption,
    yes: YesOption = False,
) -> None:
    """Take vehicles out of the inventory. The ledger and the counts of rollouts keep what they did."""
    text, total = require_reason(reason), RemoveVehiclesResponse()
    with session.client() as client:
        ids = selected(session, client, vehicles=vehicles, where=where, to="remove them", yes=yes, always_ask=True)

        def act(step: Sequence[str]) -> None:
            request = RemoveVehiclesRequest(vehicle_ids=step, reason=text)
            answer = client.ask(client.fleet.RemoveVehicles, request, timeout_s=max(STEP_S, client.timeout_s))
            total.removed_count += answer.removed_count

        in_steps(session.screen, "Removing vehicles", ids, act)
    session.screen.answer(total, f"{count(total.removed_count)} removed.")


def quarantine(
    session: Session,
    *,
    vehicles: VehiclesArgument = None,
    where: WhereOption = None,
    lift: Annotated[bool, typer.Option("--lift", help="End the quarantine.")] = False,
    reason: ReasonOption,
    yes: YesOption = False,
) -> None:
    """Keep vehicles out of every rollout until it is lifted. What has a permit to install runs on."""
    exclude(session, vehicles, where, rollout="", lift=lift, reason=reason, yes=yes)


def deny(
    session: Session,
    *,
    rollout: Annotated[str, typer.Option("--rollout", metavar="ID", help="The rollout to keep them out of.")],
    vehicles: VehiclesArgument = None,
    where: WhereOption = None,
    lift: Annotated[bool, typer.Option("--lift", help="Let them in again.")] = False,
    reason: ReasonOption,
    yes: YesOption = False,
) -> None:
    """Keep vehicles out of one rollout. What has a permit to install runs on."""
    exclude(session, vehicles, where, rollout=f"rollouts/{rollout}", lift=lift, reason=reason, yes=yes)


def exclude(
    session: Session,
    vehicles: Sequence[str] | None,
    where: str | None,
    *,
    rollout: str,
    lift: bool,
    reason: str,
    yes: bool,
) -> None:
    """Exclude vehicles from a rollout, or from every one (empty), or let them in again."""
    text = require_reason(reason)
    total = ReadmitVehiclesResponse() if lift else ExcludeVehiclesResponse()
    touched = 0
    with session.client() as client:
        to = "let them in again" if lift else "keep them out"
        ids = selected(session, client, vehicles=vehicles, where=where, to=to, yes=yes)

        def act(step: Sequence[str]) -> None:
            deadline_s = max(STEP_S, client.timeout_s)
            if lift:
                readmit = ReadmitVehiclesRequest(vehicle_ids=step, rollout=rollout, reason=text)
                total.changed_count += client.ask(
                    client.fleet.ReadmitVehicles, readmit, timeout_s=deadline_s
                ).changed_count
            else:
                keep_out = ExcludeVehiclesRequest(vehicle_ids=step, rollout=rollout, reason=text)
                total.changed_count += client.ask(
                    client.fleet.ExcludeVehicles, keep_out, timeout_s=deadline_s
                ).changed_count

        in_steps(session.screen, "Letting vehicles in" if lift else "Keeping vehicles out", ids, act)
        touched = len(ids)
    scope = f"rollout {rollout.rpartition('/')[2]}" if rollout else "every rollout"
    done = f"let into {scope} again" if lift else f"kept out of {scope} from now on"
    were = f"{count(touched - total.changed_count)} were {'not kept out' if lift else 'so already'}"
    session.screen.answer(total, plain(f"{count(total.changed_count)} {done}, {were}."))


def count_(
    session: Session,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="FIELD,...",
            help="Fields to group by: model, hardware, region, cohort, zone, installed. Default: all together.",
        ),
    ] = "",
    where: WhereOption = None,
) -> None:
    """Count vehicles, by fields that they share. Looks at no single vehicle, so it is quick at any size."""
    fields = [name.strip() for name in by.split(",") if name.strip()]
    with session.client() as client:
        request = CountVehiclesRequest(group_by=fields, filter=where or "")
        answer = client.ask(client.fleet.CountVehicles, request)
    parts = [counts_table(fields, answer)] if fields and answer.counts else []
    session.screen.answer(answer, *parts, f"{count(answer.total)} vehicles.")


def counts_table(fields: Sequence[str], answer: CountVehiclesResponse) -> Table:
    """One group a line, largest first."""
    result = table(*fields, "vehicles", "share", numbers=2)
    for each in answer.counts:
        share = each.count / answer.total if answer.total else 0.0
        result.add_row(
            *(plain(each.values.get(name, "") or NONE) for name in fields), count(each.count), f"{share:.1%}"
        )
    return result
