"""Every counter can be recounted from the records while the store is in use, and is put right with a journal entry."""

from __future__ import annotations

import asyncio
import random

import pytest
import redis

from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.fleet import Habit
from orchestrator.model.ids import AttemptId, FleetTime, VehicleId
from orchestrator.model.vehicle import DirectorState
from orchestrator.store.base import Attestation
from orchestrator.store.redis import EmbeddedServer, RedisStore, codec
from orchestrator.store.redis.codec import GROUP, UNIT
from orchestrator.store.redis.keys import key, rollout_tag, shard_tag
from orchestrator.store.redis.packing import SCHEMA, pack
from orchestrator.store.redis.verify import Difference
from orchestrator.store.shards import shard_of
from orchestrator.store.values import JournalEntry
from tests.builders import DAY_MS, HOUR_MS, NOW, a_vehicle, an_attempt
from tests.contracts.steps import SPRING, a_control, authorize, permitted, reserve, running, sweep_all, tell

E = AttemptEvent
PLACES = rollout_tag(SPRING)
A, B, C = (AttemptId(f"spring.v-{number}.1") for number in (1, 2, 3))


@pytest.fixture
def client(embedded_server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3)


async def lived_in(store: RedisStore) -> None:
    """A store with something of everything that is counted."""
    await running(store)
    for number in range(1, 9):
        await store.import_vehicles(
            [a_vehicle(f"v-{number}", region=("eu", "us")[number % 2], tags=("beta",))], now=NOW
        )
    for number in (1, 2, 3):
        name = AttemptId(f"spring.v-{number}.1")
        await reserve(store, name)
        await authorize(store, name, reserved=True)
        await permitted(store, an_attempt(vehicle_id=f"v-{number}", habit=Habit.OFTEN, habit_ages_ms=(HOUR_MS,)))
    await tell(store, an_attempt(vehicle_id="v-2"), E.INSTALL_STARTED, E.FAILED, failure_code="safety_brake")
    await store.confirm(SPRING, reservations=[B], permits=[B])
    await store.release(SPRING, [B])
    await reserve(store, "spring.v-4.1")
    await store.enrol(a_control("v-5", habit=Habit.OFTEN, habit_ages_ms=(HOUR_MS,)))
    await sweep_all(store, FleetTime(NOW + DAY_MS))
    await store.attest(
        VehicleId("v-3"),
        Attestation("ab", 1, b"", "1.1.0", AttemptId("spring.v-3.1"), E.ATTESTED_RELEASE),  # type: ignore[arg-type]
        now=FleetTime(NOW + DAY_MS),
    )
    await store.import_vehicles([a_vehicle("v-9")], now=NOW)
    await store.remove_vehicle(VehicleId("v-9"), actor="ann", reason="sold", now=NOW)


async def grown_old(store: RedisStore) -> None:
    """Every age was reached: ended attempts are kept in their vehicles' records."""
    await sweep_all(store, FleetTime(NOW + 40 * DAY_MS))


async def differences(store: RedisStore) -> list[Difference]:
    """What is wrong anywhere."""
    verifier = store.verifier()
    found = [each for shard in range(store.shards) for each in await verifier.shard(shard)]
    return found + await verifier.rollout(SPRING)


def tag_of(store: RedisStore, vehicle_id: str) -> str:
    """The tag of a vehicle's shard."""
    return shard_tag(shard_of(VehicleId(vehicle_id), store.shards))


async def test_store_that_was_used_as_it_should_has_nothing_to_repair(redis_store: RedisStore) -> None:
    """Also of what was removed, ended, forgotten: an alarm that means nothing is worse than none."""
    assert await differences(redis_store) == []
    await lived_in(redis_store)
    assert await differences(redis_store) == []
    await grown_old(redis_store)
    assert await differences(redis_store) == []


PROFILE = UNIT.join(("S", "gen2", "us", "canary", GROUP.join(("beta",)), "", ""))
BROKEN = [
    ("count:spring", "eu|gen2|canary|p|permitted", "count"),
    ("count:spring", "eu|gen2|canary|a0", "count"),
    ("count:spring", "eu|gen2|canary|g|a", "count"),
    ("count:spring", f"eu|gen2|canary|h|often|{HOUR_MS}|a", "count"),
    ("count:spring", f"eu|gen2|canary|h|often|{HOUR_MS}|s", "count"),
    ("count:spring", "eu|gen2|canary|f|safety", "count"),
    ("count:spring", "eu|gen2|canary|k0", "count"),
    ("count:spring", "nowhere|x|y|b|offered", "count"),
    ("profiles", PROFILE, "profiles"),
    ("open_cases", "spring", "open_cases"),
    ("open_cases", "ghost", "open_cases"),
]


