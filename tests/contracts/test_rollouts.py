"""What every store promises about rollouts: compare-and-set, caps, permits, the dead-man."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model.ids import AttemptId, RolloutId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.store.base import DEAD_MAN_LIFE_MS, Permitted, Reserved
from tests.builders import HOUR_MS, MINUTE_MS, NOW, a_rollout, after
from tests.contracts.steps import SPRING, authorize, entry, next_epoch, reason, renew, reserve, running
from tests.store_fixtures import StoreBench

STATUS_REFUSALS = [
    (RolloutStatus.PAUSED, "rollout_paused"),
    (RolloutStatus.HELD, "rollout_held"),
    (RolloutStatus.HALTED, "rollout_halted"),
    (RolloutStatus.COMPLETED, "rollout_over"),
    (RolloutStatus.ABORTED, "rollout_over"),
]


async def test_creating_a_rollout_again_returns_the_one_that_stands(bench: StoreBench) -> None:
    """A repeated request must not restart a rollout; the request id tells the caller whose it is."""
    first = await running(bench.store)
    second = await bench.store.create_rollout(a_rollout(request_id="another", epoch=99), entry())
    assert second == first
    assert [one.kind for one in await bench.store.journal("rollout/spring", after="", count=9)] == ["rollout_created"]


async def test_rollouts_are_listed_newest_first(bench: StoreBench) -> None:
    """Whoever looks is interested in the latest."""
    for name, at in (("a", 1), ("b", 3), ("c", 2)):
        await running(bench.store, a_rollout(rollout_id=name, created_at=after(at)))
    assert [one.rollout_id for one in await bench.store.rollouts()] == ["b", "c", "a"]


async def test_transition_by_expected_epoch_wins_once(bench: StoreBench) -> None:
    """Of two evaluators exactly one makes the transition, and only that one is journalled."""
    rollout = await running(bench.store)
    paused = next_epoch(rollout, status=RolloutStatus.PAUSED)
    halted = next_epoch(rollout, status=RolloutStatus.HALTED)
    outcomes = await asyncio.gather(
        bench.store.transition(paused, expected_epoch=1, decision=entry(reason="one")),
        bench.store.transition(halted, expected_epoch=1, decision=entry(reason="two")),
    )
    assert sorted(outcomes) == [False, True]
    assert list(await bench.store.rollouts()) == [paused if outcomes[0] else halted]
    log = await bench.store.journal("rollout/spring", after="", count=9)
    assert [one.data.get("reason") for one in log] == [None, "one" if outcomes[0] else "two"]


async def test_stale_evaluator_changes_nothing(bench: StoreBench) -> None:
    """An evaluator that wakes after a long sleep knows an old epoch; a halt must not be undone by it."""
    rollout = await running(bench.store)
    halted = next_epoch(rollout, status=RolloutStatus.HALTED, fence=2)
    assert await bench.store.transition(halted, expected_epoch=1, decision=entry())
    assert not await bench.store.transition(next_epoch(rollout), expected_epoch=1, decision=entry())
    assert list(await bench.store.rollouts()) == [halted]


async def test_transition_of_an_unknown_rollout_is_refused(bench: StoreBench) -> None:
    """A transition never creates."""
    assert not await bench.store.transition(a_rollout(epoch=2), expected_epoch=1, decision=entry())
    assert list(await bench.store.rollouts()) == []


@pytest.mark.parametrize(("status", "word"), STATUS_REFUSALS)
async def test_rollout_that_does_not_run_admits_nobody(bench: StoreBench, status: RolloutStatus, word: str) -> None:
    """Pause, hold, halt, abort and completion stop grants and permits in the same step."""
    rollout = await running(bench.store)
    assert await bench.store.transition(next_epoch(rollout, status=status), expected_epoch=1, decision=entry())
    assert reason(await reserve(bench.store, "spring.v-1.1", epoch=2)) == word
    assert reason(await authorize(bench.store, "spring.v-1.1", epoch=2)) == word


async def test_unknown_rollout_admits_nobody(bench: StoreBench) -> None:
    """A worker may hold an attempt of a rollout that a restored store does not know."""
    assert reason(await reserve(bench.store, "ghost.v-1.1", rollout_id=RolloutId("ghost"))) == "rollout_over"
    assert reason(await authorize(bench.store, "ghost.v-1.1", rollout_id=RolloutId("ghost"))) == "rollout_over"
    assert not await renew(bench.store, RolloutId("ghost"), permit_ceiling=5)
    await bench.store.release(RolloutId("ghost"), [AttemptId("ghost.v-1.1")])
    assert list(await bench.store.rollouts()) == []


async def test_reserve_refuses_another_epoch(bench: StoreBench) -> None:
    """A grant considered under an older state of the rollout is not valid under the newer one."""
    rollout = await running(bench.store)
    assert await bench.store.transition(next_epoch(rollout), expected_epoch=1, decision=entry())
    answer = await reserve(bench.store, "spring.v-1.1", epoch=1)
    assert reason(answer) == "stale_epoch"
    assert answer.facts == {"epoch": "1", "current": "2"}  # type: ignore[attr-defined]


async def test_nothing_is_granted_before_the_evaluator_gave_a_sign_of_life(bench: StoreBench) -> None:
    """Grants depend on a living evaluator from the first one on."""
    await bench.store.create_rollout(a_rollout(), entry())
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert reason(await authorize(bench.store, "spring.v-1.1")) == "evaluator_silent"


async def test_grants_and_permits_stop_when_the_evaluator_falls_silent(bench: StoreBench) -> None:
    """Losing the control plane adds no risk; a new sign of life lets both go on."""
    await running(bench.store)
    await bench.lapse(SPRING)
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert reason(await authorize(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert await renew(bench.store, permit_ceiling=10)
    assert await reserve(bench.store, "spring.v-1.1") == Reserved()
    assert await authorize(bench.store, "spring.v-1.1") == Permitted(NOW)


async def test_sign_of_life_does_not_outlive_a_clock_that_is_set_back(bench: StoreBench) -> None:
    """An hour back would let grants and permits go on for an hour without an evaluator."""
    await running(bench.store)
    assert await reserve(bench.store, "spring.v-1.1") == Reserved()
    await bench.set_back(SPRING, HOUR_MS)
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert reason(await authorize(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert await renew(bench.store, permit_ceiling=10)
    assert await reserve(bench.store, "spring.v-1.1") == Reserved()
    assert await authorize(bench.store, "spring.v-1.1") == Permitted(NOW)


async def machine_ms(bench: StoreBench) -> int:
    """Machine time of the store."""
    return (await bench.store.clock(origin=NOW, scale=1.0)).machine_ms


async def test_evaluator_that_slept_through_a_later_tick_renews_nothing(bench: StoreBench) -> None:
    """What it counted is old: it must not raise the ceiling that a younger look lowered."""
    await running(bench.store, permit_ceiling=5)
    now = await machine_ms(bench)
    assert await renew(bench.store, permit_ceiling=1, began_ms=now)
    assert not await renew(bench.store, permit_ceiling=5, began_ms=now - 1)
    assert await authorize(bench.store, "spring.v-1.1") == Permitted(NOW)
    answer = await authorize(bench.store, "spring.v-2.1")
    assert answer.facts == {"permits": "1", "ceiling": "1"}  # type: ignore[attr-defined]
    assert await renew(bench.store, permit_ceiling=2, began_ms=now), "the same tick, repeated"
    assert await authorize(bench.store, "spring.v-2.1") == Permitted(NOW)


async def test_evaluator_that_wakes_does_not_revive_the_dead_man(bench: StoreBench) -> None:
    """The life counts from the begin of its tick: one that began a life ago is as silent as before."""
    await bench.store.create_rollout(a_rollout(), entry())
    began_ms = await machine_ms(bench) - DEAD_MAN_LIFE_MS
    await renew(bench.store, permit_ceiling=9, began_ms=began_ms)
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "evaluator_silent"
    assert reason(await authorize(bench.store, "spring.v-1.1")) == "evaluator_silent"


@pytest.mark.parametrize("epoch", [1, 3])
async def test_sign_of_life_about_another_epoch_changes_nothing(bench: StoreBench, epoch: int) -> None:
    """A ceiling that was computed for another state of the rollout is not this one's."""
    rollout = await running(bench.store, permit_ceiling=1)
    assert await bench.store.transition(next_epoch(rollout), expected_epoch=1, decision=entry())
    assert not await renew(bench.store, permit_ceiling=9, epoch=epoch)
    assert await authorize(bench.store, "spring.v-1.1", epoch=2) == Permitted(NOW)
    assert reason(await authorize(bench.store, "spring.v-2.1", epoch=2)) == "blast_budget_spent"


