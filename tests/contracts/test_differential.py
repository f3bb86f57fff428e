"""The two stores against each other: whatever is done to both, they answer alike and hold the same in the end."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.attempt import VEHICLE_EVENTS, AttemptEvent
from orchestrator.model.ids import AttemptId, attempt_id
from orchestrator.model.rollout import BrakeKind, RolloutStatus
from orchestrator.store.memory import MemoryStore
from orchestrator.store.redis import EmbeddedServer, RedisStore
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, a_rollout
from tests.contracts.steps import entry
from tests.contracts.twins import HABIT_AGES, ROLLOUTS, VEHICLES, Twins
from tests.store_fixtures import FakeMachine, empty

vehicles = st.sampled_from(VEHICLES)
rollouts = st.sampled_from(ROLLOUTS)
numbers = st.integers(1, 3)
offline = st.sampled_from([0, 0, HOUR_MS])
scopes = st.sampled_from(["", "spring", "autumn"])
part_scopes = st.sampled_from(["eu", "us", "eu/gen2", "_other"])
brakes = st.lists(st.tuples(part_scopes, st.sampled_from(BrakeKind)), max_size=1) | st.just([])
fence_scopes = st.sampled_from(["none", "none", "all", "eu", "us", "eu/gen2", "_other"])
fences = st.sampled_from(
    [{}, {"spring": 2}, {"spring": 9, "autumn": 9}, {"spring|eu": 3}, {"autumn|eu/gen2": 9}, {"autumn|_other": 9}]
)
dark_regions = st.sampled_from([(), (), ("eu",)])
backs_ms = st.sampled_from([0, 0, 10 * MINUTE_MS, HOUR_MS])
steps_ms = st.sampled_from([0, 1, MINUTE_MS, HOUR_MS, DAY_MS, 8 * DAY_MS])
told = st.tuples(st.sampled_from(sorted(VEHICLE_EVENTS)), st.integers(0, 2), numbers)
manifests = st.sampled_from([None, AttemptEvent.ATTESTED_RELEASE, AttemptEvent.ATTESTED_OTHER])
operations = st.one_of(
    st.tuples(st.just("assign"), vehicles, rollouts, st.sampled_from([0, 0, 0, 1, 2]), st.sampled_from([0, 0, 0, 1])),
    st.tuples(st.just("resolve"), vehicles, rollouts, numbers),
    st.tuples(st.just("walk"), vehicles, st.integers(1, 6)),
    st.tuples(st.just("walk"), vehicles, st.integers(1, 6)),
    st.tuples(st.just("permit"), vehicles, rollouts, numbers, offline),
    st.tuples(st.just("apply"), vehicles, st.sampled_from("aab"), st.integers(-2, 2), st.lists(told, max_size=3)),
    st.tuples(st.just("change"), vehicles, rollouts, numbers, st.sampled_from(sorted(AttemptEvent))),
    st.tuples(st.just("attest"), vehicles, st.integers(-1, 2), manifests, st.sampled_from(["", "1.0.0", "1.1.0"])),
    st.tuples(st.just("sweep"), steps_ms, fences, dark_regions),
    st.tuples(st.just("import"), vehicles, st.sampled_from(["eu", "us"]), st.sampled_from([(), ("beta",)])),
    st.tuples(st.just("direct"), vehicles, st.integers(0, 2)),
    st.tuples(st.just("touch"), vehicles, st.booleans(), st.sampled_from([0, 0, HOUR_MS])),
    st.tuples(st.just("enrol"), vehicles, rollouts, st.sampled_from(list(HABIT_AGES)), backs_ms),
    st.tuples(st.just("change_vehicle"), vehicles, st.sampled_from(["eu", "us"]), st.booleans()),
    st.tuples(st.just("remove"), vehicles),
    st.tuples(st.just("exclude"), vehicles, scopes),
    st.tuples(st.just("readmit"), vehicles, scopes),
    st.tuples(st.just("diagnose"), vehicles, rollouts, numbers),
    st.tuples(st.just("close_case"), vehicles, rollouts, numbers),
    st.tuples(st.just("transition"), rollouts, st.sampled_from(RolloutStatus), fence_scopes, brakes),
    st.tuples(
        st.just("reserve"),
        vehicles,
        rollouts,
        numbers,
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([0, 0, 45_000]),
    ),
    st.tuples(st.just("suspend"), vehicles, rollouts, numbers, st.booleans()),
    st.tuples(st.just("release"), vehicles, rollouts, numbers),
    st.tuples(st.just("confirm"), vehicles, rollouts, numbers),
    st.tuples(
        st.just("authorize"),
        vehicles,
        rollouts,
        numbers,
        st.integers(0, 1),
        offline,
        st.sampled_from([None, None, 1, 2]),
        st.booleans(),
    ),
    st.tuples(st.just("forfeit"), vehicles, rollouts, numbers),
    st.tuples(
        st.just("renew"), rollouts, st.integers(0, 4), st.sampled_from([0, 0, 0, 1]), st.booleans(), st.integers(1, 4)
    ),
    st.tuples(st.just("token"), vehicles, st.sampled_from("ab"), st.sampled_from("xy")),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(sequence=st.lists(operations, min_size=20, max_size=80))
async def test_both_stores_answer_alike_and_count_alike(
    hasty_server: EmbeddedServer, sequence: list[tuple[Any, ...]]
) -> None:
    """Simulations and rehearsals run on the model; they are worth nothing if the real store does something else."""
    empty(hasty_server.socket_path)
    day = DAY_MS  # The real machine does not move far within an example; the model's does not move at all.
    redis = await RedisStore.connect(hasty_server.url, shards=2, durability="provider", dead_man_life_ms=day)
    try:
        twins = Twins(MemoryStore(2, machine_ms=FakeMachine(), dead_man_life_ms=day), redis)
        for vehicle_id in VEHICLES[:2]:
            await twins.do_import(vehicle_id, "eu", ())
        for rollout_id in ROLLOUTS:
            rollout = a_rollout(rollout_id=rollout_id)
            await twins.both(lambda store, one=rollout: store.create_rollout(one, entry("rollout_created")))
            await twins.do_renew(rollout_id, 3)
        for vehicle_id in VEHICLES[:2]:
            await twins.do_assign(vehicle_id, ROLLOUTS[0], 0)
        for operation in sequence:
            await twins.do(operation)
        await twins.compare()
    finally:
        await redis.close()


async def test_attempt_ids_name_rollout_vehicle_and_number() -> None:
    """The generator above builds ids as the product does; an id that split differently would test nothing."""
    assert attempt_id(ROLLOUTS[0], VEHICLES[0], 1) == AttemptId("spring.v-1.1")
