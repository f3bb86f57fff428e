"""What a look of the evaluator costs, with many rollouts running, over a large fleet and over a small one.

The evaluator, the store's client and the ledger are those of the service, in this process; both stores are servers of
their own. A tick is split where it waits: what it asks of the store to see how things are, the signs of life that it
writes last, and the rest, which is the judging and the metrics.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry

from benchmarks.speed.pairs import Figure, Pair, measured
from orchestrator.clock import FleetClock, MachineClock
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.progress import Illegal, step
from orchestrator.engine.requests import AbortRequested, start
from orchestrator.evaluator import Evaluator
from orchestrator.ledger import Ledger
from orchestrator.model.ids import FleetTime, ReleaseVersion, RolloutId
from orchestrator.model.release import Release
from orchestrator.service.decisions import decision_entry
from orchestrator.service.ledger_feed import LedgerFeed
from orchestrator.store.base import JournalEntry
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.address import connection_to
from orchestrator.store.redis.pipeline import Pipeline
from orchestrator.telemetry import Metrics

ROLLOUTS = 20
TICKS = 40
"""Of a round: of fewer, the PINGs beside them take two milliseconds."""
RELEASE = ReleaseVersion("9.0.0")
PLAN = """release: 9.0.0
target: {{model: [{model}]}}
waves:
  - {{name: all, share: 100%, soak: 24h}}