@pytest.mark.parametrize("amount", [1, -1])
@pytest.mark.parametrize(("name", "field", "counter"), BROKEN)
async def test_wrong_counter_of_a_shard_is_found_and_put_right(
    redis_store: RedisStore, client: redis.Redis, name: str, field: str, counter: str, amount: int
) -> None:
    """Whichever it is, by one more or one less; the journal says who did what, and why."""
    await lived_in(redis_store)
    tag = tag_of(redis_store, "v-1")
    client.hincrby(f"{tag}:{name}", field, amount)
    (found,) = await differences(redis_store)
    assert (found.counter, found.field) == (counter, field)
    assert (found.stands or 0) - (found.recounted or 0) == amount
    was, now = await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="a stray write")
    assert int(was) - int(now) == amount
    assert await differences(redis_store) == []
    entry = (await repairs(redis_store, found.stream))[-1]
    assert (entry.data["actor"], entry.data["reason"]) == ("ann", "a stray write")
    assert (entry.data["counter"], entry.data["was"], entry.data["is"]) == (counter, int(was), int(now))


@pytest.mark.parametrize("harm", ["srem", "sadd"])
async def test_vehicle_that_is_noted_under_another_profile_is_found_and_put_right(
    redis_store: RedisStore, client: redis.Redis, harm: str
) -> None:
    """What searches go by is compared vehicle by vehicle, also where as many are noted as are counted."""
    await lived_in(redis_store)
    members = f"{tag_of(redis_store, 'v-1')}:members:{PROFILE}"
    vehicle = {"srem": "v-1", "sadd": "v-9"}[harm]
    getattr(client, harm)(members, vehicle)
    (found,) = await differences(redis_store)
    assert (found.counter, found.field) == ("members", f"{PROFILE}|{vehicle}")
    assert (found.stands, found.recounted) == {"srem": (None, 1), "sadd": (1, None)}[harm]
    told = await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="a stray write")
    assert told == {"srem": ("0", "1"), "sadd": ("1", "0")}[harm]
    assert await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="again") == ("", "")
    assert await differences(redis_store) == []
    (entry,) = await repairs(redis_store, found.stream)
    assert (entry.data["actor"], entry.data["counter"]) == ("ann", "members")
    assert entry.data["field"] == f"S|gen2|us|canary|beta|||{vehicle}"


async def repairs(store: RedisStore, stream: str) -> list[JournalEntry]:
    """What the journal says of corrections."""
    entries = await store.journal(stream, after="", count=10_000)
    return [one for one in entries if one.kind == "counter_repaired"]


async def test_corrected_counters_reach_who_sums_them(redis_store: RedisStore, client: redis.Redis) -> None:
    """The evaluator fetches only what changed: a correction is a change."""
    await lived_in(redis_store)
    before = await redis_store.tallies([SPRING])
    tag = tag_of(redis_store, "v-1")
    client.hincrby(f"{tag}:count:spring", "eu|gen2|canary|p|permitted", 40)
    client.incr(f"{tag}:change")
    client.zadd(f"{tag}:changed", {"spring": int(client.get(f"{tag}:change") or 0)})
    assert await redis_store.tallies([SPRING]) != before
    for found in await differences(redis_store):
        await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await redis_store.tallies([SPRING]) == before


async def test_counters_that_nobody_is_told_of_are_found(redis_store: RedisStore, client: redis.Redis) -> None:
    """A rollout that is missing from what changed is one that the evaluator judges on nothing."""
    await lived_in(redis_store)
    tag = tag_of(redis_store, "v-1")
    client.delete(f"{tag}:changed")
    (found,) = await differences(redis_store)
    assert (found.counter, found.field) == ("changed", "spring")
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await differences(redis_store) == []


