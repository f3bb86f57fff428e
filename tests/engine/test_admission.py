"""Admission: the order of reasons, the draw, the retries, and that no reason is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.admission import Candidate, choose, consider
from orchestrator.engine.retries import JITTER_SHARE
from orchestrator.engine.selection import draw, in_holdout, threshold
from orchestrator.engine.targets import compile_target
from orchestrator.model.attempt import AttemptState
from orchestrator.model.decision import Grant, RefusalReason
from orchestrator.model.ids import VehicleId
from orchestrator.model.plan import Target
from orchestrator.model.rollout import Opening, RegionPhase, RolloutStatus
from tests.builders import (
    MINUTE_MS,
    NOW,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_try,
    a_vehicle,
    a_wave,
    after,
    an_attempt,
    an_ecu,
    some_limits,
)

S = AttemptState
Reason = RefusalReason
RELEASE = a_release()


def answer(record=None, rollout=None, *, release=RELEASE, now=NOW):
    """What admission says, with everything else as it should be."""
    rollout = rollout or a_rollout()
    return consider(record or a_record(), rollout, release, compile_target(rollout.plan.target), now)


def reason(*args, **kwargs) -> RefusalReason | None:
    """The refusal's reason; None for a grant."""
    given_answer = answer(*args, **kwargs)
    return None if isinstance(given_answer, Grant) else given_answer.reason


def tried(state: AttemptState, **fields):
    """A record with one try at rollout spring."""
    return a_record(tries={"spring": a_try(state, **fields)})


def vehicle_drawn(low: float, high: float, *, salt: bytes = bytes(range(16)), **fields):
    """A vehicle whose draw lies within two shares."""
    for number in range(100_000):
        name = VehicleId(f"v-{number}")
        if threshold(low) <= draw(salt, name) < threshold(high):
            return a_vehicle(name, **fields)
    raise AssertionError("no such vehicle")


def test_grant_carries_what_the_store_needs():
    """Cell, epoch and number are fixed here: they say where the attempt is counted and under what it lives."""
    grant = answer(rollout=a_rollout(epoch=7))
    assert isinstance(grant, Grant)
    assert (grant.rollout_id, grant.release, grant.number, grant.epoch) == ("spring", "1.1.0", 1, 7)
    assert str(grant.cell.stratum) == "eu/gen2"
    assert grant.cell.cohort == "canary"


@pytest.mark.parametrize(
    ("expected", "record", "rollout"),
    [
        (Reason.ROLLOUT_OVER, a_record(), a_rollout(status=RolloutStatus.COMPLETED)),
        (Reason.ROLLOUT_OVER, a_record(), a_rollout(status=RolloutStatus.ABORTED)),
        (Reason.ROLLOUT_PAUSED, a_record(), a_rollout(status=RolloutStatus.PAUSED)),
        (Reason.ROLLOUT_HELD, a_record(), a_rollout(status=RolloutStatus.HELD)),
        (Reason.ROLLOUT_HALTED, a_record(), a_rollout(status=RolloutStatus.HALTED)),
        (Reason.ATTEMPT_LIVE, a_record(attempt=an_attempt(S.DOWNLOADING)), a_rollout()),
        (Reason.ATTEMPT_LIVE, tried(S.DOWNLOADING), a_rollout()),
        (Reason.OTHER_ROLLOUT_FIRST, a_record(attempt=an_attempt(rollout_id="winter")), a_rollout()),
        (Reason.ALREADY_INSTALLED, a_record(installed="1.1.0"), a_rollout()),
        (Reason.NOT_TARGETED, a_record(), a_rollout(plan=a_plan(target=Target(model=("X",))))),
        (Reason.NOT_TARGETED, a_record(installed=""), a_rollout(plan=a_plan(target=Target(installed="<1.1.0")))),
        (Reason.NO_IMAGE_FOR_HARDWARE, a_record(a_vehicle(ecus=[an_ecu(hardware_id="old-gw")])), a_rollout()),
        (Reason.REGION_NOT_IN_PLAN, a_record(a_vehicle(region="cn")), a_rollout()),
        (Reason.WAVE_NOT_REACHED, a_record(a_vehicle(cohort="general")), a_rollout()),
    ],
)
def test_each_reason_refuses_by_itself(expected, record, rollout):
    """One missing check admits a vehicle that must stay out."""
    assert reason(record, rollout) is expected


