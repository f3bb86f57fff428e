"""What every store promises about places: quotas, slots that are given back and taken again, parts that stand still."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.model.fleet import Cell
from orchestrator.model.ids import AttemptId
from orchestrator.model.rollout import Brake, BrakeKind, RolloutStatus
from orchestrator.store.base import BANDWIDTH_AHEAD_MS, Permitted, Reserved
from tests.builders import HOUR_MS, MINUTE_MS, NOW, a_brake, a_cell, a_rollout, after
from tests.contracts.steps import SPRING, authorize, entry, next_epoch, reason, renew, reserve, running
from tests.store_fixtures import StoreBench

GEN1, GEN2 = a_cell(hardware="gen1"), a_cell(hardware="gen2")
A, B = AttemptId("spring.v-1.1"), AttemptId("spring.v-2.1")


async def braked(bench: StoreBench, *brakes: Brake, **changes: object) -> None:
    """A running rollout of which parts stand still, at epoch 2."""
    rollout = await running(bench.store)
    changed = next_epoch(rollout, brakes=brakes, **changes)
    assert await bench.store.transition(changed, expected_epoch=1, decision=entry())
    assert await renew(bench.store, permit_ceiling=1000, epoch=2)


async def machine_ms(bench: StoreBench) -> int:
    """Machine time of the store."""
    return (await bench.store.clock(origin=NOW, scale=1.0)).machine_ms


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (BrakeKind.PAUSED, "rollout_paused"),
        (BrakeKind.HELD, "rollout_held"),
        (BrakeKind.HALTED, "rollout_halted"),
    ],
)
async def test_braked_region_admits_nobody_while_the_others_go_on(
    bench: StoreBench, kind: BrakeKind, word: str
) -> None:
    """A dark region must not stop the fleet, and must itself stop in the same step as its brake is written."""
    await braked(bench, a_brake("eu", kind))
    refused = await reserve(bench.store, A, epoch=2)
    assert reason(refused) == word
    assert refused.facts["scope"] == "eu"  # type: ignore[attr-defined]
    assert reason(await authorize(bench.store, A)) == word
    assert await reserve(bench.store, B, region="us", epoch=2) == Reserved()
    assert await authorize(bench.store, B, region="us") == Permitted(NOW)


async def test_braked_stratum_leaves_the_rest_of_its_region_alone(bench: StoreBench) -> None:
    """One variant that fails says nothing against the others."""
    await braked(bench, a_brake("eu/gen1", BrakeKind.HALTED))
    assert reason(await reserve(bench.store, A, cell=GEN1, epoch=2)) == "rollout_halted"
    assert await reserve(bench.store, B, cell=GEN2, epoch=2) == Reserved()


async def test_worst_brake_on_a_stratum_is_the_one_that_is_told(bench: StoreBench) -> None:
    """Who waits for a paused region to come back should hear that its variant is halted."""
    await braked(bench, a_brake("eu", BrakeKind.PAUSED), a_brake("eu/gen1", BrakeKind.HALTED))
    assert reason(await reserve(bench.store, A, cell=GEN1, epoch=2)) == "rollout_halted"
    assert reason(await reserve(bench.store, A, cell=GEN2, epoch=2)) == "rollout_paused"


async def test_released_brake_is_gone_in_the_same_step(bench: StoreBench) -> None:
    """Nothing of an earlier state of the rollout may stay behind on its keys."""
    await braked(bench, a_brake("eu"), fences={"eu": 2})
    cleared = next_epoch((await bench.store.rollouts())[0], brakes=(), fences={})
    assert await bench.store.transition(cleared, expected_epoch=2, decision=entry())
    assert await reserve(bench.store, A, epoch=3) == Reserved()
    assert await authorize(bench.store, A, epoch=1) == Permitted(NOW)


@pytest.mark.parametrize("scope", ["eu", "eu/gen1"])
async def test_fence_of_a_part_stops_its_earlier_attempts_alone(bench: StoreBench, scope: str) -> None:
    """A halted stratum takes back what was granted in it before, and nothing else."""
    await braked(bench, fences={scope: 2})
    assert reason(await authorize(bench.store, A, cell=GEN1, epoch=1)) == "fenced"
    assert await authorize(bench.store, A, cell=GEN1, epoch=2) == Permitted(NOW)
    assert await authorize(bench.store, B, region="us", epoch=1) == Permitted(NOW)


APART = ("eu/gen1", "us/gen2")
RARE, UNSEEN = a_cell(hardware="gen2"), a_cell("us", "gen9")


@pytest.mark.parametrize("cell", [RARE, UNSEEN])
async def test_brake_on_strata_that_are_judged_together_stops_each_of_them(bench: StoreBench, cell: Cell) -> None:
    """Also one that nobody had counted when it was written: which they are follows from which are judged apart."""
    await braked(bench, a_brake("_other", BrakeKind.HALTED), fences={"_other": 2}, apart=APART)
    refused = await reserve(bench.store, A, cell=cell, epoch=2)
    assert (reason(refused), refused.facts["scope"]) == ("rollout_halted", "_other")  # type: ignore[attr-defined]
    assert reason(await authorize(bench.store, A, cell=cell)) == "rollout_halted"
    for number, apart in enumerate((GEN1, a_cell("us"))):
        assert await reserve(bench.store, f"spring.w-{number}.1", cell=apart, epoch=2) == Reserved()
        assert await authorize(bench.store, f"spring.w-{number}.1", cell=apart, epoch=1) == Permitted(NOW)


async def test_fence_of_strata_that_are_judged_together_is_that_of_each(bench: StoreBench) -> None:
    """And goes with them: what is judged apart keeps its attempts, and nothing stays behind on the keys."""
    await braked(bench, fences={"_other": 2}, apart=APART)
    assert reason(await authorize(bench.store, A, cell=RARE, epoch=1)) == "fenced"
    assert await authorize(bench.store, A, cell=RARE, epoch=2) == Permitted(NOW)
    assert await authorize(bench.store, B, cell=GEN1, epoch=1) == Permitted(NOW)
    again = next_epoch((await bench.store.rollouts())[0], apart=(*APART, "eu/gen2"))
    assert await bench.store.transition(again, expected_epoch=2, decision=entry())
    assert await renew(bench.store, permit_ceiling=1000, epoch=3)
    assert await authorize(bench.store, "spring.v-3.1", cell=RARE, epoch=1) == Permitted(NOW)


async def test_worst_of_several_brakes_on_a_stratum_is_told(bench: StoreBench) -> None:
    """Its own, its region's, and the one it shares."""
    brakes = (a_brake("_other", BrakeKind.HELD), a_brake("eu", BrakeKind.PAUSED))
    await braked(bench, *brakes, a_brake("eu/gen2", BrakeKind.HALTED), apart=APART)
    told = [await reserve(bench.store, A, cell=cell, epoch=2) for cell in (RARE, a_cell(hardware="gen7"), GEN1)]
    assert [each.facts["scope"] for each in told] == ["eu/gen2", "_other", "eu"]  # type: ignore[attr-defined]


