"""Where a store is: one server or a cluster, by `store_url`.

A cluster is `redis+cluster://` or, with TLS, `rediss+cluster://`, with one node or more; credentials and options are
those of every node. Owns the reading of addresses and the connections to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orchestrator.store.base import StoreRefusedError

PORT = 6379
_CLUSTERS = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_REMEDY = (
    "write it as redis://host:port, rediss://host:port, unix:///path, or redis+cluster://host:port,host:port for a "
    "cluster"
)


class Node(NamedTuple):
    """Where one server of a cluster listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A `store_url`, read."""

    seeds: tuple[Node, ...]
    """Nodes of a cluster to begin with; empty for one server."""
    url: str
    """Of one server; of a node of a cluster with `%s` for host and port."""

    @property
    def cluster(self) -> bool:
        """Whether it is a cluster's."""
        return bool(self.seeds)

    def url_of(self, node: Node) -> str:
        """The URL of one node of the cluster."""
        return self.url.replace("%s", str(node), 1)

    def connection(self, node: Node | None = None) -> AbstractConnection:
        """A new connection to the server, or to a node of the cluster."""
        return connection_to(self.url if node is None else self.url_of(node))


def read_address(address: str | Path) -> Address:
    """Read an address, and see that connections can be made of it.

    Args:
        address: path of a unix socket, or a URL.

    Raises:
        StoreRefusedError: it is none.
    """
    text = str(address)
    scheme, separator, rest = text.partition("://")
    read = Address(seeds=(), url=text)
    try:
        if separator and scheme in _CLUSTERS:
            read = _read_cluster(_CLUSTERS[scheme], rest)
            read.connection(read.seeds[0])
        else:
            read.connection()
    except ValueError as error:
        # The text may hold a password.
        raise StoreRefusedError(f"the store's URL cannot be used ({error}): {_REMEDY}") from error
    except TypeError as error:
        option = str(error).rpartition(" ")[2]
        raise StoreRefusedError(f"the store's URL cannot be used (no option {option} there): {_REMEDY}") from error
    return read


def _read_cluster(scheme: str, rest: str) -> Address:
    before, question, options = rest.partition("?")
    authority, _, path = before.partition("/")
    if path not in ("", "0"):
        raise ValueError(f"a cluster has no database {path!r}, only 0")
    login, at, hosts = authority.rpartition("@")
    seeds = tuple(_read_node(host) for host in hosts.split(","))
    return Address(seeds=seeds, url=f"{scheme}://{login.replace('%s', '%25s')}{at}%s{question}{options}")


def _read_node(text: str) -> Node:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} names no host")
    return Node(parts.hostname, parts.port or PORT)


def connection_to(address: str | Path) -> AbstractConnection:
    """One connection, RESP3, that never repeats a command by itself and leaves deadlines to the pipeline.

    Raises:
        ValueError: the address is none.
    """
    settings: dict[str, Any] = {
        "protocol": 3,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "client_name": "outrider",
    }
    if isinstance(address, Path) or "://" not in address:
        return UnixDomainSocketConnection(path=str(address), **settings)
    arguments = dict(parse_url(address))
    connection_class = arguments.pop("connection_class", Connection)
    connection: AbstractConnection = connection_class(**(arguments | settings))  # type: ignore[operator]
    return connection
