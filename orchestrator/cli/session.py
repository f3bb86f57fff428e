"""What a command works with: a screen, the data folder, a client; and how it is registered with typer.

Leaves the shared options themselves to `options`, and what a command does to it.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import typer

from orchestrator.cli.client import Identity, OperatorClient, operators_address
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.options import (
    ALL_OPTIONS,
    DATA_DEFAULT,
    DATA_VARIABLE,
    LOCAL_OPTIONS,
    TIMEOUT_S,
    Options,
    context_parameter,
    give_signature,
    shared_parameters,
)
from orchestrator.cli.screen import OutputFormat, Screen

P = ParamSpec("P")


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
    return _register(app, name, ALL_OPTIONS)


def local_command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Registers a command on the data folder: its function gets a Session, its users LOCAL_OPTIONS."""
    return _register(app, name, LOCAL_OPTIONS)


def _register(
    app: typer.Typer, name: str, shared: Sequence[str]
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