async def test_quota_of_a_cell_holds_exactly_under_two_hundred_concurrent_reserves(bench: StoreBench) -> None:
    """A canary of seven is seven, however many workers ask for it at once; other cells are not touched."""
    await running(bench.store)
    asked = [
        reserve(bench.store, f"spring.v-{number}.1", cell=(GEN1, GEN2)[number % 2], quota=7) for number in range(200)
    ]
    answers = await asyncio.gather(*asked)
    assert answers.count(Reserved()) == 14
    assert {reason(answer) for answer in answers if answer != Reserved()} == {"quota_spent"}
    standing = await bench.store.standing(SPRING, now=NOW)
    assert standing.admitted == {GEN1: 7, GEN2: 7}
    assert (standing.in_flight_total, standing.at_risk) == (14, 14)


async def test_quota_refusal_names_both_numbers(bench: StoreBench) -> None:
    """Whoever reads it sees what was counted against what, and where."""
    await running(bench.store)
    await reserve(bench.store, A, quota=1)
    answer = await reserve(bench.store, B, quota=1)
    assert answer.message == "admitted in eu/gen2/canary (1) >= quota (1)"  # type: ignore[attr-defined]
    assert await reserve(bench.store, B, quota=None) == Reserved()


async def test_place_in_the_quota_comes_back_only_without_a_permit(bench: StoreBench) -> None:
    """Who was exposed was part of the wave for ever; who only downloaded leaves room for another."""
    await running(bench.store)
    await reserve(bench.store, A, quota=2)
    await reserve(bench.store, B, quota=2)
    await authorize(bench.store, A)
    for _ in range(2):
        await bench.store.release(SPRING, [A, B])
    assert (await bench.store.standing(SPRING, now=NOW)).admitted == {a_cell(): 1}
    assert await reserve(bench.store, "spring.v-3.1", quota=2) == Reserved()
    assert reason(await reserve(bench.store, "spring.v-4.1", quota=2)) == "quota_spent"


async def test_released_attempt_gets_no_permit_any_more(bench: StoreBench) -> None:
    """Nothing is kept of it one by one: whoever asks late, on the word of an old record, must not be counted anew."""
    await running(bench.store)
    await reserve(bench.store, A)
    await authorize(bench.store, A)
    await bench.store.confirm(SPRING, reservations=[A], permits=[A])
    await bench.store.release(SPRING, [A])
    for attempt_id in (A, B):
        assert reason(await authorize(bench.store, attempt_id, reserved=True)) == "attempt_over"
    standing = await bench.store.standing(SPRING, now=NOW)
    assert (standing.permits, standing.admitted, standing.in_flight_total) == (1, {a_cell(): 1}, 0)


