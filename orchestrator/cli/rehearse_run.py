"""From the options of `outrider rehearse` to its answer: reads the plan and the fleet, runs, writes the plot.

Owns the order of it and what is refused for want of sense. Imports NumPy by way of `orchestrator.rehearsal`: loaded by
`rehearse`, when it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.cli import rehearse_values as values
from orchestrator.cli.errors import BadInputError, NotFoundError
from orchestrator.cli.inputs import read_text
from orchestrator.cli.rehearse_document import document
from orchestrator.cli.rehearse_options import Given
from orchestrator.cli.rehearse_view import assumptions, title, view
from orchestrator.cli.rollout_start import ask_preview
from orchestrator.cli.session import Session
from orchestrator.clock import MachineClock
from orchestrator.engine.plan.file import PlanError, PlanFault, read_plan
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.rehearsal.fleet import FleetModel, ReleaseModel
from orchestrator.rehearsal.fleets import FLEETS
from orchestrator.rehearsal.inventory import FleetFileError, Inventory, counted, invented, read_inventory
from orchestrator.rehearsal.plot import plot
from orchestrator.rehearsal.rehearse import Rehearsal, Scenario, left_out, rehearse_many
from orchestrator.rehearsal.roads import Outage
from orchestrator.rehearsal.story import typical
from orchestrator.rehearsal.story_rule import People


def rehearse(session: Session, given: Given) -> None:
    """Rehearse, answer, and write the plot.

    Raises:
        BadInputError: an option, the plan or the fleet file is wrong.
    """
    plan = _plan(given)
    if given.svg is not None and not given.svg.parent.is_dir():
        # Said before an hour of runs, not after it.
        raise _unwritable(given.svg, "no such folder")
    scenario = scenario_of(given, _inventory(session, given, plan))
    total = round(given.limit_days * 24) * given.runs
    with session.screen.progress(f"Rehearsing {scenario.inventory.size:,} vehicles", total) as bar:
        stories = rehearse_many(
            plan,
            scenario,
            seed=given.seed,
            runs=given.runs,
            done=lambda hours: bar.update(bar.task_ids[0], completed=hours),
        )
    rehearsal = Rehearsal(plan=plan, scenario=scenario, stories=stories, left_out=left_out(plan, scenario))
    if given.svg is not None:
        _write(given, plot(typical(stories), title=title(rehearsal), subtitle=assumptions(rehearsal), others=stories))
    session.screen.answer(document(rehearsal, given.svg), *view(rehearsal, given.svg))


def scenario_of(given: Given, inventory: Inventory) -> Scenario:
    """What is assumed, from the options.

    Args:
        given: The options.
        inventory: Who is rehearsed.

    Raises:
        BadInputError: one of them is wrong, or does not fit the fleet.
    """
    start = values.moment(given.start, MachineClock().wall_ms, "--start")
    outages = [Outage(*one) for one in values.outages(given.outage or (), "--outage")]
    for one in outages:
        _known(one.region, inventory.regions, "--outage", "region")
    return Scenario(
        inventory=inventory,
        fleet=_fleet_model(given),
        release=ReleaseModel(
            failure_rate=values.ratio(given.failure_rate, "--failure-rate"),
            silent_share=values.ratio(given.silent, "--silent"),
            failure_rates=_rates(given, inventory),
        ),
        start=FleetTime(start),
        outages=tuple(outages),
        people=People(values.hours(given.approve_after, "--approve-after")),
        horizon_days=given.limit_days,
    )


def _plan(given: Given) -> Plan:
    try:
        return read_plan(read_text(given.plan))
    except PlanError as error:
        faults = [_fault(given.plan, fault) for fault in error.faults]
        number = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        raise BadInputError(
            f"the plan has {number}; nothing was rehearsed", remedy="correct it and try again", details=faults
        ) from error


def _fault(path: Path, fault: PlanFault) -> str:
    remedy = f" ({fault.remedy})" if fault.remedy else ""
    return f"{path}:{fault.line}:{fault.column}: {fault.message}{remedy}"


def _inventory(session: Session, given: Given, plan: Plan) -> Inventory:
    spread = {"--region": given.region, "--hardware": given.hardware, "--cohort": given.cohort}
    sources = {
        "--fleet": given.fleet is not None,
        "--live": given.live,
        **{name: bool(one) for name, one in spread.items()},
    }
    if given.fleet is not None or given.live:
        # Shares shape an invented fleet; together with a real one they would be ignored without a word.
        if len(named := [option for option, is_given in sources.items() if is_given]) > 1:
            raise BadInputError(f"{named[0]} and {named[1]} exclude each other", remedy="give one of them")
        return _file(given.fleet, plan) if given.fleet is not None else _live(session, given)
    if not given.vehicles:
        raise BadInputError("a fleet of no vehicles has nothing to rehearse", remedy="give --vehicles a number from 1")
    regions, hardware, cohorts = (values.shares(items or (), option) for option, items in spread.items())
    if plan.regions:
        for region in regions:
            _known(region, tuple(plan.regions), "--region", "region of the plan")
    return invented(plan, given.vehicles, regions=regions, hardware=hardware, cohorts=cohorts)


def _file(path: Path, plan: Plan) -> Inventory:
    try:
        return read_inventory(read_text(path).splitlines(), plan)
    except FleetFileError as error:
        raise BadInputError(f"{path}: {error}", remedy="see docs/fleet-csv.md, and the target of the plan") from error


def _live(session: Session, given: Given) -> Inventory:
    """The kinds of vehicles that the server's preview of the plan counts."""
    with session.client() as client:
        answer = ask_preview(client, read_text(given.plan), str(given.plan))
    counts = {Cell(cell.region, cell.hardware, cell.cohort): cell.targeted for cell in answer.cells}
    if not any(counts.values()):
        raise BadInputError(
            f"the plan targets none of the server's {answer.registered} vehicles",
            remedy="see `outrider rollout preview`, or rehearse an invented fleet with --vehicles",
        )
    return counted(counts, registered=answer.registered)


