"""What every store promises about time and counts: deadlines, checkpoints, silence, cases, tallies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from orchestrator.model.attempt import Attempt, AttemptEvent, AttemptState
from orchestrator.model.ids import RolloutId
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.model.vehicle import Contact
from orchestrator.store.base import Store
from tests.builders import DAY_MS, DEADLINES_MS, HOUR_MS, NOW, a_cell, a_vehicle, after, an_attempt
from tests.contracts.steps import (
    SPRING,
    V1,
    a_manifest,
    assigned,
    entries,
    permitted,
    state_of,
    sweep_all,
    tell,
)
from tests.store_fixtures import StoreBench

E = AttemptEvent
S = AttemptState


async def tally(store: Store) -> Tally:
    """The one cell's tally; the recount must agree."""
    tallies = await store.tallies([SPRING])
    assert tallies == await store.recount([SPRING])
    (found,) = tallies[SPRING].values()
    return found


def unaged(**changes: Any) -> Attempt:
    """An attempt of which nothing falls due but its deadline."""
    return an_attempt(checkpoints_ms=(), aged=(), silent=(), **changes)


async def test_nothing_is_due_before_its_time(bench: StoreBench) -> None:
    """A deadline is the first moment that is too late, not the one before."""
    attempt = await assigned(bench.store, unaged())
    assert await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED] - 1)) == 0
    assert await state_of(bench.store, attempt) is S.OFFERED
    assert await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED])) == 1
    assert await state_of(bench.store, attempt) is S.TIMED_OUT
    assert await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED])) == 0


async def test_progress_moves_the_deadline(bench: StoreBench) -> None:
    """Each state has its own time from when it was entered; an old deadline must not strike later."""
    attempt = await assigned(bench.store, unaged())
    await tell(bench.store, attempt, E.DOWNLOAD_STARTED, now=after(HOUR_MS))
    assert await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED])) == 0
    due = after(HOUR_MS + DEADLINES_MS[S.DOWNLOADING])
    assert await sweep_all(bench.store, due) == 1
    assert await state_of(bench.store, attempt) is S.TIMED_OUT


async def test_ended_attempt_has_no_deadline_left(bench: StoreBench) -> None:
    """What is over cannot time out."""
    attempt = await assigned(bench.store, unaged())
    await tell(bench.store, attempt, E.REJECTED)
    assert await sweep_all(bench.store, after(400 * DAY_MS)) == 0
    assert await state_of(bench.store, attempt) is S.REJECTED


async def test_deadline_without_permit_is_no_exposure_and_no_case(bench: StoreBench) -> None:
    """A vehicle that never started to install cannot have been hurt by it."""
    await assigned(bench.store)
    await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED]))
    assert await tally(bench.store) == Tally(before_permit={S.TIMED_OUT: 1}, grants=AgeGroup(1, 1))
    assert await bench.store.cases(rollout_id=None, settled=True) == []


async def test_fenced_attempt_is_withdrawn_at_its_deadline(bench: StoreBench) -> None:
    """It was taken back, it did not fail us: only attempts below the fence and without a permit."""
    below = await assigned(bench.store, an_attempt(vehicle_id="v-1", epoch=1))
    above = await assigned(bench.store, an_attempt(vehicle_id="v-2", epoch=2))
    exposed = await permitted(bench.store, an_attempt(vehicle_id="v-3", epoch=1))
    other = await assigned(bench.store, an_attempt(vehicle_id="v-4", rollout_id="autumn", epoch=1))
    await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED]), fences={SPRING: 2})
    states = [await state_of(bench.store, attempt) for attempt in (below, above, exposed, other)]
    assert states == [S.WITHDRAWN, S.TIMED_OUT, S.TIMED_OUT, S.TIMED_OUT]
    (withdrawn,) = [one for one in await entries(bench.store, "attempt_changed") if one.data["to"] == "withdrawn"]
    assert withdrawn.data["failure_code"] == "fenced"


async def test_fence_of_the_others_withdraws_who_has_none_of_its_own(bench: StoreBench) -> None:
    """Strata that are judged together share a fence; what is judged apart has an entry, and keeps to it."""
    rare = await assigned(bench.store, an_attempt(vehicle_id="v-1", epoch=1, cell=a_cell(hardware="rare")))
    apart = await assigned(bench.store, an_attempt(vehicle_id="v-2", epoch=1))
    await sweep_all(bench.store, after(DEADLINES_MS[S.OFFERED]), fences={f"{SPRING}|_other": 2, f"{SPRING}|eu/gen2": 0})
    assert [await state_of(bench.store, attempt) for attempt in (rare, apart)] == [S.WITHDRAWN, S.TIMED_OUT]


