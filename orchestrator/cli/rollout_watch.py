"""Watches a rollout until it is where the person wants it: a live page on a terminal, a line a change elsewhere.

Owns when a watch ends, how it survives a lost connection, and the second screen. Leaves the page to `watch_page`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from types import TracebackType
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.ledger_pb2 import LedgerEntry
from outrider.v1.rollout_pb2 import BRAKE_KIND_HALTED, Rollout, WatchRolloutRequest
from rich.console import RenderableType
from rich.live import Live

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import CliError, RefusedError, UnreachableError
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.rollout_view import one_line, rollout_view
from orchestrator.cli.screen import Screen
from orchestrator.cli.watch_facts import Extras
from orchestrator.cli.watch_page import Facts, WatchPage
from orchestrator.cli.words import moment, of_id, plain, rollout_status

OVER = ("completed", "aborted", "superseded")
STREAM_S = 3600.0
"""Deadline of one stream; a longer watch opens the next."""
RECONNECTS_MAX = 10
"""Tries in a row without an answer before a watch gives up: about a minute."""
RECONNECT_WAIT_S_MAX = 8.0
REFRESH_PER_S = 2.0
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
        WatchEndedError: ended from the keyboard.
        RefusedError: it is over and can no longer get there.
        CliError: the server refuses, or stays out of reach.
    """
    seen: Rollout | None = None
    shows = LivePage(client, screen, name) if screen.live else LinePage(screen)
    with Interrupts(client.close) as interrupts:

        def trouble(text: str) -> None:
            interrupts.check()
            shows.trouble(text)

        try:
            with shows:
                for rollout in changes(client, name, wait, trouble):
                    seen = rollout
                    shows.show(rollout)
                    if ended(rollout, of_id(name), until):
                        break
                    interrupts.check()
        except KeyboardInterrupt as exc:
            raise WatchEndedError(seen) from exc
        except (CliError, ValueError) as exc:
            # The channel was closed under the stream: the interrupt itself was lost within the RPC library.
            if not interrupts.struck:
                raise
            raise WatchEndedError(seen) from exc
    if seen is None:
        raise AssertionError("a watch only ends by a state of the rollout")
    if screen.live:
        screen.answer(seen, rollout_view(seen), plain(following(seen)))
    return seen


class WatchEndedError(KeyboardInterrupt):
    """A watch was ended from the keyboard.

    Attributes:
        rollout: as it was last seen; None when it never was.
    """

    def __init__(self, rollout: Rollout | None) -> None:
        super().__init__()
        self.rollout = rollout


def ended(rollout: Rollout, rollout_id: str, until: Until) -> bool:
    """Whether the watch is over.

    Raises:
        RefusedError: the rollout is over and can no longer get where it is waited for.
    """
    status = rollout_status(rollout.status)
    if until.reached_by(status):
        return True
    if status in OVER:
        raise RefusedError(
            f"rollout {rollout_id} ended as {status}, not as {until.value}",
            remedy=f"see why: `outrider ledger show {rollout_id}`",
        )
    return False


class LinePage:
    """A line a change, for whoever does not sit at a terminal; a document a line in JSON."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to take down."""

    def show(self, rollout: Rollout) -> None:
        """Say what changed, if anything that is said did."""
        line = one_line(rollout)
        if line != self._last:
            text = f"{moment(rollout.fleet_time)}  {of_id(rollout.name)}  {line}"
            self._screen.answer(rollout, text, compact=True)
            self._last = line

    def trouble(self, text: str) -> None:
        """Say why nothing comes; an empty text is no trouble."""
        if text:
            self._screen.note(text)


class LivePage:
    """The page on a terminal's second screen: what stood there before is there again afterwards.

    Redrawn twice a second at the size that the terminal then has, and at each change.
    """

    def __init__(self, client: OperatorClient, screen: Screen, name: str) -> None:
        self._facts: Facts | None = None
        self._lock = threading.Lock()
        self._live = Live(
            console=screen.answers, screen=True, refresh_per_second=REFRESH_PER_S, get_renderable=self._page
        )
        self._extras = Extras(client, name, self._take)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._live)
        self._stack.enter_context(self._extras)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(self, rollout: Rollout) -> None:
        """Take over a newer state."""
        with self._lock:
            fresh = Facts(rollout=rollout, now=rollout.fleet_time)
            self._facts = fresh if self._facts is None else self._facts.with_rollout(rollout)
        self._live.refresh()

    def trouble(self, text: str) -> None:
        """Show why the page may be behind."""
        with self._lock:
            if self._facts is not None:
                self._facts = replace(self._facts, trouble=text)

    def _take(self, events: Sequence[LedgerEntry], open_cases: int | None, now: Timestamp | None) -> None:
        with self._lock:
            if self._facts is None:
                return
            fresher = now if now is not None and now.seconds > self._facts.now.seconds else self._facts.now
            self._facts = replace(self._facts, events=events, open_cases=open_cases, now=fresher)

    def _page(self) -> RenderableType:
        with self._lock:
            return WatchPage(self._facts) if self._facts is not None else "Asking for the rollout ..."


def following(rollout: Rollout) -> str:
    """What a person could do next, by where the rollout stands."""
    name, status = of_id(rollout.name), rollout_status(rollout.status)
    if status == "completed":
        return f"Next: outrider case list --rollout {name}"
    if status == "aborted":
        return f'Next: outrider ledger show {name}, or outrider rollout revert {name} --reason "..."'
    if status == "superseded":
        return f"Next: outrider ledger show {name}"
    if status == "draft" and rollout.approvals_wanted:
        return f'Next: outrider --as APPROVER rollout approve {name} --reason "..."'
    if status in ("draft", "approved"):
        return f'Next: outrider rollout launch {name} --reason "..."'
    halted = next((each.scope for each in rollout.brakes if each.kind == BRAKE_KIND_HALTED), "")
    if status == "running" and halted:
        return f'Next: outrider ledger show {name}, then outrider rollout resume {name} --scope {halted} --reason "..."'
    if status == "running":
        return f'Next: outrider rollout status {name}, or outrider rollout pause {name} --reason "..."'
    return f'Next: outrider ledger show {name}, then outrider rollout resume|abort {name} --reason "..."'


def changes(
    client: OperatorClient, name: str, wait: Callable[[float], None], trouble: Callable[[str], None]
) -> Iterator[Rollout]:
    """Every state the server sends, across lost connections and ended streams; says why when nothing comes."""
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
            trouble(f"{error.cause}; trying again ({lost} of {RECONNECTS_MAX}) ...")
            wait(min(RECONNECT_WAIT_S_MAX, 2.0 ** (lost - 1)))
