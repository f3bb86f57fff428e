"""Ended attempts are kept in a few bytes, and nobody notices: the model keeps them as they are and says the same."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from orchestrator.model.attempt import AttemptEvent, AttemptState, VehicleEvent
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import AttemptId, FleetTime
from orchestrator.store.memory import MemoryStore
from orchestrator.store.redis import EmbeddedServer, RedisStore
from orchestrator.store.redis.keys import key, shard_tag
from tests.builders import DAY_MS, HOUR_MS, NOW
from tests.contracts.steps import sweep_all
from tests.contracts.twins import ROLLOUTS, VEHICLES, Twins

V1 = VEHICLES[0]
SPRING, AUTUMN = ROLLOUTS
FIRST, SECOND = AttemptId("spring.v-1.1"), AttemptId("spring.v-1.2")
WHOLE_WAY = 6
E = AttemptEvent


@pytest.fixture
async def twins(memory_store: MemoryStore, redis_store: RedisStore) -> AsyncIterator[Twins]:
    """Both stores with a vehicle; in the end they hold the same."""
    pair = Twins(memory_store, redis_store)
    await pair.do_import(V1, "eu", ())
    yield pair
    for vehicle_id in VEHICLES:
        await pair.both(lambda store, one=vehicle_id: store.vehicle(one))
        await pair.both(lambda store, one=vehicle_id: store.attempts(one))
    tallies = await pair.both(lambda store: store.tallies(ROLLOUTS))
    assert tallies == await pair.both(lambda store: store.recount(ROLLOUTS))


@pytest.fixture
def client(embedded_server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3)


def records(client: redis.Redis, store: RedisStore) -> int:
    """Attempts that have a record of their own."""
    return sum(client.hlen(key(shard_tag(shard), "attempts")) for shard in range(store.shards))


async def grown_old(twins: Twins) -> None:
    """Every age is reached."""
    await twins.do_sweep(30 * DAY_MS, {}, ())
    await twins.do_sweep(30 * DAY_MS, {}, ())


async def told(twins: Twins, *events: tuple[AttemptEvent, AttemptId, str]) -> None:
    """The vehicle's next events, in one call."""
    record = await twins.memory.vehicle(V1)
    assert record is not None
    first = record.acknowledged_number + 1
    sent = [VehicleEvent(first + place, *event[1::-1], event[2]) for place, event in enumerate(events)]
    await twins.both(lambda store: store.apply(V1, outbox_id="a", oldest_number=first, events=sent, now=twins.now))


@pytest.mark.parametrize("length", range(WHOLE_WAY + 1))
async def test_attempt_that_timed_out_anywhere_on_its_way_is_kept_without_a_record(
    twins: Twins, client: redis.Redis, length: int
) -> None:
    """Offline permits, silence at each age, trials: whatever became of it comes back as it was."""
    await twins.do_assign(V1, SPRING, 0)
    await twins.do_walk(V1, length)
    assert records(client, twins.redis) == 1
    await grown_old(twins)
    assert records(client, twins.redis) == 0
    (kept,) = await twins.both(lambda store: store.attempts(V1))
    assert kept.state is AttemptState.TIMED_OUT
    assert all(kept.aged) == all(kept.silent) == (length >= 3)


async def test_attempt_has_its_record_until_the_last_age_was_reached(twins: Twins, client: redis.Redis) -> None:
    """Over is not enough: its silence is still to be judged."""
    await twins.do_assign(V1, SPRING, 0)
    await twins.do_walk(V1, WHOLE_WAY)
    await twins.do_attest(V1, 1, E.ATTESTED_RELEASE, "1.1.0")
    await twins.do_sweep(2 * DAY_MS, {}, ())
    assert records(client, twins.redis) == 1
    await grown_old(twins)
    assert records(client, twins.redis) == 0
    (kept,) = await twins.both(lambda store: store.attempts(V1))
    assert (kept.state, kept.silent) == (AttemptState.SUCCEEDED, (False, False))


