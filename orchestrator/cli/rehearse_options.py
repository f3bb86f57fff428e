"""The options of `outrider rehearse`, as data and as something that typer can read.

Owns names, defaults and help. What a value may look like is the matter of `rehearse_values`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

RELEASE, FLEET, WORLD, RUNS = "The release", "The fleet", "The world", "Runs and output"


@dataclass(frozen=True, slots=True)
class Given:
    """The command line as it was given."""

    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file (YAML); see docs/plan-file.md.")]
    failure_rate: Annotated[
        str, typer.Option(metavar="RATIO", help="Vehicles that the release breaks.", rich_help_panel=RELEASE)
    ] = "0.5%"
    silent: Annotated[
        str, typer.Option(metavar="RATIO", help="Those of them that never say so.", rich_help_panel=RELEASE)
    ] = "30%"
    breaks: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=RATIO",
            help="Another failure rate in REGION, REGION/HARDWARE or */HARDWARE; may be given again.",
            rich_help_panel=RELEASE,
        ),
    ] = None
    fleet: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Fleet file; see docs/fleet-csv.md.", rich_help_panel=FLEET),
    ] = None
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Instead: as many of each kind as the server says that the plan targets.",
            rich_help_panel=FLEET,
        ),
    ] = False
    vehicles: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Otherwise: an invented fleet of so many.", rich_help_panel=FLEET),
    ] = 100_000
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RATIO",
            help="Share of the invented fleet. Default: the plan's, evenly.",
            rich_help_panel=FLEET,
        ),
    ] = None
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RATIO", help="The same by hardware. Default: the target's, evenly.", rich_help_panel=FLEET
        ),
    ] = None
    cohort: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RATIO",
            help="The same by cohort. Default: internal 0.1 %, canary 1 %, early 10 %, others that waves name 5 %, "
            "general the rest.",
            rich_help_panel=FLEET,
        ),
    ] = None
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="How vehicles call and answer; see docs/rehearse.md.", rich_help_panel=FLEET),
    ] = "habits"
    calls: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=RATIO",
            help="Other shares of the model's call patterns; all of them.",
            rich_help_panel=FLEET,
        ),
    ] = None
    install: Annotated[
        str,
        typer.Option(metavar="TIME", help="Median from permit to done. Default: the model's.", rich_help_panel=FLEET),
    ] = ""
    garage: Annotated[
        str,
        typer.Option(
            metavar="RATIO",
            help="Healthy vehicles out of reach after the update, up to 14 days. Default: the model's.",
            rich_help_panel=FLEET,
        ),
    ] = ""
    lost: Annotated[
        str,
        typer.Option(
            metavar="RATIO", help="Healthy vehicles never heard again. Default: the model's.", rich_help_panel=FLEET
        ),
    ] = ""
    outage: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGION:START+TIME",
            help="A region out of reach, for example eu:3d+12h; may be given again.",
            rich_help_panel=WORLD,
        ),
    ] = None
    approve_after: Annotated[
        str, typer.Option(metavar="TIME", help="How long people take to approve a wave.", rich_help_panel=WORLD)
    ] = "0s"
    start: Annotated[
        str,
        typer.Option(
            metavar="DATE",
            help="When it starts, UTC: 2027-03-01 or 2027-03-01T09:00. Default: today, 09:00.",
            rich_help_panel=WORLD,
        ),
    ] = ""
    runs: Annotated[int, typer.Option(metavar="N", min=1, max=100_000, help="How many runs.", rich_help_panel=RUNS)] = 1
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Of the first run; the next has the next.", rich_help_panel=RUNS)
    ] = 1
    limit_days: Annotated[
        float, typer.Option(metavar="D", min=0.1, max=1000, help="When a run gives up.", rich_help_panel=RUNS)
    ] = 60.0
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a plot of it.", rich_help_panel=RUNS)] = None
