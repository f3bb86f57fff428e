"""Checks of the servers that a store consists of: one, or the nodes of a cluster.

Owns what is asked of a server that answers; leaves to `state` which there should be, and the private store at rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.app.doctor.findings import Finding, Level, error, ok, warning
from orchestrator.app.doctor.patient import ANSWER_S
from orchestrator.store.redis.address import Address, read_address
from orchestrator.store.redis.binary import VERSION_MIN
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.library import LIBRARY, render
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED
from orchestrator.store.redis.topology import SLOTS, Topology, read_topology, slot_of

MEMORY_WARNING_SHARE = 0.8


def client_of(url: str) -> redis.Redis:
    """A client of one server, which waits for no answer longer than a person does."""
    client: redis.Redis = redis.Redis.from_url(
        url, protocol=3, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
    )
    return client


def client_of_data(url: str) -> redis.Redis:
    """A client of the server that holds the fleet's own keys.

    Raises:
        redis.exceptions.RedisError: no node of a cluster answers.
        StoreRefusedError: the URL is none.
    """
    where = read_address(url)
    if not where.cluster:
        return client_of(url)
    return client_of(where.url_of(_see(where).by_slot[slot_of(FLEET_TAG)] or where.seeds[0]))


def check_cluster(where: Address, *, replicas_min: int, checks_durability: bool) -> Iterator[Finding]:
    """Whether its nodes serve every slot, have the replicas that are to confirm, and would each do by themselves.

    Raises:
        redis.exceptions.RedisError: no node answers.
    """
    seen = _see(where)
    if seen.covered < SLOTS:
        remedy = "start the nodes that are missing: calls for their vehicles are refused"
        yield error("store", f"slots that the cluster serves ({seen.covered}) < {SLOTS}", remedy)
    else:
        yield ok("store", f"{len(seen.primaries)} primaries serve every slot")
    for node in seen.nodes:
        try:
            with closing(client_of(where.url_of(node))) as client:
                primary = node in seen.primaries
                findings = [*_check_node(client, primary=primary, checks_durability=checks_durability)]
                if primary and replicas_min:
                    findings += _check_replicas(client, replicas_min)
        except redis.exceptions.RedisError as fault:
            findings = [error("store", f"it does not answer: {fault}", "start it; its replica takes over meanwhile")]
        yield from (replace(each, cause=f"{node}: {each.cause}") for each in findings if each.level is not Level.OK)
    with closing(client_of(where.url_of(seen.by_slot[slot_of(FLEET_TAG)] or where.seeds[0]))) as client:
        yield from check_data(client)


def _check_node(client: redis.Redis, *, primary: bool, checks_durability: bool) -> Iterator[Finding]:
    yield from check_server(client)
    if checks_durability:
        yield from check_durable(client)
    if primary:
        yield from check_functions(client)


def _check_replicas(client: redis.Redis, replicas_min: int) -> Iterator[Finding]:
    about: dict[str, Any] = client.info("replication")
    states = [about[f"slave{index}"]["state"] for index in range(int(about["connected_slaves"]))]
    if states.count("online") < replicas_min:
        cause = f"replicas in step ({states.count('online')}) < store_replicas_min ({replicas_min})"
        yield error("store replicas", cause, "start what is missing: until then its changes are refused")


def _see(where: Address) -> Topology:
    """The cluster as the first node that answers sees it."""
    problem: redis.exceptions.RedisError = redis.exceptions.ConnectionError("no node is named")
    for node in where.seeds:
        try:
            with closing(client_of(where.url_of(node))) as client:
                return read_topology(client.execute_command("CLUSTER", "SLOTS"), node)  # type: ignore[no-untyped-call]
        except redis.exceptions.RedisError as fault:
            problem = fault
    raise problem


def check_server(client: redis.Redis) -> Iterator[Finding]:
    """Its version, memory, file and role."""
    info: dict[str, Any] = client.info("everything")
    version = str(info.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        yield error("store", f"version {version} < 7.0: it has no Functions", "use Redis >= 7.0 or Valkey")
        return
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', version)}"
    yield ok("store", f"{name} answers; up for {int(info.get('uptime_in_seconds', 0)) // 60} min")
    policy = str(info.get("maxmemory_policy", ""))
    if policy != "noeviction":
        yield error("store memory", f"maxmemory-policy is {policy}: it throws state away", "set it to `noeviction`")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > MEMORY_WARNING_SHARE * most:
        remedy = "raise maxmemory before it refuses writes; then grants and acknowledgements stop"
        yield warning("store memory", f"{used / most:.0%} of maxmemory ({most // 1024**2} MiB) is used", remedy)
    for field in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(field, "ok") != "ok":
            yield error("store file", f"{field} is {info[field]}", "look at the disk: docs/runbooks/disk-full.md")


def check_durable(client: redis.Redis) -> Iterator[Finding]:
    """Whether it syncs before it acknowledges."""
    remedy = "set `appendonly yes` and `appendfsync always`, or --store-durability=provider if its provider answers"
    try:
        config = {str(name): str(value) for name, value in client.config_get("append*").items()}
    except redis.exceptions.ResponseError as fault:
        yield error("store durability", f"it does not say whether it syncs to disk: {fault}", remedy)
        return
    wrong = [f"{name} {config.get(name)}" for name, needed in _DURABLE.items() if config.get(name) != needed]
    if wrong:
        yield error("store durability", f"acknowledged events can be lost: {', '.join(wrong)}", remedy)
    else:
        yield ok("store durability", "every acknowledgement is on disk before it is given")


_DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def check_data(client: redis.Redis) -> Iterator[Finding]:
    """Whose data the server holds, and of which schema; in a cluster, one that serves the fleet's keys."""
    schema = text(client.hget(key(FLEET_TAG, "meta"), "schema"))
    if schema and schema not in (str(SCHEMA), str(SCHEMA_ENDED)):
        remedy = "start the Outrider that wrote it"
        yield error("store data", f"its records have schema {schema}, this build reads {SCHEMA_ENDED}", remedy)
    elif not schema and client.dbsize():
        remedy = "give Outrider a database of its own; where they were Outrider's, restore a backup"
        yield error("store data", f"it holds {client.dbsize()} keys, and no data set of Outrider's", remedy)
    else:
        yield ok("store data", f"schema {schema}" if schema else "empty: no orchestrator has used it yet")


def check_functions(client: redis.Redis) -> Iterator[Finding]:
    """Whether the server has this build's functions; silent where it never had any, nor data."""
    found = client.function_list(LIBRARY, withcode=True)
    code = text(_field(found[0], "library_code")) if found else ""
    if not code and not client.dbsize():
        return
    if not code:
        yield error("store functions", f"library {LIBRARY} is not loaded", "restart `outrider serve`: it loads it")
    elif code != render():
        remedy = "restart `outrider serve` of this build, or use the command of the build that serves"
        yield warning("store functions", f"library {LIBRARY} is another build's", remedy)
    else:
        yield ok("store functions", f"library {LIBRARY} is this build's")


def _field(library: Any, name: str) -> Any:
    fields = library if isinstance(library, dict) else dict(zip(library[::2], library[1::2], strict=True))
    return {text(field): value for field, value in fields.items()}.get(name)


def text(value: Any) -> str:
    """What a server answered, as text; empty for nothing."""
    return value.decode() if isinstance(value, bytes) else str(value or "")
