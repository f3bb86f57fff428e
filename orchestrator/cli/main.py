"""The `outrider` command: which groups there are, and how every run ends.

Owns the table of commands, loaded only when called for (so that `--help` and `rollout status` do not pay for what
`serve` needs), and the one place where errors become a line on stderr and an exit code. Leaves each command to its
module.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import typer
from rich.text import Text
from typer.core import TyperGroup
from typer.exceptions import TyperException
from typer.main import get_command

from orchestrator.cli.errors import CliError, ExitCode
from orchestrator.cli.examples import give_examples
from orchestrator.cli.options import (
    ALL_OPTIONS,
    context_parameter,
    give_signature,
    root_options,
    shared_parameters,
    version_parameter,
)
from orchestrator.cli.screen import console_for
from orchestrator.cli.words import clean

EPILOG = "\n\n".join(
    [
        "Every command accepts --help, which has examples. Guide: docs/cli.md. Completion: --install-completion.",
        "[bold]Exit codes[/bold]",
        ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode) + ".",
    ]
)
"""Below `outrider --help`. Blank lines keep lines apart in typer."""


@dataclass(frozen=True, slots=True)
class Group:
    """Where a command or group of commands lives; its module holds a typer app named `app`."""

    module: str
    summary: str
    """For `outrider --help`."""
    quiet_grpc: bool = True
    """Whether gRPC's own log lines stay off the screen; what `serve` starts shall log them."""


GROUPS: Mapping[str, Group] = {
    "keys": Group("orchestrator.cli.keys", "Make the keys of an installation, change them, and see when they end."),
    "serve": Group("orchestrator.cli.serve", "Run the orchestrator on a data folder.", quiet_grpc=False),
    "fleet": Group("orchestrator.cli.fleet", "Import, list, move, exclude and remove vehicles; make enrolment tokens."),
    "release": Group("orchestrator.cli.release", "Sign, register and show releases."),
    "rehearse": Group("orchestrator.cli.rehearse", "Run a plan on a modelled fleet: how long it takes, who is harmed."),
    "rollout": Group("orchestrator.cli.rollout", "Preview, start, watch and stop rollouts."),
    "vehicle": Group("orchestrator.cli.vehicle", "Show a vehicle, and why it does or does not get an update."),
    "case": Group("orchestrator.cli.case", "List, show and close cases: vehicles that an update hurt, or may have."),
    "ledger": Group("orchestrator.cli.ledger", "Verify and read the append-only record of decisions and outcomes."),
    "image-repo": Group("orchestrator.cli.image_repo", "Keep the Image repository's metadata fresh."),
    "store": Group("orchestrator.cli.store", "Verify the store's counters; repair its files after a crash."),
    "ca": Group(
        "orchestrator.cli.ca", "Issue certificates to operators, and renew the authorities behind all certificates."
    ),
    "backup": Group("orchestrator.cli.backup", "Take a backup of an installation, running or not."),
    "restore": Group("orchestrator.cli.restore", "Make a data folder out of a backup."),
    "doctor": Group(
        "orchestrator.cli.doctor", "Check an installation, running or not: what is wrong, and how to mend it."
    ),
}
"""In the order in which a newcomer needs them."""


class LazyGroup(TyperGroup):
    """Lists commands from GROUPS and imports the module of the one that runs."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Swap the stand-in that the list shows for the real command."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        if name is None:
            return name, stand_in, rest
        command = load(name)
        command.name = name
        return name, command, rest


def load(name: str) -> Any:
    """The real command or group `name`, a key of GROUPS."""
    group = GROUPS[name]
    if group.quiet_grpc:
        # Read by gRPC when it is imported, which is why it stands here.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imports make hardly any garbage, and looking for it is a seventh of their time.
    gc.disable()
    try:
        command = get_command(importlib.import_module(group.module).app)
    finally:
        gc.enable()
    give_examples(name, command)
    return command


def build() -> typer.Typer:
    """The root of the command line."""
    app = typer.Typer(cls=LazyGroup, name="outrider", no_args_is_help=True, rich_markup_mode="rich")

    def root(*, version: bool, **given: Any) -> None:
        """Over-the-air updates for fleets of vehicles: signed, staged, stopped early when bad."""
        root_options(**given)

    give_signature(root, [context_parameter(), *shared_parameters(ALL_OPTIONS), version_parameter()])
    app.callback(epilog=EPILOG)(root)
    for name, group in GROUPS.items():
        app.command(name, help=group.summary)(_stand_in)
    return app


def _stand_in() -> None:
    """Stands in the list of commands; never called, `LazyGroup` swaps it."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code, an ExitCode.
    """
    debug = "--debug" in arguments
    try:
        outcome = get_command(build()).main(list(arguments), prog_name="outrider", standalone_mode=False)
    except CliError as error:
        return fail(error.cause, error.remedy, error.exit_code, details=error.details, debug=debug)
    except TyperException as error:
        return misused(error)
    except typer.Abort:
        return fail("ended at the prompt", "nothing was changed", ExitCode.FAILED, debug=debug)
    except BrokenPipeError:
        # Whoever read us (for example `head`) has enough.
        sys.stdout = io.StringIO()
        return ExitCode.OK
    except Exception as error:
        remedy = "run it again with --debug for the stack trace; this is a defect, please report it"
        return fail(f"{type(error).__name__}: {error}", remedy, ExitCode.FAILED, debug=debug)
    return outcome if isinstance(outcome, int) else ExitCode.OK


def misused(error: TyperException) -> int:
    """Say what is wrong with the command line; without arguments, the help was the answer."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "outrider"
    message = " ".join(error.format_message().split())
    if not message:
        return ExitCode.BAD_INPUT
    return fail(message.rstrip("."), f"see `{path} --help`", ExitCode.BAD_INPUT)


def fail(cause: str, remedy: str, exit_code: ExitCode, *, details: Sequence[str] = (), debug: bool = False) -> ExitCode:
    """Write the error to stderr: details first, then one line with cause and remedy."""
    console = console_for(sys.stderr.isatty(), stderr=True)
    for detail in details:
        console.print(Text(clean(detail)), soft_wrap=True)
    line = Text("error: ", style="bold red").append(clean(cause), style="default not bold")
    if remedy:
        line.append(" -> ", style="dim not bold").append(clean(remedy), style="default not bold")
    console.print(line, soft_wrap=True)
    if debug:
        console.print(Text(traceback.format_exc()), soft_wrap=True)
    return exit_code


def main() -> None:
    """The entry point: runs the command line of this process and ends it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))
