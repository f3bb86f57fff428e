"""Has a person confirm what cannot be taken back, by typing its name: whoever types it has read it."""

from __future__ import annotations

import sys

import typer

from orchestrator.cli.errors import BadInputError


def confirm_name(name: str, *, to: str) -> None:
    """Have the person type a name.

    Args:
        name: what must be typed.
        to: what is done then, for example `start it`.

    Raises:
        BadInputError: nobody can be asked, or something else was typed.
    """
    if not sys.stdin.isatty():
        raise BadInputError(f"a person must confirm to {to}", remedy="add --yes if you are sure")
    typed = typer.prompt(f"Type {name} to {to}", err=True)
    if typed.strip() != name:
        raise BadInputError(f"typed {typed.strip()!r}, not {name!r}: nothing was changed", remedy="try again")