async def test_late_word_corrects_an_attempt_that_is_kept_without_a_record(twins: Twins, client: redis.Redis) -> None:
    """A vehicle that comes back after a season in a barn still says what became of it, and then attests otherwise."""
    await twins.do_assign(V1, SPRING, 0)
    await twins.do_walk(V1, WHOLE_WAY)
    await grown_old(twins)
    await told(twins, (E.FAILED, FIRST, "safety_brake"), (E.FAILED, FIRST, "code"), (E.FAILED, SECOND, ""))
    record = await twins.both(lambda store: store.vehicle(V1))
    assert record.tries[SPRING].state is AttemptState.FAILED
    await twins.do_attest(V1, 1, E.ATTESTED_RELEASE, "1.1.0")
    record = await twins.both(lambda store: store.vehicle(V1))
    assert (record.attempt.state, record.attempt.safety) == (AttemptState.SUCCEEDED, True)
    assert records(client, twins.redis) == 0


async def test_later_attempts_do_not_hide_earlier_ones(twins: Twins, client: redis.Redis) -> None:
    """Each of several tries, of several rollouts, is found by its own number; the try tells the latest."""
    for _ in range(3):
        await twins.do_assign(V1, SPRING, 0)
        await twins.do_walk(V1, 4)
        await told(twins, (E.FAILED, AttemptId((await twins.memory.vehicle(V1)).attempt.attempt_id), "code"))  # type: ignore[union-attr]
    await twins.do_assign(V1, AUTUMN, 0)
    await grown_old(twins)
    assert records(client, twins.redis) == 0
    await twins.do_diagnose(V1, SPRING, 1)
    await twins.do_close_case(V1, SPRING, 1)
    await told(twins, (E.ROLLED_BACK, SECOND, "late"))
    record = await twins.both(lambda store: store.vehicle(V1))
    assert {name: each.number for name, each in record.tries.items()} == {SPRING: 3, AUTUMN: 1}
    assert record.tries[SPRING].failure_code == "code"


async def test_number_given_up_as_lost_stands_above_an_ended_attempt(twins: Twins, client: redis.Redis) -> None:
    """What was resolved as lost is refused for ever, also where the try before it is not written any more."""
    await twins.do_assign(V1, SPRING, 0)
    await grown_old(twins)
    await twins.do_resolve(V1, SPRING, 1)
    await twins.do_resolve(V1, SPRING, 2)
    await twins.do_assign(V1, SPRING, 1)
    await twins.do_assign(V1, SPRING, 2)
    assert (await twins.memory.vehicle(V1)).tries[SPRING].number == 2  # type: ignore[union-attr]
    await twins.do_assign(V1, SPRING, 0)
    assert (await twins.both(lambda store: store.vehicle(V1))).attempt.number == 3
    assert records(client, twins.redis) == 1


async def test_vehicles_of_a_rollout_share_their_frames(twins: Twins, client: redis.Redis) -> None:
    """A frame for each cell and habit, however many vehicles, and times on both sides of the first one's."""
    for vehicle_id in VEHICLES:
        await twins.do_import(vehicle_id, "eu", ())
    for vehicle_id, at in zip(VEHICLES, (NOW + DAY_MS, NOW, NOW + 90 * DAY_MS), strict=True):
        twins.now = FleetTime(at)
        await twins.do_assign(vehicle_id, SPRING, 0)
        await twins.do_walk(vehicle_id, 4)
    await twins.both(lambda store: sweep_all(store, FleetTime(NOW + 200 * DAY_MS)))
    assert records(client, twins.redis) == 0
    frames = [client.hlen(key(shard_tag(shard), "frames")) for shard in range(twins.redis.shards)]
    assert max(frames) == 1  # type: ignore[type-var]


async def test_removed_vehicle_keeps_its_ended_attempts(twins: Twins) -> None:
    """Who comes back into the inventory takes up its numbers where they were."""
    await twins.do_assign(V1, SPRING, 0)
    await grown_old(twins)
    await twins.do_remove(V1)
    await twins.both(lambda store: store.attempts(V1))
    await twins.do_import(V1, "us", ("beta",))
    record = await twins.both(lambda store: store.vehicle(V1))
    assert record.tries[SPRING].number == 1
    assert record.attempt.habit is Habit.OFTEN


async def test_offline_permit_is_part_of_what_is_kept(twins: Twins) -> None:
    """How long it was good for says from when its silence counted."""
    await twins.do_assign(V1, SPRING, 0)
    await twins.do_walk(V1, 2)
    await twins.do_permit(V1, SPRING, 1, 5 * HOUR_MS)
    await grown_old(twins)
    (kept,) = await twins.both(lambda store: store.attempts(V1))
    assert kept.offline_ms == 5 * HOUR_MS
