"""A feed that dies: carries a store's journal to a ledger, and is killed, for real, at the step of that number.

Steps are the doors between the two sides: each call on the store's journal before and after, and each statement that
the ledger gives its database, the end of a transaction before and after. Run as `python -m tests.ledger.feeding`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.ledger import Ledger
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.store.redis import RedisStore


class Countdown:
    """Does something at a step, once, or never comes to it."""

    def __init__(self, step: int, act: Callable[[], object]) -> None:
        self._left, self._act = step, act

    @property
    def passed(self) -> bool:
        """Whether the step was come to."""
        return self._left <= 0

    def pass_door(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


def kill_myself() -> None:
    """As an operator, the kernel or a power cut would: without a chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Doors:
    """A thing whose methods count as two steps each: one before, one after."""

    def __init__(self, inner: Any, countdown: Countdown, *names: str) -> None:
        self._inner, self._countdown, self._names = inner, countdown, names

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        async def counted(*given: Any, **named: Any) -> Any:
            self._countdown.pass_door()
            answer = await found(*given, **named)
            self._countdown.pass_door()
            return answer

        return counted


class CountedConnection:
    """The ledger's writing connection, whose statements and commit are steps."""

    def __init__(self, inner: Any, countdown: Countdown) -> None:
        self._inner, self._countdown = inner, countdown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def run_many(self, statement: str, values: Any) -> None:
        self._inner.run_many(statement, values)
        self._countdown.pass_door()

    @contextmanager
    def writing(self) -> Iterator[None]:
        with self._inner.writing():
            self._countdown.pass_door()
            yield
            self._countdown.pass_door()
        self._countdown.pass_door()


def counted_feed(store: RedisStore, ledger: Ledger, countdown: Countdown) -> LedgerFeed:
    """A feed whose steps are counted."""
    ledger._writing = CountedConnection(ledger._writing, countdown)  # type: ignore[assignment]
    doors: Any = Doors(store, countdown, "journals_beyond", "trim_journal")
    return LedgerFeed(doors, ledger)


async def feed(store_url: str, place: Path | str, step: int) -> None:
    """Carry everything, unless killed before."""
    store = await RedisStore.connect(store_url)
    ledger = Ledger(place)
    await counted_feed(store, ledger, Countdown(step, kill_myself)).run_once()
    await ledger.close()
    await store.close()


if __name__ == "__main__":
    where = sys.argv[2]
    asyncio.run(feed(sys.argv[1], where if "://" in where else Path(where), int(sys.argv[3])))
