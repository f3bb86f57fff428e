"""Nodes of a cluster whose clocks differ: the sign of life of an evaluator is told in each node's own time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.base import DEAD_MAN_LIFE_MS, Reserved
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.keys import FLEET_TAG, key, rollout_tag
from tests.builders import NOW, a_rollout
from tests.contracts.steps import renew, reserve, running
from tests.faults.machine import FailingMachine, a_failing_machine
from tests.redis_cluster import ACluster, Server, servers

pytestmark = pytest.mark.processes


DOUBT_MS = 100
"""That two clocks may be told apart wrongly, as asking takes time."""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[ACluster, dict[int, FailingMachine]]]:
    """Three primaries, each on a machine whose date can be set, by port."""
    machines = {}

    def environment(port: int) -> dict[str, str]:
        (tmp_path / str(port)).mkdir()
        machines[port] = a_failing_machine(tmp_path / str(port))
        return machines[port].environment

    with servers(tmp_path, 3, environment=environment) as nodes:
        cluster = ACluster(nodes)
        cluster.form()
        yield cluster, machines


def now_ms(server: Server) -> int:
    """A server's date."""
    seconds, micros = server.ask("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


@pytest.mark.fault("F6")
@pytest.mark.parametrize("seconds", [3, -3, 600, -600])
async def test_sign_of_life_is_good_for_as_long_whatever_the_clocks_say(
    machines: tuple[ACluster, dict[int, FailingMachine]], seconds: int
) -> None:
    """The fleet's node says when a tick began, the rollout's node how long ago that was."""
    cluster, by_port = machines
    of_fleet = cluster.primary_of(FLEET_TAG)
    rollout = next(
        each
        for each in (a_rollout(rollout_id=f"spring-{number}") for number in range(100))
        if cluster.primary_of(rollout_tag(each.rollout_id)) is not of_fleet
    )
    by_port[of_fleet.port].fail(f"clock {seconds}")
    store = await RedisStore.connect(cluster.url)
    await running(store, rollout)
    node = cluster.primary_of(rollout_tag(rollout.rollout_id))
    before_ms = now_ms(node)
    assert await renew(store, rollout.rollout_id, permit_ceiling=5)
    alive_until = int(node.ask("HGET", key(rollout_tag(rollout.rollout_id), "rollout"), "alive_until"))
    assert before_ms - DOUBT_MS <= alive_until - DEAD_MAN_LIFE_MS <= now_ms(node) + DOUBT_MS
    assert await reserve(store, f"{rollout.rollout_id}.v-1.1", rollout_id=rollout.rollout_id) == Reserved()
    assert (await store.standing(rollout.rollout_id, now=NOW)).evaluator_alive
    await store.close()
