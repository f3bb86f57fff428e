"""What a cluster's misfortunes cost: a dead, a frozen and a silent node, slots that move, a takeover by a bad one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from orchestrator.clock import MachineClock
from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.store.base import Applied, Permitted, StoreError, StoreRefusedError, StoreUnavailableError
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.keys import FLEET_TAG, rollout_tag, shard_tag
from orchestrator.store.redis.topology import slot_of
from orchestrator.store.shards import shard_of
from tests.builders import NOW, a_release, a_slot_request, a_vehicle, an_attempt
from tests.contracts.steps import DIRECTOR, SPRING, authorize, entries, entry, renew, running, tell
from tests.processes import eventually
from tests.redis_cluster import ACluster, Server, a_cluster

pytestmark = [pytest.mark.processes, pytest.mark.timeout(60)]

T = TypeVar("T")
VEHICLES = 90
IN_FLIGHT = 20
SERVING_AGAIN_S = 20.0
"""Far more than a failover takes: the tests' machine may be busy."""
PAUSE_S = 0.02
EVENTS = (AttemptEvent.DOWNLOAD_FINISHED, AttemptEvent.INSTALL_STARTED, AttemptEvent.REBOOT_STARTED)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ACluster]:
    with a_cluster(tmp_path_factory.mktemp("nodes")) as made:
        yield made


@pytest.fixture
def harmed(nodes: ACluster) -> Iterator[ACluster]:
    """A whole and empty cluster, to be harmed; whole again afterwards."""
    nodes.empty()
    yield nodes
    nodes.mend()


