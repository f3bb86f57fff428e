"""What a cluster must be when the service starts: each refusal with its remedy, on real nodes, Redis 7.0 among them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestrator.clock import MachineClock
from orchestrator.store.base import StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.library import LIBRARY
from orchestrator.store.redis.topology import slot_of
from tests.builders import NOW
from tests.contracts.steps import SPRING, renew, running
from tests.redis_cluster import HOST, ACluster, a_cluster, servers
from tests.store_fixtures import redis_of_the_system

pytestmark = pytest.mark.processes


@pytest.fixture
def empty_cluster(cluster: ACluster) -> Iterator[ACluster]:
    """The shared cluster, empty; set back and whole afterwards."""
    cluster.empty()
    yield cluster
    cluster.mend()
    cluster.empty()


async def refusal(url: str, **arguments: object) -> str:
    with pytest.raises(StoreRefusedError) as refused:
        await RedisStore.connect(url, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    return str(refused.value)


async def test_cluster_that_would_forget_at_a_failover_is_refused(empty_cluster: ACluster) -> None:
    """A failover there comes by itself; what replicas had not received is lost without a word."""
    said = await refusal(empty_cluster.url)
    assert "has 1 replicas, and a failover to one forgets what it had not received: set store_replicas_min" in said
    store = await RedisStore.connect(empty_cluster.url, durability="provider")
    await store.close()


async def test_fewer_replicas_than_are_to_confirm_are_refused(empty_cluster: ACluster) -> None:
    """Every change would be refused later, one by one."""
    said = await refusal(empty_cluster.url, replicas_min=2)
    assert "has 1 replicas in step, store_replicas_min is 2: start what is missing, or lower store_replicas_min" in said


async def test_any_primary_that_would_break_a_promise_is_refused(empty_cluster: ACluster) -> None:
    """One node of three is enough to lose a third of the fleet."""
    last = empty_cluster.primary_of("{s:05}")
    last.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert "maxmemory-policy is 'allkeys-lru'" in await refusal(empty_cluster.url, replicas_min=1)
    last.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    last.ask("CONFIG", "SET", "appendfsync", "no")
    assert "appendfsync is 'no', not 'always'" in await refusal(empty_cluster.url, replicas_min=1)


async def test_key_of_somebody_else_on_any_primary_is_refused(empty_cluster: ACluster) -> None:
    """A cluster is one database: who shares a node of it shares it."""
    for name in ("session:1", "session:2", "session:3"):
        server = empty_cluster.primary_of(f"{{{name}}}")
        server.ask("SET", name, "x")
        assert f"holds keys that are not Outrider's, as {name!r}" in await refusal(empty_cluster.url, replicas_min=1)
        server.ask("DEL", name)


async def test_part_of_a_cluster_that_came_back_empty_is_refused(empty_cluster: ACluster) -> None:
    """Where what names the data set is gone, the rest must not be taken for a new one."""
    store = await RedisStore.connect(empty_cluster.url, replicas_min=1)
    await running(store)
    await store.close()
    empty_cluster.primary_of(FLEET_TAG).ask("DEL", key(FLEET_TAG, "meta"))
    assert "a part of it is lost; restore a backup" in await refusal(empty_cluster.url, replicas_min=1)


async def test_functions_are_loaded_on_every_primary(empty_cluster: ACluster) -> None:
    """A rollout's node is another than its vehicles'."""
    primaries = [server for server in empty_cluster.nodes if empty_cluster.is_primary(server)]
    for server in primaries:
        server.ask("FUNCTION", "FLUSH")
    store = await RedisStore.connect(empty_cluster.url, replicas_min=1)
    await store.close()
    assert all(len(server.ask("FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)) == 1 for server in primaries)


async def test_address_of_one_server_does_not_do_for_a_cluster_nor_the_other_way(
    empty_cluster: ACluster, tmp_path: Path
) -> None:
    """Either would work for some calls, or for none; the remedy is one word."""
    said = await refusal(f"redis://{empty_cluster.nodes[0].node}")
    assert "nodes of a cluster: write redis+cluster:// in store_url" in said
    with servers(tmp_path, 1, clustered=False) as (alone,):
        assert "is no node of a cluster" in await refusal(f"redis+cluster://{alone.node}")


async def test_address_of_a_replica_is_refused(tmp_path: Path) -> None:
    """It answers, and takes nothing."""
    with servers(tmp_path, 2, clustered=False) as (primary, replica):
        replica.follow(primary)
        with pytest.raises(StoreUnavailableError, match=rf"a replica of {primary.node}: let store_url name the primar"):
            await RedisStore.connect(f"redis://{replica.node}")


async def test_one_server_waits_for_its_replica(tmp_path: Path) -> None:
    """A primary with a replica that somebody promotes by hand is a store too."""
    with servers(tmp_path, 2, clustered=False) as (primary, replica):
        url = f"redis://{primary.node}"
        assert "has 0 replicas in step, store_replicas_min is 1" in await refusal(url, replicas_min=1)
        replica.follow(primary)
        store = await RedisStore.connect(url, replicas_min=1)
        await running(store)
        replica.kill()
        with pytest.raises(StoreUnavailableError, match="confirmed a change"):
            await renew(store, permit_ceiling=2)
        assert (await store.standing(SPRING, now=NOW)).evaluator_alive
        await store.close()


async def test_slots_that_nobody_serves_are_waited_for(tmp_path: Path) -> None:
    """Some vehicles would be refused for ever, and nobody would know which."""
    with a_cluster(tmp_path, primaries=3, replicas=0) as incomplete:
        slot = slot_of("{s:00}")
        for server in incomplete.nodes:
            server.ask("CLUSTER", "DELSLOTS", slot)
        with pytest.raises(StoreUnavailableError, match=r"slots that the cluster serves \(16383\) < 16384: start the"):
            await RedisStore.connect(incomplete.url)


async def test_nobody_at_any_seed_is_an_outage(tmp_path: Path) -> None:
    """Not a refusal: it may be started in a moment. One seed that answers is enough."""
    with servers(tmp_path, 1) as (dead,):
        dead.kill()
        with pytest.raises(StoreUnavailableError, match="cannot reach the store"):
            await RedisStore.connect(f"redis+cluster://{dead.node}")


def certificate(folder: Path) -> Mapping[str, str]:
    """Settings of a server with TLS: one certificate of its own, for clients and for the other nodes."""
    now = datetime.fromtimestamp(MachineClock().wall_ms() // 1000, tz=UTC)
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "store.crt").write_bytes(made.public_bytes(encoding))
    plain = serialization.NoEncryption()
    (folder / "store.key").write_bytes(private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return {
        "tls-port": "1",
        "tls-cluster": "yes",
        "tls-replication": "yes",
        "tls-auth-clients": "no",
        "tls-cert-file": str(folder / "store.crt"),
        "tls-key-file": str(folder / "store.key"),
        "tls-ca-cert-file": str(folder / "store.crt"),
    }


async def test_cluster_of_redis_7_0_with_tls_and_passwords(tmp_path: Path) -> None:
    """The oldest server that will do, as strangers run it: nothing in clear, nobody without the password."""
    settings = {**certificate(tmp_path), "requirepass": "se%:cret", "masterauth": "se%:cret"}
    with a_cluster(tmp_path, settings=settings, binary=redis_of_the_system()) as tight:
        assert (await refusal(tight.url.replace(tight.login, ":wrong@"), replicas_min=1)).startswith(
            "the store refuses our credentials, check its URL"
        )
        with pytest.raises(StoreUnavailableError, match="cannot reach the store"):
            await RedisStore.connect(f"redis+cluster://{tight.login}{tight.nodes[0].node}", replicas_min=1)
        store = await RedisStore.connect(tight.url, replicas_min=1)
        await running(store)
        assert await renew(store, permit_ceiling=3)
        assert (await store.vitals()).durable
        await store.close()
