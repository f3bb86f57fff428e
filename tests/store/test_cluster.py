"""The same functions on a server in cluster mode: no call may leave its slot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import Applied, Permitted, Reserved
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.keys import ALL_KEYS, rollout_tag, shard_tag
from orchestrator.store.redis.verify import Difference
from orchestrator.store.shards import shard_of
from tests.builders import DAY_MS, HOUR_MS, NOW, after
from tests.contracts.steps import (
    SPRING,
    a_control,
    a_manifest,
    assigned,
    authorize,
    entry,
    reserve,
    running,
    sweep_all,
    tell,
)

pytestmark = pytest.mark.processes

SLOTS = 16384


@pytest.fixture
def cluster_of_one(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """One node in cluster mode that owns every slot: it refuses commands across slots as any cluster does."""
    server = EmbeddedServer(tmp_path / "store", settings={"cluster-enabled": "yes"})
    server.start()
    with redis.Redis(unix_socket_path=str(server.socket_path), protocol=3) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            continue
    yield server
    server.stop()


async def test_whole_way_of_an_attempt_stays_within_slots(cluster_of_one: EmbeddedServer) -> None:
    """Growing into a cluster must need no redesign: every operation works there as it is."""
    store = await RedisStore.connect(cluster_of_one.url)
    await store.clock(origin=NOW, scale=1.0)
    await running(store)
    assert await reserve(store, "spring.v-1.1") == Reserved()
    attempt = await assigned(store)
    await store.confirm(SPRING, reservations=[attempt.attempt_id], permits=[])
    await tell(store, attempt, AttemptEvent.DOWNLOAD_FINISHED)
    assert await authorize(store, attempt.attempt_id) == Permitted(NOW)
    assert isinstance(await store.permit(attempt.attempt_id, permitted_at=NOW), Applied)
    await tell(store, attempt, AttemptEvent.REBOOT_STARTED)
    assert await sweep_all(store, after(DAY_MS)) == 3
    await store.attest(attempt.vehicle_id, a_manifest(attempt, event=AttemptEvent.ATTESTED_RELEASE), now=after(DAY_MS))
    await store.release(SPRING, [attempt.attempt_id])
    await store.put_token(attempt.vehicle_id, token_sha256="t", life_ms=1000)
    await store.take_token(attempt.vehicle_id, token_sha256="t", request_sha256="r")
    await store.touch({attempt.vehicle_id: Contact(at=NOW)})
    assert (await store.contacts(["eu"], now=after(HOUR_MS)))["eu"].recent == 0
    await store.suspend(SPRING, {attempt.attempt_id: 1})
    await store.forfeit(SPRING, [attempt.attempt_id])
    assert await store.enrol(a_control(attempt.vehicle_id))
    assert (await store.standing(SPRING, now=NOW)).admitted == {}
    await store.revoke(attempt.vehicle_id, entry())
    assert await store.tallies([SPRING]) == await store.recount([SPRING])
    assert len((await store.vehicles(page_token="", page_size=10))[0]) == 1
    assert len(await store.cases(rollout_id=None, settled=True)) == 1
    for stream in await store.journal_streams():
        await store.trim_journal(stream, upto=await store.journal_mark(stream) or "0-0")
    await store.close()


async def test_recount_and_repair_stay_within_slots(cluster_of_one: EmbeddedServer) -> None:
    """A large fleet is counted anew where it lives."""
    store = await RedisStore.connect(cluster_of_one.url)
    await running(store)
    attempt = await assigned(store)
    await reserve(store, attempt.attempt_id)
    await store.change(attempt.attempt_id, AttemptEvent.WITHDRAWN, now=NOW)
    await sweep_all(store, after(9 * DAY_MS))
    tag, verifier = shard_tag(shard_of(attempt.vehicle_id, store.shards)), store.verifier()
    with redis.Redis(unix_socket_path=str(cluster_of_one.socket_path), protocol=3) as client:
        client.hincrby(f"{tag}:count:spring", "eu|gen2|canary|b|withdrawn", 1)
        client.zadd(f"{tag}:due", {f"d|{attempt.attempt_id}": 7})
        client.hincrby(f"{rollout_tag(SPRING)}:in_flight", "eu", 1)

    async def found() -> list[Difference]:
        shards = [each for shard in range(store.shards) for each in await verifier.shard(shard)]
        return shards + await verifier.rollout(SPRING)

    wrong = await found()
    assert [each.counter for each in wrong] == ["count", "due", "in_flight"]
    for each in wrong:
        await verifier.repair(each, at=NOW, actor="ann", reason="why")
    assert sum([await verifier.pack_ended(shard) for shard in range(store.shards)]) == 0
    await verifier.spend_permits(SPRING)
    assert await found() == []
    await store.close()


async def test_every_key_of_a_tag_has_the_slot_of_its_tag(cluster_of_one: EmbeddedServer) -> None:
    """Functions derive keys from the tag they are given; the cluster routes by that one key."""
    with redis.Redis(unix_socket_path=str(cluster_of_one.socket_path), protocol=3) as client:
        for tag in (shard_tag(15), rollout_tag(SPRING), "{g}"):
            slots = {client.execute_command("CLUSTER", "KEYSLOT", f"{tag}{suffix}x") for suffix in ALL_KEYS.values()}
            assert slots == {client.execute_command("CLUSTER", "KEYSLOT", tag)}


async def test_cluster_mode_really_refuses_other_slots(cluster_of_one: EmbeddedServer) -> None:
    """Otherwise the test above would prove nothing."""
    with (
        redis.Redis(unix_socket_path=str(cluster_of_one.socket_path), protocol=3) as client,
        pytest.raises(redis.exceptions.ResponseError, match=r"(?i)slot"),
    ):
        client.mget("{s:00}:a", "{s:01}:a")