@pytest.fixture
async def store(harmed: ACluster) -> AsyncIterator[RedisStore]:
    opened = await RedisStore.connect(harmed.url, replicas_min=1, deadline_s=2.0)
    yield opened
    await opened.close()


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the store answers, as agents and evaluator do."""
    while True:
        try:
            return await call()
        except StoreUnavailableError:
            await asyncio.sleep(PAUSE_S)


class Traffic:
    """Vehicles that go the whole way of an attempt, each call repeated until it is answered.

    Args:
        stores: of two workers: a call may be repeated at the other one.
    """

    def __init__(self, *stores: RedisStore) -> None:
        self.stores = stores
        self.held: set[str] = set()
        self.held_most = 0
        self.acknowledged: Counter[str] = Counter()
        self.succeeded = 0
        self.third = asyncio.Event()
        """Set when a third has arrived."""
        self._turn = 0

    def store(self) -> RedisStore:
        self._turn += 1
        return self.stores[self._turn % len(self.stores)]

    async def run(self) -> None:
        """Everybody, until all have arrived."""
        async with asyncio.TaskGroup() as tasks:
            alive = tasks.create_task(self._evaluate())
            drives = [tasks.create_task(self._drive(f"v-{number}")) for number in range(VEHICLES)]
            await asyncio.gather(*drives)
            alive.cancel()

    async def _evaluate(self) -> None:
        while True:
            await persist(lambda: renew(self.store(), permit_ceiling=1000))
            await asyncio.sleep(0.5)

    async def _drive(self, name: str) -> None:
        attempt = an_attempt(vehicle_id=name)
        vehicle = a_vehicle(name)
        await persist(lambda: self.store().import_vehicles([vehicle], now=NOW))
        await self._reserve(attempt)
        assigned = await persist(lambda: self.store().assign(attempt, DIRECTOR, expected_timestamp_version=0))
        assert isinstance(assigned, Applied), assigned
        await self._tell(attempt, 1)
        permitted = await persist(lambda: authorize(self.store(), attempt.attempt_id))
        assert isinstance(permitted, Permitted), permitted
        await persist(lambda: self.store().permit(attempt.attempt_id, permitted_at=permitted.permitted_at))
        for number in (2, 3):
            await self._tell(attempt, number)
        await persist(lambda: self.store().change(attempt.attempt_id, AttemptEvent.ATTESTED_RELEASE, now=NOW))
        self.held.discard(attempt.attempt_id)
        await persist(lambda: self.store().release(SPRING, [attempt.attempt_id]))
        self.succeeded += 1
        if self.succeeded >= VEHICLES // 3:
            self.third.set()

    async def _reserve(self, attempt: Attempt) -> None:
        request = a_slot_request(total_max=IN_FLIGHT)
        while True:
            answer = await persist(lambda: self.store().reserve(SPRING, attempt.attempt_id, request))
            if not isinstance(answer, Refusal):
                break
            # Of an evaluator that nobody heard, and of slots that others have: it comes back.
            assert answer.reason in (RefusalReason.IN_FLIGHT_SPENT, RefusalReason.EVALUATOR_SILENT), answer
            await asyncio.sleep(PAUSE_S)
        self.held.add(attempt.attempt_id)
        self.held_most = max(self.held_most, len(self.held))

    async def _tell(self, attempt: Attempt, number: int) -> None:
        told = await persist(lambda: tell_once(self.store(), attempt, number))
        assert told.record.acknowledged_number >= number
        self.acknowledged[attempt.vehicle_id] = number


async def tell_once(store: RedisStore, attempt: Attempt, number: int = 1) -> Applied:
    """One event of an attempt, as its vehicle would send it again and again."""
    event = VehicleEvent(number=number, attempt_id=attempt.attempt_id, event=EVENTS[number - 1], failure_code="")
    return await store.apply(attempt.vehicle_id, outbox_id="box", oldest_number=number, events=[event], now=NOW)


async def check(store: RedisStore, traffic: Traffic) -> None:
    """Everybody arrived once, nothing acknowledged is missing, no cap was exceeded, counters equal a recount."""
    counted, recounted = await store.tallies([SPRING]), await store.recount([SPRING])
    assert counted == recounted
    for number in range(VEHICLES):
        (attempt,) = await store.attempts(an_attempt(vehicle_id=f"v-{number}").vehicle_id)
        assert attempt.state is AttemptState.SUCCEEDED
        record = await store.vehicle(attempt.vehicle_id)
        assert record is not None
        assert record.acknowledged_number >= traffic.acknowledged[attempt.vehicle_id] == 3
    assert traffic.succeeded == VEHICLES
    assert 0 < traffic.held_most <= IN_FLIGHT
    steps = Counter((each.data["attempt_id"], each.data["to"]) for each in await entries(store, "attempt_changed"))
    assert set(steps.values()) == {1}
    standing = await store.standing(SPRING, now=NOW)
    assert standing.permits == VEHICLES
    assert not any(standing.in_flight.values())


async def under_way(harmed: ACluster, store: RedisStore, harm: Callable[[Server], None]) -> Traffic:
    """Traffic by two workers, and harm to the primary of its rollout when a third has arrived."""
    second = await RedisStore.connect(harmed.url, replicas_min=1, deadline_s=2.0)
    await running(store)
    traffic = Traffic(store, second)

    async def strike() -> None:
        await traffic.third.wait()
        assert traffic.succeeded < VEHICLES, "this came too late to prove anything"
        await asyncio.to_thread(harm, harmed.primary_of(rollout_tag(SPRING)))

    await asyncio.gather(traffic.run(), strike())
    await second.close()
    return traffic


def taken_over(harmed: ACluster, lost: Server) -> None:
    """Wait until another server serves the rollout."""
    eventually(
        lambda: harmed.primary_of(rollout_tag(SPRING)) is not lost,
        timeout_s=SERVING_AGAIN_S,
        what="a replica takes over",
    )


@pytest.mark.fault("F3")
async def test_nothing_acknowledged_is_lost_when_a_primary_is_killed_under_load(
    harmed: ACluster, store: RedisStore
) -> None:
    """Kill -9 of the node that holds the rollout and some shards: its replica takes over in the middle of a rollout."""

    def kill(server: Server) -> None:
        server.kill()
        taken_over(harmed, server)
        # As whoever runs it sees to: until then nobody confirms the changes of its slots.
        server.start()

    await check(store, await under_way(harmed, store, kill))


@pytest.mark.fault("F3", "P6")
async def test_primary_that_froze_and_comes_back_adds_nothing(harmed: ACluster, store: RedisStore) -> None:
    """It was replaced while it stood still; what lay in its buffers must not count beside its successor's."""

    def freeze(server: Server) -> None:
        server.freeze()
        taken_over(harmed, server)
        server.thaw()

    await check(store, await under_way(harmed, store, freeze))