async def test_sign_of_life_from_the_future_is_none(bench: StoreBench) -> None:
    """The clock was set back while the tick ran: its begin says nothing about now."""
    await bench.store.create_rollout(a_rollout(), entry())
    began_ms = await machine_ms(bench) + HOUR_MS
    assert not await renew(bench.store, permit_ceiling=9, began_ms=began_ms)
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "evaluator_silent"


async def test_reserving_again_takes_no_second_slot(bench: StoreBench) -> None:
    """A repeated call after an unknown outcome must not leak a slot."""
    await running(bench.store)
    for _ in range(3):
        assert await reserve(bench.store, "spring.v-1.1", region_max=2) == Reserved()
    assert await reserve(bench.store, "spring.v-2.1", region_max=2) == Reserved()
    assert reason(await reserve(bench.store, "spring.v-3.1", region_max=2)) == "in_flight_spent"


async def test_held_slot_does_not_outlast_a_pause(bench: StoreBench) -> None:
    """Pause stops grants at once: a repetition after it is refused although the slot is held."""
    rollout = await running(bench.store)
    assert await reserve(bench.store, "spring.v-1.1") == Reserved()
    paused = next_epoch(rollout, status=RolloutStatus.PAUSED)
    assert await bench.store.transition(paused, expected_epoch=1, decision=entry())
    assert reason(await reserve(bench.store, "spring.v-1.1")) == "rollout_paused"


