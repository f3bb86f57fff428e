"""`outrider vehicle`: one vehicle, and why it does or does not get an update."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from outrider.v1.attempt_pb2 import Attempt
from outrider.v1.fleet_pb2 import ExplainVehicleRequest, Explanation, GetVehicleRequest, Vehicle
from outrider.v1.release_pb2 import GetReleaseRequest
from outrider.v1.vehicle_pb2 import LinkType, Severity
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli import durations
from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import NotFoundError
from orchestrator.cli.screen import fields, table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import NONE, attempt_state, moment, of_id, plain, status, vehicle_state

app = typer.Typer(no_args_is_help=True, add_completion=False)

VehicleArgument = Annotated[str, typer.Argument(metavar="VEHICLE", help="Vehicle id.")]


@app.callback()
def group() -> None:
    """Show a vehicle, and why it does or does not get an update."""


@operator_command(app, "show")
def show(session: Session, vehicle: VehicleArgument) -> None:
    """Show a vehicle: how it stood when it last called, what it is kept out of, its control units and attempts."""
    with session.client() as client:
        answer = client.ask(client.fleet.GetVehicle, GetVehicleRequest(name=f"vehicles/{vehicle}"))
        identifiers = () if session.screen.json else rxswin_of(client, answer.installed_release)
    session.screen.answer(answer, *vehicle_view(answer, identifiers))


def rxswin_of(client: OperatorClient, release: str) -> Sequence[str]:
    """The regulatory identifiers of the software that a release brings, as they were signed; none when none were."""
    if not release:
        return ()
    try:
        return client.ask(client.releases.GetRelease, GetReleaseRequest(name=f"releases/{release}")).rxswin
    except NotFoundError:
        return ()  # a vehicle may run what was never registered here


@operator_command(app, "explain")
def explain(
    session: Session,
    vehicle: VehicleArgument,
    rollout: Annotated[
        str,
        typer.Option(
            "--rollout", metavar="ID", help="Only this rollout, also one that is over. Default: every one that is not."
        ),
    ] = "",
) -> None:
    """Say which rule decides about a vehicle, with the values."""
    request = ExplainVehicleRequest(name=f"vehicles/{vehicle}", rollout=f"rollouts/{rollout}" if rollout else "")
    with session.client() as client:
        answer = client.ask(client.fleet.ExplainVehicle, request)
    if not answer.explanations:
        session.screen.answer(
            answer, plain(answer.summary or "No rollout is under way, so there is nothing to decide.")
        )
        return
    head: list[RenderableType] = [plain(answer.summary, "bold"), ""] if answer.summary else []
    session.screen.answer(answer, *head, *(part for item in answer.explanations for part in explanation_view(item)))


def vehicle_view(vehicle: Vehicle, rxswin: Sequence[str] = ()) -> list[RenderableType]:
    """A vehicle for people, with the RXSWINs of what it runs."""
    parts: list[RenderableType] = [
        fields(
            ("vehicle", plain(vehicle.vehicle_id, "bold")),
            ("state", status(vehicle_state(vehicle))),
            ("model", plain(vehicle.model)),
            ("hardware", plain(vehicle.hardware)),
            ("region", plain(vehicle.region)),
            ("cohort", plain(vehicle.cohort)),
            ("zone", plain(vehicle.zone or "that of its region")),
            ("tags", plain(", ".join(vehicle.tags) or NONE)),
            ("installed", plain(vehicle.installed_release or NONE)),
            *([("RXSWIN", plain(", ".join(rxswin)))] if rxswin else []),
            ("last seen", moment(vehicle.last_seen_time)),
            ("calls", plain(habit_words(vehicle))),
            ("conditions", conditions_view(vehicle)),
        )
    ]
    parts += [exclusions_table(vehicle)] if vehicle.exclusions else []
    parts += [diagnostics_table(vehicle)] if vehicle.diagnostics else []
    parts.append(ecus_table(vehicle))
    parts.append(attempts_table(vehicle.attempts) if vehicle.attempts else "No attempt yet.")
    return parts


def habit_words(vehicle: Vehicle) -> str:
    """How often it calls, for example `often, about every 1 h 2 min`: its silence is judged by that."""
    if not vehicle.HasField("usual_gap"):
        return "no gap between two contacts was heard yet"
    gap = f"about every {durations.in_words(vehicle.usual_gap.seconds)}"
    known = vehicle.habit not in ("", "unknown")
    return f"{vehicle.habit}, {gap}" if known else f"{gap}; too few gaps were heard to call it a habit"


def conditions_view(vehicle: Vehicle) -> Text:
    """How it stood when it last called."""
    if not vehicle.HasField("conditions"):
        return plain("told none")
    told = vehicle.conditions
    link = LinkType.Name(told.link_type).removeprefix("LINK_TYPE_").lower().replace("unspecified", "unknown link")
    parts = [
        f"{link}{' (metered)' if told.metered else ''}",
        f"signal {told.signal_percent} %" if told.signal_percent else "",
        f"battery {told.battery_percent} %",
        "parked" if told.parked else "not parked",
        f"{told.storage_free_bytes / 1e9:.1f} GB free",
    ]
    return plain(", ".join(part for part in parts if part))


def exclusions_table(vehicle: Vehicle) -> Table:
    """What it is kept out of, one a line."""
    result = table("kept out of", "since", "by", "because", title="Exclusions")
    for each in vehicle.exclusions:
        scope = f"rollout {of_id(each.rollout)}" if each.rollout else "every rollout (quarantine)"
        result.add_row(plain(scope), moment(each.create_time), plain(each.actor), plain(each.reason))
    return result


def diagnostics_table(vehicle: Vehicle) -> Table:
    """Diagnoses at the last call, one a line."""
    result = table("code", "ECU", "severity", "first seen", title="Diagnoses at the last call")
    for each in vehicle.diagnostics:
        severity = Severity.Name(each.severity).removeprefix("SEVERITY_").lower()
        result.add_row(plain(each.code), plain(each.ecu_serial or NONE), status(severity), moment(each.first_seen_time))
    return result


def ecus_table(vehicle: Vehicle) -> Table:
    """Control units, one a line."""
    result = table("ECU", "hardware id", "role", title="Control units")
    for ecu in vehicle.ecus:
        result.add_row(plain(ecu.serial), plain(ecu.hardware_id), "Primary" if ecu.primary else "Secondary")
    return result


def attempts_table(attempts: Iterable[Attempt]) -> Table:
    """Attempts, one a line."""
    result = table("rollout", "try", "release", "state", "since", "times out", "permit", "failure", title="Attempts")
    for attempt in attempts:
        result.add_row(
            plain(attempt.rollout_id),
            str(attempt.number),
            plain(attempt.release),
            status(attempt_state(attempt.state)),
            moment(attempt.state_time),
            moment(attempt.deadline_time),
            moment(attempt.permit_time),
            plain(attempt.failure_code or NONE),
        )
    return result


def explanation_view(explanation: Explanation) -> list[RenderableType]:
    """One rollout's decision about the vehicle."""
    facts = [(name, plain(value)) for name, value in sorted(explanation.facts.items())]
    return [
        fields(
            ("rollout", plain(of_id(explanation.rollout), "bold")),
            ("decision", status(explanation.reason)),
            ("because", plain(explanation.message)),
            *facts,
        ),
        "",
    ]
