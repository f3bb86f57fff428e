"""Says whether the store answers, and starts the private one again when it dies."""

from __future__ import annotations

import asyncio

import structlog

from orchestrator.app.children import BACKOFF_S, LIVED_S
from orchestrator.clock import MachineClock
from orchestrator.store.base import StoreError
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.telemetry import Metrics

log = structlog.get_logger()

WATCH_S = 0.2
SAID_EVERY_S = 60.0
"""Machine time after which the same failure is logged again: the disk that it is about may be the log's."""


class StoreStarter:
    """Starts a server again, and waits between tries that fail: the first is made at once, the next ones as a child's.

    Args:
        embedded: the server.
        metrics: each try is counted.
        machine: measures the waits.
    """

    def __init__(self, embedded: EmbeddedServer, metrics: Metrics, machine: MachineClock) -> None:
        self._embedded = embedded
        self._restarts = metrics.child_restarts.labels(child="store")
        self._machine = machine
        self._ended = False
        """Whether its end was told, and it has not been started since."""
        self._started_ms: int | None = None
        self._tries = 0
        """In a row, after none of which it lived."""
        self._next_ms = 0
        self._said, self._said_ms = "", 0

    async def see_to(self) -> None:
        """Start the server if it is not there, and its time has come."""
        if self._embedded.alive() or self._machine.monotonic_ms() < self._next_ms:
            return
        if not self._ended:
            log.error("store_ended")
            self._ended = True
        if self._started_ms is not None and self._machine.monotonic_ms() - self._started_ms > LIVED_S * 1000:
            self._tries = 0
        self._restarts.inc()
        try:
            await asyncio.to_thread(self._embedded.start)
        except (StoreError, OSError) as error:
            self._started_ms = None
            self._say(str(error))
        else:
            self._started_ms = self._machine.monotonic_ms()
            self._ended, self._said = False, ""
        wait_s = BACKOFF_S[min(self._tries, len(BACKOFF_S) - 1)]
        self._tries += 1
        self._next_ms = self._machine.monotonic_ms() + round(wait_s * 1000)

    def _say(self, error: str) -> None:
        now_ms = self._machine.monotonic_ms()
        if error != self._said or now_ms - self._said_ms >= SAID_EVERY_S * 1000:
            log.error("store_failed", error=error)
            self._said, self._said_ms = error, now_ms


async def watch_store(
    store: RedisStore, embedded: EmbeddedServer | None, metrics: Metrics, machine: MachineClock
) -> None:
    """Watch for ever."""
    starter = StoreStarter(embedded, metrics, machine) if embedded is not None else None
    while True:
        if starter is not None:
            await starter.see_to()
        began_ms = machine.monotonic_ms()
        try:
            await store.answers()
            up = 1
            metrics.store_call.observe((machine.monotonic_ms() - began_ms) / 1000)
        except StoreError:
            up = 0
        metrics.store_up.labels(process="supervisor").set(up)
        await machine.sleep(WATCH_S)