async def test_sweep_handles_at_most_a_batch(bench: StoreBench) -> None:
    """A million due items must not hold up the server in one step; the caller sees that more may be due."""
    names = [f"v-{number}" for number in range(24)]
    await bench.store.import_vehicles([a_vehicle(name) for name in names], now=NOW)
    for name in names:
        await assigned(bench.store, unaged(vehicle_id=name))
    swept = await bench.store.sweep(range(bench.store.shards), now=after(DAY_MS), fences={}, batch=2)
    handled = [each.handled for each in swept]
    assert max(handled) == 2
    assert sum(handled) + await sweep_all(bench.store, after(DAY_MS)) == 24


async def test_exposure_ages_and_silence_is_counted_at_each_checkpoint(bench: StoreBench) -> None:
    """Aged is every exposure that reached the age; silent is one whose vehicle had not settled it by then."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.INSTALL_STARTED, E.REBOOT_STARTED)
    assert (await tally(bench.store)).age_groups == (AgeGroup(), AgeGroup())
    await sweep_all(bench.store, after(DAY_MS - 1))
    assert (await tally(bench.store)).age_groups == (AgeGroup(), AgeGroup())
    await sweep_all(bench.store, after(DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(exposed=1, silent=1), AgeGroup())
    record = await bench.store.vehicle(V1)
    assert record is not None
    assert record.attempt is not None
    assert (record.attempt.aged, record.attempt.silent) == ((True, False), (True, False))
    first = (await entries(bench.store, "exposure_aged"))[0]
    assert (first.data["checkpoint"], first.data["silent"], first.at) == (0, True, after(DAY_MS))
    await sweep_all(bench.store, after(3 * DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup(1, 1))


@pytest.mark.parametrize("word", [E.FAILED, E.ROLLED_BACK, E.ATTESTED_RELEASE])
async def test_vehicle_that_settled_by_its_own_word_is_not_silent(bench: StoreBench, word: AttemptEvent) -> None:
    """A failure that was reported is a failure, not silence as well."""
    attempt = await permitted(bench.store)
    if word is E.ATTESTED_RELEASE:
        await bench.store.attest(V1, a_manifest(attempt, event=word), now=NOW)
    else:
        await tell(bench.store, attempt, word)
    await sweep_all(bench.store, after(3 * DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 0), AgeGroup(1, 0))


async def test_timed_out_exposure_is_silent(bench: StoreBench) -> None:
    """A deadline is our word, not the vehicle's."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(HOUR_MS))
    assert await state_of(bench.store, attempt) is S.TIMED_OUT
    await sweep_all(bench.store, after(DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup())


async def test_silence_is_frozen_at_its_checkpoint(bench: StoreBench) -> None:
    """A later word settles the case but does not take back that the vehicle was silent at that age."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(DAY_MS))
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(2 * DAY_MS))
    await sweep_all(bench.store, after(3 * DAY_MS))
    found = await tally(bench.store)
    assert found.age_groups == (AgeGroup(1, 1), AgeGroup(1, 0))
    assert dict(found.after_permit) == {S.SUCCEEDED: 1}


async def test_checkpoints_reached_together_are_counted_in_one_sweep(bench: StoreBench) -> None:
    """An orchestrator that was down for a week catches up."""
    await permitted(bench.store)
    await sweep_all(bench.store, after(9 * DAY_MS))
    assert (await tally(bench.store)).age_groups == (AgeGroup(1, 1), AgeGroup(1, 1))
    assert len(await bench.store.cases(rollout_id=None, settled=False)) == 1


async def test_unexposed_attempt_never_ages(bench: StoreBench) -> None:
    """Only a permit begins exposure."""
    await assigned(bench.store)
    await sweep_all(bench.store, after(9 * DAY_MS))
    assert (await tally(bench.store)).age_groups == ()


@pytest.mark.parametrize(
    ("word", "cause", "detail"),
    [(E.FAILED, "failed", "flash_error"), (E.ROLLED_BACK, "rolled_back", "flash_error")],
)
async def test_exposed_vehicle_that_fails_gets_a_case(
    bench: StoreBench, word: AttemptEvent, cause: str, detail: str
) -> None:
    """A vehicle that an update hurt stands in a list until somebody or something settles it."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, word, now=after(4), failure_code="flash_error")
    (case,) = await bench.store.cases(rollout_id=SPRING, settled=False)
    assert (case.cause, case.detail, case.opened_at, case.settled_at) == (cause, detail, after(4), None)
    assert (case.attempt_id, case.vehicle_id, case.cell) == (attempt.attempt_id, V1, a_cell())
    (opened,) = await entries(bench.store, "case_opened")
    assert (opened.data["cause"], opened.data["attempt_id"]) == (cause, attempt.attempt_id)


async def test_failure_before_the_permit_opens_no_case(bench: StoreBench) -> None:
    """It is shown and gated apart."""
    attempt = await assigned(bench.store)
    await tell(bench.store, attempt, E.FAILED, failure_code="disk_full")
    assert await bench.store.cases(rollout_id=None, settled=True) == []


async def test_case_follows_its_attempt(bench: StoreBench) -> None:
    """At most one case an attempt: timed out, then silent, then failed after all, then well again."""
    attempt = await permitted(bench.store)
    await sweep_all(bench.store, after(HOUR_MS))
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert (case.cause, case.detail) == ("timed_out", "in permitted")
    await sweep_all(bench.store, after(DAY_MS))
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert case.cause == "timed_out"
    await tell(bench.store, attempt, E.FAILED, now=after(2 * DAY_MS), failure_code="flash_error")
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert (case.cause, case.detail, case.opened_at) == ("failed", "flash_error", after(HOUR_MS))
    await bench.store.attest(V1, a_manifest(attempt, event=E.ATTESTED_RELEASE), now=after(4 * DAY_MS))
    assert await bench.store.cases(rollout_id=None, settled=False) == []
    kinds = [one.kind for one in await entries(bench.store, "case_opened", "case_changed", "case_settled")]
    assert kinds == ["case_opened", "case_changed", "case_settled"]


async def test_silent_vehicle_gets_a_case_while_its_attempt_lives(bench: StoreBench) -> None:
    """It may still be installing; the case shows where it stands and stays open until it is settled."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.REBOOT_STARTED, now=after(HOUR_MS))
    await sweep_all(bench.store, after(DAY_MS))
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert (case.cause, case.detail, case.attempt_state) == ("silent", "checkpoint 1 in rebooting", S.REBOOTING)
    await tell(bench.store, attempt, E.VERIFY_STARTED, now=after(DAY_MS + 1))
    (case,) = await bench.store.cases(rollout_id=None, settled=False)
    assert (case.cause, case.attempt_state) == ("silent", S.VERIFYING)


async def test_open_cases_are_counted_as_they_open_and_settle(bench: StoreBench) -> None:
    """The count is kept, not computed: recounting the list gives the same after every step."""
    attempts = [
        await permitted(bench.store, an_attempt(vehicle_id=f"v-{number}", rollout_id=rollout))
        for number, rollout in enumerate(("spring", "autumn", "spring"), start=1)
    ]
    counts = [await recounted_cases(bench.store)]
    for number, attempt in enumerate(attempts):
        for _ in range(2):
            await tell(bench.store, attempt, E.FAILED, now=after(number))
        counts.append(await recounted_cases(bench.store))
    for attempt in attempts[:2]:
        proof = a_manifest(attempt, event=E.ATTESTED_RELEASE)
        await bench.store.attest(attempt.vehicle_id, proof, now=after(HOUR_MS))
        counts.append(await recounted_cases(bench.store))
    await sweep_all(bench.store, after(DAY_MS))
    counts.append(await recounted_cases(bench.store))
    assert counts == [
        {},
        {"spring": 1},
        {"spring": 1, "autumn": 1},
        {"spring": 2, "autumn": 1},
        {"spring": 1, "autumn": 1},
        {"spring": 1},
        {"spring": 1},
    ]
    assert len(await bench.store.cases(rollout_id=None, settled=True)) == 3


async def recounted_cases(store: Store) -> dict[RolloutId, int]:
    """Open cases by rollout as the store counts them, which is what its list says."""
    counted = dict(await store.open_cases())
    assert counted == Counter(case.rollout_id for case in await store.cases(rollout_id=None, settled=False))
    return counted


async def test_settled_case_that_hurts_again_is_opened_again_once(bench: StoreBench) -> None:
    """It stands in one of the two lists, never in both."""
    attempt = await permitted(bench.store)
    await tell(bench.store, attempt, E.FAILED, now=after(1))
    for counter, event in enumerate((E.ATTESTED_RELEASE, E.ATTESTED_OTHER), start=1):
        await bench.store.attest(V1, a_manifest(attempt, counter=counter, event=event), now=after(1 + counter))
        await recounted_cases(bench.store)
    found = await bench.store.cases(rollout_id=None, settled=True)
    assert [(case.opened_at, case.settled_at) for case in found] == [(after(3), None)]
    kinds = [one.kind for one in await entries(bench.store, "case_opened", "case_changed", "case_settled")]
    assert kinds == ["case_opened", "case_settled", "case_opened"]


async def test_cases_are_listed_newest_first_and_by_rollout(bench: StoreBench) -> None:
    """The list that an operator works through."""
    for number, rollout in enumerate(("spring", "autumn", "spring"), start=1):
        attempt = await permitted(bench.store, an_attempt(vehicle_id=f"v-{number}", rollout_id=rollout))
        await tell(bench.store, attempt, E.FAILED, now=after(number))
    found = await bench.store.cases(rollout_id=None, settled=False)
    assert [case.vehicle_id for case in found] == ["v-3", "v-2", "v-1"]
    found = await bench.store.cases(rollout_id=RolloutId("spring"), settled=False)
    assert [case.vehicle_id for case in found] == ["v-3", "v-1"]


async def test_counters_are_kept_by_cell(bench: StoreBench) -> None:
    """Each region, hardware and cohort is judged on its own; the cell is the attempt's, fixed at the grant."""
    eu, us = a_cell(), a_cell(region="us", cohort="early")
    first = await permitted(bench.store, an_attempt(vehicle_id="v-1"))
    await assigned(bench.store, an_attempt(vehicle_id="v-2", cell=us))
    await bench.store.import_vehicles([a_vehicle("v-1", region="us")], now=NOW)
    await tell(bench.store, first, E.INSTALL_STARTED)
    tallies = (await bench.store.tallies([SPRING]))[SPRING]
    assert dict(tallies) == {
        eu: Tally(after_permit={S.INSTALLING: 1}, age_groups=(AgeGroup(), AgeGroup())),
        us: Tally(before_permit={S.OFFERED: 1}),
    }


async def test_tallies_name_every_rollout_that_was_asked_for(bench: StoreBench) -> None:
    """A rollout without attempts counts nothing; one that was not asked for is not there."""
    await assigned(bench.store)
    await assigned(bench.store, an_attempt(vehicle_id="v-2", rollout_id="autumn"))
    tallies = await bench.store.tallies([SPRING, RolloutId("empty")])
    assert set(tallies) == {SPRING, RolloutId("empty")}
    assert tallies[RolloutId("empty")] == {}


async def test_tallies_follow_every_change(bench: StoreBench) -> None:
    """What the evaluator keeps between ticks must not go stale."""
    attempt = await assigned(bench.store)
    for event, state in ((E.DOWNLOAD_STARTED, S.DOWNLOADING), (E.DEFERRED, S.DEFERRED), (E.REJECTED, S.REJECTED)):
        await tell(bench.store, attempt, event)
        assert dict((await tally(bench.store)).before_permit) == {state: 1}
    assert dict((await tally(bench.store)).before_permit) == {S.REJECTED: 1}


async def test_vehicle_that_called_and_was_removed_is_no_silent_grant(bench: StoreBench) -> None:
    """What became of it counts, not whether it is in the inventory still."""
    attempt = await assigned(bench.store)
    await bench.store.touch({attempt.vehicle_id: Contact(at=after(HOUR_MS))})
    await tell(bench.store, attempt, E.FAILED, now=after(HOUR_MS))
    assert await bench.store.remove_vehicle(attempt.vehicle_id, actor="alice", reason="sold", now=after(2 * HOUR_MS))
    await sweep_all(bench.store, after(3 * DAY_MS))
    assert (await tally(bench.store)).grants == AgeGroup(exposed=1)
