"""`outrider fleet export`: the inventory as the CSV that `outrider fleet import` reads.

Owns the way back: what is exported and imported again changes nothing. The form is described in docs/fleet-csv.md.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from outrider.v1.fleet_pb2 import Vehicle

from orchestrator.cli.errors import BadInputError, CliError
from orchestrator.cli.fleet_selection import WhereOption, found
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import count

HEADER = (
    "vehicle_id",
    "model",
    "hardware",
    "region",
    "cohort",
    "tags",
    "ecu_serial",
    "hardware_id",
    "primary",
    "public_key",
    "zone",
)


def add_commands(app: typer.Typer) -> None:
    """Put the command into a group."""
    operator_command(app, "export")(export)


def export(
    session: Session,
    where: WhereOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file, not to stdout.")] = None,
) -> None:
    """Write the inventory as the CSV that import reads, in order of vehicle id."""
    if session.screen.json and out is None:
        raise BadInputError("the export is CSV", remedy="add --out FILE, or use `outrider fleet list --output json`")
    with session.client() as client:
        vehicles = sorted(found(session.screen, client, where or ""), key=lambda vehicle: vehicle.vehicle_id)
    lines = csv_lines(vehicles)
    if out is None:
        for line in lines:
            session.screen.line(line)
        return
    write_whole(out, (f"{line}\n" for line in lines))
    written = {"file": str(out), "vehicle_count": len(vehicles)}
    session.screen.answer(written, f"{count(len(vehicles))} vehicles written to {out}.")


def csv_lines(vehicles: Iterable[Vehicle]) -> Iterator[str]:
    """The header, then one line a control unit."""
    yield ",".join(HEADER)
    for vehicle in vehicles:
        shared = (vehicle.vehicle_id, vehicle.model, vehicle.hardware, vehicle.region, vehicle.cohort)
        for ecu in vehicle.ecus:
            own = (ecu.serial, ecu.hardware_id, "true" if ecu.primary else "false", ecu.public_key)
            yield row_of((*shared, ";".join(vehicle.tags), *own, vehicle.zone))


def row_of(values: Iterable[str]) -> str:
    """One line of CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(values)
    return buffer.getvalue()


def write_whole(path: Path, lines: Iterable[str]) -> None:
    """Write a file so that it is there whole or as it was before.

    Raises:
        CliError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(lines)
        os.replace(draft, path)
    except OSError as exc:
        raise CliError(f"{path} cannot be written ({exc.strerror})", remedy="name another file") from exc
