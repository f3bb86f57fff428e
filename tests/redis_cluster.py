"""A cluster of real servers on loopback: primaries, replicas, and what happens to them.

Owns the processes and their end. Everything listens on 127.0.0.1 at free ports.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.store.redis.address import Node
from orchestrator.store.redis.binary import find_binary
from orchestrator.store.redis.topology import SLOTS, read_topology, slot_of
from tests.ports import HOST, free_ports
from tests.processes import eventually

TAKES_OVER_AFTER_MS = 1000
"""Silence after which a primary is held for dead; a failover takes some of it, an election, and no more."""
FORMED_TIMEOUT_S = 60.0


@dataclass
class Server:
    """One server, a node of a cluster or alone."""

    folder: Path
    port: int
    settings: Mapping[str, str]
    binary: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def node(self) -> Node:
        """Where it listens."""
        return Node(HOST, self.port)

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it on the data that it has."""
        self.folder.mkdir(parents=True, exist_ok=True)
        cells = [cell for name, value in self.settings.items() for cell in (f"--{name}", *value.split(" "))]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.binary), *cells],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self.environment},
            )
        eventually(self.answers, timeout_s=FORMED_TIMEOUT_S, what=f"server {self.port} answers")

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether it does."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / "server.log").read_text()[-2000:])
        try:
            return bool(self.ask("PING"))
        except redis.exceptions.RedisError:
            return False

    def client(self) -> redis.Redis:
        """A plain client of it."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            protocol=3,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=5.0,
            password=self.settings.get("requirepass"),
            ssl="tls-port" in self.settings,
            ssl_ca_certs=self.settings.get("tls-ca-cert-file"),
        )

    def ask(self, *command: str | int) -> Any:
        """Send one command."""
        with self.client() as client:
            return client.execute_command(*command)

    def info(self, section: str) -> Mapping[str, Any]:
        """What it says of itself."""
        found: Mapping[str, Any] = self.ask("INFO", section)
        return found

    def follow(self, primary: Server) -> None:
        """Become its replica, and wait until both say that it is in step."""
        self.ask("REPLICAOF", HOST, primary.port)

        def in_step() -> bool:
            return (
                self.info("replication").get("master_link_status") == "up"
                and primary.info("replication").get("slave0", {}).get("state") == "online"
            )

        eventually(in_step, timeout_s=FORMED_TIMEOUT_S, what=f"{self.node} follows {primary.node}")

    def kill(self) -> None:
        """SIGKILL it, and wait for its end."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP it: it is there, and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


