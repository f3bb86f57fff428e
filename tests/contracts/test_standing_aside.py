"""What every store promises about attempts that stand aside: they hold nothing, and come back in by the same door."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orchestrator.model.decision import Refusal
from orchestrator.model.ids import AttemptId
from orchestrator.store.base import PermitRequest, Permitted, Reserved, Standing
from tests.builders import HOUR_MS, MINUTE_MS, NOW, a_cell, a_permit_request, after
from tests.contracts.steps import SPRING, authorize, reason, renew, reserve, running
from tests.store_fixtures import StoreBench

A, B = AttemptId("spring.v-1.1"), AttemptId("spring.v-2.1")


async def standing(bench: StoreBench) -> Standing:
    """How far the limits are used."""
    return await bench.store.standing(SPRING, now=NOW)


async def steps_aside(bench: StoreBench, attempt_id: AttemptId = A, **asked: Any) -> object:
    """Ask for a permit and lose the toss; what was answered."""
    return await authorize(bench.store, attempt_id, reserved=True, stands_aside=True, **asked)


async def test_attempt_that_stands_aside_holds_nothing_and_has_spent_nothing(bench: StoreBench) -> None:
    """It waits for our sake: it must neither take a place of the wave from another, nor count as a start."""
    await running(bench.store)
    await reserve(bench.store, A, quota=1)
    answer = await steps_aside(bench)
    assert reason(answer) == "watched"
    assert "one more call" in answer.message  # type: ignore[attr-defined]
    now = await standing(bench)
    assert (now.in_flight, now.admitted, now.at_risk) == ({}, {}, 0)
    assert (now.permits, now.starts, now.outstanding) == (0, 0, 0)
    assert await reserve(bench.store, B, quota=1) == Reserved(), "its place is another's"


async def test_attempt_stands_aside_once_whatever_the_repetition(bench: StoreBench) -> None:
    """An answer that was lost is asked for again: what it held must not be given back twice."""
    await running(bench.store)
    await reserve(bench.store, A)
    await reserve(bench.store, B)
    answers = await asyncio.gather(*(steps_aside(bench) for _ in range(10)))
    assert {reason(answer) for answer in answers} == {"watched"}
    now = await standing(bench)
    assert (now.in_flight_total, now.admitted, now.at_risk) == (1, {a_cell(): 1}, 1)


async def test_attempt_that_stood_aside_takes_slot_and_place_again_with_its_permit(bench: StoreBench) -> None:
    """From then on it is as any other."""
    await running(bench.store)
    await reserve(bench.store, A)
    await steps_aside(bench)
    assert await authorize(bench.store, A, reserved=True, quota=1, now=after(HOUR_MS)) == Permitted(after(HOUR_MS))
    now = await standing(bench)
    assert (now.in_flight_total, now.admitted, now.at_risk, now.permits) == (1, {a_cell(): 1}, 0, 1)
    await bench.store.release(SPRING, [A])
    now = await standing(bench)
    assert (now.in_flight_total, now.admitted, now.permits) == (0, {a_cell(): 1}, 1)


async def test_attempt_that_stood_aside_finds_its_wave_full_and_waits(bench: StoreBench) -> None:
    """Others took its place meanwhile; the wave must not grow by those that stood aside."""
    await running(bench.store)
    await reserve(bench.store, A, quota=1)
    await steps_aside(bench, quota=1)
    await reserve(bench.store, B, quota=1)
    refused = await authorize(bench.store, A, reserved=True, quota=1)
    assert reason(refused) == "quota_spent"
    assert refused.facts == {"cell": "eu/gen2/canary", "admitted": "1", "quota": "1"}  # type: ignore[attr-defined]
    assert await authorize(bench.store, B, reserved=True, quota=1) == Permitted(NOW), (
        "who kept its place is not asked for another"
    )
    assert await authorize(bench.store, A, reserved=True, quota=2) == Permitted(NOW), "the next wave has room"


async def test_attempt_stands_aside_only_where_it_would_get_its_permit(bench: StoreBench) -> None:
    """Exposures and controls must have passed the same door, or they are not alike."""
    rollout = await running(bench.store)
    await reserve(bench.store, A)
    for limit in ("starts_per_minute_max", "region_starts_per_minute_max"):
        assert reason(await bench.store.authorize(SPRING, A, _asks(**{limit: 0}))) == "starts_spent"
    assert reason(await steps_aside(bench, epoch=-1)) == "fenced"
    assert await renew(bench.store, permit_ceiling=0, epoch=rollout.epoch)
    assert reason(await steps_aside(bench)) == "blast_budget_spent"
    assert (await standing(bench)).admitted == {a_cell(): 1}, "a refusal for another reason takes nothing away"
    assert await renew(bench.store, permit_ceiling=9, epoch=rollout.epoch)
    assert reason(await steps_aside(bench)) == "watched"
    assert reason(await bench.store.authorize(SPRING, A, _asks(total_max=0))) == "in_flight_spent"
    assert reason(await steps_aside(bench, quota=0)) == "quota_spent"


async def test_attempt_with_a_permit_stands_aside_no_more(bench: StoreBench) -> None:
    """What has begun is not called back by a coin: not while the permit is good, and not when it is renewed."""
    await running(bench.store)
    await reserve(bench.store, A)
    assert await authorize(bench.store, A, reserved=True) == Permitted(NOW)
    assert await steps_aside(bench, now=after(MINUTE_MS)) == Permitted(NOW)
    later = after(2 * HOUR_MS)
    assert await steps_aside(bench, now=later) == Permitted(later)
    assert (await standing(bench)).admitted == {a_cell(): 1}


@pytest.mark.parametrize("then", ["release", "suspend", "forfeit", "all"])
async def test_nothing_is_given_back_twice_by_an_attempt_that_stands_aside(bench: StoreBench, then: str) -> None:
    """Its deferral comes along behind, as the journal tells it, and so does its end."""
    await running(bench.store)
    await reserve(bench.store, A)
    await reserve(bench.store, B)
    await steps_aside(bench)
    machine_ms = (await bench.store.clock(origin=NOW, scale=1.0)).machine_ms
    for _ in range(2):
        if then in ("suspend", "all"):
            await bench.store.suspend(SPRING, {A: machine_ms + HOUR_MS})
        if then in ("forfeit", "all"):
            await bench.store.forfeit(SPRING, [A])
        if then in ("release", "all"):
            await bench.store.release(SPRING, [A])
    now = await standing(bench)
    assert (now.in_flight_total, now.admitted, now.at_risk) == (1, {a_cell(): 1}, 1)


async def test_suspended_attempt_gives_back_its_place_in_the_quota_when_it_stands_aside(bench: StoreBench) -> None:
    """It waited for its window and holds no slot; its place in the wave goes now."""
    await running(bench.store)
    await reserve(bench.store, A)
    machine_ms = (await bench.store.clock(origin=NOW, scale=1.0)).machine_ms
    await bench.store.suspend(SPRING, {A: machine_ms + HOUR_MS})
    assert (await standing(bench)).admitted == {a_cell(): 1}
    await steps_aside(bench)
    now = await standing(bench)
    assert (now.in_flight, now.admitted, now.at_risk) == ({}, {}, 0)


async def test_permit_of_one_that_stood_aside_can_be_forfeited(bench: StoreBench) -> None:
    """Its attempt ended between the two steps of a permit, as any other's may."""
    await running(bench.store)
    await reserve(bench.store, A)
    await steps_aside(bench)
    await authorize(bench.store, A, reserved=True)
    await bench.store.forfeit(SPRING, [A])
    now = await standing(bench)
    assert (now.in_flight, now.admitted, now.at_risk, now.permits) == ({}, {}, 0, 0)


