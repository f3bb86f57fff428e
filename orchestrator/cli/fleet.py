"""`outrider fleet`: the inventory of vehicles: what comes in, lists, revocation.

Leaves what is done to vehicles that are there to `fleet_care`, their tokens to `fleet_tokens`, and the way out to
`fleet_export`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from outrider.v1.fleet_pb2 import (
    ImportVehiclesRequest,
    ImportVehiclesResponse,
    ListVehiclesRequest,
    ListVehiclesResponse,
    RevokeVehicleRequest,
    Vehicle,
)
from rich.progress import Progress
from rich.table import Table

from orchestrator.cli import fleet_care, fleet_export, fleet_tokens
from orchestrator.cli.client import OperatorClient, request_id
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.fleet_parts import FleetFile, Part, fleet_file
from orchestrator.cli.fleet_selection import PAGE_SIZE, WhereOption
from orchestrator.cli.inputs import require_reason
from orchestrator.cli.screen import fields, table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import NONE, count, moment, plain, status, vehicle_state

app = typer.Typer(no_args_is_help=True, add_completion=False)

LONG_CALL_S = 120.0
"""Least deadline of a call that imports a part."""
AWAY_S = 300.0
"""How long an import waits for a server that went away meanwhile."""
OTHER_LINE = re.compile(r"\bon line ([0-9]{1,9})")
"""Another line that a complaint names."""
FAULTS_SHOWN = 100
"""Of one file; no person mends more at a time."""


@app.callback()
def group() -> None:
    """Import, list, move, exclude and remove vehicles; make enrolment tokens."""


@operator_command(app, "import")
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Fleet CSV, one row an ECU; see docs/fleet-csv.md.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every row, change nothing.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
) -> None:
    """Add or replace vehicles by a CSV: all rows or none. Safe to repeat, also after a crash half way."""
    with fleet_file(file) as fleet, session.client() as client:
        # Several parts cannot be one step of the server: all are checked before the first is written.
        passes = [True] if dry_run else [False] if fleet.whole else [True, False]
        why = reason or f"import of {file.name}"
        with session.screen.progress(f"Checking {file.name}", fleet.size_bytes * len(passes)) as progress:
            for validate_only in passes:
                label = f"{'Checking' if validate_only else 'Importing'} {file.name}"
                progress.update(progress.task_ids[0], description=label)
                total = send_parts(client, fleet, file, why, validate_only=validate_only, progress=progress)
    heading = "Nothing was changed; the import would make:" if dry_run else f"Imported {file.name}."
    session.screen.answer(total, heading, import_summary(total))


def send_parts(
    client: OperatorClient, fleet: FleetFile, file: Path, reason: str, *, validate_only: bool, progress: Progress
) -> ImportVehiclesResponse:
    """Send every part; what all of them together did. Each part of a check is sent, whatever is wrong with others.

    Raises:
        BadInputError: names every fault of the file, as many as are shown.
        CliError: of a call that failed.
    """
    total = ImportVehiclesResponse()
    refusals: list[BadInputError] = []
    for place, part in enumerate(fleet.parts()):
        request = ImportVehiclesRequest(
            csv=part.content, validate_only=validate_only, request_id=request_id(), reason=reason
        )
        try:
            # A server that was there a moment ago is worth waiting for: an import may be repeated.
            first = place == 0 and (validate_only or fleet.whole)
            add(total, import_part(client, request, part, file, away_s=0.0 if first else AWAY_S))
        except BadInputError as error:
            refusals.append(error)
            if sum(len(each.details) for each in refusals) >= FAULTS_SHOWN:
                break
        progress.advance(progress.task_ids[0], len(part.content))
    if refusals or fleet.repeated:
        raise all_faults(file, refusals, fleet.repeated)
    return total


def all_faults(file: Path, refusals: Sequence[BadInputError], repeated: Sequence[str]) -> BadInputError:
    """The error that names the faults of all parts, as they stand in the file."""
    if len(refusals) == 1 and not repeated:
        return refusals[0]
    details = {detail for refusal in refusals for detail in refusal.details}
    details |= {f"{file}:{complaint}" for complaint in repeated}
    shown = sorted(details, key=lambda detail: line_of(detail, file))[:FAULTS_SHOWN]
    more = f", the first {len(shown)} of them above" if len(details) > len(shown) else ""
    return BadInputError(
        f"the fleet file has {count(len(details))} faults or more{more}; nothing was imported",
        remedy="mend the lines named and import the file again",
        details=shown,
    )


def line_of(detail: str, file: Path) -> int:
    """The line that a complaint is about; 0 where it is about none."""
    number = detail.removeprefix(f"{file}:").partition(":")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


def import_part(
    client: OperatorClient, request: ImportVehiclesRequest, part: Part, file: Path, *, away_s: float
) -> ImportVehiclesResponse:
    """Import one part; complaints name lines of the file, not of the part."""
    try:
        return client.ask(
            client.fleet.ImportVehicles,
            request,
            file_name=str(file),
            timeout_s=max(LONG_CALL_S, client.timeout_s),
            away_s=away_s,
        )
    except BadInputError as error:
        prefix = f"{file}:"
        raise BadInputError(
            error.cause, remedy=error.remedy, details=[relocate(line, prefix, part) for line in error.details]
        ) from error


def relocate(detail: str, prefix: str, part: Part) -> str:
    """`fleet.csv:2:region: ...` of a part as it reads for the whole file."""
    line, separator, rest = detail.removeprefix(prefix).partition(":")
    if not detail.startswith(prefix) or not line.isascii() or not line.isdigit():
        return detail
    rest = OTHER_LINE.sub(lambda other: f"on line {part.line_in_file(int(other[1]))}", rest)
    return f"{prefix}{part.line_in_file(int(line))}{separator}{rest}"


def add(total: ImportVehiclesResponse, step: ImportVehiclesResponse) -> None:
    """Add the counts of one part to the total."""
    total.added_count += step.added_count
    total.changed_count += step.changed_count
    total.unchanged_count += step.unchanged_count


def import_summary(total: ImportVehiclesResponse) -> Table:
    """What an import did or would do."""
    return fields(
        ("new", count(total.added_count)),
        ("changed", count(total.changed_count)),
        ("unchanged", count(total.unchanged_count)),
    )


fleet_tokens.add_commands(app)


@operator_command(app, "list")
def list_(
    session: Session,
    region: Annotated[str, typer.Option("--region", help="Only this region.")] = "",
    cohort: Annotated[str, typer.Option("--cohort", help="Only this cohort.")] = "",
    where: WhereOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most this many vehicles; 0 for all.")] = 1000,
) -> None:
    """List vehicles."""
    result = ListVehiclesResponse()
    with session.client() as client, session.screen.progress("Reading vehicles", limit or None) as progress:
        while True:
            room = limit - len(result.vehicles) if limit else PAGE_SIZE
            request = ListVehiclesRequest(
                # A filter looks at a page of vehicles and returns those that fit: a small page would find nothing.
                page_size=PAGE_SIZE if where else min(PAGE_SIZE, room),
                page_token=result.next_page_token,
                region=region,
                cohort=cohort,
                filter=where or "",
            )
            page = client.ask(client.fleet.ListVehicles, request)
            result.vehicles.extend(page.vehicles)
            result.next_page_token = page.next_page_token
            result.registered_count = page.registered_count
            progress.update(progress.task_ids[0], completed=len(result.vehicles))
            if not page.next_page_token or (limit and len(result.vehicles) >= limit):
                break
    if limit:
        del result.vehicles[limit:]
    summary = f"{count(len(result.vehicles))} shown, {count(result.registered_count)} registered."
    if result.next_page_token:
        summary += " There are more: --limit 0 shows all."
    session.screen.answer(result, vehicles_table(result.vehicles), summary)


def vehicles_table(vehicles: Iterable[Vehicle]) -> Table:
    """One vehicle a line."""
    result = table("vehicle", "model", "hardware", "region", "cohort", "tags", "installed", "last seen", "state")
    for vehicle in vehicles:
        result.add_row(
            *map(plain, (vehicle.vehicle_id, vehicle.model, vehicle.hardware, vehicle.region, vehicle.cohort)),
            plain(", ".join(vehicle.tags) or NONE),
            plain(vehicle.installed_release or NONE),
            moment(vehicle.last_seen_time),
            status(vehicle_state(vehicle)),
        )
    return result


@operator_command(app, "revoke")
def revoke(
    session: Session,
    vehicle: Annotated[str, typer.Argument(metavar="VEHICLE", help="Vehicle id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; required; lands in the ledger.")],
) -> None:
    """Refuse a vehicle's certificates from now on."""
    request = RevokeVehicleRequest(name=f"vehicles/{vehicle}", reason=require_reason(reason))
    with session.client() as client:
        answer = client.ask(client.fleet.RevokeVehicle, request)
    session.screen.answer(answer, plain(f"Vehicle {answer.vehicle_id} is refused from now on."))


fleet_care.add_commands(app)
fleet_export.add_commands(app)
