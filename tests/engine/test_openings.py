"""Places of a wave: exact in number, fair over strata, wide enough in draws, and with room for who calls seldom."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine import openings, waves
from orchestrator.engine.admission import consider
from orchestrator.engine.gates import judge
from orchestrator.engine.openings import OFTEN_SHARE, completed, of_wave, places_for, quotas
from orchestrator.engine.progress import Judged, PauseRequested, Step, step, waiting_for
from orchestrator.engine.targets import compile_target
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.plan import Target
from orchestrator.model.rollout import Opening, RegionPhase, RegionProgress, RolloutStatus
from orchestrator.model.vehicle import Gaps
from tests.builders import (
    DAY_MS,
    NOW,
    a_cell,
    a_gate,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_tally,
    a_vehicle,
    a_wave,
    after,
)

STEPS = tuple(a_wave(f"w{index}", share=share) for index, share in enumerate((0.01, 0.1, 0.5, 1.0)))
PLAN = a_plan(regions=("eu",), waves=STEPS, gate=a_gate(stratum_sample_min=5))
GEN1, GEN2 = a_cell(hardware="gen1"), a_cell(hardware="gen2")


def test_quota_is_the_waves_share_in_whole_vehicles():
    """1 % of 1030 is ten, whatever the draws are; the remainder goes to the cell that is owed the most of one."""
    cells = {a_cell(cohort="a"): 560, a_cell(cohort="b"): 470}
    assert quotas(PLAN, 0, cells) == {a_cell(cohort="a"): 5, a_cell(cohort="b"): 5}
    assert quotas(PLAN, 1, cells) == {a_cell(cohort="a"): 56, a_cell(cohort="b"): 47}
    assert quotas(PLAN, 3, cells) == {}, "all of it: nothing to count"


def test_every_stratum_has_its_minimum_or_all_it_has():
    """A variant of a few vehicles must be in the first wave: chance would miss it more often than not."""
    cells = {GEN1: 1000, GEN2: 40, a_cell(hardware="gen3"): 3}
    assert quotas(PLAN, 0, cells) == {GEN1: 10, GEN2: 5, a_cell(hardware="gen3"): 3}


def test_stratum_that_a_cohort_represents_already_asks_for_no_more():
    """The canaries of the variant are in it, all of them."""
    plan = a_plan(regions=("eu",), waves=(a_wave("c", cohorts=("canary",)), *STEPS), gate=a_gate(stratum_sample_min=5))
    general = a_cell(cohort="general")
    assert quotas(plan, 1, {a_cell(): 5, general: 100}) == {general: 1}
    assert quotas(plan, 1, {a_cell(): 2, general: 100}) == {general: 3}
    assert quotas(plan, 0, {a_cell(): 5, general: 100}) == {}


@pytest.mark.parametrize("cells", [{}, {GEN1: 0}, {GEN1: 1}, {GEN1: 1, GEN2: 1}])
def test_tiny_fleets_have_an_answer(cells):
    """A fleet of none, of one, of one each."""
    assert quotas(PLAN, 0, cells) == {cell: count for cell, count in cells.items() if count}


CELLS = st.dictionaries(
    st.builds(Cell, st.just("eu"), st.sampled_from(("gen1", "gen2", "gen3")), st.sampled_from("abc")),
    st.integers(0, 20_000),
    max_size=9,
)


@given(CELLS, st.integers(0, 20), st.floats(0.0, 0.5))
def test_quotas_are_exact_and_only_rise(cells, least, holdout):
    """Never more than there are, never further than one vehicle from the share but for the minimum, and growing."""
    plan = a_plan(regions=("eu",), waves=STEPS, gate=a_gate(stratum_sample_min=least), holdout_share=holdout)
    before: dict = {}
    for wave in range(3):
        places = quotas(plan, wave, cells)
        share = waves.reached_share(plan, wave, "a")
        total, exact = sum(places.values()), share * sum(cells.values())
        assert all(0 <= places[cell] <= cells[cell] for cell in places)
        assert total >= floor(exact - 1e-6)
        assert total <= exact + 1 + 3 * least
        for hardware in {cell.hardware for cell in places}:
            there = sum(count for cell, count in cells.items() if cell.hardware == hardware)
            assert sum(count for cell, count in places.items() if cell.hardware == hardware) >= min(least, there)
        opened = of_wave(plan, wave, cells, before)
        for name, opening in opened.items():
            assert 0.0 <= opening.share <= 1.0
            assert name not in before or (opening.quota >= before[name].quota and opening.share >= before[name].share)
        before = opened


@given(CELLS)
def test_draws_are_open_wider_than_the_places(cells):
    """Half as wide again at least, or everybody: a fifth of a fleet calls once in two weeks."""
    for name, opening in of_wave(PLAN, 1, cells, {}).items():
        count = cells[Cell("eu", *name.split("/"))]
        assert opening.share * count >= min(count, 1.5 * opening.quota) - 1e-6


def test_opening_never_shrinks_with_the_fleet():
    """Who was drawn stays drawn, also when half of the inventory was retired meanwhile."""
    first = of_wave(PLAN, 1, {GEN1: 1000}, {})
    assert of_wave(PLAN, 1, {GEN1: 100}, first) == {"gen1/canary": Opening(100, 1.0)}
    assert of_wave(PLAN, 1, {GEN1: 2000}, {"gen1/canary": Opening(300, 0.5)}) == {"gen1/canary": Opening(300, 0.5)}


def test_cell_that_had_nobody_when_the_wave_began_gets_its_places():
    """A variant that is delivered while a wave lasts is counted as well; what is open stays as it is."""
    began = RegionProgress(RegionPhase.ROLLING, 1, NOW, openings={"gen1/canary": Opening(7, 0.2)})
    opened = completed(PLAN, began, {GEN1: 1000, GEN2: 100}).openings
    assert opened["gen1/canary"] == Opening(7, 0.2)
    assert opened["gen2/canary"].quota == 10
    for phase in (RegionPhase.AGING, RegionPhase.HOLDOUT):
        behind = RegionProgress(phase, 1, NOW, openings=began.openings)
        assert completed(PLAN, behind, {GEN1: 1000, GEN2: 100}).openings == opened
    pending = RegionProgress(RegionPhase.PENDING, 1, NOW)
    assert completed(PLAN, pending, {GEN1: 1000}) == pending


@pytest.mark.parametrize("phase", [RegionPhase.ROLLING, RegionPhase.AGING, RegionPhase.HOLDOUT])
def test_cell_whose_places_are_not_counted_admits_nobody(phase):
    """A thousand vehicles are moved into a wave of 10 %: by draw alone, a hundred and more go before anybody looks."""
    plan = a_plan(regions=("eu",), waves=STEPS[:2], gate=a_gate(stratum_sample_min=5))
    rollout = a_rollout(plan=plan, wave=1, phase=phase)
    asking = [a_record(a_vehicle(f"v-{number}")) for number in range(300)]

    def answers(at) -> list:
        return [consider(record, at, a_release(), compile_target(Target()), NOW) for record in asking]

    drawn = [each for each in answers(rollout) if each.reason is RefusalReason.EVALUATOR_SILENT]
    assert 10 < len(drawn) < 60
    assert not [each for each in answers(rollout) if isinstance(each, Grant)]
    assert "the places of wave w1 for gen2/canary in region eu are not counted yet" in drawn[0].message
    looked = step(rollout, Judged(judge({}, plan), {}, {a_cell(): 300}), NOW)
    assert isinstance(looked, Step)
    granted = [each for each in answers(looked.rollout) if isinstance(each, Grant)]
    assert granted
    assert looked.rollout.regions["eu"].openings["gen2/canary"].quota == 30
    assert {each.quota for each in granted} <= {24, 30}, "which the store holds"


@pytest.mark.parametrize(
    ("habit", "wave", "soaked", "places"),
    [
        (Habit.OFTEN, 0, False, 10),
        (Habit.OFTEN, 1, False, 8),
        (Habit.DAILY, 1, False, 8),
        (Habit.UNKNOWN, 1, False, 8),
        (Habit.SELDOM, 1, False, 10),
        (Habit.OFTEN, 1, True, 10),
    ],
)
def test_fifth_of_the_places_waits_for_who_calls_seldom(habit, wave, soaked, places):
    """From the second wave on and until the soak is over: otherwise every wave is one of cars that drive daily."""
    progress = RegionProgress(RegionPhase.ROLLING, wave, NOW)
    ends = after(DAY_MS)
    now = ends if soaked else NOW
    assert places_for(habit, progress, Opening(10, 0.5), ends, now) == places


def test_one_place_is_open_to_everybody():
    """A fifth of one place is no place."""
    progress = RegionProgress(RegionPhase.ROLLING, 1, NOW)
    assert places_for(Habit.OFTEN, progress, Opening(1, 0.5), after(DAY_MS), NOW) == 1
    assert OFTEN_SHARE == 0.8


# In the life of a rollout.


def tick(rollout, waiting, cells=None, now=NOW) -> Step:
    """A tick that says PROCEED unless the counters say otherwise."""
    cells = cells or {}
    answer = step(rollout, Judged(judge(cells, rollout.plan), cells, waiting), now)
    assert isinstance(answer, Step)
    return answer


def test_first_tick_counts_the_places_before_anybody_is_granted():
    """Whatever the rollout's status: who resumes it must not open a wave that nobody counted."""
    first = tick(a_rollout(plan=PLAN), {GEN1: 1000})
    assert first.kind == "places_counted"
    assert first.rollout.regions["eu"].openings["gen1/canary"].quota == 10
    assert first.data["regions"]["eu"]["openings"]["gen1/canary"][0] == 10
    assert not tick(first.rollout, {GEN1: 900}).changed
    paused = step(a_rollout(plan=PLAN), PauseRequested("bob", "wait"), NOW)
    assert isinstance(paused, Step)
    counted = tick(paused.rollout, {GEN1: 1000}).rollout
    assert (counted.status, counted.reason) == (RolloutStatus.PAUSED, "wait")
    assert counted.regions["eu"].openings["gen1/canary"].quota == 10


