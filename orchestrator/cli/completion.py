"""Completes rollout ids at the shell's prompt, by asking the server.

Owns that completion is silent and quick: whatever goes wrong, nothing is offered and nothing is said.
"""

from __future__ import annotations

from typing import Any

import grpc
from outrider.v1.rollout_pb2 import ListRolloutsRequest

from orchestrator.cli.errors import CliError
from orchestrator.cli.options import ALL_OPTIONS, Options
from orchestrator.cli.session import Session

TIMEOUT_S = 1.0
"""Whoever presses tab does not wait longer."""
PAGE_SIZE = 100


def rollout_ids(ctx: Any, incomplete: str) -> list[str]:
    """Ids of rollouts that begin with what was typed, newest first.

    Args:
        ctx: typer's context, with the options that stand before the word.
        incomplete: what was typed of the word.
    """
    given: dict[str, Any] = {}
    while ctx is not None:
        given = {name: ctx.params[name] for name in ALL_OPTIONS if ctx.params.get(name) is not None} | given
        ctx = ctx.parent
    try:
        with Session(Options(**{**given, "timeout_s": TIMEOUT_S})).client() as client:
            # Once: `ask` would wait where the server asks for it, and say so.
            answer = client.rollouts.ListRollouts(ListRolloutsRequest(page_size=PAGE_SIZE), timeout=TIMEOUT_S)
    except (CliError, grpc.RpcError):
        return []
    names = (rollout.name.rpartition("/")[2] for rollout in answer.rollouts)
    return [name for name in names if name.startswith(incomplete)]
