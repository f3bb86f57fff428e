"""Whose turn it is: regions that have not begun, exclusions, and vehicles that move while a rollout runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.admission import consider
from orchestrator.engine.region_state import region_at
from orchestrator.engine.regions import walk
from orchestrator.engine.targets import compile_target
from orchestrator.model.attempt import AttemptState
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.plan import RegionRules, Target
from orchestrator.model.rollout import Approval, RegionPhase, RegionProgress, RolloutStatus
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion
from tests.builders import (
    NOW,
    a_cell,
    a_plan,
    a_record,
    a_release,
    a_rollout,
    a_tally,
    a_try,
    a_vehicle,
    a_wave,
    an_attempt,
)

P, Reason = RegionPhase, RefusalReason
QUARANTINE = Exclusion(scope=EVERY_ROLLOUT, actor="eve", reason="crash test", at=NOW)
DENIAL = Exclusion(scope="spring", actor="bob", reason="lab car", at=NOW)


def answered(record, rollout) -> Grant | Refusal:
    """What admission says."""
    return consider(record, rollout, a_release(), compile_target(rollout.plan.target), NOW)


def refused(record, rollout) -> Refusal:
    """A refusal."""
    answer = answered(record, rollout)
    assert isinstance(answer, Refusal)
    return answer


def pending(**changes):
    """A rollout whose region us follows eu, the first wave with an approval, nothing begun."""
    rules = {"eu": RegionRules(in_flight_max=9), "us": RegionRules(in_flight_max=9, follow="eu")}
    plan = a_plan(regions=rules, waves=(a_wave("canary", approvals=2), a_wave("more", cohorts=("z",))))
    return a_rollout(plan=plan, phase=P.PENDING, creator="alice", **changes)


def test_region_without_its_approvals_admits_nobody():
    """With the numbers: a release engineer sees at once whom to ask."""
    bob = Approval(wave="canary", region="", actor="bob", reason="ok", at=NOW)
    refusal = refused(a_record(), pending(approvals=(bob, replace(bob, actor="alice"))))
    assert refusal.reason is Reason.APPROVAL_MISSING
    assert "needs 2 approvals of people other than alice and has 1 (bob)" in refusal.message
    assert (refusal.facts["approvals"], refusal.facts["approvals_wanted"]) == ("1", "2")


def test_region_that_follows_names_the_other_before_the_approval():
    """The approval would not help yet."""
    american = a_record(a_vehicle(region="us"))
    refusal = refused(american, pending())
    assert refusal.reason is Reason.FOLLOWED_REGION_FIRST
    assert refusal.facts["follow"] == "eu"
    assert refusal.message.endswith("it has not begun")
    rolling = {"eu": RegionProgress(P.ROLLING, 0, NOW), "us": RegionProgress(P.PENDING, 0, NOW)}
    assert refused(american, pending(regions=rolling)).message.endswith("it is in wave canary")
    through = {**rolling, "eu": RegionProgress(P.ROLLING, 1, NOW)}
    assert refused(american, pending(regions=through)).reason is Reason.APPROVAL_MISSING


def test_pending_is_said_even_while_the_rollout_is_paused():
    """Resuming would not help either."""
    assert refused(a_record(), pending(status=RolloutStatus.PAUSED)).reason is Reason.APPROVAL_MISSING


@pytest.mark.parametrize(
    ("exclusions", "reason"),
    [
        ((QUARANTINE,), Reason.QUARANTINED),
        ((DENIAL,), Reason.DENIED),
        ((QUARANTINE, DENIAL), Reason.QUARANTINED),
        ((replace(DENIAL, scope="winter"),), None),
    ],
)
def test_excluded_vehicle_is_not_admitted(exclusions, reason):
    """By a person, with the name and the words of that person; a denial of another rollout is none of ours."""
    answer = answered(a_record(exclusions=exclusions), a_rollout())
    if reason is None:
        assert isinstance(answer, Grant)
        return
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert exclusions[0].actor in answer.message
    assert exclusions[0].reason in answer.message


def test_exclusion_comes_before_the_target_and_after_what_is_settled():
    """Not "not targeted": the target may be mended, the quarantine still stands. What is done is done."""
    other = a_rollout(plan=a_plan(target=Target(model=("X",))))
    assert refused(a_record(exclusions=(QUARANTINE,)), other).reason is Reason.QUARANTINED
    settled = a_record(exclusions=(QUARANTINE,), tries={"spring": a_try(AttemptState.FAILED, exposed=True)})
    assert refused(settled, a_rollout()).reason is Reason.ATTEMPT_SETTLED


def test_vehicle_that_moves_region_is_judged_where_it_is_now():
    """Sold to America, it walks with America, and is counted there from its next grant on."""
    walks = {"eu": RegionProgress(P.ROLLING, 2, NOW), "us": RegionProgress(P.ROLLING, 0, NOW)}
    rollout = a_rollout(regions=walks)
    here = answered(a_record(a_vehicle(cohort="general")), rollout)
    assert isinstance(here, Grant)
    assert here.cell == a_cell(cohort="general")
    moved = refused(a_record(a_vehicle(cohort="general", region="us")), rollout)
    assert moved.reason is Reason.WAVE_NOT_REACHED
    assert refused(a_record(a_vehicle(region="cn")), rollout).reason is Reason.REGION_NOT_IN_PLAN


def test_vehicle_that_moves_cohort_is_judged_by_the_new_one():
    """Promoted to the canaries, its turn has come; demoted, it waits again."""
    rollout = a_rollout()
    assert isinstance(answered(a_record(a_vehicle(cohort="canary")), rollout), Grant)
    assert refused(a_record(a_vehicle(cohort="early")), rollout).reason is Reason.WAVE_NOT_REACHED


def test_move_during_an_attempt_neither_ends_nor_doubles_it():
    """The live attempt stays the one, counted where it was granted; after a failed one it may try where it is."""
    attempt = an_attempt(AttemptState.DOWNLOADING)
    moved = a_record(a_vehicle(region="us"), attempt=attempt, tries={"spring": a_try(AttemptState.DOWNLOADING)})
    assert refused(moved, a_rollout()).reason is Reason.ATTEMPT_LIVE
    failed = a_record(a_vehicle(region="us"), tries={"spring": a_try(AttemptState.FAILED, state_at=0)})
    again = answered(failed, a_rollout())
    assert isinstance(again, Grant)
    assert (again.number, again.cell) == (2, a_cell(region="us"))


def test_region_that_closed_admits_nobody_more():
    """Each straggler would have to age before the rollout is through, and there is always one more."""
    plan = a_plan()

    def at(phase: P, closed: bool) -> Grant | Refusal:
        stands = {name: RegionProgress(phase, len(plan.waves) - 1, NOW, closed=closed) for name in plan.regions}
        return answered(a_record(), a_rollout(plan=plan, regions=stands))

    for phase in (P.ROLLING, P.AGING, P.HOLDOUT, P.DONE):
        assert isinstance(at(phase, closed=False), Grant)
    late = {phase: at(phase, closed=True) for phase in (P.AGING, P.HOLDOUT, P.DONE)}
    reasons = {phase: answer.reason for phase, answer in late.items() if isinstance(answer, Refusal)}
    assert reasons == {P.AGING: Reason.HOLDOUT, P.HOLDOUT: Reason.ROLLOUT_OVER, P.DONE: Reason.ROLLOUT_OVER}


@pytest.mark.parametrize(("through", "left", "closes"), [(97, 3, True), (70, 30, False)])
def test_region_closes_when_its_patience_is_over_and_few_are_left(through, left, closes):
    """A handful that calls once in weeks is not waited for; a third that the plan's own limits kept waiting is."""
    plan = a_plan(holdout_share=0.0)
    since = NOW - plan.limits.patience_ms
    stands = {name: RegionProgress(P.AGING, len(plan.waves) - 1, since) for name in plan.regions}
    # One is on its way, as always one is where stragglers call.
    tally = a_tally(succeeded=through, installing=1, aged=((through, 0), (through, 0)))
    cells = {a_cell(): tally}
    region = region_at("eu", a_rollout(plan=plan, regions=stands), cells, {a_cell(): left})
    moved = walk(region, NOW)
    assert (moved is not None and moved.closed) == closes
    earlier = region_at("eu", a_rollout(plan=plan, regions=stands), cells, {a_cell(): left})
    assert walk(earlier, NOW - 1) is None
