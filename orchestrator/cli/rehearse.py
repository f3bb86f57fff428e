"""`outrider rehearse`: what a plan would do to a fleet that has not been touched yet.

Owns that NumPy is asked for only here, by the one command that needs it. The options are `rehearse_options`', what they
mean is read in `rehearse_values`, the rehearsal is `orchestrator.rehearsal`'s, how it reads is `rehearse_view`'s.
"""

from __future__ import annotations

import importlib
import inspect
from importlib.util import find_spec
from typing import Any

import typer

from orchestrator.cli.errors import CliError
from orchestrator.cli.options import give_signature
from orchestrator.cli.rehearse_options import Given
from orchestrator.cli.session import Session, operator_command

app = typer.Typer(add_completion=False)


def _rehearse(session: Session, /, **given: Any) -> None:
    """Run a plan on a modelled fleet: how long it takes, who is harmed, the chance of a false stop.

    Needs no server but for --live. The engine is the one that runs rollouts; the fleet is a model, and the answer says
    what it leaves out.
    """
    if find_spec("numpy") is None:
        raise CliError(
            "a rehearsal needs NumPy, which is not installed here",
            remedy="install Outrider with its extra `judge`: pip install 'outrider[judge]'",
        )
    # Its modules import NumPy: nothing else of the command line may need it.
    importlib.import_module("orchestrator.cli.rehearse_run").rehearse(session, Given(**given))


give_signature(
    _rehearse,
    [
        inspect.Parameter("session", inspect.Parameter.POSITIONAL_ONLY, annotation=Session),
        *(
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(Given, eval_str=True).parameters.values()
        ),
    ],
)
operator_command(app, "rehearse")(_rehearse)
