"""`outrider fleet export`: the inventory as the CSV that `outrider fleet import` reads.

Owns the way back: what is exported and imported again changes nothing. The form is described in docs/fleet-csv.md.
"""

from __future__ import annotations

import csv
import heapq
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO, Annotated, Self

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
RUN_VEHICLES = 50_000
"""Vehicles that are held while the inventory is read."""


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
    with session.client() as client, RunsOfVehicles() as runs:
        for vehicle in found(session.screen, client, where or ""):
            runs.add(vehicle.vehicle_id, list(vehicle_lines(vehicle)))
        if out is None:
            session.screen.line(",".join(HEADER))
            for line in runs.lines():
                session.screen.line(line)
            return
        write_whole(out, (f"{line}\n" for line in chain((",".join(HEADER),), runs.lines())))
    written = {"file": str(out), "vehicle_count": runs.vehicles}
    session.screen.answer(written, f"{count(runs.vehicles)} vehicles written to {out}.")


class RunsOfVehicles:
    """Puts vehicles in order of their ids, few of them in memory: sorted runs on the disk, merged at the end.

    Args:
        run_vehicles: vehicles of a run.
    """

    def __init__(self, run_vehicles: int = RUN_VEHICLES) -> None:
        self._run_vehicles = run_vehicles
        self._waiting: list[tuple[str, list[str]]] = []
        self._runs: list[IO[str]] = []
        self._files = ExitStack()
        self.vehicles = 0
        """How many were written by `lines`; one that a page and the next both had counts once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, vehicle_id: str, lines: list[str]) -> None:
        """Take a vehicle with its lines."""
        self._waiting.append((vehicle_id, lines))
        if len(self._waiting) >= self._run_vehicles:
            file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the others
            run = self._files.enter_context(file)
            run.writelines(f"{json.dumps(each)}\n" for each in sorted(self._waiting))
            run.seek(0)
            self._runs.append(run)
            self._waiting = []

    def lines(self) -> Iterator[str]:
        """Every vehicle's lines, in order of the ids."""
        runs: list[Iterable[tuple[str, list[str]]]] = [map(json.loads, run) for run in self._runs]
        last = ""
        for vehicle_id, lines in heapq.merge(*runs, sorted(self._waiting), key=itemgetter(0)):
            if vehicle_id != last:
                self.vehicles += 1
                yield from lines
            last = vehicle_id


def vehicle_lines(vehicle: Vehicle) -> Iterator[str]:
    """One line a control unit."""
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
