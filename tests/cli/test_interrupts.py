"""Ctrl-C while a rollout is watched: the first one counts, wherever it strikes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from outrider.v1.rollout_pb2 import Rollout, WatchRolloutRequest

from orchestrator.cli.client import Identity, OperatorClient, Request, Response
from orchestrator.cli.interrupts import Interrupts
from orchestrator.cli.rollout_watch import Until, WatchEndedError, watch
from orchestrator.cli.screen import OutputFormat, Screen
from tests.cli.answers import a_rollout
from tests.cli.server import OperatorServer

pytestmark = pytest.mark.usefixtures("in_the_foreground")


def press() -> None:
    """Ctrl-C that strikes within a callback of the RPC library: its exception is swallowed there."""
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


class Swallowing(OperatorClient):
    """A client whose library swallows an interrupt that comes with the first answer."""

    def stream(
        self, method: grpc.UnaryStreamMultiCallable[Request, Response], request: Request, *, timeout_s: float
    ) -> Iterator[Response]:
        for number, answer in enumerate(super().stream(method, request, timeout_s=timeout_s)):
            yield answer
            if number == 0:
                press()


@pytest.mark.parametrize("hangs", [True, False])
def test_an_interrupt_that_the_library_swallows_ends_the_watch_all_the_same(
    hangs: bool, server: OperatorServer, data: Path
) -> None:
    """Whoever presses Ctrl-C once must not have to guess that a second one helps."""
    released, waits = threading.Event(), list[float]()

    def following(request: WatchRolloutRequest) -> Rollout:
        if hangs:
            released.wait(60)
        return a_rollout("HELD")

    server.will_stream("WatchRollout", [a_rollout(), following, following])
    identity = Identity.load(data / "operators" / "admin")
    client = Swallowing(
        address=server.address, identity=identity, timeout_s=5, wait=lambda _: None, note=lambda _: None
    )
    with pytest.raises(WatchEndedError) as ending:
        watch(client, Screen(OutputFormat.TABLE), "rollouts/spring", until=Until.OVER, wait=waits.append)
    released.set()
    assert ending.value.rollout is not None
    assert not waits, "it did not try to reach the server again"


def test_the_usual_handler_is_back_afterwards_and_a_background_job_ignores_ctrl_c_as_before() -> None:
    """A prompt that follows is ended as ever."""
    with Interrupts(lambda: None):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts(lambda: None) as interrupts:
            press()
        assert not interrupts.struck
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