@pytest.mark.parametrize("confirmed_first", [False, True])
async def test_permit_of_an_ended_attempt_stays_counted_once(bench: StoreBench, confirmed_first: bool) -> None:
    """The blast budget counts who was exposed, for ever; in whichever order its end and its permit are confirmed."""
    await running(bench.store, permit_ceiling=2)
    await reserve(bench.store, A)
    await authorize(bench.store, A)
    for _ in range(2):
        if confirmed_first:
            await bench.store.confirm(SPRING, reservations=[A], permits=[A])
        await bench.store.release(SPRING, [A])
        await bench.store.confirm(SPRING, reservations=[A], permits=[A])
    await bench.store.forfeit(SPRING, [A])
    assert (await bench.store.standing(SPRING, now=NOW)).permits == 1
    assert await authorize(bench.store, B) == Permitted(NOW)
    assert reason(await authorize(bench.store, "spring.v-3.1")) == "blast_budget_spent"


@pytest.mark.parametrize("released_first", [False, True])
async def test_forfeit_gives_back_all_that_the_attempt_held(bench: StoreBench, released_first: bool) -> None:
    """Its attempt is over and was never exposed, in whichever order the two are heard of."""
    await running(bench.store)
    await reserve(bench.store, A)
    await authorize(bench.store, A)
    if released_first:
        await bench.store.release(SPRING, [A])
    for _ in range(2):
        await bench.store.forfeit(SPRING, [A])
    await bench.store.release(SPRING, [A])
    standing = await bench.store.standing(SPRING, now=NOW)
    assert (standing.in_flight_total, standing.at_risk, standing.permits, standing.admitted) == (0, 0, 0, {})


async def test_suspended_attempt_holds_no_slot_but_its_place_in_the_quota(bench: StoreBench) -> None:
    """An owner who has not agreed yet must not keep others from downloading; the wave stays as large as it is."""
    await running(bench.store)
    await reserve(bench.store, A, total_max=1, quota=1)
    for _ in range(2):
        await bench.store.suspend(SPRING, {A: await machine_ms(bench) + 1, AttemptId("spring.never.1"): 1})
    standing = await bench.store.standing(SPRING, now=NOW)
    assert (standing.in_flight_total, standing.at_risk, standing.admitted) == (0, 0, {a_cell(): 1})
    assert (await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING].reservations == []
    assert reason(await reserve(bench.store, B, total_max=1, quota=1)) == "quota_spent"
    assert await reserve(bench.store, B, total_max=1) == Reserved()


async def test_suspended_attempt_takes_a_slot_with_its_permit(bench: StoreBench) -> None:
    """The cap holds for whoever goes on as for whoever begins."""
    await running(bench.store)
    await reserve(bench.store, A, total_max=1)
    await bench.store.suspend(SPRING, {A: await machine_ms(bench) + 1})
    await reserve(bench.store, B, total_max=1)
    assert reason(await authorize(bench.store, A, reserved=True, total_max=1)) == "in_flight_spent"
    assert reason(await authorize(bench.store, A, reserved=True, region_max=1)) == "in_flight_spent"
    await bench.store.release(SPRING, [B])
    assert await authorize(bench.store, A, reserved=True, total_max=1) == Permitted(NOW)
    standing = await bench.store.standing(SPRING, now=NOW)
    assert (standing.in_flight, standing.at_risk, standing.admitted) == ({"eu": 1}, 0, {a_cell(): 1})


async def test_slot_taken_since_the_deferral_stays(bench: StoreBench) -> None:
    """The journal is carried late, and twice: an old deferral must not empty a slot that is in use."""
    await running(bench.store)
    before_ms = await machine_ms(bench)
    await reserve(bench.store, A)
    now_ms = await machine_ms(bench)
    # Of the very same millisecond, too: the clocks of two servers may differ.
    for deferred_ms in (now_ms - HOUR_MS, before_ms):
        await bench.store.suspend(SPRING, {A: deferred_ms})
    assert (await bench.store.standing(SPRING, now=NOW)).in_flight == {"eu": 1}
    await authorize(bench.store, A)
    await bench.store.suspend(SPRING, {A: now_ms + HOUR_MS})
    assert (await bench.store.standing(SPRING, now=NOW)).in_flight == {"eu": 1}, "what has a permit runs on"