@pytest.mark.parametrize("paired", [False, True])
async def test_permit_keeps_whether_it_is_compared(bench: StoreBench, paired: bool) -> None:
    """Who completes a permit after a crash, or tells it again after the wave moved on, finds what was tossed then."""
    await running(bench.store)
    await reserve(bench.store, A)
    assert await authorize(bench.store, A, reserved=True, paired=paired) == Permitted(NOW, paired=paired)
    assert await authorize(bench.store, A, reserved=True, paired=not paired) == Permitted(NOW, paired=paired)
    later = after(2 * HOUR_MS)
    assert await authorize(bench.store, A, reserved=True, paired=not paired, now=later) == Permitted(
        later, paired=paired
    )
    unsettled = (await bench.store.unsettled([SPRING], older_than_ms=-1))[SPRING]
    assert unsettled.permits == {A: Permitted(NOW, paired=paired)}


async def test_quota_holds_exactly_where_many_come_back_at_once(bench: StoreBench) -> None:
    """A canary of seven is seven, also when two hundred stood aside and all ask again in one second."""
    await running(bench.store)
    names = [AttemptId(f"spring.v-{number}.1") for number in range(200)]
    for name in names:
        await reserve(bench.store, name)
        await steps_aside(bench, name)
    answers = await asyncio.gather(*(authorize(bench.store, name, reserved=True, quota=7) for name in names))
    assert answers.count(Permitted(NOW)) == 7
    assert {reason(answer) for answer in answers if isinstance(answer, Refusal)} == {"quota_spent"}
    assert (await standing(bench)).admitted == {a_cell(): 7}


def _asks(**changes: Any) -> PermitRequest:
    return a_permit_request(stands_aside=True, **changes)