def test_next_wave_has_its_places_from_its_first_moment():
    """In the step that begins it."""
    rollout = tick(a_rollout(plan=PLAN), {GEN1: 1000}).rollout
    cells = {GEN1: a_tally(succeeded=10, aged=((10, 0), (0, 0)))}
    moved = tick(rollout, {GEN1: 990}, cells, after(DAY_MS)).rollout.regions["eu"]
    assert (moved.wave, moved.openings["gen1/canary"].quota) == (1, 100)


def test_wave_waits_for_seventy_per_cent_of_its_exact_places():
    """Of 10 places 8 (the sample of 20 asks for no more than 80 % of them)."""
    rollout = tick(a_rollout(plan=PLAN), {GEN1: 1000}).rollout
    for exposed, wave in ((7, 0), (8, 1)):
        cells = {GEN1: a_tally(succeeded=exposed, aged=((exposed, 0), (0, 0)))}
        assert tick(rollout, {GEN1: 1000 - exposed}, cells, after(DAY_MS)).rollout.regions["eu"].wave == wave


def test_wave_waits_for_every_stratum():
    """Ninety good exposures of one variant say nothing about the other; after the patience it is named as missing."""
    waiting = {GEN1: 9000, GEN2: 40}
    rollout = tick(a_rollout(plan=PLAN), waiting).rollout
    good = {GEN1: a_tally(succeeded=90, aged=((90, 0), (0, 0)))}
    few = {**good, GEN2: a_tally(succeeded=4, aged=((4, 0), (0, 0)))}
    enough = {**good, GEN2: a_tally(succeeded=5, aged=((5, 0), (0, 0)))}
    now = after(DAY_MS)
    assert tick(rollout, waiting, good, now).rollout.regions["eu"].wave == 0
    assert tick(rollout, waiting, few, now).rollout.regions["eu"].wave == 0
    assert "4 of at least 5 of stratum eu/gen2" in waiting_for(rollout, few, waiting, "eu", now)
    assert tick(rollout, waiting, enough, now).rollout.regions["eu"].wave == 1
    late = tick(rollout, waiting, good, after(14 * DAY_MS))
    assert late.rollout.regions["eu"].wave == 1
    assert late.rollout.reason == "eu: wave w0 -> wave w1 (nobody exposed so far of gen2)"