def test_unregistered_release_admits_nobody():
    """A plan can outlive nothing: without a release there is nothing to install."""
    assert reason(release=None) is Reason.NO_IMAGE_FOR_HARDWARE


@pytest.mark.parametrize(
    ("state", "exposed", "expected"),
    [
        (S.SUCCEEDED, True, Reason.ATTEMPT_SETTLED),
        (S.SUCCEEDED, False, Reason.ATTEMPT_SETTLED),
        (S.REJECTED, False, Reason.ATTEMPT_SETTLED),
        (S.FAILED, True, Reason.ATTEMPT_SETTLED),
        (S.ROLLED_BACK, True, Reason.ATTEMPT_SETTLED),
        (S.TIMED_OUT, True, Reason.ATTEMPT_SETTLED),
        (S.FAILED, False, Reason.RETRY_LATER),
        (S.TIMED_OUT, False, Reason.RETRY_LATER),
        (S.WITHDRAWN, False, Reason.RETRY_LATER),
    ],
)
def test_retry_by_class(state, exposed, expected):
    """What was exposed is never tried again by itself: a second dose of a bad release is a person's decision."""
    assert reason(tried(state, exposed=exposed)) is expected
    much_later = after(365 * 24 * 60 * MINUTE_MS)
    settled = expected is Reason.ATTEMPT_SETTLED
    assert reason(tried(state, exposed=exposed), now=much_later) is (expected if settled else None)


def test_backoff_doubles_and_ends():
    """Tries are spaced further and further, and stop at the plan's number."""
    rollout = a_rollout(plan=a_plan(limits=some_limits(attempts_max=4, retry_backoff_ms=10 * MINUTE_MS)))
    for number, wait in ((1, 10), (2, 20), (3, 40)):
        record = tried(S.TIMED_OUT, number=number)
        refusal = answer(record, rollout, now=after(wait * MINUTE_MS - 1))
        assert refusal.reason is Reason.RETRY_LATER
        due = int(refusal.facts["retry_at_ms"])
        assert after(wait * MINUTE_MS) <= due < after(int(wait * (1 + JITTER_SHARE) * MINUTE_MS))
        grant = answer(record, rollout, now=due)
        assert isinstance(grant, Grant)
        assert grant.number == number + 1
    assert reason(tried(S.TIMED_OUT, number=4), rollout, now=after(10**9)) is Reason.ATTEMPTS_SPENT


def test_region_has_its_own_wave():
    """A vehicle is judged by its region's pointer, not by another's that is further on."""
    rollout = a_rollout()
    ahead = replace(rollout.regions["us"], wave=2)
    rollout = replace(rollout, regions={**rollout.regions, "us": ahead})
    assert reason(a_record(a_vehicle(region="us", cohort="general")), rollout) is None
    assert reason(a_record(a_vehicle(region="eu", cohort="general")), rollout) is Reason.WAVE_NOT_REACHED


def test_later_waves_add_to_earlier_ones():
    """Whoever an earlier wave was for stays admitted, also when the present wave is for others."""
    assert reason(a_record(a_vehicle(cohort="canary")), a_rollout(wave=1)) is None
    assert reason(a_record(a_vehicle(cohort="early")), a_rollout(wave=1)) is None


def test_share_admits_by_draw():
    """A share of 10 % is for those whose draw is below, and tells the others when their turn is."""
    plan = a_plan(waves=(a_wave("tenth", share=0.1), a_wave("half", share=0.5), a_wave("all")))
    rollout = a_rollout(plan=plan)
    assert reason(a_record(vehicle_drawn(0.0, 0.1)), rollout) is Reason.EVALUATOR_SILENT, "places are not counted yet"
    opened = replace(rollout.regions["eu"], openings={"gen2/canary": Opening(9, 0.1)})
    counted = replace(rollout, regions={**rollout.regions, "eu": opened})
    assert reason(a_record(vehicle_drawn(0.0, 0.1)), counted) is None
    refusal = answer(a_record(vehicle_drawn(0.1, 0.5)), rollout)
    assert refusal.reason is Reason.NOT_YET_DRAWN
    assert refusal.facts["its_wave"] == "half"
    assert "open to 10 %" in refusal.message


