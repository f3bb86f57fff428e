"""Counts that are kept from one look to the next: every change shows, whoever made it, and also one back in time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from orchestrator.model.attempt import AttemptEvent as E
from orchestrator.model.ids import RolloutId
from orchestrator.store.base import InventoryChange, StoreUnavailableError
from orchestrator.store.redis import EmbeddedServer, RedisStore, counts
from orchestrator.store.redis.calls import Calls
from orchestrator.store.redis.keys import key, shard_tag
from orchestrator.store.redis.verify import Difference
from orchestrator.store.shards import shard_of
from orchestrator.store.streams import shard_stream
from tests.builders import DAY_MS, NOW, a_vehicle, after, an_attempt
from tests.contracts.steps import SPRING, a_manifest, assigned, permitted, running, sweep_all, tell
from tests.store_fixtures import empty


async def same_as_seen_first(watcher: RedisStore, url: str) -> None:
    """What one handle has watched all along is what another sees that was opened now."""
    fresh = await RedisStore.connect(url)
    assert await watcher.tallies([SPRING]) == await fresh.tallies([SPRING]) == await fresh.recount([SPRING])
    assert await watcher.profiles() == await fresh.profiles()
    assert await watcher.open_cases() == await fresh.open_cases()
    await fresh.close()


async def test_every_change_of_another_process_shows_at_the_next_look(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """The evaluator judges by what it kept; workers made the change."""
    worker = await RedisStore.connect(embedded_server.url)
    await running(worker)
    before, after_it = a_vehicle("v-7"), replace(a_vehicle("v-7"), region="us")
    attempt = an_attempt()
    steps = (
        lambda: worker.import_vehicles([a_vehicle(f"v-{number}") for number in range(9)], now=NOW),
        lambda: assigned(worker, attempt),
        lambda: tell(worker, attempt, E.DOWNLOAD_FINISHED),
        lambda: worker.permit(attempt.attempt_id, permitted_at=NOW),
        lambda: sweep_all(worker, after(DAY_MS)),
        lambda: worker.attest("v-1", a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(DAY_MS)),
        lambda: worker.change_vehicles([InventoryChange(before, after_it)], actor="ann", reason="sold", now=NOW),
        lambda: worker.remove_vehicle("v-8", actor="ann", reason="sold", now=NOW),
        lambda: worker.import_vehicles([a_vehicle("v-9", tags=("fleet",))], now=NOW),
    )
    for step in steps:
        await step()
        await same_as_seen_first(redis_store, embedded_server.url)
    await worker.close()


async def test_what_did_not_change_is_the_same_object(redis_store: RedisStore) -> None:
    """A tick asks every second: what is as it was must not be worked out again."""
    await permitted(redis_store)
    profiles, tallies = await redis_store.profiles(), await redis_store.tallies([SPRING])
    assert await redis_store.profiles() is profiles
    assert (await redis_store.tallies([SPRING]))[SPRING] is tallies[SPRING]
    await redis_store.import_vehicles([a_vehicle("v-2")], now=NOW)
    assert sum((await redis_store.profiles()).values()) == 2
    assert sum(profiles.values()) == 1


async def test_repaired_profile_shows_at_the_next_look(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """A repair changes what is counted like anybody else."""
    await redis_store.import_vehicles([a_vehicle()], now=NOW)
    (profile,) = await redis_store.profiles()
    shard = shard_of(a_vehicle().vehicle_id, redis_store.shards)
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        (field,) = client.hkeys(key(shard_tag(shard), "profiles"))
    wrong = Difference(shard_stream(shard), "profiles", field.decode(), 1, 3)
    await redis_store.verifier().repair(wrong, at=NOW, actor="ann", reason="why")
    assert await redis_store.profiles() == {profile: 3}


async def test_profiles_of_a_store_that_an_earlier_build_wrote_are_seen(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """It noted no change of them, and its counters may have changed a thousand times."""
    await redis_store.import_vehicles([a_vehicle(f"v-{number}") for number in range(9)], now=NOW)
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        for shard in range(redis_store.shards):
            client.delete(key(shard_tag(shard), "profiles_change"))
            client.set(key(shard_tag(shard), "change"), 1000)
    fresh = await RedisStore.connect(embedded_server.url)
    assert sum((await fresh.profiles()).values()) == 9
    await fresh.import_vehicles([a_vehicle("v-9")], now=NOW)
    assert sum((await fresh.profiles()).values()) == 10
    await fresh.close()


async def test_store_that_went_back_is_seen_as_it_is_now(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """After a repair of the file the store knows less; what was seen before is void."""
    attempt = await permitted(redis_store)
    await tell(redis_store, attempt, E.INSTALL_STARTED, E.FAILED)
    assert (await redis_store.tallies([SPRING]))[SPRING]
    assert await redis_store.open_cases() == {SPRING: 1}
    empty(embedded_server.socket_path)
    assert await redis_store.tallies([SPRING]) == {SPRING: {}}
    assert await redis_store.profiles() == {}
    assert await redis_store.open_cases() == {}


def are_over(server: EmbeddedServer, store: RedisStore, *, rollouts: int, cells: int) -> list[RolloutId]:
    """Have every shard count attempts of rollouts, as those leave it that ran."""
    ids = [RolloutId(f"r-{number}") for number in range(rollouts)]
    with redis.Redis(unix_socket_path=str(server.socket_path), protocol=3) as client:
        for tag in map(shard_tag, range(store.shards)):
            for number, rollout_id in enumerate(ids, start=1):
                counted = {f"eu|hw-{cell}|rest|p|succeeded": 1000 + number for cell in range(cells)}
                client.hset(key(tag, "count") + rollout_id, mapping=counted)
                client.zadd(key(tag, "changed"), {rollout_id: number})
            client.set(key(tag, "change"), rollouts)
    return ids


async def test_first_look_goes_in_steps_and_keeps_what_it_has_seen(
    redis_store: RedisStore, embedded_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees every rollout that ever ran: in one step it would be too late each time, from some number of them on."""
    ids = are_over(embedded_server, redis_store, rollouts=3 * counts.CHANGED_MAX + 1, cells=1)
    steps: list[set[object]] = []
    call = Calls.functions

    async def interrupted(calls: Calls, name: str, asked: Iterable[Sequence[Any]]) -> list[list[Any]]:
        asked = list(asked)
        if name == "tally":
            steps.append({since for _, since, *_ in asked})
            if len(steps) == 3:
                raise StoreUnavailableError("the store did not answer")
        return await call(calls, name, asked)

    monkeypatch.setattr(Calls, "functions", interrupted)
    with pytest.raises(StoreUnavailableError):
        await redis_store.tallies(ids)
    seen = await redis_store.tallies(ids)
    assert steps == [{step * counts.CHANGED_MAX} for step in (0, 1, 2, 2, 3)]
    assert [sum(each.exposed for each in seen[rollout_id].values()) for rollout_id in ids] == [
        redis_store.shards * (1000 + number) for number in range(1, len(ids) + 1)
    ]


async def test_rollouts_that_nobody_asks_for_are_kept_as_numbers(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """Every process has those of every rollout that ever ran; as names and counts they took some seventy bytes each."""
    rollouts, cells = 40, 200
    are_over(embedded_server, redis_store, rollouts=rollouts, cells=cells)
    tracemalloc.start()
    watcher = await RedisStore.connect(embedded_server.url)
    await watcher.tallies([])
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await watcher.close()
    assert size_bytes < 20 * rollouts * cells * redis_store.shards


async def test_tallies_that_are_not_kept_are_summed_anew(
    redis_store: RedisStore, embedded_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing asks for all that ever ran, and those that the evaluator asks for stay."""
    monkeypatch.setattr(counts, "TALLIES_MAX", 2)
    ids = are_over(embedded_server, redis_store, rollouts=3, cells=2)
    first = await redis_store.tallies(ids)
    again = await redis_store.tallies(ids[2:])
    assert again[ids[2]] is first[ids[2]]
    anew = await redis_store.tallies(ids)
    assert anew == first
    assert anew[ids[0]] is not first[ids[0]]
