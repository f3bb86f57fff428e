"""The whole service on a cluster of three primaries and three replicas, whose nodes die and freeze in a rollout."""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.v1 import rollout_pb2

from orchestrator.model.ids import RolloutId
from orchestrator.store.redis.keys import FLEET_TAG, rollout_tag
from tests.e2e.evidence import check_counters, check_history, check_never_stopped, permits_received
from tests.e2e.load import GOOD, SIZE, SMALL
from tests.e2e.preparing import prepare
from tests.e2e.rolling import OVER, RECOVERY_TIMEOUT_S, ROLLOUT_TIMEOUT_S, TEST_TIMEOUT_S, Road, on_the_road
from tests.processes import CALL_TIMEOUT_S, eventually
from tests.redis_cluster import ACluster, Server, a_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]


def taken_over(cluster: ACluster, tag: str, lost: Server) -> None:
    """Wait until another node serves a tag, and the service answers again."""
    eventually(
        lambda: cluster.primary_of(tag) is not lost, timeout_s=RECOVERY_TIMEOUT_S, what="a replica has taken over"
    )


def on_and_on(road: Road, name: str) -> bool:
    """Whether the rollout is over. One that came up paused, since the store may miss something, is resumed."""
    status = road.status(name)
    if status == "PAUSED":
        told = road.rollout(name)
        assert told.last_actor == "recovery", told
        request = rollout_pb2.ResumeRolloutRequest(name=f"rollouts/{name}", etag=told.etag, reason="looked into")
        road.api.rollouts.ResumeRollout(request, timeout=CALL_TIMEOUT_S)
    return status in OVER


def test_rollout_reaches_every_vehicle_though_nodes_die_and_freeze(tmp_path: Path) -> None:
    """The rollout's node is killed, later the fleet's freezes: nothing acknowledged is lost, no limit is broken."""
    (tmp_path / "cluster").mkdir()
    with a_cluster(tmp_path / "cluster") as cluster:
        folder = tmp_path / "fleet"
        prepare(folder, SMALL, store_url=cluster.url, store_replicas_min=1)
        assert not (folder / "data" / "store").exists()
        with on_the_road(folder) as road:
            with road.driving():
                name = road.start_rollout(GOOD)
                tag = rollout_tag(RolloutId(name))
                road.await_done(name, SIZE // 4)
                killed = cluster.primary_of(tag)
                killed.kill()
                taken_over(cluster, tag, killed)
                killed.start()

                road.await_done(name, SIZE // 2)
                frozen = cluster.primary_of(FLEET_TAG)
                frozen.freeze()
                taken_over(cluster, FLEET_TAG, frozen)
                frozen.thaw()
                eventually(
                    lambda: on_and_on(road, name), timeout_s=ROLLOUT_TIMEOUT_S, what="the rollout ends by itself"
                )
                assert road.status(name) == "COMPLETED"
                road.await_quiet()
            assert {each["release"] for each in road.vehicles().values()} == {GOOD}
            tally = check_counters(road, name)
            assert tally.succeeded == SIZE
            assert tally.exposed == len(permits_received(road, name))
            assert road.open_cases(name) == set()
            check_history(road.installation, name)
            check_never_stopped(road.installation, name)