async def test_caps_hold_under_two_hundred_concurrent_reserves(bench: StoreBench) -> None:
    """No limit is a suggestion: exactly as many slots as the limits allow are given, whatever the interleaving."""
    await running(bench.store)
    answers = await asyncio.gather(
        *(
            reserve(
                bench.store, f"spring.v-{number}.1", region="eu" if number % 2 else "us", region_max=30, total_max=50
            )
            for number in range(200)
        )
    )
    granted = [number for number, answer in enumerate(answers) if answer == Reserved()]
    assert len(granted) == 50
    assert max(sum(1 for number in granted if number % 2 == odd) for odd in (0, 1)) <= 30
    assert {reason(answer) for answer in answers if answer != Reserved()} == {"in_flight_spent"}


async def test_region_limit_names_both_numbers(bench: StoreBench) -> None:
    """Whoever reads the refusal sees what was counted against what."""
    await running(bench.store)
    await reserve(bench.store, "spring.v-1.1", region_max=1)
    answer = await reserve(bench.store, "spring.v-2.1", region_max=1)
    assert reason(answer) == "in_flight_spent"
    assert answer.message == "in flight in eu (1) >= limit (1)"  # type: ignore[attr-defined]
    assert await reserve(bench.store, "spring.v-2.1", region="us", region_max=1) == Reserved()
    assert reason(await reserve(bench.store, "spring.v-3.1", region="ap", total_max=2)) == "in_flight_spent"


async def test_released_slot_is_free_once_however_often_it_is_released(bench: StoreBench) -> None:
    """The journal may be carried twice; a slot returned twice would raise the cap."""
    await running(bench.store)
    ids = [AttemptId("spring.v-1.1"), AttemptId("spring.v-2.1")]
    for attempt_id in ids:
        assert await reserve(bench.store, attempt_id, region_max=2) == Reserved()
    for _ in range(3):
        await bench.store.release(SPRING, [ids[0], AttemptId("spring.never.1")])
    assert await reserve(bench.store, "spring.v-3.1", region_max=2, total_max=2) == Reserved()
    assert reason(await reserve(bench.store, "spring.v-4.1", region_max=2)) == "in_flight_spent"
    assert reason(await reserve(bench.store, "spring.v-4.1", region="us", total_max=2)) == "in_flight_spent"


async def test_released_attempt_may_reserve_again(bench: StoreBench) -> None:
    """A deferred attempt gave its slot back and takes one again when it goes on."""
    await running(bench.store)
    assert await reserve(bench.store, "spring.v-1.1", region_max=1) == Reserved()
    await bench.store.release(SPRING, [AttemptId("spring.v-1.1")])
    assert await reserve(bench.store, "spring.v-1.1", region_max=1) == Reserved()
    assert reason(await reserve(bench.store, "spring.v-2.1", region_max=1)) == "in_flight_spent"


async def test_reservation_is_unsettled_until_confirmed(bench: StoreBench) -> None:
    """What a crashed worker left half done is found by asking, and a young one is given time."""
    await running(bench.store)
    await reserve(bench.store, "spring.v-1.1")
    await reserve(bench.store, "spring.v-2.1")
    assert (await bench.store.unsettled([SPRING], older_than_ms=HOUR_MS))[SPRING].reservations == []
    found = (await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING]
    assert sorted(found.reservations) == ["spring.v-1.1", "spring.v-2.1"]
    await bench.store.confirm(SPRING, reservations=[AttemptId("spring.v-1.1")], permits=[])
    await bench.store.release(SPRING, [AttemptId("spring.v-2.1")])
    assert (await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].reservations == []


