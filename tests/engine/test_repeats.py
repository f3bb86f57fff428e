"""Repeats: which failures count against a vehicle, and when there are too many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.repeats import repeated
from orchestrator.model.attempt import AttemptState as S
from orchestrator.model.ids import RolloutId
from orchestrator.model.rollout import BrakeKind
from orchestrator.model.rollout import RolloutStatus as R
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion
from tests.builders import HOUR_MS, NOW, a_brake, a_record, a_rollout, a_try, after

NAMES = tuple(map(RolloutId, ("spring", "summer", "autumn", "winter")))


def rollouts(count: int = 3, **changes):
    """Rollouts that run, one after the other."""
    return {name: replace(a_rollout(rollout_id=name), **changes) for name in NAMES[:count]}


def tries(*states: S, exposed: bool = True):
    """How a vehicle ended in as many rollouts, an hour apart."""
    return {
        name: a_try(state, exposed=exposed, state_at=after(number * HOUR_MS))
        for number, (name, state) in enumerate(zip(NAMES, states, strict=False))
    }


def found(record, known=None, repeats_max: int = 3):
    return repeated(record, rollouts() if known is None else known, repeats_max=repeats_max)


def test_third_failure_in_a_row_is_one_too_many_and_says_which_three():
    """Whoever looks at the car wants to know what happened, not that something did."""
    ended = tries(S.ROLLED_BACK, S.FAILED, S.TIMED_OUT)
    ended[NAMES[1]] = replace(ended[NAMES[1]], failure_code="boot_loop")
    answer = found(a_record(tries=ended))
    assert answer is not None
    assert answer.reason == (
        "failed in 3 rollouts in a row, limit 3: spring (rolled_back), summer (failed: boot_loop), autumn (timed_out)"
    )
    assert answer.attempt_id == "autumn.v-1.1"
    assert found(a_record(tries=tries(S.ROLLED_BACK, S.FAILED))) is None
    assert found(a_record(tries=ended), repeats_max=4) is None
    assert found(a_record(tries=ended), repeats_max=0) is None, "switched off"


@pytest.mark.parametrize("position", range(3))
def test_a_success_in_between_begins_anew(position):
    """What worked once in a while is not broken."""
    states = [S.FAILED, S.FAILED, S.FAILED]
    states.insert(position + 1, S.SUCCEEDED)
    assert found(a_record(tries=tries(*states)), rollouts(4)) is None
    assert found(a_record(tries=tries(S.SUCCEEDED, S.FAILED, S.FAILED, S.FAILED)), rollouts(4)) is not None


def test_a_lifted_quarantine_forgives_what_was_before():
    """Else the next poll would put the repaired vehicle back."""
    ended = tries(S.FAILED, S.FAILED, S.FAILED)
    assert found(a_record(tries=ended, forgiven_at=after(2 * HOUR_MS))) is None
    assert found(a_record(tries=ended, forgiven_at=NOW - 1)) is not None


@pytest.mark.parametrize("status", [R.HELD, R.PAUSED, R.HALTED, R.ABORTED, R.SUPERSEDED])
def test_a_release_that_is_suspected_does_not_count_against_the_vehicle(status):
    """A canary meets every bad release: three of them do not make a bad car."""
    known = rollouts()
    known[NAMES[0]] = replace(known[NAMES[0]], status=status)
    assert found(a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED)), known) is None
    known[NAMES[0]] = replace(known[NAMES[0]], status=R.COMPLETED)
    assert found(a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED)), known) is not None


@pytest.mark.parametrize("scope", ["eu", "eu/gen2"])
def test_a_part_that_stands_still_does_not_count_against_its_vehicles(scope):
    """The trim is suspected, and this is a car of that trim."""
    failed = a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED))
    assert found(failed, rollouts(brakes=(a_brake(scope, BrakeKind.HALTED),))) is None
    assert found(failed, rollouts(brakes=(a_brake("eu/gen9", BrakeKind.HALTED),))) is not None


def test_a_rollout_that_is_undone_does_not_count():
    """It was complete, and then somebody found out."""
    failed = a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED))
    back = {RolloutId("back"): a_rollout(rollout_id="back", reverts="summer")}
    assert found(failed, rollouts() | back) is None
    assert found(failed, rollouts() | {RolloutId("back"): replace(back[RolloutId("back")], status=R.DRAFT)}) is not None


def test_a_rollout_that_nobody_knows_does_not_count():
    """A store that was restored may lack one: nobody can say how it fared."""
    assert found(a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED)), rollouts(2)) is None


@pytest.mark.parametrize(
    ("state", "exposed", "counts"),
    [
        (S.FAILED, False, True),
        (S.REJECTED, False, True),
        (S.TIMED_OUT, True, True),
        (S.TIMED_OUT, False, False),
        (S.WITHDRAWN, False, False),
        (S.INSTALLING, True, False),
    ],
)
def test_what_counts_is_what_the_vehicle_did_not_get_done(state, exposed, counts):
    """A bad link or a fence of ours is no fault of the vehicle."""
    ended = tries(S.FAILED, S.FAILED, state, exposed=True)
    # The last try of those that the plan allows.
    ended[NAMES[2]] = a_try(state, number=3, exposed=exposed, state_at=after(2 * HOUR_MS))
    assert (found(a_record(tries=ended)) is not None) == counts


def test_a_failure_that_is_tried_again_is_not_the_last_word():
    """Before the permit a plan has three tries; the second may still succeed."""
    ended = tries(S.FAILED, S.FAILED, S.FAILED)
    ended[NAMES[2]] = a_try(S.FAILED, number=2, state_at=after(2 * HOUR_MS))
    assert found(a_record(tries=ended)) is None
    ended[NAMES[2]] = replace(ended[NAMES[2]], number=3)
    assert found(a_record(tries=ended)) is not None


def test_who_is_kept_out_already_is_left_alone():
    """A person's quarantine keeps its reason; a denial of one rollout says nothing about the others."""
    kept = Exclusion(EVERY_ROLLOUT, "ann", "crash test", NOW)
    failed = a_record(tries=tries(S.FAILED, S.FAILED, S.FAILED))
    assert found(replace(failed, exclusions=(kept,))) is None
    assert found(replace(failed, exclusions=(replace(kept, scope="winter"),))) is not None
