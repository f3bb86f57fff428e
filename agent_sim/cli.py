"""The `outrider-sim` command: makes fleets and runs scenarios. Owns what a person reads; the work is `simulation`'s."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status

from agent_sim.clock import machine_ms
from agent_sim.conform import SCENARIOS, Conditions, chosen, conform
from agent_sim.conform.report import ConformLine, as_json, show
from agent_sim.demo import run_demo
from agent_sim.demo.screen import Screen
from agent_sim.errors import InputFileError, SimulationError
from agent_sim.fleet import build_fleet
from agent_sim.scenario import load_scenario, parse_duration
from agent_sim.shards import ShardedSimulation
from agent_sim.simulation import Outcome, Progress, RunFiles, RunLimits, Simulation
from agent_sim.single import Habits, run_agent
from signing.errors import SigningError

app = typer.Typer(
    name="outrider-sim",
    help="Simulated vehicles for Outrider: make a fleet, let it drive, see what truly happened.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEMO_SCENARIO = Path(__file__).parent / "demo" / "demo.toml"
_PLAIN_LINE_EVERY_MS = 10_000


class Output(StrEnum):
    """How a command answers."""

    TEXT = "text"
    JSON = "json"


ScenarioArgument = Annotated[Path, typer.Argument(help="Scenario file (TOML); see examples/scenarios.")]
OutputOption = Annotated[Output, typer.Option("--output", help="text for people, json for programs.")]


class ProgressLine:
    """One line that says how a run stands: rewritten on a terminal, now and then elsewhere; silent for programs.

    Args:
        console: where; stderr, so that stdout stays clean.
        silent: show nothing.
    """

    def __init__(self, console: Console, *, silent: bool) -> None:
        self._console = console
        self._silent = silent
        self._status = Status("starting", console=console)
        self._last_ms = machine_ms() - _PLAIN_LINE_EVERY_MS
        self._last_calls = 0

    def __enter__(self) -> ProgressLine:
        if not self._silent and self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, progress: Progress) -> None:
        """Say how it stands."""
        if self._silent:
            return
        if self._console.is_terminal:
            self._status.update(self._text(progress))
        elif machine_ms() - self._last_ms >= _PLAIN_LINE_EVERY_MS:
            self._console.print(self._text(progress), highlight=False)
        else:
            return
        self._last_ms, self._last_calls = machine_ms(), progress.calls

    def _text(self, progress: Progress) -> str:
        if progress.stage != "driving":
            return f"{progress.stage}: {progress.done} of {progress.total} vehicles"
        elapsed_s = max(0.001, (machine_ms() - self._last_ms) / 1000)
        rate = (progress.calls - self._last_calls) / elapsed_s
        at = datetime.fromtimestamp(progress.fleet_time_ms // 1000, tz=UTC)
        releases = ", ".join(f"{count} on {release}" for release, count in progress.by_release)
        bricked = f", {progress.bricked} bricked" if progress.bricked else ""
        return f"{at:%Y-%m-%d %H:%M}Z: {releases}{bricked}; {progress.calls} calls ({rate:.0f}/s)"


@app.command("fleet")
def fleet_command(
    scenario: ScenarioArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to make the fleet in.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Make a fleet: vehicles, keys, factory images, and the CSV for `outrider fleet import`."""
    loaded = load_scenario(scenario)
    with ProgressLine(Console(stderr=True), silent=output is Output.JSON) as line:
        fleet = build_fleet(loaded, out, progress=lambda done, total: line.show(Progress("making", done, total)))
    factory = [
        {"hardware_id": image.hardware_id, "file": str(image.file), "path": image.installed.path}
        for image in fleet.factory.values()
    ]
    if output is Output.JSON:
        typer.echo(json.dumps({"vehicles": len(fleet.vehicles), "csv": str(fleet.csv), "factory_images": factory}))
        return
    typer.echo(f"{len(fleet.vehicles)} vehicles in {out}, {len(factory)} factory images of {loaded.fleet.release}.")
    typer.echo(f"Next: outrider fleet import {fleet.csv}")


@app.command("run")
def run_command(
    scenario: ScenarioArgument,
    endpoints: Annotated[Path, typer.Option("--endpoints", help="endpoints.json that `outrider serve` wrote.")],
    provisioning: Annotated[Path, typer.Option("--provisioning", help="Folder with roots and enrolment CA.")],
    fleet: Annotated[Path, typer.Option("--fleet", help="Folder that `outrider-sim fleet` made.")],
    report: Annotated[Path, typer.Option("--report", help="Where the record goes; refreshed while it runs.")],
    tokens: Annotated[Path | None, typer.Option("--tokens", help="JSON lines from `outrider fleet tokens`.")] = None,
    duration: Annotated[str | None, typer.Option("--duration", help="End after this fleet time, like 30d.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", min=0.001, help="Fleet seconds in a second.")] = None,
    stop_file: Annotated[Path | None, typer.Option("--stop-file", help="End when it appears.")] = None,
    shards: Annotated[int, typer.Option("--shards", min=1, max=64, help="Processes that share the fleet.")] = 1,
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Connections of each process that stay open between calls.")
    ] = 256,
    output: OutputOption = Output.TEXT,
) -> None:
    """Let a fleet drive against a running orchestrator until the scenario, a signal, or the stop file ends it."""
    files = RunFiles(endpoints, provisioning, fleet, tokens, report, stop_file or fleet / "stop")
    duration_ms = parse_duration(duration) if duration else None
    limits = RunLimits(scale=scale, duration_ms=duration_ms, channels_max=connections)
    loaded = load_scenario(scenario)
    simulation = (
        ShardedSimulation(loaded, scenario, files, limits, shards=shards)
        if shards > 1
        else Simulation(loaded, files, limits)
    )
    with ProgressLine(Console(stderr=True), silent=output is Output.JSON) as line:
        outcome = asyncio.run(_run(simulation, line))
    if output is Output.JSON:
        typer.echo(json.dumps({"over": outcome.over, "report": str(report), **outcome.figures}))
    else:
        if outcome.figures:
            typer.echo(in_words(outcome.figures))
        typer.echo(f"Over ({outcome.over}). The record of every vehicle is in {report}.")