@pytest.mark.parametrize("member", ["d|spring.v-7.1", "c1|spring.v-1.1", "g|spring.v-7.1"])
async def test_what_is_missing_from_the_due_set_is_found_and_put_back(
    redis_store: RedisStore, client: redis.Redis, member: str
) -> None:
    """An attempt without a deadline holds its slot for ever; an age that never comes is silence that nobody hears."""
    await lived_in(redis_store)
    await redis_store.assign(
        an_attempt(vehicle_id="v-7"), DirectorState(timestamp_version=1), expected_timestamp_version=0
    )
    tag = tag_of(redis_store, member.split(".")[1])
    was = client.zscore(key(tag, "due"), member)
    assert client.zrem(key(tag, "due"), member) == 1
    (found,) = await differences(redis_store)
    assert (found.counter, found.field, found.stands, found.recounted) == ("due", member, None, was)
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert client.zscore(key(tag, "due"), member) == was
    assert await differences(redis_store) == []
    assert [one.data["field"] for one in await repairs(redis_store, found.stream)] == [member]


@pytest.mark.parametrize("member", ["d|spring.v-2.1", "c0|spring.v-1.1", "k0|ghost|v-1|7", "d|spring.nobody.1"])
async def test_what_is_due_for_nobody_is_found_and_taken_away(
    redis_store: RedisStore, client: redis.Redis, member: str
) -> None:
    """The sweep would count an age twice, or fail at a record that is not there, and nothing behind it be done."""
    await lived_in(redis_store)
    tag = tag_of(redis_store, member.split(".")[1] if "." in member else "v-1")
    client.zadd(key(tag, "due"), {member: 5})
    (found,) = await differences(redis_store)
    assert (found.counter, found.field, found.stands, found.recounted) == ("due", member, 5, None)
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await differences(redis_store) == []


async def test_wrong_deadline_is_found(redis_store: RedisStore, client: redis.Redis) -> None:
    """The record says when."""
    await lived_in(redis_store)
    tag = tag_of(redis_store, "v-1")
    client.zincrby(key(tag, "due"), DAY_MS, "d|spring.v-1.1")
    (found,) = await differences(redis_store)
    assert (found.stands or 0) - (found.recounted or 0) == DAY_MS
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await differences(redis_store) == []


PLACES_BROKEN = [
    ("in_flight", "eu"),
    ("in_flight", "*"),
    ("in_flight", "*b"),
    ("in_flight", "nowhere"),
    ("admitted", "eu|gen2|canary"),
    ("admitted", "x|y|z"),
    ("spent", "*"),
]


@pytest.mark.parametrize("amount", [1, -1])
@pytest.mark.parametrize(("name", "field"), PLACES_BROKEN)
async def test_wrong_counter_of_a_rollout_is_found_and_put_right(
    redis_store: RedisStore, client: redis.Redis, name: str, field: str, amount: int
) -> None:
    """Caps, quotas and the blast budget are counted there."""
    await lived_in(redis_store)
    before = await redis_store.standing(SPRING, now=NOW)
    client.hincrby(f"{PLACES}:{name}", field, amount)
    (found,) = await differences(redis_store)
    assert (found.stream, found.counter, found.field) == ("rollout/spring", name, field)
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await differences(redis_store) == []
    assert await redis_store.standing(SPRING, now=NOW) == before
    assert [one.data["actor"] for one in await repairs(redis_store, "rollout/spring")] == ["ann"]


@pytest.mark.parametrize(
    ("name", "member"),
    [("unsettled", "s|spring.v-2.1"), ("unsettled", "p|spring.never.1"), ("outstanding", "spring.v-2.1")],
)
async def test_what_waits_for_nobody_is_found_and_taken_away(
    redis_store: RedisStore, client: redis.Redis, name: str, member: str
) -> None:
    """A permit that is unsettled and not there would stop every tick of the evaluator."""
    await lived_in(redis_store)
    client.zadd(f"{PLACES}:{name}", {member: 5})
    (found,) = await differences(redis_store)
    assert (found.counter, found.field) == (name, member)
    await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
    assert await differences(redis_store) == []