def _fleet_model(given: Given) -> FleetModel:
    if given.model not in FLEETS:
        raise NotFoundError(f"there is no fleet model {given.model!r}", remedy=f"one of {', '.join(FLEETS)}")
    model = FLEETS[given.model]
    delays = model.delays
    if given.install:
        delays = replace(delays, install_median_h=values.hours(given.install, "--install"))
    if given.garage:
        delays = replace(delays, garage_share=values.ratio(given.garage, "--garage"))
    if given.lost:
        delays = replace(delays, lost_share=values.ratio(given.lost, "--lost"))
    patterns = model.patterns
    if calls := values.shares(given.calls or (), "--calls"):
        names = tuple(pattern.name for pattern in patterns)
        for name in calls:
            _known(name, names, "--calls", f"call pattern of model {model.name}")
        patterns = tuple(replace(one, share=calls[one.name]) for one in patterns if one.name in calls)
    return replace(model, delays=delays, patterns=patterns)


def _rates(given: Given, inventory: Inventory) -> dict[Cell, float]:
    rates: dict[Cell, float] = {}
    for region, hardware, rate in values.rates(given.breaks or (), "--breaks"):
        found = [cell for cell in inventory.cells if region in ("*", cell.region) and hardware in ("*", cell.hardware)]
        if not found:
            parts = ", ".join(sorted({str(cell.stratum) for cell in inventory.cells})[:6])
            raise BadInputError(f"--breaks: no vehicle is in {region}/{hardware}", remedy=f"there are {parts}")
        rates.update(dict.fromkeys(found, rate))
    return rates


def _known(name: str, names: Sequence[str], option: str, what: str) -> None:
    if name not in names:
        raise BadInputError(f"{option}: {name!r} is no {what} here", remedy=f"there are {', '.join(names)}")


def _write(given: Given, picture: str) -> None:
    assert given.svg is not None
    try:
        given.svg.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise _unwritable(given.svg, error.strerror) from error


def _unwritable(path: Path, why: str | None) -> BadInputError:
    return BadInputError(f"{path} cannot be written ({why})", remedy="give --svg a file in a folder that exists")