@app.command("agent")
def agent_command(
    folder: Annotated[Path, typer.Argument(help="Provisioned folder of one vehicle; see docs/conform.md.")],
    first_poll_within: Annotated[str, typer.Option("--first-poll-within", help="Fleet time, like 10m.")] = "10m",
    install: Annotated[str, typer.Option("--install", help="How long writing takes, fleet time.")] = "5m",
    reboot: Annotated[str, typer.Option("--reboot", help="How long a restart takes, fleet time.")] = "2m",
) -> None:
    """Be the agent of one vehicle until a signal ends it."""
    asyncio.run(_be_agent(folder, Habits(first_poll_within, install, reboot)))


@app.command("conform")
def conform_command(
    agent: Annotated[str, typer.Option("--agent", help="Command that starts the agent; {folder} is its folder.")],
    clause: Annotated[list[str] | None, typer.Option("--clause", help="Judge this one only; may be repeated.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Only the scenarios that show most.")] = False,
    time_scale: Annotated[
        float, typer.Option("--time-scale", min=1, max=600, help="Fleet seconds in a second; lower for slow agents.")
    ] = 120.0,
    patience: Annotated[float, typer.Option("--patience", min=5, help="Seconds an agent may take for a step.")] = 45.0,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=32, help="Scenarios at a time.")] = 4,
    folder: Annotated[Path | None, typer.Option("--folder", help="Where folders and logs go; a new one.")] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Judge any vehicle agent against the contract, clause by clause: exit code 1 when one is broken."""
    place = folder or Path(tempfile.mkdtemp(prefix="outrider-conform-"))
    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise InputFileError(f"--folder {folder} is not empty; name a new one")
    place.mkdir(parents=True, exist_ok=True)
    scenarios = chosen(SCENARIOS, clause or (), short=short)
    with ConformLine(Console(stderr=True), len(scenarios), silent=output is Output.JSON) as line:
        report = asyncio.run(
            conform(
                place.resolve(),
                scenarios,
                Conditions(agent, time_scale, patience),
                at_once=at_once,
                clauses=clause or (),
                progress=line.tell,
            )
        )
    if output is Output.JSON:
        typer.echo(json.dumps(as_json(report)))
    else:
        show(report, Console(highlight=False))
    if not report.passed:
        raise typer.Exit(1)


@app.command("demo")
def demo_command(
    folder: Annotated[Path, typer.Option("--folder", help="Where it works; made anew.")] = Path("demo-data"),
    scenario: Annotated[Path, typer.Option("--scenario", help="Another fleet.")] = DEMO_SCENARIO,
    scale: Annotated[float, typer.Option("--scale", min=1, max=600, help="Fleet seconds in a second.")] = 500.0,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards, until Ctrl-C.")] = False,
) -> None:
    """Show everything: a good release reaches 200 vehicles, a bad one is stopped, all records are compared."""
    screen = Screen(Console(highlight=False))
    try:
        agreed = asyncio.run(_demo(run_demo(folder.resolve(), scenario, scale=scale, keep=keep, screen=screen)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(0 if keep else 130) from None
    if not agreed:
        raise typer.Exit(1)


async def _demo(story: Coroutine[Any, Any, bool]) -> bool:
    """Tell the story; a signal ends it in good order, with every process that it started."""
    task = asyncio.ensure_future(story)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    return await task


async def _be_agent(folder: Path, habits: Habits) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run_agent(folder, habits, stop)


def in_words(figures: Mapping[str, Any]) -> str:
    """What a run came to, for a person."""
    releases = ", ".join(f"{count:,} on {release}" for release, count in figures["by_release"].items())
    bricked = f", {figures['bricked']:,} bricked" if figures["bricked"] else ""
    took = figures["call_ms"]
    lines = (
        f"{figures['vehicles']:,} vehicles: {releases}{bricked}",
        f"{figures['calls']:,} calls, {figures['calls_per_vehicle']} a vehicle, {figures['polls_idle']:,} polls "
        f"for nothing; {figures['calls_failed']:,} failed, {figures['calls_repeated']:,} were repetitions",
        f"a call took {took['p50']} ms (half), {took['p95']} ms (95 %), {took['p99']} ms (99 %); "
        f"{figures['connections']:,} connections were made",
        f"bytes a vehicle: {figures['message_bytes_per_vehicle']:,} of messages, "
        f"{figures['image_bytes_per_vehicle']:,} of images",
    )
    return "\n".join(lines)


async def _run(simulation: Simulation | ShardedSimulation, line: ProgressLine) -> Outcome:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, simulation.stop, number.name)
    return await simulation.run(line.show)


def main() -> None:
    """Entry point: an expected error is one line with cause and remedy."""
    try:
        app()
    except* (SimulationError, SigningError, OSError) as errors:
        typer.echo(f"outrider-sim: {_first(errors)}", err=True)
        raise SystemExit(1) from None


def _first(errors: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