async def test_cluster_serves_again_soon_after_a_primary_is_killed(harmed: ACluster, store: RedisStore) -> None:
    """Nobody has to restart the service, and what it does not serve is refused at once, not waited for."""
    await running(store)
    machine = MachineClock()
    await asyncio.to_thread(harmed.primary_of(rollout_tag(SPRING)).kill)
    killed_ms = machine.monotonic_ms()
    for call in (renew(store, permit_ceiling=1), store.answers()):
        with pytest.raises(StoreUnavailableError):
            await call
    assert machine.monotonic_ms() - killed_ms < 1000
    assert (await persist(lambda: store.standing(SPRING, now=NOW))).evaluator_alive
    await store.answers()
    assert machine.monotonic_ms() - killed_ms < SERVING_AGAIN_S * 1000


def shard_and_vehicle(harmed: ACluster, *, beside: Server) -> tuple[str, str]:
    """A vehicle whose shard lies on another primary than one server."""
    for number in range(100):
        name = f"w-{number}"
        tag = shard_tag(shard_of(a_vehicle(name).vehicle_id, 16))
        if harmed.primary_of(tag) is not beside:
            return tag, name
    raise AssertionError("every shard lies on one server")


@pytest.mark.fault("F3")
async def test_change_that_no_replica_confirms_is_not_acknowledged(harmed: ACluster, store: RedisStore) -> None:
    """A replica that stands still: whoever reads is served, whoever changes is told what is missing."""
    await running(store)
    primary = harmed.primary_of(rollout_tag(SPRING))
    replica = harmed.replica_of(primary)
    replica.freeze()
    with pytest.raises(StoreUnavailableError, match=r"confirmed a change \(0\) < store_replicas_min \(1\) within 1000"):
        await renew(store, permit_ceiling=2)
    assert (await store.standing(SPRING, now=NOW)).evaluator_alive
    _, name = shard_and_vehicle(harmed, beside=primary)
    assert (await store.import_vehicles([a_vehicle(name)], now=NOW)).added == 1
    replica.thaw()
    assert await persist(lambda: renew(store, permit_ceiling=2))


async def test_change_made_by_another_worker_is_not_acknowledged_before_replicas_have_it(
    harmed: ACluster, store: RedisStore
) -> None:
    """Who was refused repeats at another worker: nothing is left to change there, and still no replica has it."""
    other = await RedisStore.connect(harmed.url, replicas_min=1, deadline_s=2.0)
    replica = harmed.replica_of(harmed.primary_of(FLEET_TAG))
    replica.freeze()
    for worker in (store, other, other):
        with pytest.raises(StoreUnavailableError, match="confirmed a change"):
            await worker.create_release(a_release(), entry("release_created"))
    # So is what goes to all shards at once: one of them is on that node.
    with pytest.raises(StoreUnavailableError, match="confirmed a change"):
        await store.sweep(range(store.shards), now=NOW, fences={})
    replica.thaw()
    assert await persist(lambda: other.create_release(a_release(), entry("release_created"))) == a_release()
    await other.close()


@pytest.mark.fault("F17")
async def test_calls_follow_slots_that_moved_under_load(harmed: ACluster, store: RedisStore) -> None:
    """Slots are moved at once (Valkey 9): nothing is refused but for a moment, nothing is lost, nothing doubled."""

    def move(server: Server) -> None:
        target = next(each for each in harmed.nodes if each is not server and harmed.is_primary(each))
        slot = slot_of(rollout_tag(SPRING))
        server.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER", "MYID").decode())
        eventually(lambda: harmed.primary_of(rollout_tag(SPRING)) is target, timeout_s=30.0, what="the slot moved")

    before = harmed.primary_of(rollout_tag(SPRING))
    sleeper = await RedisStore.connect(harmed.url, replicas_min=1, deadline_s=2.0)
    traffic = await under_way(harmed, store, move)
    assert harmed.primary_of(rollout_tag(SPRING)) is not before
    await check(store, traffic)
    # Who asks many slots at once and knows nothing of the move gets every answer, this one by a detour.
    assert [rollout.rollout_id for rollout in await sleeper.rollouts()] == [SPRING]
    streams = dict.fromkeys(await sleeper.journal_streams(), "")
    assert (await sleeper.journals_beyond(streams, count=9)) == (await store.journals_beyond(streams, count=9))
    await sleeper.close()