@dataclass
class ACluster:
    """Some nodes, each with all of them in mind."""

    nodes: list[Server]
    scheme: str = "redis+cluster"
    login: str = ""
    options: str = ""
    primaries: int = field(default=3)

    @property
    def url(self) -> str:
        """Of the first two nodes."""
        return f"{self.scheme}://{self.login}{self.nodes[0].node},{self.nodes[1].node}{self.options}"

    def form(self) -> None:
        """Make the nodes one cluster: the first ones are primaries, the others their replicas in turn."""
        first = self.nodes[0]
        for epoch, server in enumerate(self.nodes, start=1):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for server in self.nodes[1:]:
            server.ask("CLUSTER", "MEET", HOST, first.port, first.settings["cluster-port"])
        share = SLOTS // self.primaries
        for index in range(self.primaries):
            last = SLOTS if index == self.primaries - 1 else (index + 1) * share
            self.nodes[index].ask("CLUSTER", "ADDSLOTSRANGE", index * share, last - 1)
        eventually(self._all_known, timeout_s=FORMED_TIMEOUT_S, what="every node knows every other")
        for index, server in enumerate(self.nodes[self.primaries :]):
            server.ask("CLUSTER", "REPLICATE", self.nodes[index % self.primaries].ask("CLUSTER", "MYID"))
        self.await_whole()

    def _all_known(self) -> bool:
        return all(
            len(server.ask("CLUSTER", "NODES").splitlines()) == len(self.nodes) and self._sees_all(server)
            for server in self.nodes
        )

    @staticmethod
    def _sees_all(server: Server) -> bool:
        return b"cluster_state:ok" in server.ask("CLUSTER", "INFO")

    def await_whole(self) -> None:
        """Wait until every node that lives sees every slot served, and every replica follows."""

        def whole() -> bool:
            living = [server for server in self.nodes if server.alive]
            roles = [server.info("replication") for server in living]
            following = all(role["role"] == "master" or role["master_link_status"] == "up" for role in roles)
            return following and all(map(self._sees_all, living))

        eventually(whole, timeout_s=FORMED_TIMEOUT_S, what="the cluster is whole")

    def empty(self) -> None:
        """Forget every key; functions stay."""
        for server in self.nodes:
            if self.is_primary(server):
                server.ask("FLUSHALL")

    def mend(self) -> None:
        """Start what is dead, wake what is frozen, set back what was set, and wait until all is whole."""
        for server in self.nodes:
            if server.alive:
                server.thaw()
            else:
                server.start()
        self.await_whole()
        for server in self.nodes:
            for name in ("appendfsync", "maxmemory-policy"):
                server.ask("CONFIG", "SET", name, server.settings[name])

    @staticmethod
    def is_primary(server: Server) -> bool:
        """Whether it serves slots."""
        return bool(server.info("replication")["role"] == "master")

    def primary_of(self, tag: str) -> Server:
        """Which server serves a tag now, by the view of a node that lives."""
        for server in self.nodes:
            try:
                seen = read_topology(server.ask("CLUSTER", "SLOTS"), server.node)
            except redis.exceptions.RedisError:
                continue
            node = seen.by_slot[slot_of(tag)]
            return next(each for each in self.nodes if each.node == node)
        raise AssertionError(f"nobody serves {tag}")

    def replica_of(self, primary: Server) -> Server:
        """A replica of a primary."""
        return next(
            server
            for server in self.nodes
            if server.alive
            and (role := server.info("replication"))["role"] == "slave"
            and role["master_port"] == primary.port
        )


@contextmanager
def servers(
    folder: Path,
    count: int,
    settings: Mapping[str, str] | None = None,
    *,
    clustered: bool = True,
    binary: Path | None = None,
    environment: Callable[[int], Mapping[str, str]] = lambda _: {},
) -> Iterator[list[Server]]:
    """Servers that run, dead afterwards.

    Args:
        folder: for their data.
        count: how many.
        settings: more settings of each.
        clustered: whether they are nodes of a cluster.
        binary: the program; the embedded store's by default.
        environment: of the server at a port.
    """
    ports = free_ports(2 * count)
    made = []
    for port, bus in zip(ports[:count], ports[count:], strict=True):
        own = {
            "port": str(port),
            "bind": HOST,
            "dir": str(folder / str(port)),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            # Files of a full resynchronisation wait for nobody.
            "repl-diskless-sync-delay": "0",
        }
        if clustered:
            own |= {
                "cluster-enabled": "yes",
                "cluster-port": str(bus),
                "cluster-node-timeout": str(TAKES_OVER_AFTER_MS),
            }
        own |= settings or {}
        if "tls-port" in own:
            own |= {"port": "0", "tls-port": str(port)}
        made.append(Server(folder / str(port), port, own, binary or find_binary(), environment(port)))
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()


@contextmanager
def a_cluster(
    folder: Path,
    *,
    primaries: int = 3,
    replicas: int = 3,
    settings: Mapping[str, str] | None = None,
    binary: Path | None = None,
) -> Iterator[ACluster]:
    """A cluster that works."""
    with servers(folder, primaries + replicas, settings, binary=binary) as made:
        cluster = ACluster(made, primaries=primaries)
        if settings and "tls-port" in settings:
            cluster.scheme = "rediss+cluster"
            cluster.options = f"?ssl_ca_certs={settings['tls-ca-cert-file']}"
        if settings and "requirepass" in settings:
            cluster.login = f":{quote(settings['requirepass'], safe='')}@"
        cluster.form()
        yield cluster