def test_vehicle_that_joins_late_holds_nobody_up():
    """It has no place in the present wave, and its turn is the next."""
    rollout = tick(a_rollout(plan=PLAN), {GEN1: 3}).rollout
    cells = {GEN1: a_tally(succeeded=3, aged=((3, 0), (0, 0)))}
    assert tick(rollout, {GEN1: 1}, cells, after(DAY_MS)).rollout.regions["eu"].wave == 1


def test_small_stratum_does_not_hang_on_its_last_vehicle():
    """Of five vehicles in all, four must do."""
    waiting = {GEN1: 9000, GEN2: 1}
    rollout = tick(a_rollout(plan=PLAN), {GEN1: 9000, GEN2: 5}).rollout
    cells = {
        GEN1: a_tally(succeeded=90, aged=((90, 0), (0, 0))),
        GEN2: a_tally(succeeded=4, aged=((4, 0), (0, 0))),
    }
    assert tick(rollout, waiting, cells, after(DAY_MS)).rollout.regions["eu"].wave == 1


@pytest.mark.parametrize(("safety", "last_aged", "moves"), [(False, 0, True), (True, 0, False), (True, 90, True)])
def test_safety_critical_waits_for_the_last_checkpoint(safety, last_aged, moves):
    """Where a failure can hurt people, the first two promotions wait until silence is known at its latest age."""
    plan = a_plan(regions=("eu",), waves=STEPS, gate=a_gate(safety_critical=safety))
    for wave in range(3):
        count = (90, 900, 4500)[wave]
        cells = {GEN1: a_tally(succeeded=count, aged=((count, 0), (last_aged * count // 90, 0)))}
        rollout = tick(a_rollout(plan=plan, wave=wave), {GEN1: 9000}).rollout
        after_wave = tick(rollout, {GEN1: 9000 - count}, cells, after(DAY_MS)).rollout.regions["eu"].wave
        assert after_wave == wave + (moves or wave >= 2)


def test_plan_for_a_part_ends_when_its_places_are_taken():
    """A plan that stops at 10 % is through with 10 %."""
    plan = a_plan(regions=("eu",), waves=STEPS[:2])
    opened = tick(a_rollout(plan=plan, wave=1), {GEN1: 1000}).rollout
    aging = RegionProgress(RegionPhase.AGING, 1, NOW, openings=opened.regions["eu"].openings)
    rollout = a_rollout(plan=plan, regions={"eu": aging})
    for done, status in ((98, RolloutStatus.RUNNING), (100, RolloutStatus.COMPLETED)):
        cells = {GEN1: a_tally(succeeded=done, aged=((done, 0), (done, 0)))}
        assert tick(rollout, {GEN1: 1000 - done}, cells, after(9 * DAY_MS)).rollout.status is status


# In admission.


def answered(share: float, quota: int = 10, **changes) -> Grant | Refusal:
    """What a vehicle hears whose cell has an opening."""
    opened = RegionProgress(RegionPhase.ROLLING, 1, NOW, openings={"gen2/canary": Opening(quota, share)})
    rollout = a_rollout(plan=PLAN, regions={"eu": opened})
    return consider(a_record(a_vehicle(), **changes), rollout, a_release(), compile_target(Target()), NOW)


def test_opening_decides_and_not_the_share_of_the_wave():
    """v-1 is drawn at 53 %: outside of the 10 % of its wave, but inside of what is open."""
    closed = answered(0.15)
    assert isinstance(closed, Refusal)
    assert closed.reason is RefusalReason.NOT_YET_DRAWN
    assert "is open to 15 %" in closed.message
    opened = answered(1.0)
    assert isinstance(opened, Grant)
    assert (opened.quota, opened.facts["quota"]) == (8, "8")


def test_vehicle_that_calls_seldom_finds_the_places_kept_for_it():
    """Learnt from its own gaps."""
    answer = answered(1.0, gaps=Gaps(mean_ms=3 * DAY_MS, heard=8))
    assert isinstance(answer, Grant)
    assert (answer.habit, answer.quota) == (Habit.SELDOM, 10)


def test_vehicle_without_an_opening_takes_no_place():
    """Where all are meant there is nothing to count."""
    answer = consider(a_record(), a_rollout(), a_release(), compile_target(Target()), NOW)
    assert isinstance(answer, Grant)
    assert answer.quota is None
    assert openings.in_part(PLAN, 1, "canary")
    assert not openings.in_part(PLAN, 3, "canary")
