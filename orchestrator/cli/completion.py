"""Completes rollout ids at the shell's prompt, by asking the server.

Owns that completion is silent and quick: whatever goes wrong, nothing is offered and nothing is said.
"""

from __future__ import annotations

from typing import Any

import grpc
import typer
from outrider.v1.rollout_pb2 import ListRolloutsRequest

from orchestrator.cli.errors import CliError
from orchestrator.cli.options import ALL_OPTIONS, Options
from orchestrator.cli.session import Session

TIMEOUT_S = 1.0
"""Whoever presses tab does not wait longer."""
PAGE_SIZE = 100


def rollout_ids(ctx: typer.Context) -> list[str]:
    """Ids of rollouts, newest first; typer keeps those that begin with what was typed.

    Args:
        ctx: typer's context, with the options that stand before the word.
    """
    given: dict[str, Any] = {}
    level: Any = ctx
    while level is not None:
        given = {name: level.params[name] for name in ALL_OPTIONS if level.params.get(name) is not None} | given
        level = level.parent
    try:
        with Session(Options(**{**given, "timeout_s": TIMEOUT_S})).client() as client:
            # Once: `ask` would wait where the server asks for it, and say so.
            answer = client.rollouts.ListRollouts(ListRolloutsRequest(page_size=PAGE_SIZE), timeout=TIMEOUT_S)
    except (CliError, grpc.RpcError):
        return []
    return [rollout.name.rpartition("/")[2] for rollout in answer.rollouts]