async def test_confirming_keeps_the_slot(bench: StoreBench) -> None:
    """Confirmed means known, not ended."""
    await running(bench.store)
    await reserve(bench.store, "spring.v-1.1", region_max=1)
    await bench.store.confirm(SPRING, reservations=[AttemptId("spring.v-1.1")], permits=[])
    assert reason(await reserve(bench.store, "spring.v-2.1", region_max=1)) == "in_flight_spent"


async def test_permit_is_repeated_within_its_validity_whatever_happened_since(bench: StoreBench) -> None:
    """The first answer may have been lost on the way, and the vehicle may already act on it."""
    rollout = await running(bench.store)
    assert await authorize(bench.store, "spring.v-1.1", valid_ms=MINUTE_MS) == Permitted(NOW)
    halted = next_epoch(rollout, status=RolloutStatus.HALTED, fence=2)
    assert await bench.store.transition(halted, expected_epoch=1, decision=entry())
    await bench.lapse(SPRING)
    again = await authorize(bench.store, "spring.v-1.1", valid_ms=MINUTE_MS, now=after(MINUTE_MS - 1))
    assert again == Permitted(NOW)
    late = await authorize(bench.store, "spring.v-1.1", valid_ms=MINUTE_MS, now=after(MINUTE_MS))
    assert reason(late) == "rollout_halted"


async def test_expired_permit_is_asked_anew_but_not_counted_twice(bench: StoreBench) -> None:
    """One attempt is one exposure; asking again must neither be refused for its own count nor spend a second one."""
    await running(bench.store, permit_ceiling=2)
    assert await authorize(bench.store, "spring.v-1.1", starts=2, valid_ms=10) == Permitted(NOW)
    renewed = await authorize(bench.store, "spring.v-1.1", starts=1, valid_ms=10, now=after(50))
    assert renewed == Permitted(after(50))
    assert await authorize(bench.store, "spring.v-1.1", valid_ms=10, now=after(55)) == Permitted(after(50))
    assert await authorize(bench.store, "spring.v-2.1", starts=2, now=after(60)) == Permitted(after(60))
    assert reason(await authorize(bench.store, "spring.v-3.1", now=after(2 * MINUTE_MS))) == "blast_budget_spent"


async def test_expired_permit_is_refused_after_the_fence(bench: StoreBench) -> None:
    """Asked anew means asked: a fenced attempt gets no second permit."""
    rollout = await running(bench.store)
    assert await authorize(bench.store, "spring.v-1.1", valid_ms=10) == Permitted(NOW)
    assert await bench.store.transition(next_epoch(rollout, fence=2), expected_epoch=1, decision=entry())
    assert reason(await authorize(bench.store, "spring.v-1.1", valid_ms=10, now=after(10))) == "fenced"


async def test_fence_stops_attempts_of_lower_epochs_only(bench: StoreBench) -> None:
    """Abort and halt take back what was granted before them, not what is granted after a resume."""
    rollout = await running(bench.store)
    assert await bench.store.transition(next_epoch(rollout, fence=2), expected_epoch=1, decision=entry())
    assert reason(await authorize(bench.store, "spring.v-1.1", epoch=1)) == "fenced"
    assert await authorize(bench.store, "spring.v-2.1", epoch=2) == Permitted(NOW)


async def test_starts_are_limited_within_any_minute(bench: StoreBench) -> None:
    """A sliding minute: no burst at the turn of the minute."""
    await running(bench.store)
    assert await authorize(bench.store, "spring.v-1.1", starts=2) == Permitted(NOW)
    assert await authorize(bench.store, "spring.v-2.1", starts=2, now=after(40_000)) == Permitted(after(40_000))
    answer = await authorize(bench.store, "spring.v-3.1", starts=2, now=after(59_999))
    assert reason(answer) == "starts_spent"
    assert answer.facts == {"starts": "2", "limit": "2"}  # type: ignore[attr-defined]
    assert await authorize(bench.store, "spring.v-3.1", starts=2, now=after(60_000)) == Permitted(after(60_000))
    assert reason(await authorize(bench.store, "spring.v-4.1", starts=2, now=after(60_001))) == "starts_spent"