limits: {{blast_budget: 200}}
"""
WRITES = frozenset({"renew"})


def ticking(
    loop: asyncio.AbstractEventLoop, large: str, small: str, folder: Path, *, rounds: int, now: FleetTime
) -> list[Figure]:
    """The figures: a tick over the large fleet against one over the small, and its parts against bare PINGs.

    Args:
        loop: everything runs on.
        large: URL of a store with a large fleet.
        small: URL of a store with a small one, of the same kinds.
        folder: for the ledgers; new.
        rounds: of each pair that count.
        now: fleet time of both.
    """
    folder.mkdir()
    over_large = loop.run_until_complete(_Ticker.open(large, folder / "large.sqlite3", now))
    over_small = loop.run_until_complete(_Ticker.open(small, folder / "small.sqlite3", now))
    pings = f"{over_large.shards} PINGs, pipelined"

    def on(work: Callable[[], Awaitable[int]]) -> Callable[[], int]:
        async def done() -> int:
            return await work()

        return lambda: loop.run_until_complete(done())

    def against_pings(key: str, name: str, clock: Callable[[], float], at_most: float | None = None) -> Pair:
        ours, bare = on(over_large.tick), on(over_large.ping)
        return Pair(key, name, "ticks", pings, ours, bare, at_most, clock=clock, bare_clock=perf_counter)

    watch = over_large.watch
    pairs = [
        Pair(
            "tick_flatness",
            f"tick: {ROLLOUTS} rollouts, the large fleet",
            "ticks",
            "the same over the small fleet",
            on(over_large.tick),
            on(over_small.tick),
            at_most=1.3,
            clock=perf_counter,
        ),
        against_pings("tick_vs_ping", "tick: what it reads of the store", lambda: watch.reading_s, at_most=10.0),
        against_pings("tick_signs_of_life", "tick: what it writes, on disk", lambda: watch.writing_s),
        against_pings("tick_judging", "tick: judging, metrics", lambda: perf_counter() - watch.waiting_s),
    ]
    figures = [measured(pair, rounds) for pair in pairs]
    for ticker in (over_large, over_small):
        loop.run_until_complete(ticker.close())
    return figures


@dataclass(slots=True)
class _Watch:
    """Seconds by the wall that somebody waited for the store, calls at once counted once."""

    reading_s: float = 0.0
    writing_s: float = 0.0
    under_way: int = 0
    since: float = 0.0

    @property
    def waiting_s(self) -> float:
        """For either."""
        return self.reading_s + self.writing_s


class _Watched:
    """A store whose calls are timed."""

    def __init__(self, store: RedisStore, watch: _Watch) -> None:
        self._store = store
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._timed(name, found) if inspect.iscoroutinefunction(found) else found

    def _timed(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def timed(*arguments: Any, **named: Any) -> Any:
            watch = self._watch
            if not watch.under_way:
                watch.since = perf_counter()
            watch.under_way += 1
            try:
                return await call(*arguments, **named)
            finally:
                watch.under_way -= 1
                if not watch.under_way:
                    took_s = perf_counter() - watch.since
                    if name in WRITES:
                        watch.writing_s += took_s
                    else:
                        watch.reading_s += took_s

        return timed


class _Ticker:
    """An evaluator over a store in which rollouts run.

    Args:
        store: with its fleet.
        bare: the same server, for PINGs.
        ledger: of its own.
        evaluator: that ticks.
        watch: what of a tick was waiting.
    """

    def __init__(self, store: RedisStore, bare: Pipeline, ledger: Ledger, evaluator: Evaluator, watch: _Watch) -> None:
        self._store = store
        self._bare = bare
        self._ledger = ledger
        self._evaluator = evaluator
        self.watch = watch
        self.shards = store.shards

    @classmethod
    async def open(cls, url: str, ledger_file: Path, now: FleetTime) -> _Ticker:
        store, ledger, machine, watch = await RedisStore.connect(url), Ledger(ledger_file), MachineClock(), _Watch()
        # Bound before there is a rollout: a ledger that is new proves nothing about a store that has some.
        await ledger.set_dataset_id(await store.dataset_id())
        await _launch(store, now)
        clock = await store.clock(origin=now, scale=1.0)
        watched: Any = _Watched(store, watch)
        # A second a tick, as in service: what is looked at every few seconds is so at one tick in as many.
        passing = MachineClock(monotonic_ns=count(step=10**9).__next__)
        evaluator = Evaluator(
            store=watched,
            feed=LedgerFeed(watched, ledger),
            clock=FleetClock(
                origin=now, started_ms=clock.machine_ms, scale=1.0, machine_ms=clock.machine_ms, machine=machine
            ),
            machine=passing,
            metrics=Metrics(CollectorRegistry()),
            origin=now,
            scale=1.0,
        )
        await evaluator.tick()
        running = [rollout for rollout in await store.rollouts() if rollout.status.value == "running"]
        assert len(running) >= ROLLOUTS, "only what runs is judged"
        return cls(store, Pipeline(connection_to(url)), ledger, evaluator, watch)

    async def close(self) -> None:
        """Let go; its rollouts are over, so that whoever serves this store later has nothing to do for them."""
        for rollout in await self._store.rollouts():
            changed = step(rollout, AbortRequested(actor="bench", reason="measured"), rollout.updated_at)
            if not isinstance(changed, Illegal):
                entry = decision_entry(changed.rollout, changed.kind, changed.data)
                await self._store.transition(changed.rollout, expected_epoch=rollout.epoch, decision=entry)
        await self._bare.close()
        await self._store.close()
        await self._ledger.close()

    async def tick(self) -> int:
        """Some ticks."""
        for _ in range(TICKS):
            await self._evaluator.tick()
        return TICKS

    async def ping(self) -> int:
        """As often one PING for each shard, all at once."""
        for _ in range(TICKS):
            await asyncio.gather(*(self._bare.call("PING") for _ in range(self.shards)))
        return TICKS


async def _launch(store: RedisStore, now: FleetTime) -> None:
    release = Release(RELEASE, images=(), notes="", created_at=now, targets_version=1)
    await store.create_release(release, JournalEntry("", "", "release_created", now, {}))
    regions = {profile.region for profile in await store.profiles()}
    for number in range(ROLLOUTS):
        text = PLAN.format(model="SX"[number % 2])
        plan, rollout_id = read_plan(text), RolloutId(f"tick-{number}")
        rules = dict.fromkeys(sorted(regions), plan.region_defaults)
        salt = bytes([number]) * 16
        rollout = start(rollout_id, plan, text, salt, rules, "bench", "bench", "", now)
        await store.create_rollout(rollout, JournalEntry(rollout_id, "", "rollout_created", now, {}))
