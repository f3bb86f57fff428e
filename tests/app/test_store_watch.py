"""A private store that dies is started again at once; one that cannot start is tried more and more seldom."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from orchestrator.app.children import BACKOFF_S, LIVED_S
from orchestrator.app.store_watch import SAID_EVERY_S, WATCH_S, StoreStarter
from orchestrator.clock import MachineClock
from orchestrator.store.redis import EmbeddedServer
from orchestrator.telemetry import Metrics

pytestmark = pytest.mark.processes


class House:
    """A server, who starts it again, and machine time that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.server = EmbeddedServer(folder / "store")
        self.ms = 0
        self.metrics = Metrics(CollectorRegistry())
        machine = MachineClock(monotonic_ns=lambda: self.ms * 1_000_000)
        self.starter = StoreStarter(self.server, self.metrics, machine)

    @property
    def tries(self) -> float:
        """How often it was started again."""
        return self.metrics.registry.get_sample_value("outrider_child_restarts_total", {"child": "store"}) or 0

    async def watch(self, seconds: float) -> None:
        """Look as often as a supervisor does in so long."""
        for _ in range(round(seconds / WATCH_S)):
            await self.starter.see_to()
            self.ms += round(WATCH_S * 1000)

    def kill(self) -> None:
        """What `kill -9` does; back when it is gone."""
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.wait_dead()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.server.start()
    yield house
    house.server.stop()


async def test_killed_store_is_started_again_at_the_next_look_however_often(house: House) -> None:
    """Vehicles wait for it: who is killed now and then has not failed."""
    for kills in range(1, 6):
        house.kill()
        await house.watch(WATCH_S)
        assert house.server.alive()
        assert house.tries == kills
        await house.watch(LIVED_S + 1)
    assert house.tries == 5


async def test_store_that_cannot_start_is_tried_seldom_and_said_once_a_minute(house: House, tmp_path: Path) -> None:
    """Each try writes into its log, each line into ours: on a full disk that is what keeps it full."""
    house.kill()
    [newest] = (tmp_path / "store" / "appendonlydir").glob("*.incr.aof")
    whole = newest.read_bytes()
    newest.write_bytes(whole + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\ntorn")
    with capture_logs() as said:
        await house.watch(SAID_EVERY_S)
    assert 10 <= house.tries <= len(BACKOFF_S) + SAID_EVERY_S / BACKOFF_S[-1]
    assert [line["event"] for line in said] == ["store_ended", "store_failed"]
    with capture_logs() as said:
        await house.watch(SAID_EVERY_S)
    assert [line["event"] for line in said] == ["store_failed"]
    newest.write_bytes(whole)
    await house.watch(BACKOFF_S[-1] + WATCH_S)
    assert house.server.alive(), "and it is back soon after it can be"
