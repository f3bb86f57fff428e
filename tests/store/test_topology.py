"""Which node serves what, from the replies that nodes give; and addresses of clusters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis.address import Node, read_address
from orchestrator.store.redis.keys import ALL_KEYS, is_ours, key, shard_tag, tag_of
from orchestrator.store.redis.topology import EMPTY, SLOTS, read_topology, slot_of

ASKED = Node("10.0.0.9", 7009)


def a_node(host: bytes | None, port: int) -> list[Any]:
    return [host, port, b"id", []]


def test_every_slot_has_the_primary_that_was_told() -> None:
    """A call at the wrong node costs a round trip; a map that is off by one would send many there."""
    reply = [
        [0, 99, a_node(b"10.0.0.1", 7001), a_node(b"10.0.0.4", 7004)],
        [100, 199, a_node(b"10.0.0.2", 7002)],
        [200, 200, a_node(b"10.0.0.1", 7001), a_node(b"10.0.0.4", 7004)],
    ]
    found = read_topology(reply, ASKED)
    assert [found.by_slot[slot] for slot in (0, 99, 100, 199, 200)] == [
        *[Node("10.0.0.1", 7001)] * 2,
        *[Node("10.0.0.2", 7002)] * 2,
        Node("10.0.0.1", 7001),
    ]
    assert found.by_slot[201] is None
    assert found.covered == 201
    assert found.primaries == (Node("10.0.0.1", 7001), Node("10.0.0.2", 7002))
    assert found.nodes == (*found.primaries, Node("10.0.0.4", 7004))


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_node_without_a_host_is_where_it_was_found(host: bytes | None) -> None:
    """A node that never met another does not know its own address."""
    assert read_topology([[0, 5, a_node(host, 7001)]], ASKED).by_slot[3] == Node("10.0.0.9", 7001)


def test_slot_that_moved_takes_no_other_with_it() -> None:
    """MOVED speaks of one slot."""
    seen = read_topology([[0, SLOTS - 1, a_node(b"a", 1)]], ASKED)
    moved = seen.moved(7, Node("b", 2))
    assert [moved.by_slot[slot] for slot in (6, 7, 8)] == [Node("a", 1), Node("b", 2), Node("a", 1)]
    assert set(moved.primaries) == {Node("a", 1), Node("b", 2)}
    assert EMPTY.covered == 0


@given(member=st.text(), name=st.sampled_from(sorted(ALL_KEYS)), shard=st.integers(0, 255))
def test_any_key_is_found_by_its_tag_and_known_as_ours(member: str, name: str, shard: int) -> None:
    """The slot of what is sent must be that of its tag, whatever a vehicle is called."""
    full = key(shard_tag(shard), name, member)
    assert tag_of(("HGET", full, "{x}")) == shard_tag(shard)
    assert tag_of(("FCALL", "f", 1, shard_tag(shard), "{x}")) == shard_tag(shard)
    assert tag_of(("XINFO", "STREAM", full)) == shard_tag(shard)
    assert is_ours(full)


@pytest.mark.parametrize("name", ["session:1", "{g}", "{user}:1", "x{g}:meta", "{s:0g}:hot", ""])
def test_keys_of_others_are_known(name: str) -> None:
    """Mistaken for ours they would be shared with."""
    assert not is_ours(name)


def test_sixteen_shards_are_spread_over_three_nodes() -> None:
    """Names that fall on one node would make a cluster of one."""
    nodes = [slot_of(shard_tag(shard)) * 3 // SLOTS for shard in range(16)]
    assert min(nodes.count(node) for node in range(3)) >= 4


def test_address_of_a_cluster_is_that_of_each_node() -> None:
    """Login and options are every node's."""
    found = read_address("rediss+cluster://me:p%40%s@one:7001,[::1]:7002,three/0?ssl_ca_certs=/ca.pem")
    assert found.seeds == (Node("one", 7001), Node("::1", 7002), Node("three", 6379))
    assert found.url_of(found.seeds[1]) == "rediss://me:p%40%25s@[::1]:7002?ssl_ca_certs=/ca.pem"
    assert not read_address("redis://one:7001").cluster


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("redis+cluster://one:7001/3", "a cluster has no database '3', only 0"),
        ("redis+cluster://one:7001,", "'' names no host"),
        ("redis+cluster://one:port", "Port could not be cast"),
        ("redis+cluster://one?nonsense=1", "no option 'nonsense' there"),
    ],
)
def test_address_that_makes_no_sense_is_refused_with_the_forms_that_do(address: str, fault: str) -> None:
    """A typo is found before anything is connected to."""
    with pytest.raises(StoreRefusedError, match=rf"{fault}.*: write it as redis://host:port, .* redis\+cluster://"):
        read_address(address)
