"""Options that every command shares, as data and as something that typer can read.

Owns that a shared option may stand before or after the command (after wins). Leaves what they lead to to `session`.
Imports no gRPC: `outrider --help` needs none.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.screen import OutputFormat

DATA_VARIABLE = "OUTRIDER_DATA"
DATA_DEFAULT = "outrider-data"
TIMEOUT_S = 15.0
PANEL = "Shared options"


@dataclass(frozen=True, slots=True)
class Options:
    """Shared options as given; None where one was not."""

    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help=f"Data folder of the installation. Default: ${DATA_VARIABLE}, else ./{DATA_DEFAULT}.",
            rich_help_panel=PANEL,
        ),
    ] = None
    operator: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Identity to use: the folder DIR/operators/NAME. Default: admin.",
            rich_help_panel=PANEL,
        ),
    ] = None
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="HOST:PORT",
            help="Operator port of the orchestrator. Default: as in DIR/endpoints.json.",
            rich_help_panel=PANEL,
        ),
    ] = None
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            metavar="DIR",
            help="Folder with operator.crt, operator.key and server-ca.pem; instead of --as.",
            rich_help_panel=PANEL,
        ),
    ] = None
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0.1,
            help=f"Deadline of a call to the server. Default: {TIMEOUT_S:g}.",
            rich_help_panel=PANEL,
        ),
    ] = None
    output: Annotated[
        OutputFormat | None,
        typer.Option("--output", "-o", help="How to write the answer. Default: table.", rich_help_panel=PANEL),
    ] = None
    debug: Annotated[
        bool | None,
        typer.Option("--debug", help="Show the stack trace of an error.", rich_help_panel=PANEL),
    ] = None

    def over(self, outer: Options) -> Options:
        """These options, with what was not given taken from `outer`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return Options(**{name: getattr(outer, name) if value is None else value for name, value in values.items()})


ALL_OPTIONS = tuple(item.name for item in fields(Options))
LOCAL_OPTIONS = ("data", "output", "debug")
"""Of commands that work on the data folder alone."""


def root_options(context: typer.Context, **given: Any) -> None:
    """Keep the shared options that stand before the command."""
    context.obj = Options(**given)


def shared_parameters(names: Sequence[str]) -> list[inspect.Parameter]:
    """Shared options as parameters of a function, for typer to read."""
    known = inspect.signature(Options, eval_str=True).parameters
    return [known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names]


def give_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Let `function` look to typer as if it had been written with `parameters`."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def version_parameter() -> inspect.Parameter:
    """`--version`, which answers before anything else is looked at."""
    option = typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    return inspect.Parameter(
        "version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"outrider {version('outrider')}\n")
        raise typer.Exit


def context_parameter() -> inspect.Parameter:
    """The parameter by which typer hands in its context."""
    return inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