async def test_look_at_a_store_under_load_raises_no_false_alarm_and_finds_the_true_one(
    redis_store: RedisStore, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records change while they are read, by hundreds: whatever was changed is read again with the counters."""
    monkeypatch.setattr("orchestrator.store.redis.verify.FEW", 3)
    monkeypatch.setattr("orchestrator.store.redis.verify.AT_ONCE", 2)
    names = [f"w-{number}" for number in range(60)]
    await running(redis_store)
    await redis_store.import_vehicles([a_vehicle(name) for name in names], now=NOW)
    rng, ended = random.Random(5), asyncio.Event()
    number = 0

    async def busy() -> None:
        nonlocal number
        while not ended.is_set():
            name = rng.choice(names)
            number += 1
            await redis_store.import_vehicles([a_vehicle(name, region=rng.choice(["eu", "us"]))], now=NOW)
            record = await redis_store.vehicle(VehicleId(name))
            assert record is not None
            tried = record.tries.get(SPRING)
            attempt = an_attempt(vehicle_id=name, number=tried.number + 1 if tried else 1)
            held = record.director.timestamp_version
            await redis_store.assign(
                attempt, DirectorState(timestamp_version=held + 1), expected_timestamp_version=held
            )
            await redis_store.change(attempt.attempt_id, E.DOWNLOAD_FINISHED, now=NOW)
            await redis_store.permit(attempt.attempt_id, permitted_at=NOW)
            await redis_store.change(attempt.attempt_id, rng.choice([E.INSTALL_STARTED, E.FAILED]), now=NOW)
            await redis_store.sweep(
                [number % redis_store.shards], now=FleetTime(NOW + rng.randrange(9 * DAY_MS)), fences={}
            )

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(busy())
        for round_number in range(6):
            assert await differences(redis_store) == [], round_number
        tag = tag_of(redis_store, "w-1")
        client.hincrby(f"{tag}:count:spring", "eu|gen2|canary|p|failed", 7)
        (found,) = await differences(redis_store)
        await redis_store.verifier().repair(found, at=NOW, actor="ann", reason="why")
        assert await differences(redis_store) == []
        ended.set()
    assert number > 100


async def test_noting_of_changes_ends_with_the_look(redis_store: RedisStore, client: redis.Redis) -> None:
    """It costs each write a little; and what nobody reads must not grow."""
    await lived_in(redis_store)
    await differences(redis_store)
    assert client.keys("*:touched") == []
    tag = shard_tag(0)
    await redis_store.verifier()._calls.function("look_begin", tag, 60_000)
    left = client.pttl(key(tag, "touched"))
    assert 0 < left <= 60_000  # type: ignore[operator]


async def test_record_without_its_frame_is_said_aloud(redis_store: RedisStore, client: redis.Redis) -> None:
    """It cannot be counted, and nothing here can bring it back."""
    await lived_in(redis_store)
    await grown_old(redis_store)
    client.delete(key(tag_of(redis_store, "v-2"), "frames"))
    with pytest.raises(Exception, match="names frame 1, which is not there"):
        await differences(redis_store)


async def test_attempts_that_an_earlier_build_left_are_moved_and_say_the_same(
    redis_store: RedisStore, client: redis.Redis
) -> None:
    """Who upgrades gets the room back, and nothing else changes: records, tries, counters."""
    await lived_in(redis_store)
    await grown_old(redis_store)
    before = {number: await redis_store.vehicle(VehicleId(f"v-{number}")) for number in range(1, 9)}
    for number in (1, 2, 3):
        name = VehicleId(f"v-{number}")
        tag = tag_of(redis_store, name)
        (attempt,) = await redis_store.attempts(name)
        client.hset(key(tag, "attempts"), attempt.attempt_id, codec.encode_attempt(attempt))
        hot = codec.unpack_hot(client.hget(key(tag, "hot"), name))  # type: ignore[arg-type]
        values = dict(zip(codec.HOT, hot, strict=True))
        exposed, state = attempt.permitted_at is not None, attempt.state.value
        values["tries"] = [["spring", 1, state, attempt.state_at, exposed, attempt.failure_code]]
        client.hset(key(tag, "hot"), name, pack([SCHEMA, *list(values.values())[1:-1]]))
    client.hset(f"{PLACES}:permits", "spring.old.1", "1|1|0|1|eu|gen2|canary")
    client.hincrby(f"{PLACES}:admitted", "eu|gen2|canary", 1)
    assert {number: await redis_store.vehicle(VehicleId(f"v-{number}")) for number in range(1, 9)} == before
    assert await differences(redis_store) == []

    permits = (await redis_store.standing(SPRING, now=NOW)).permits
    verifier = redis_store.verifier()
    assert sum([await verifier.pack_ended(shard) for shard in range(redis_store.shards)]) == 3
    await verifier.spend_permits(SPRING)
    assert all(client.hlen(key(shard_tag(shard), "attempts")) == 0 for shard in range(redis_store.shards))
    assert not client.hexists(f"{PLACES}:permits", "spring.old.1")
    assert (await redis_store.standing(SPRING, now=NOW)).permits == permits
    assert {number: await redis_store.vehicle(VehicleId(f"v-{number}")) for number in range(1, 9)} == before
    assert await differences(redis_store) == []