def test_cohort_that_no_wave_is_for_is_told_so():
    """An operator who asks why must learn that it will never happen under this plan."""
    plan = a_plan(waves=(a_wave("canary", cohorts=("canary",)),))
    refusal = answer(a_record(a_vehicle(cohort="general")), a_rollout(plan=plan))
    assert refusal.reason is Reason.WAVE_NOT_REACHED
    assert "no wave of the plan is for it" in refusal.message


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (RegionPhase.ROLLING, Reason.HOLDOUT),
        (RegionPhase.AGING, Reason.HOLDOUT),
        (RegionPhase.HOLDOUT, None),
        (RegionPhase.DONE, None),
    ],
)
def test_holdout_stays_out_until_its_phase(phase, expected):
    """The holdout is the reference for normal silence: one admitted early would spoil it."""
    rollout = a_rollout(plan=a_plan(holdout_share=0.1), wave=2, phase=phase)
    assert reason(a_record(vehicle_drawn(0.9, 1.0)), rollout) is expected
    assert reason(a_record(vehicle_drawn(0.0, 0.9)), rollout) is None


def test_older_rollout_goes_first():
    """Two rollouts that both want a vehicle must not depend on the order of a list."""
    old = a_rollout(rollout_id="zz-old", created_at=NOW)
    new = a_rollout(rollout_id="aa-new", created_at=after(1))
    candidates = [Candidate(rollout, RELEASE, compile_target(rollout.plan.target)) for rollout in (new, old)]
    for order in (candidates, candidates[::-1]):
        grant = choose(a_record(), order, NOW)
        assert isinstance(grant, Grant)
        assert grant.rollout_id == "zz-old"


def test_refusals_of_all_rollouts_are_given():
    """`vehicle explain` shows one line a rollout, oldest first."""
    paused = a_rollout(rollout_id="old", status=RolloutStatus.PAUSED)
    held = a_rollout(rollout_id="new", status=RolloutStatus.HELD, created_at=after(1))
    candidates = [Candidate(rollout, RELEASE, compile_target(rollout.plan.target)) for rollout in (held, paused)]
    refusals = choose(a_record(), candidates, NOW)
    assert isinstance(refusals, tuple)
    assert [refusal.reason for refusal in refusals] == [Reason.ROLLOUT_PAUSED, Reason.ROLLOUT_HELD]
    assert choose(a_record(), [], NOW) == ()


@pytest.mark.parametrize("state", [S.OFFERED, S.DEFERRED, S.PERMITTED, S.VERIFYING])
def test_live_attempt_refuses_every_rollout(state):
    """A vehicle has one attempt at a time, whoever offers."""
    record = a_record(attempt=an_attempt(state))
    rollouts = [a_rollout(), a_rollout(rollout_id="other", plan=a_plan(release="1.2.0"))]
    candidates = [Candidate(rollout, RELEASE, compile_target(rollout.plan.target)) for rollout in rollouts]
    assert not isinstance(choose(record, candidates, NOW), Grant)


@given(
    u=st.integers(min_value=0, max_value=2_000),
    shares=st.lists(st.sampled_from([0.001, 0.01, 0.1, 0.25, 0.5, 0.99, 1.0]), min_size=1, max_size=5, unique=True),
    holdout=st.sampled_from([0.0, 0.01, 0.2, 0.5]),
)
def test_admitted_once_is_admitted_in_every_later_wave(u, shares, holdout):
    """Promotion adds vehicles and never takes one back, whatever the plan; in the end everybody's turn comes."""
    plan = a_plan(
        waves=[a_wave(f"w{index}", share=share) for index, share in enumerate(sorted(shares))], holdout_share=holdout
    )
    record = a_record(a_vehicle(f"v-{u}"))
    stages = [a_rollout(plan=plan, wave=index) for index in range(len(plan.waves))]
    stages.append(a_rollout(plan=plan, wave=len(plan.waves) - 1, phase=RegionPhase.HOLDOUT))
    admitted = [reason(record, stage) is None for stage in stages]
    assert admitted == sorted(admitted)
    if max(shares) == 1.0:
        assert admitted[-1]
    if in_holdout(draw(bytes(range(16)), record.vehicle.vehicle_id), holdout):
        assert not any(admitted[:-1])
