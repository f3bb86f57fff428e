"""The store on Redis or Valkey: opened, checked, put together.

Leaves every operation to the parts: `rollouts`, `vehicles`, `shards`, `fleet`. Owns the refusal of servers that would
break a promise.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.store.base import (
    DEAD_MAN_LIFE_MS,
    ClockState,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from orchestrator.store.redis import admission, members
from orchestrator.store.redis.address import Address, Node, read_address
from orchestrator.store.redis.admission import Durability
from orchestrator.store.redis.calls import Calls
from orchestrator.store.redis.cluster import Cluster
from orchestrator.store.redis.fleet import RedisFleet
from orchestrator.store.redis.keys import rollout_tag
from orchestrator.store.redis.pipeline import Ask, Pipeline
from orchestrator.store.redis.rollouts import RedisRollouts
from orchestrator.store.redis.shards import RedisShards
from orchestrator.store.redis.topology import slot_of
from orchestrator.store.redis.vehicles import RedisVehicles
from orchestrator.store.redis.verify import Verifier
from orchestrator.store.redis.vitals import StoreVitals, read_vitals
from orchestrator.store.shards import check_shards


@dataclass(frozen=True, slots=True)
class Places:
    """The servers of a store."""

    servers: Callable[[], Mapping[str, Calls]]
    """Those that are written to now, by name."""
    of: Callable[[str], str]
    """The name of the one that serves a tag now; empty when nobody does."""
    greeted: Callable[[], int]
    """How often one was connected to so far."""


DEFAULT_SHARDS = 16
SCOUT_S = 1.0
"""Longest that a node of a cluster may take to say who serves what."""

log = structlog.get_logger()


class RedisStore(RedisRollouts, RedisVehicles, RedisShards, RedisFleet):
    """`base.Store` on a server that speaks the Redis protocol. Open it with `connect`."""

    def __init__(self, calls: Calls, places: Places, *, shards: int, dead_man_life_ms: int) -> None:
        self._places = places
        self._ahead_ms: Mapping[str, int | StoreError] = {}
        """How far the clock of each server is ahead of the fleet's, or why nobody knows; empty for one server."""
        RedisRollouts.__init__(self, calls, dead_man_life_ms)
        RedisVehicles.__init__(self, calls, shards)
        RedisShards.__init__(self, calls, shards, self, greeted=places.greeted)
        RedisFleet.__init__(self, calls)

    @classmethod
    async def connect(
        cls,
        address: str | Path,
        *,
        shards: int | None = None,
        beside: bool = False,
        durability: Durability = "always",
        replicas_min: int = 0,
        deadline_s: float = 5.0,
        apart_s: float = 0.0,
        dead_man_life_ms: int = DEAD_MAN_LIFE_MS,
    ) -> RedisStore:
        """Open the store, load its functions, and make the data set where there is none.

        Args:
            address: path of a unix socket, or a URL `redis://`, `rediss://`, `unix://`, `redis+cluster://`,
                `rediss+cluster://`.
            shards: how many; None takes what stands, or 16 at creation.
            beside: for whoever comes to a store that a supervisor may be serving: what another build serves is left as
                it is, and refused. Otherwise the store is taken over from earlier builds for good.
            durability: `provider` trusts whoever runs the server with what `appendfsync always` gives.
            replicas_min: replicas that must confirm each change before it is acknowledged.
            deadline_s: longest that one call may take.
            apart_s: least time between round trips, for whoever has many callers that can share them.
            dead_man_life_ms: machine time that a sign of life of the evaluator lasts; shorter in tests only.

        Raises:
            StoreRefusedError: the address, the server or its data cannot be used; the message says the remedy.
            StoreUnavailableError: it does not answer.
            ValueError: the number of shards is none.
        """
        if shards is not None:
            check_shards(shards)
        where = read_address(address)
        opener = _Opener(where, durability, replicas_min, deadline_s, apart_s)
        calls, places = await opener.cluster() if where.cluster else opener.single()
        try:
            servers = places.servers()
            await opener.check(servers)
            await admission.check_keys(calls, list(servers.values()))
            if beside:
                await admission.check_libraries(servers.values())
            for server in servers.values():
                await admission.load_library(server)
            shards_found = await admission.open_dataset(
                calls,
                new_dataset_id=secrets.token_hex(16),
                new_shards=shards or DEFAULT_SHARDS,
                takes_over=not beside,
            )
            if not beside:
                await admission.retire(servers.values(), first=lambda: members.doubt(calls))
            if shards is not None and shards != shards_found:
                raise StoreRefusedError(
                    f"the store has {shards_found} shards, not {shards}: fixed at creation: leave the number out"
                )
            opener.dataset_id = await RedisFleet(calls).dataset_id()
            if not beside:
                await members.see_to(calls, list(servers.values()), shards_found)
        except BaseException:
            await calls.close()
            raise
        return cls(calls, places, shards=shards_found, dead_man_life_ms=dead_man_life_ms)

    def verifier(self) -> Verifier:
        """Who counts the records anew."""
        return Verifier(self._calls)

    async def clock(self, *, origin: FleetTime, scale: float) -> ClockState:
        """See `base.FleetStore`. Where there are several servers, their clocks are looked at first."""
        servers = self._places.servers()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        told = await asyncio.gather(*(map(_date_ms, servers.values()) if len(servers) > 1 else ()))
        state = await super().clock(origin=origin, scale=scale)
        elapsed_ms = 1 + int((loop.time() - began_s) * 1000)
        self._ahead_ms = {
            name: date if isinstance(date, StoreError) else self._ahead(name, date - state.machine_ms, elapsed_ms)
            for name, date in zip(servers, told, strict=False)
        }
        return state

    def _ahead(self, name: str, least_ms: int, elapsed_ms: int) -> int:
        """How far a clock is ahead that was looked at first: at least so far, and no further than the looks took.

        What was held true before stands while it can be, none to begin with, so that the order of two ticks does not
        hang on how long a look took. Otherwise the least, by which a sign of life seems older than it is.
        """
        before = self._ahead_ms.get(name, 0)
        if isinstance(before, StoreError):
            before = 0
        return before if least_ms - 1 <= before <= least_ms + elapsed_ms else least_ms

    async def renew(
        self, rollout_id: RolloutId, *, permit_ceiling: int, grant_ceiling: int, began_ms: int, epoch: int
    ) -> bool:
        """See `base.RolloutStore`. The begin of the tick, told by the fleet's server, in the time of the rollout's."""
        ahead_ms = 0
        if len(self._places.servers()) > 1:
            unknown = StoreUnavailableError("the clock of the rollout's node is not known yet: the next tick asks it")
            known = self._ahead_ms.get(self._places.of(rollout_tag(rollout_id)), unknown)
            if isinstance(known, StoreError):
                raise known
            ahead_ms = known
        return await super().renew(
            rollout_id,
            permit_ceiling=permit_ceiling,
            grant_ceiling=grant_ceiling,
            began_ms=began_ms + ahead_ms,
            epoch=epoch,
        )

    async def vitals(self) -> StoreVitals:
        """How the servers are now.

        Raises:
            StoreError: it did not answer, or does not say.
        """
        return await read_vitals(list(self._places.servers().values()))

    async def answers(self) -> None:
        """See that every server answers that is written to, and has functions, and that the data set is there.

        Raises:
            StoreError: one did not, or has none, or it is not.
        """
        of_each = {self._places.of(tag): tag for tag in self._tags}
        await asyncio.gather(
            self.dataset_id(),
            # Of a vehicle that nobody can be: the cheapest call there is.
            self._calls.functions("vehicle", [(tag, "") for tag in of_each.values()]),
            *(server.command("PING") for server in self._places.servers().values()),
        )

    async def close(self) -> None:
        """See `base.Store`."""
        await self._calls.close()


