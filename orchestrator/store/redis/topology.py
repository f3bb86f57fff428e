"""Which node of a cluster serves which slot, as a node tells it by CLUSTER SLOTS. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.crc import key_slot

from orchestrator.store.redis.address import Node

SLOTS = 16_384


@lru_cache(maxsize=4096)
def slot_of(tag: str) -> int:
    """The slot of all keys of a tag."""
    slot: int = key_slot(tag.encode())
    return slot


@dataclass(frozen=True, slots=True)
class Topology:
    """A cluster as one node sees it."""

    by_slot: tuple[Node | None, ...]
    """The primary of each slot; None where there is none."""
    replicas: Mapping[Node, tuple[Node, ...]]
    """Those that work, by primary."""

    @property
    def primaries(self) -> tuple[Node, ...]:
        """Nodes that serve slots."""
        return tuple(self.replicas)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Primaries and replicas."""
        return (*self.replicas, *(node for each in self.replicas.values() for node in each))

    @property
    def covered(self) -> int:
        """How many slots are served."""
        return SLOTS - self.by_slot.count(None)

    def moved(self, slot: int, node: Node) -> Topology:
        """The same, but for one slot that another node serves."""
        by_slot = (*self.by_slot[:slot], node, *self.by_slot[slot + 1 :])
        return Topology(by_slot=by_slot, replicas={node: (), **self.replicas})


EMPTY = Topology(by_slot=(None,) * SLOTS, replicas={})
"""Before anything is known."""


def read_topology(reply: Sequence[Any], asked: Node) -> Topology:
    """Read the reply to CLUSTER SLOTS.

    Args:
        reply: first slot, last slot, primary and replicas, each with host and port, of each range.
        asked: who replied; a node that does not know its own host is where it was found.
    """
    by_slot: list[Node | None] = [None] * SLOTS
    replicas: dict[Node, tuple[Node, ...]] = {}
    for first, last, *nodes in reply:
        primary, *others = (_read_node(node, asked) for node in nodes)
        by_slot[first : last + 1] = [primary] * (last + 1 - first)
        replicas[primary] = tuple(others)
    return Topology(by_slot=tuple(by_slot), replicas=replicas)


def _read_node(told: Sequence[Any], asked: Node) -> Node:
    host, port = told[0], int(told[1])
    # Nothing, an empty text or `?`, by the version and by `cluster-preferred-endpoint-type`.
    return Node(asked.host if host in (None, b"", b"?") else host.decode(), port)
