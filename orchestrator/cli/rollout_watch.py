"""Watches a rollout until it is where the person wants it: a live page on a terminal, a line a change elsewhere.

Owns when a watch ends and how it survives a lost connection. Leaves the page to `rollout_view`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from enum import StrEnum

from outrider.v1.rollout_pb2 import Rollout, WatchRolloutRequest
from rich.live import Live

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import RefusedError, UnreachableError
from orchestrator.cli.rollout_view import one_line, rollout_view
from orchestrator.cli.screen import Screen
from orchestrator.cli.words import moment, of_id, rollout_status

OVER = ("completed", "aborted")
STREAM_S = 3600.0
"""Deadline of one stream; a longer watch opens the next."""
RECONNECTS_MAX = 10
"""Tries in a row without an answer before a watch gives up: about a minute."""
RECONNECT_WAIT_S_MAX = 8.0
NEXT_STREAM_WAIT_S = 1.0
"""Before the next stream when the server ended one: a server that ends each at once is not hammered."""


class Until(StrEnum):
    """What a watch waits for."""

    OVER = "over"
    HELD = "held"
    HALTED = "halted"
    COMPLETED = "completed"

    def reached_by(self, status: str) -> bool:
        """Whether a rollout of this status is where the watch wants it."""
        return status in OVER if self is Until.OVER else status == self.value


def watch(client: OperatorClient, screen: Screen, name: str, *, until: Until, wait: Callable[[float], None]) -> Rollout:
    """Show every change of a rollout until it is where it is waited for.

    Args:
        client: to ask.
        screen: to show it on.
        name: `rollouts/{rollout_id}`.
        until: when to end.
        wait: waits that many seconds; called between tries to reach the server again.

    Returns:
        The rollout as it was last seen.

    Raises:
        RefusedError: it is over and can no longer get there.
        CliError: the server refuses, or stays out of reach.
    """
    last_line = ""
    with ExitStack() as stack:
        live = stack.enter_context(Live(console=screen.answers, auto_refresh=False)) if screen.live else None
        for rollout in changes(client, screen, name, wait):
            if live is not None:
                live.update(rollout_view(rollout), refresh=True)
            elif (line := one_line(rollout)) != last_line:
                screen.answer(rollout, f"{moment(rollout.fleet_time)}  {of_id(name)}  {line}", compact=True)
                last_line = line
            status = rollout_status(rollout.status)
            if until.reached_by(status):
                return rollout
            if status in OVER:
                raise RefusedError(
                    f"rollout {of_id(name)} ended as {status}, not as {until.value}",
                    remedy=f"see why: `outrider rollout status {of_id(name)}`",
                )
    raise AssertionError("a watch only ends by one of the ways above")


def changes(client: OperatorClient, screen: Screen, name: str, wait: Callable[[float], None]) -> Iterator[Rollout]:
    """Every state the server sends, across lost connections and ended streams."""
    lost = 0
    while True:
        try:
            for rollout in client.stream(
                client.rollouts.WatchRollout, WatchRolloutRequest(name=name), timeout_s=STREAM_S
            ):
                lost = 0
                yield rollout
            wait(NEXT_STREAM_WAIT_S)
        except UnreachableError as error:
            lost += 1
            if lost > RECONNECTS_MAX:
                raise
            screen.note(f"{error.cause}; trying again ({lost} of {RECONNECTS_MAX}) ...")
            wait(min(RECONNECT_WAIT_S_MAX, 2.0 ** (lost - 1)))
