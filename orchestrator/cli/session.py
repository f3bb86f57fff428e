"""Options that every command shares, and what a command gets from them: a screen, the data folder, a client.

Owns that a shared option may stand before or after the command (after wins). Leaves what a command does to it.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from orchestrator.cli.client import Identity, OperatorClient, operators_address
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.screen import OutputFormat, Screen

P = ParamSpec("P")

DATA_VARIABLE = "OUTRIDER_DATA"
DATA_DEFAULT = "outrider-data"
TIMEOUT_S = 15.0
PANEL = "Shared options"
LOCAL_OPTIONS = ("data", "output", "debug")
"""Shared options of commands that work on the data folder alone."""


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


class Session:
    """What a command works with.

    Args:
        options: the shared ones.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.screen = Screen(options.output or OutputFormat.TABLE)

    @property
    def data(self) -> Path:
        """The data folder, whether or not it exists."""
        return self.options.data or Path(os.environ.get(DATA_VARIABLE) or DATA_DEFAULT)

    @property
    def timeout_s(self) -> float:
        """Deadline of a call, machine seconds."""
        return self.options.timeout_s or TIMEOUT_S

    def client(self) -> OperatorClient:
        """A client of the orchestrator; close it by `with`.

        Raises:
            CliError: there is no server to call or no identity to call it by.
        """
        options = self.options
        if options.operator and options.identity:
            raise BadInputError("--as and --identity exclude each other", remedy="give one of them")
        name = options.operator or "admin"
        if Path(name).name != name:
            raise BadInputError(f"--as {name!r} is not a name", remedy="use --identity DIR for a folder")
        return OperatorClient(
            address=options.server or operators_address(self.data),
            identity=Identity.load(options.identity or self.data / "operators" / name),
            timeout_s=self.timeout_s,
            wait=time.sleep,
            note=self.screen.note,
        )


def operator_command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Registers a command that talks to the server: its function gets a Session, its users every shared option."""
    return _register(app, name, tuple(item.name for item in fields(Options)))


def local_command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Registers a command on the data folder: its function gets a Session, its users LOCAL_OPTIONS."""
    return _register(app, name, LOCAL_OPTIONS)


def root_options(context: typer.Context, **given: Any) -> None:
    """Keep the shared options that stand before the command."""
    context.obj = Options(**given)


def shared_parameters(names: tuple[str, ...]) -> list[inspect.Parameter]:
    """Shared options as parameters of a function, for typer to read."""
    known = inspect.signature(Options, eval_str=True).parameters
    return [known[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in names]


def give_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    """Let `function` look to typer as if it had been written with `parameters`."""
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def context_parameter() -> inspect.Parameter:
    """The parameter by which typer hands in its context."""
    return inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def _register(
    app: typer.Typer, name: str, shared: tuple[str, ...]
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    def decorate(function: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def call(*, context: typer.Context, **given: Any) -> None:
            own = Options(**{option: given.pop(option) for option in shared})
            outer = context.obj if isinstance(context.obj, Options) else Options()
            function(Session(own.over(outer)), **given)  # type: ignore[call-arg]

        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        as_keywords = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in parameters]
        give_signature(call, [context_parameter(), *as_keywords, *shared_parameters(shared)])
        app.command(name)(call)
        return call

    return decorate
