"""A halt in the middle of a rush: whoever comes after it gets nothing, on both stores."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.model.ids import AttemptId
from orchestrator.model.rollout import RolloutStatus
from orchestrator.store.base import Permitted, Reserved
from tests.builders import a_permit_request, a_slot_request, after
from tests.contracts.steps import SPRING, authorize, entry, running
from tests.store_fixtures import StoreBench

RUSH = 1000


@pytest.mark.fault("F7")
async def test_none_of_a_thousand_is_granted_or_permitted_after_a_halt(bench: StoreBench) -> None:
    """Concurrent workers know of the halt sooner or later; the store knows at once, and tells nobody yes after it."""
    store = bench.store
    rollout = await running(store, permit_ceiling=RUSH, grant_ceiling=RUSH)
    halted = replace(rollout, status=RolloutStatus.HALTED, epoch=rollout.epoch + 1, fence=rollout.epoch + 1)
    slot, permit = a_slot_request(region_max=RUSH, total_max=RUSH), a_permit_request(starts_per_minute_max=RUSH)
    yes: list[str] = []
    after_halt: list[str] = []
    over = False

    async def ask(number: int) -> None:
        name = AttemptId(f"spring.v-{number}.1")
        begun_after = over
        if number % 2:
            answer = await store.reserve(SPRING, name, slot)
        else:
            answer = await store.authorize(SPRING, name, permit)
        if isinstance(answer, Reserved | Permitted):
            (after_halt if begun_after else yes).append(name)

    async def halt() -> None:
        nonlocal over
        await asyncio.sleep(0)
        assert await store.transition(halted, expected_epoch=rollout.epoch, decision=entry("rollout_halted"))
        over = True

    first = [ask(number) for number in range(RUSH // 2)]
    await asyncio.gather(*first, halt())
    before = await store.standing(SPRING, now=after(0))
    await asyncio.gather(*(ask(number) for number in range(RUSH // 2, RUSH)))
    standing = await store.standing(SPRING, now=after(0))
    assert yes, "the halt came in the middle"
    assert after_halt == []
    assert (standing.permits, standing.in_flight_total) == (before.permits, before.in_flight_total)


@pytest.mark.fault("F7")
async def test_permit_that_was_told_before_a_halt_is_told_again_and_no_longer_than_it_is_good(
    bench: StoreBench,
) -> None:
    """A lost answer is repeated; but a permit that has lapsed is not given anew."""
    rollout = await running(bench.store)
    name, asked = AttemptId("spring.v-1.1"), a_permit_request(valid_ms=60_000)
    assert isinstance(await authorize(bench.store, name, valid_ms=60_000), Permitted)
    halted = replace(rollout, status=RolloutStatus.HALTED, epoch=rollout.epoch + 1, fence=rollout.epoch + 1)
    assert await bench.store.transition(halted, expected_epoch=rollout.epoch, decision=entry("rollout_halted"))
    assert isinstance(await bench.store.authorize(SPRING, name, replace(asked, now=after(59_999))), Permitted)
    assert not isinstance(await bench.store.authorize(SPRING, name, replace(asked, now=after(60_000))), Permitted)


@pytest.mark.fault("F6", "F7", "P8")
@pytest.mark.parametrize("offline_ms", [0, 86_400_000])
@pytest.mark.parametrize(("ago_ms", "repeats"), [(0, False), (-60_000, True), (-80_000_000, True)])
async def test_permit_whose_age_is_not_known_is_asked_for_anew(
    bench: StoreBench, offline_ms: int, ago_ms: int, repeats: bool
) -> None:
    """A date went ahead and was set back: what was given meanwhile would be told for as long, whatever was halted."""
    rollout = await running(bench.store)
    name, asked = AttemptId("spring.v-1.1"), a_permit_request(valid_ms=60_000, offline_ms=offline_ms)
    assert isinstance(await authorize(bench.store, name, valid_ms=60_000, offline_ms=offline_ms), Permitted)
    asked = replace(asked, now=after(ago_ms), repeats=repeats)
    anew = Permitted(permitted_at=asked.now, offline_ms=offline_ms, paired=True)
    assert await bench.store.authorize(SPRING, name, asked) == anew
    assert (await bench.store.standing(SPRING, now=asked.now)).permits == 1
    halted = replace(rollout, status=RolloutStatus.HALTED, epoch=rollout.epoch + 1, fence=rollout.epoch + 1)
    assert await bench.store.transition(halted, expected_epoch=rollout.epoch, decision=entry("rollout_halted"))
    before_that = replace(asked, now=after(ago_ms, asked.now))
    assert not isinstance(await bench.store.authorize(SPRING, name, before_that), Permitted)