async def test_permits_never_exceed_the_ceiling_under_concurrency(bench: StoreBench) -> None:
    """The blast budget bounds the harm: two hundred vehicles ask at once, seven may install."""
    await running(bench.store, permit_ceiling=7)
    answers = await asyncio.gather(*(authorize(bench.store, f"spring.v-{number}.1") for number in range(200)))
    assert sum(1 for answer in answers if answer == Permitted(NOW)) == 7
    assert {reason(answer) for answer in answers if answer != Permitted(NOW)} == {"blast_budget_spent"}
    assert await renew(bench.store, permit_ceiling=8)
    assert await authorize(bench.store, "spring.w-1.1") == Permitted(NOW)
    assert reason(await authorize(bench.store, "spring.w-2.1")) == "blast_budget_spent"


async def test_lowered_ceiling_stops_permits_at_once(bench: StoreBench) -> None:
    """When the gate's view worsens the budget shrinks below what is out already."""
    await running(bench.store, permit_ceiling=5)
    await authorize(bench.store, "spring.v-1.1")
    await authorize(bench.store, "spring.v-2.1")
    assert await renew(bench.store, permit_ceiling=1)
    answer = await authorize(bench.store, "spring.v-3.1")
    assert answer.facts == {"permits": "2", "ceiling": "1"}  # type: ignore[attr-defined]


async def test_permit_is_unsettled_until_the_shard_knows_it(bench: StoreBench) -> None:
    """An exposure counted on the rollout but not on the shard is completed by the evaluator with its first time."""
    await running(bench.store)
    await authorize(bench.store, "spring.v-1.1", valid_ms=10)
    await authorize(bench.store, "spring.v-1.1", valid_ms=10, now=after(20))
    assert dict((await bench.store.unsettled([SPRING], older_than_ms=HOUR_MS))[SPRING].permits) == {}
    assert dict((await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits) == {
        "spring.v-1.1": Permitted(NOW)
    }
    await bench.store.confirm(SPRING, reservations=[], permits=[AttemptId("spring.v-1.1")])
    assert dict((await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits) == {}
    assert await authorize(bench.store, "spring.v-1.1", valid_ms=100, now=after(30)) == Permitted(after(20))


async def test_forfeited_permit_gives_its_place_back_once_but_not_its_start(bench: StoreBench) -> None:
    """A permit that nobody was told of must not spend the budget for ever; the burst limit is about asking."""
    await running(bench.store, permit_ceiling=2)
    ids = [AttemptId("spring.v-1.1"), AttemptId("spring.v-2.1")]
    for attempt_id in ids:
        assert await authorize(bench.store, attempt_id) == Permitted(NOW)
    assert reason(await authorize(bench.store, "spring.v-3.1")) == "blast_budget_spent"
    for _ in range(3):
        await bench.store.forfeit(SPRING, [ids[0], AttemptId("spring.never.1")])
    assert dict((await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].permits) == {ids[1]: Permitted(NOW)}
    answer = await authorize(bench.store, "spring.v-3.1", starts=2)
    assert answer.facts == {"starts": "2", "limit": "2"}  # type: ignore[attr-defined]
    assert await authorize(bench.store, "spring.v-3.1", starts=3) == Permitted(NOW)
    assert reason(await authorize(bench.store, "spring.v-4.1")) == "blast_budget_spent"
    await bench.store.forfeit(RolloutId("ghost"), ids)
    await bench.store.forfeit(SPRING, [])


async def test_forfeited_attempt_asks_as_if_for_the_first_time(bench: StoreBench) -> None:
    """Nothing of the permit is left to be repeated, not even within its validity."""
    rollout = await running(bench.store)
    assert await authorize(bench.store, "spring.v-1.1") == Permitted(NOW)
    await bench.store.forfeit(SPRING, [AttemptId("spring.v-1.1")])
    paused = next_epoch(rollout, status=RolloutStatus.PAUSED)
    assert await bench.store.transition(paused, expected_epoch=1, decision=entry())
    assert reason(await authorize(bench.store, "spring.v-1.1", now=after(1))) == "rollout_paused"


async def test_rollouts_do_not_share_limits(bench: StoreBench) -> None:
    """Each rollout's keys are its own."""
    await running(bench.store)
    await running(bench.store, a_rollout(rollout_id="autumn"))
    await reserve(bench.store, "spring.v-1.1", region_max=1)
    assert await reserve(bench.store, "autumn.v-1.1", region_max=1, rollout_id=RolloutId("autumn")) == Reserved()
