"""The dead-man on the server's own clock: nobody has to stop anything when the evaluator is gone."""

from __future__ import annotations

import asyncio

from orchestrator.model.decision import Refusal
from orchestrator.store.base import Reserved
from orchestrator.store.redis import EmbeddedServer, RedisStore
from tests.contracts.steps import SPRING, reason, renew, reserve, running


async def test_sign_of_life_runs_out_by_itself(redis_store: RedisStore, embedded_server: EmbeddedServer) -> None:
    """No call of ours ends it: time on the server does."""
    store = await RedisStore.connect(embedded_server.url, dead_man_life_ms=300)
    await running(store)
    assert await reserve(store, "spring.v-1.1") == Reserved()
    async with asyncio.timeout(10):
        while not isinstance(answer := await reserve(store, "spring.v-1.1"), Refusal):
            continue
    assert reason(answer) == "evaluator_silent"
    assert await renew(store, permit_ceiling=1)
    assert await reserve(store, "spring.v-1.1") == Reserved()
    await store.close()


async def test_age_of_what_is_unsettled_is_machine_time(redis_store: RedisStore) -> None:
    """A young reservation is left to the worker that is about to assign it."""
    await running(redis_store)
    await reserve(redis_store, "spring.v-1.1")
    assert (await redis_store.unsettled([SPRING], older_than_ms=60_000))[SPRING].reservations == []
    async with asyncio.timeout(10):
        while not (found := await redis_store.unsettled([SPRING], older_than_ms=50))[SPRING].reservations:
            continue
    assert found[SPRING].reservations == ["spring.v-1.1"]