async def test_slots_without_a_permit_stay_under_their_ceiling(bench: StoreBench) -> None:
    """A payload can hurt a vehicle that only downloads it: so many at once and no more, whatever the caps say."""
    await running(bench.store, grant_ceiling=5)
    answers = await asyncio.gather(*(reserve(bench.store, f"spring.v-{number}.1") for number in range(200)))
    granted = [number for number, answer in enumerate(answers) if answer == Reserved()]
    assert len(granted) == 5
    refused = next(answer for answer in answers if answer != Reserved())
    assert reason(refused) == "blast_budget_spent"
    assert refused.facts == {"at_risk": "5", "ceiling": "5"}  # type: ignore[attr-defined]
    assert await authorize(bench.store, f"spring.v-{granted[0]}.1") == Permitted(NOW)
    assert await reserve(bench.store, "spring.w-1.1") == Reserved(), "who has a permit is the permit ceiling's matter"
    assert reason(await reserve(bench.store, "spring.w-2.1")) == "blast_budget_spent"


async def test_starts_of_a_region_are_limited_apart_from_the_others(bench: StoreBench) -> None:
    """A region has its own pace; the one over all regions stands above it."""
    await running(bench.store)
    asked = [
        authorize(
            bench.store,
            f"spring.v-{number}.1",
            region=("eu", "us")[number % 2],
            starts=30,
            region_starts_per_minute_max=(20, 15)[number % 2],
        )
        for number in range(200)
    ]
    answers = await asyncio.gather(*asked)
    given = [number for number, answer in enumerate(answers) if answer == Permitted(NOW)]
    in_eu = sum(number % 2 == 0 for number in given)
    assert len(given) == 30
    assert in_eu <= 20
    assert len(given) - in_eu <= 15
    assert await authorize(bench.store, "spring.w-1.1", starts=30, now=after(MINUTE_MS)) == Permitted(after(MINUTE_MS))


async def test_starts_stay_within_every_minute_also_where_a_caller_is_behind(bench: StoreBench) -> None:
    """Found by `make chaos`: a worker that was ahead forgot starts that still counted for one that was behind."""
    await running(bench.store)
    asked = [(A, 0), (B, 0), ("spring.w-1.1", MINUTE_MS + 500), ("spring.w-2.1", MINUTE_MS - 100)]
    answers = [await authorize(bench.store, name, starts=2, now=after(at_ms)) for name, at_ms in asked]
    given = [answer.permitted_at for answer in answers if isinstance(answer, Permitted)]
    assert len(given) == 3
    assert all(sum(at - MINUTE_MS < other <= at for other in given) <= 2 for at in given)


async def test_region_start_refusal_names_the_region(bench: StoreBench) -> None:
    """A limit that is nobody's fault but one region's is looked up there."""
    await running(bench.store)
    await authorize(bench.store, A, region_starts_per_minute_max=1)
    answer = await authorize(bench.store, B, region_starts_per_minute_max=1)
    assert answer.facts == {"scope": "eu", "starts": "1", "limit": "1"}  # type: ignore[attr-defined]
    assert await authorize(bench.store, B, region="us", region_starts_per_minute_max=1) == Permitted(NOW)


async def test_bandwidth_is_given_away_for_a_minute_ahead_and_no_further(bench: StoreBench) -> None:
    """Grants are as fast as the region's links carry their bytes, from the first minute on."""
    await running(bench.store)
    asked = [reserve(bench.store, f"spring.v-{number}.1", transfer_ms=10_000) for number in range(200)]
    answers = await asyncio.gather(*asked)
    assert answers.count(Reserved()) == BANDWIDTH_AHEAD_MS // 10_000 + 1
    refused = next(answer for answer in answers if answer != Reserved())
    assert reason(refused) == "bandwidth_spent"
    assert refused.facts == {"scope": "eu", "ahead_ms": "70000", "limit_ms": "60000"}  # type: ignore[attr-defined]
    assert await reserve(bench.store, A, region="us", transfer_ms=10_000) == Reserved()
    assert await reserve(bench.store, "spring.w-1.1", transfer_ms=10_000, now=after(10_000)) == Reserved()
    assert (
        reason(await reserve(bench.store, "spring.w-2.1", transfer_ms=10_000, now=after(10_001))) == "bandwidth_spent"
    )
    assert await reserve(bench.store, "spring.w-3.1") == Reserved(), "without a budget nothing is asked of it"


async def test_draft_admits_nobody(bench: StoreBench) -> None:
    """What nobody started must not reach a vehicle."""
    for number, status in enumerate((RolloutStatus.DRAFT, RolloutStatus.APPROVED)):
        rollout = a_rollout(rollout_id=f"r{number}", status=status)
        await running(bench.store, rollout)
        refused = await reserve(bench.store, f"r{number}.v-1.1", rollout_id=rollout.rollout_id)
        assert reason(refused) == "rollout_not_started"