@pytest.mark.fault("F17")
async def test_slot_that_moves_key_by_key_is_refused_until_it_has_arrived(harmed: ACluster, store: RedisStore) -> None:
    """Followed to a node that has not got its keys yet, a function would begin with empty ones."""
    await running(store)
    source = harmed.primary_of(rollout_tag(SPRING))
    target = next(each for each in harmed.nodes if each is not source and harmed.is_primary(each))
    slot = slot_of(rollout_tag(SPRING))
    source_id, target_id = (each.ask("CLUSTER", "MYID").decode() for each in (source, target))
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    with pytest.raises(StoreUnavailableError, match=f"slot {slot} is on its way to another node"):
        await renew(store, permit_ceiling=2)
    assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    for name in source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.ask("MIGRATE", *target.node, name.decode(), 0, 5000)
    for server in (target, source):
        server.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    assert await renew(store, permit_ceiling=2)
    assert (await store.standing(SPRING, now=NOW)).permit_ceiling == 2
    assert harmed.primary_of(rollout_tag(SPRING)) is target


async def test_replica_that_would_forget_is_refused_before_and_after_it_takes_over(
    harmed: ACluster, store: RedisStore
) -> None:
    """It is the primary of tomorrow; and its settings can be changed after it was looked at."""
    await running(store)
    primary = harmed.primary_of(rollout_tag(SPRING))
    replica = harmed.replica_of(primary)
    replica.ask("CONFIG", "SET", "appendfsync", "everysec")
    with pytest.raises(StoreRefusedError, match=r"replica 127.* may take over, but appendfsync is 'everysec'"):
        await RedisStore.connect(harmed.url, replicas_min=1)
    primary.kill()
    with pytest.raises(StoreRefusedError, match="appendfsync is 'everysec', not 'always'"):
        await persist(lambda: renew(store, permit_ceiling=2))
    replica.ask("CONFIG", "SET", "appendfsync", "always")
    # It is greeted anew at each call, until it will do; its own replica is dead.
    with pytest.raises(StoreUnavailableError, match="confirmed a change"):
        await renew(store, permit_ceiling=2)
    primary.start()
    assert await persist(lambda: renew(store, permit_ceiling=2))


@pytest.mark.fault("F17")
async def test_node_that_lost_its_functions_is_a_refusal(harmed: ACluster, store: RedisStore) -> None:
    """A primary that came back empty has none: better no answer than that of an empty fleet."""
    await running(store)
    harmed.primary_of(rollout_tag(SPRING)).ask("FUNCTION", "FLUSH")
    with pytest.raises(StoreRefusedError, match="lost its function library"):
        await renew(store, permit_ceiling=2)
    again = await RedisStore.connect(harmed.url, replicas_min=1)
    assert await renew(again, permit_ceiling=2)
    await again.close()


async def test_whole_cluster_that_dies_comes_back_with_everything_acknowledged(
    harmed: ACluster, store: RedisStore
) -> None:
    """A power cut takes every node at once: what was acknowledged is on their disks."""
    await running(store)
    attempt = an_attempt()
    await store.import_vehicles([a_vehicle(attempt.vehicle_id)], now=NOW)
    await store.assign(attempt, DIRECTOR, expected_timestamp_version=0)
    await tell(store, attempt, AttemptEvent.DOWNLOAD_FINISHED)
    for server in harmed.nodes:
        server.kill()
    with pytest.raises(StoreError):
        await store.vehicle(attempt.vehicle_id)
    for server in harmed.nodes:
        await asyncio.to_thread(server.start)
    record = await persist(lambda: store.vehicle(attempt.vehicle_id))
    assert record is not None
    assert record.acknowledged_number == 1
    assert await persist(lambda: renew(store, permit_ceiling=2))
    assert await persist(lambda: store.tallies([SPRING])) == await persist(lambda: store.recount([SPRING]))
