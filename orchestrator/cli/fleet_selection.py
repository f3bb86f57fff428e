"""Which vehicles a command works on: named one by one or by a filter, shown and confirmed, in calls of bounded size.

Owns that a filter touches nothing before a person has seen how many vehicles it finds, and that long work shows how
far it is. Leaves the grammar of filters to the server, which has the rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from outrider.v1.fleet_pb2 import ListVehiclesRequest, ListVehiclesResponse, Vehicle
from rich.table import Table

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.confirm import confirm_name
from orchestrator.cli.errors import BadInputError, CliError, NotFoundError
from orchestrator.cli.screen import Screen, table
from orchestrator.cli.session import Session
from orchestrator.cli.words import count, plain

PAGE_SIZE = 1000
VEHICLES_PER_CALL = 1000
"""Most vehicles of one call that changes them."""
GROUPS_SHOWN = 8
ALL_OF_THEM = "--where 'vehicle_id=*' means every vehicle"

VehiclesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[VEHICLE]...", help="Vehicle ids; or a filter by --where.")
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="FILTER",
        help="Vehicles of which every term holds, for example 'region=eu|us,tag!=hold,installed<1.1.0'.",
    ),
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; required; lands in the ledger.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


def found(screen: Screen, client: OperatorClient, where: str) -> Iterator[Vehicle]:
    """Vehicles that a filter finds, page by page; the bar counts those that were found."""
    with screen.progress("Reading vehicles") as progress:
        for page in pages(client, where):
            yield from page.vehicles
            progress.advance(progress.task_ids[0], len(page.vehicles))


def pages(client: OperatorClient, where: str) -> Iterator[ListVehiclesResponse]:
    """Vehicles that a filter finds; a page may hold a few or none."""
    token = ""
    while True:
        page = client.ask(
            client.fleet.ListVehicles, ListVehiclesRequest(page_size=PAGE_SIZE, page_token=token, filter=where)
        )
        yield page
        token = page.next_page_token
        if not token:
            return


def selected(
    session: Session,
    client: OperatorClient,
    *,
    vehicles: Sequence[str] | None,
    where: str | None,
    to: str,
    yes: bool,
    always_ask: bool = False,
) -> Sequence[str]:
    """Ids of the vehicles to work on, confirmed where they were found by a filter.

    Args:
        session: asks and shows.
        client: finds.
        vehicles: ids as given.
        where: filter as given.
        to: what confirming does, for people, for example `move them`.
        yes: ask nothing.
        always_ask: ask also where the vehicles were named.

    Raises:
        BadInputError: neither or both are given, the filter is empty, or nobody confirmed.
        NotFoundError: the filter finds none.
    """
    if bool(vehicles) == (where is not None):
        raise BadInputError("say which vehicles: by their ids or by --where", remedy=f"one of both; {ALL_OF_THEM}")
    if vehicles:
        ids = list(dict.fromkeys(vehicles))
        if always_ask and not yes:
            confirm_name(str(len(ids)), to=to)
        return ids
    if not (where or "").strip():
        raise BadInputError("--where is empty", remedy=ALL_OF_THEM)
    matches = list(found(session.screen, client, where or ""))
    if not matches:
        raise NotFoundError(
            f"no vehicle fits {where!r}", remedy="`outrider fleet count --by region,cohort` shows what is there"
        )
    session.screen.note(f"{count(len(matches))} vehicles fit {where}:")
    session.screen.note(groups(matches))
    if not yes:
        confirm_name(str(len(matches)), to=to)
    return sorted(vehicle.vehicle_id for vehicle in matches)


def groups(vehicles: Sequence[Vehicle]) -> Table:
    """Where the vehicles are, largest group first."""
    summed = Counter((vehicle.region, vehicle.cohort, vehicle.hardware) for vehicle in vehicles).most_common()
    result = table("region", "cohort", "hardware", "vehicles", numbers=1)
    for values, number in summed[:GROUPS_SHOWN]:
        result.add_row(*map(plain, values), count(number))
    rest = sum(number for _, number in summed[GROUPS_SHOWN:])
    if rest:
        result.add_row("others", "", "", count(rest))
    return result


def in_steps(screen: Screen, label: str, ids: Sequence[str], act: Callable[[Sequence[str]], None]) -> None:
    """Work on vehicles in calls of bounded size, with a bar.

    Raises:
        CliError: of the call that failed; says how many vehicles were dealt with before.
    """
    done = 0
    with screen.progress(label, len(ids)) as progress:
        for start in range(0, len(ids), VEHICLES_PER_CALL):
            step = ids[start : start + VEHICLES_PER_CALL]
            try:
                act(step)
            except CliError:
                if done:
                    screen.note(f"{count(done)} of {count(len(ids))} vehicles were dealt with before the error.")
                raise
            done += len(step)
            progress.advance(progress.task_ids[0], len(step))
