"""A cluster of servers: each call goes to the node that serves its slot, with group commit on each node apart.

Owns the map of slots and what changes it: a call that a node sends elsewhere was not carried out and is sent there; a
call whose node was lost has an unknown outcome and is not sent again, but makes us look for the node that took over.
Leaves to `pipeline` how calls travel, and to `admission` which node will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from orchestrator.store.base import StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis.address import Node
from orchestrator.store.redis.keys import tag_of
from orchestrator.store.redis.pipeline import Argument, Pipeline
from orchestrator.store.redis.replies import ElsewhereError
from orchestrator.store.redis.topology import EMPTY, Topology, read_topology, slot_of

HOPS_MAX = 4
"""Nodes that one call is sent to, each of which sends it on: more means that nobody has it."""
LOOK_PAUSE_S = 0.2
"""Least time between two looks for a change."""

log = structlog.get_logger()


class Cluster:
    """Sends calls to nodes.

    Args:
        seeds: nodes to begin with.
        pipeline: makes the pipeline of a node, which greets it.
        scout: makes a pipeline of a node for the question who serves what: short, and ungreeted.
    """

    def __init__(
        self, seeds: Sequence[Node], *, pipeline: Callable[[Node], Pipeline], scout: Callable[[Node], Pipeline]
    ) -> None:
        self._seeds = tuple(seeds)
        self._new_pipeline = pipeline
        self._new_scout = scout
        self._topology = EMPTY
        self._pipelines: dict[Node, Pipeline] = {}
        self._asked_last: Node | None = None
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def topology(self) -> Topology:
        """As it was last seen."""
        return self._topology

    def primaries(self) -> Mapping[Node, AtNode]:
        """The nodes that serve slots now."""
        return {node: AtNode(self, node) for node in self._topology.primaries}

    async def at(self, node: Node, *command: Argument, changes: bool = False) -> Any:
        """Send one command to a node, whatever it serves. See `Pipeline.call`."""
        try:
            return await self._pipeline(node).call(*command, changes=changes)
        except StoreUnavailableError:
            self._look_soon()
            raise

    async def open(self) -> None:
        """Find the nodes.

        Raises:
            StoreRefusedError: what answers is no cluster, or takes no login of ours.
            StoreUnavailableError: nobody answers, or some slots are not served.
        """
        await self._look()
        if self._topology.covered < len(self._topology.by_slot):
            raise StoreUnavailableError(
                f"slots that the cluster serves ({self._topology.covered}) < {len(self._topology.by_slot)}: start the "
                "nodes that are missing, or give their slots to others"
            )

    async def call(self, *command: Argument, changes: bool = False) -> Any:
        """Send one command to the node of its key. See `Pipeline.call`."""
        slot = slot_of(tag_of(command))
        for _ in range(HOPS_MAX):
            node = self._topology.by_slot[slot]
            if node is None:
                self._look_soon()
                raise StoreUnavailableError(f"no node of the cluster serves slot {slot}")
            try:
                return await self.at(node, *command, changes=changes)
            except ElsewhereError as elsewhere:
                self._topology = self._topology.moved(slot, Node(elsewhere.host or node.host, elsewhere.port))
        raise StoreUnavailableError(f"nodes of the cluster send slot {slot} to each other: wait until they agree")

    async def call_all(self, commands: Sequence[Sequence[Argument]], *, changes: bool = False) -> list[Any]:
        """Send commands to the nodes of their keys, those of one node together. See `Pipeline.call_all`."""
        places: dict[Node | None, list[int]] = {}
        for index, command in enumerate(commands):
            places.setdefault(self._topology.by_slot[slot_of(tag_of(command))], []).append(index)
        astray = places.pop(None, [])
        told = await asyncio.gather(
            *(self.at_all(node, [commands[each] for each in some], changes) for node, some in places.items() if node)
        )
        outcomes: dict[int, Any] = {}
        for indices, replies in zip(places.values(), told, strict=True):
            outcomes.update(zip(indices, replies, strict=True))
        astray += [index for index, outcome in outcomes.items() if isinstance(outcome, ElsewhereError)]
        for index in astray:
            try:
                outcomes[index] = await self.call(*commands[index], changes=changes)
            except StoreError as error:
                outcomes[index] = error
        return [outcomes[index] for index in range(len(commands))]

    async def at_all(self, node: Node, commands: Sequence[Sequence[Argument]], changes: bool) -> list[Any]:
        """Send commands to a node, whatever it serves. See `Pipeline.call_all`."""
        try:
            return await self._pipeline(node).call_all(commands, changes=changes)
        except StoreUnavailableError:
            self._look_soon()
            raise

    async def close(self) -> None:
        """End every pipeline; what waits fails."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await asyncio.gather(*(pipeline.close() for pipeline in self._pipelines.values()))

    def _pipeline(self, node: Node) -> Pipeline:
        if self._closed:
            raise StoreUnavailableError("the store connection is closed")
        if node not in self._pipelines:
            # Kept for good: a map that was wrong for a moment must not end what is on its way.
            self._pipelines[node] = self._new_pipeline(node)
        return self._pipelines[node]

    def _look_soon(self) -> None:
        """Have a look in the background, unless one is under way."""
        if self._looking is None or self._looking.done():
            # Not in a TaskGroup, as the runner of a pipeline.
            self._looking = asyncio.get_running_loop().create_task(self._look_and_pause(), name="store-cluster")

    async def _look_and_pause(self) -> None:
        try:
            await self._look()
        except StoreError as error:
            log.warning("store_cluster_unseen", error=str(error))
        await asyncio.sleep(LOOK_PAUSE_S)

    async def _look(self) -> None:
        """Take over the map of the first node that tells one.

        Raises:
            StoreError: no node told one.
        """
        problem: StoreError = StoreUnavailableError("no node of the cluster answers")
        for node in self._in_turn():
            try:
                found = read_topology(await self._ask(node), node)
            except StoreUnavailableError as error:
                problem = error
                continue
            if found.primaries:
                self._take(node, found)
                return
            problem = StoreUnavailableError(f"{node} serves no slot and knows nobody who does")
        raise problem

    def _in_turn(self) -> Iterable[Node]:
        """Every node known, another one first at each look: one that was cut off may not know yet."""
        nodes = list(dict.fromkeys((*self._topology.nodes, *self._seeds)))
        first = nodes.index(self._asked_last) + 1 if self._asked_last in nodes else 0
        return (*nodes[first:], *nodes[:first])

    def _take(self, node: Node, found: Topology) -> None:
        self._asked_last = node
        if found != self._topology:
            primaries = sorted(str(each) for each in found.primaries)
            log.info("store_cluster_seen", by=str(node), primaries=primaries, slots=found.covered)
            self._topology = found

    async def _ask(self, node: Node) -> Any:
        scout = self._new_scout(node)
        try:
            return await scout.call("CLUSTER", "SLOTS")
        except StoreUnavailableError:
            raise
        except StoreRefusedError:
            raise
        except StoreError as error:
            raise StoreRefusedError(
                f"{node} is no node of a cluster ({error}): write redis:// for one server"
            ) from error
        finally:
            await scout.close()


class AtNode:
    """Carries calls to one node of a cluster, which ends them with itself.

    Args:
        cluster: of the node.
        node: which.
    """

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._node = node

    async def call(self, *command: Argument, changes: bool = False) -> Any:
        """See `Pipeline.call`."""
        return await self._cluster.at(self._node, *command, changes=changes)

    async def call_all(self, commands: Sequence[Sequence[Argument]], *, changes: bool = False) -> list[Any]:
        """See `Pipeline.call_all`."""
        return await self._cluster.at_all(self._node, commands, changes)

    async def close(self) -> None:
        """Nothing: the cluster is closed as a whole."""