async def _date_ms(server: Calls) -> int | StoreError:
    """The date of a server, or why it does not tell: one that is lost must not keep the others from being asked."""
    try:
        seconds, micros = await server.command("TIME")
    except StoreError as error:
        return error
    return int(seconds) * 1000 + int(micros) // 1000


class _Opener:
    """Makes connections to where a store is, each of which greets its server."""

    def __init__(
        self, where: Address, durability: Durability, replicas_min: int, deadline_s: float, apart_s: float
    ) -> None:
        self._where = where
        self._durability = durability
        self._replicas_min = replicas_min
        self._deadline_s = deadline_s
        self._apart_s = apart_s
        self.dataset_id = ""
        """What is expected from now on of whoever answers; empty before it is known."""
        self._greeted = 0

    def single(self) -> tuple[Calls, Places]:
        """One server."""
        calls = Calls(self._pipeline())
        name = "the store's server"
        return calls, Places(servers=lambda: {name: calls}, of=lambda _: name, greeted=lambda: self._greeted)

    async def cluster(self) -> tuple[Calls, Places]:
        """The nodes of a cluster.

        Raises:
            StoreRefusedError: it is none, or a replica would break a promise once it takes over.
            StoreUnavailableError: it does not answer.
        """
        cluster = Cluster(self._where.seeds, pipeline=self._pipeline, scout=self._scout)
        try:
            await cluster.open()
            for replicas in cluster.topology.replicas.values():
                for replica in replicas:
                    await self._check_replica(replica)
        except BaseException:
            await cluster.close()
            raise
        return Calls(cluster), Places(
            servers=lambda: {str(node): Calls(each) for node, each in cluster.primaries().items()},
            of=lambda tag: str(cluster.topology.by_slot[slot_of(tag)] or ""),
            greeted=lambda: self._greeted,
        )

    async def check(self, servers: Mapping[str, Calls]) -> None:
        """See that the servers are what the address says, and have the replicas that are to confirm.

        Raises:
            StoreRefusedError: they are not, or have not.
            StoreUnavailableError: one does not answer.
        """
        for name, server in servers.items():
            if not self._where.cluster:
                await admission.check_not_of_a_cluster(server)
            await admission.check_replicas(
                server,
                name=name,
                replicas_min=self._replicas_min,
                cluster=self._where.cluster,
                durability=self._durability,
            )

    def _pipeline(self, node: Node | None = None) -> Pipeline:
        return Pipeline(
            self._where.connection(node),
            greet=self._greet,
            replicas_min=self._replicas_min,
            deadline_s=self._deadline_s,
            apart_s=self._apart_s,
        )

    async def _greet(self, ask: Ask) -> None:
        await admission.greet(ask, durability=self._durability)
        # Of a cluster one node alone could say; others that came back empty have no functions.
        if self.dataset_id and not self._where.cluster:
            await admission.check_same_data(ask, self.dataset_id)
        self._greeted += 1

    def _scout(self, node: Node) -> Pipeline:
        return Pipeline(self._where.connection(node), deadline_s=SCOUT_S)

    async def _check_replica(self, node: Node) -> None:
        """A replica is the primary of tomorrow."""
        scout = self._scout(node)
        try:
            await admission.greet(scout.call, durability=self._durability, replica=True)
        except StoreUnavailableError as error:
            log.warning("store_replica_unseen", replica=str(node), error=str(error))
        except StoreRefusedError as refusal:
            raise StoreRefusedError(f"replica {node} may take over, but {refusal}") from refusal
        finally:
            await scout.close()
