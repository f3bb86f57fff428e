"""Searches by what vehicles have in common: fast by what is noted, right whatever is noted."""

from __future__ import annotations

import pytest
import redis

from orchestrator.model.fleet import Profile
from orchestrator.model.ids import VehicleId
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.codec import UNIT
from orchestrator.store.redis.keys import shard_tag
from orchestrator.store.shards import shard_of
from tests.builders import NOW, a_vehicle

SHARED = 400
"""Vehicles of the profile that most have."""


@pytest.fixture
def client(embedded_server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3)


def members(vehicle_id: str, store: RedisStore, region: str) -> str:
    """The set in which a vehicle is noted."""
    tag = shard_tag(shard_of(VehicleId(vehicle_id), store.shards))
    return f"{tag}:members:{UNIT.join(('S', 'gen2', region, 'canary', '', '', ''))}"


async def a_fleet(store: RedisStore) -> None:
    vehicles = [a_vehicle(f"v-{number}") for number in range(SHARED)]
    await store.import_vehicles(
        [*vehicles, a_vehicle("rare-1", region="ap"), a_vehicle("rare-2", region="ap")], now=NOW
    )


async def found(store: RedisStore, region: str) -> list[str]:
    """Ids of a region's vehicles, read by a small page at a time; one that came twice is there twice."""
    ids: list[str] = []
    token = ""
    while True:
        page, token = await store.vehicles(page_token=token, page_size=9, wanted=lambda each: each.region == region)
        ids += [record.vehicle.vehicle_id for record in page]
        if not token:
            return sorted(ids)


def calls_of(client: redis.Redis, name: str) -> int:
    """How many vehicles the server read, by commands inside functions as well."""
    stats = client.info("commandstats").get(f"cmdstat_{name}", {"calls": 0})
    return int(stats["calls"])


async def test_rare_vehicles_are_found_without_a_look_at_others(redis_store: RedisStore, client: redis.Redis) -> None:
    """A search that reads a million vehicles for two is one that nobody makes twice."""
    await a_fleet(redis_store)
    client.config_resetstat()
    assert await found(redis_store, "ap") == ["rare-1", "rare-2"]
    assert calls_of(client, "hscan") == 0
    assert calls_of(client, "hget") < 30


@pytest.mark.parametrize("harm", ["lost", "lacking", "swapped", "stray", "removed"])
async def test_search_finds_all_whatever_is_noted(redis_store: RedisStore, client: redis.Redis, harm: str) -> None:
    """By an earlier build that did not note it, or a stray write: slower, never less."""
    await a_fleet(redis_store)
    noted = members("rare-1", redis_store, "ap")
    # Whoever is named in its place is of the same shard.
    other = next(f"v-{number}" for number in range(SHARED) if members(f"v-{number}", redis_store, "ap") == noted)
    if harm in ("lacking", "swapped"):
        client.srem(noted, "rare-1")
    if harm in ("stray", "swapped"):
        client.sadd(noted, other)
    if harm == "lost":
        client.delete(noted)
    if harm == "removed":
        await redis_store.remove_vehicle(VehicleId("rare-1"), actor="ann", reason="sold", now=NOW)
        client.sadd(noted, "rare-1")
        client.hset(noted.partition(":members:")[0] + ":profiles", noted.partition(":members:")[2], 1)
    expected = ["rare-2"] if harm == "removed" else ["rare-1", "rare-2"]
    assert sorted(set(await found(redis_store, "ap"))) == expected


async def test_inventory_of_an_earlier_build_is_noted_once(
    redis_store: RedisStore, client: redis.Redis, embedded_server: EmbeddedServer
) -> None:
    """At the first start of this build; also where one that notes it went before the earlier one."""
    await a_fleet(redis_store)
    keys = sorted(client.keys("{s:*}:members:*"))
    before = {name: client.smembers(name) for name in keys}
    client.delete(*keys[1:])
    client.sadd(keys[0], "v-stray")
    client.sadd("{s:00}:members:gone", "v-stray")

    again = await RedisStore.connect(embedded_server.url)
    await again.close()
    assert b"v-stray" in client.smembers(keys[0]), "noted anew without a reason"

    client.function_load("#!lua name=outrider_v6\nredis.register_function('outrider_v6_x', function() return 1 end)")
    again = await RedisStore.connect(embedded_server.url)
    await again.close()
    assert {name: client.smembers(name) for name in sorted(client.keys("{s:*}:members:*"))} == before
    assert client.function_list("outrider_v6") == []


async def test_all_profiles_wanted_are_all_vehicles(redis_store: RedisStore) -> None:
    """A profile larger than a step and a page, and small ones, once each."""
    await a_fleet(redis_store)
    ids: list[str] = []
    token = ""

    def anything(_: Profile) -> bool:
        return True

    while True:
        page, token = await redis_store.vehicles(page_token=token, page_size=50, wanted=anything)
        ids += [record.vehicle.vehicle_id for record in page]
        if not token:
            break
    assert len(ids) == len(set(ids)) == SHARED + 2
