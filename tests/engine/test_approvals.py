"""Approvals and regions that follow: who lets a wave begin, what is missing, and that approvals come last."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from orchestrator.engine import inputs
from orchestrator.engine.gates import judge
from orchestrator.engine.progress import (
    ApproveRequested,
    Illegal,
    Judged,
    Step,
    approval_wanted,
    next_due,
    start,
    step,
    waiting_for,
)
from orchestrator.model.plan import RegionRules
from orchestrator.model.rollout import Approval, RegionPhase, RolloutStatus
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_plan, a_rollout, a_tally, a_wave, after

R, P = RolloutStatus, RegionPhase
CANARY, GENERAL = a_cell(cohort="canary"), a_cell(cohort="general")
US_CANARY, US_GENERAL = a_cell(region="us"), a_cell(region="us", cohort="general")
EVERYBODY = {CANARY: 40, GENERAL: 60, US_CANARY: 40, US_GENERAL: 60}
AGED = a_tally(succeeded=35, aged=((35, 1), (0, 0)))
LEADER, FOLLOWER = RegionRules(in_flight_max=100), RegionRules(in_flight_max=100, follow="eu")


def two_waves(first: int = 0, second: int = 0):
    """Canaries first, then everybody, each with its approvals."""
    return (a_wave("canary", cohorts=("canary",), approvals=first), a_wave("general", approvals=second))


def started(*, first=0, second=0, regions=None):
    """A rollout that alice created, just started."""
    plan = a_plan(regions=regions or {"eu": LEADER}, waves=two_waves(first, second))
    return start("spring", plan, "text", b"s" * 16, plan.regions, "alice", "go", "request-1", NOW)


def approve(rollout, actor="bob", wave="general", region="", now=NOW):
    """The rollout after an approval that is legal."""
    answer = step(rollout, ApproveRequested(actor, wave, region, "looked at it"), now)
    assert isinstance(answer, Step)
    return answer


def ticked(rollout, now, cells=None, waiting=None):
    """The rollout after one look of the evaluator."""
    cells = cells or {}
    event = Judged(judge(cells, rollout.plan), cells, EVERYBODY if waiting is None else waiting)
    answer = step(rollout, event, now)
    assert isinstance(answer, Step)
    return answer.rollout


def said(rollout, now, cells=None, waiting=None, region="eu"):
    """What a region waits for, and the wave whose approval is all that is missing."""
    state = (rollout, cells or {}, EVERYBODY if waiting is None else waiting, region, now)
    return waiting_for(*state), approval_wanted(*state)


def place(rollout, region="eu"):
    """Where a region stands."""
    return rollout.regions[region].phase, rollout.regions[region].wave


def test_rollout_whose_first_wave_needs_approval_starts_pending():
    """Creating is not beginning: nobody is admitted until another person has looked at it."""
    rollout = started(first=2)
    assert (rollout.status, rollout.creator) == (R.RUNNING, "alice")
    assert place(rollout) == (P.PENDING, 0)
    needs = "wave canary needs 2 approvals of people other than alice and has"
    assert said(rollout, NOW) == (f"{needs} none", "canary")
    once = approve(rollout, "bob", "canary").rollout
    assert said(once, NOW) == (f"{needs} 1 (bob)", "canary")
    assert place(ticked(once, NOW)) == (P.PENDING, 0)
    twice = approve(once, "carol", "canary").rollout
    assert said(twice, NOW) == ("", "")
    begun = ticked(twice, after(5 * DAY_MS))
    assert place(begun) == (P.ROLLING, 0)
    # Its soak counts from here, not from the creation.
    assert begun.regions["eu"].wave_started_at == after(5 * DAY_MS)


def test_without_approvals_nothing_is_pending():
    """A plan of six lines begins when it is started."""
    assert place(started()) == (P.ROLLING, 0)
    assert place(started(second=1)) == (P.ROLLING, 0)


def test_later_wave_waits_for_its_approval_and_names_it_last():
    """Who is asked to approve decides about a wave that could begin, on the evidence of the one before."""
    rollout = started(second=1)
    assert said(rollout, NOW)[1] == ""
    assert "soaks until" in said(rollout, NOW)[0]
    cells = {CANARY: a_tally(succeeded=3)}
    assert said(rollout, after(DAY_MS), cells)[0] == "wave canary has exposed 3 of at least 31"
    waiting = {CANARY: 5, GENERAL: 60}
    cells = {CANARY: AGED}
    wants = "wave general needs 1 approval of people other than alice and has none"
    assert said(rollout, after(DAY_MS), cells, waiting) == (wants, "general")
    assert place(ticked(rollout, after(DAY_MS), cells, waiting)) == (P.ROLLING, 0)
    approved = approve(rollout, now=after(DAY_MS)).rollout
    assert place(ticked(approved, after(DAY_MS), cells, waiting)) == (P.ROLLING, 1)


def test_approval_ahead_of_time_changes_nothing_but_itself():
    """It is no shortcut: soak, evidence and gate are asked all the same."""
    approved = approve(started(second=1)).rollout
    assert approved.approvals == (Approval("general", "", "bob", "looked at it", NOW),)
    assert place(ticked(approved, after(HOUR_MS))) == (P.ROLLING, 0)


def test_approval_for_one_region_lets_only_that_region_begin():
    """Who answers for Europe does not decide about America."""
    rollout = started(first=1, regions={"eu": LEADER, "us": LEADER})
    only_us = ticked(approve(rollout, "bob", "canary", "us").rollout, after(HOUR_MS))
    assert (place(only_us, "eu"), place(only_us, "us")) == ((P.PENDING, 0), (P.ROLLING, 0))
    both = approve(only_us, "bob", "canary").rollout
    assert [approval.region for approval in both.approvals] == ["us", ""]
    assert place(ticked(both, after(HOUR_MS)), "eu") == (P.ROLLING, 0)


def test_same_person_counts_once():
    """Two approvals are two people."""
    once = approve(started(first=2), "bob", "canary").rollout
    again = approve(once, "bob", "canary", "eu")
    assert not again.changed
    assert again.rollout is once
    here = approve(started(first=2), "bob", "canary", "eu").rollout
    wider = approve(here, "bob", "canary").rollout
    assert "has 1 (bob)" in said(wider, NOW)[0]


BAD = {
    "creator": (ApproveRequested("alice", "canary", "", "mine"), "alice created rollout spring"),
    "unknown wave": (ApproveRequested("bob", "canaries", "", "ok"), "no wave `canaries`"),
    "unknown region": (ApproveRequested("bob", "canary", "ue", "ok"), "no region `ue`"),
    "needs none": (ApproveRequested("bob", "general", "", "ok"), "wave general needs no approval"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_approved_is_refused_with_a_remedy(name):
    """A misspelt wave must not look approved, and nobody approves what they created."""
    request, message = BAD[name]
    answer = step(started(first=1), request, NOW)
    assert isinstance(answer, Illegal)
    assert message in answer.message
    assert answer.remedy


def test_wave_that_has_begun_everywhere_is_not_approved_afterwards():
    """An approval in the ledger says that somebody looked before, not after."""
    rollout = ticked(approve(started(first=1), "bob", "canary").rollout, NOW)
    answer = step(rollout, ApproveRequested("carol", "canary", "", "late"), NOW)
    assert isinstance(answer, Illegal)
    assert "has begun in every region" in answer.message


@pytest.mark.parametrize(
    ("status", "recorded"),
    [(R.RUNNING, True), (R.HELD, True), (R.PAUSED, True), (R.HALTED, False), (R.COMPLETED, False), (R.ABORTED, False)],
)
def test_approval_in_every_status(status, recorded):
    """It may come while a rollout stands, and then the rollout still says who stopped it; not when it is halted."""
    rollout = replace(started(first=1), status=status, actor="gate", reason="2 of 17 failed")
    answer = step(rollout, ApproveRequested("bob", "canary", "", "fine"), after(HOUR_MS))
    assert isinstance(answer, Step) is recorded
    if isinstance(answer, Step):
        assert answer.kind == "wave_approved"
        assert (answer.rollout.status, answer.rollout.epoch) == (status, rollout.epoch + 1)
        assert answer.rollout.fence == rollout.fence
        assert answer.rollout.actor == ("bob" if status is R.RUNNING else "gate")
        data = json.loads(json.dumps(answer.data))
        assert (data["actor"], data["reason"], data["wave"], data["region"]) == ("bob", "fine", "canary", "")


def test_nothing_is_wanted_of_approvers_while_the_rollout_stands():
    """Nobody is called to approve what is held."""
    held = replace(started(first=1), status=R.HELD)
    assert said(held, NOW) == ("the gate to clear, or a person to resume or abort", "")


def test_decision_with_approvals_can_be_made_again_from_the_journal():
    """Promise 8: the entry of a wave's beginning says who approved it."""
    rollout = approve(started(second=1)).rollout
    cells, waiting = {CANARY: AGED}, {CANARY: 5, GENERAL: 60}
    event = Judged(judge(cells, rollout.plan), cells, waiting)
    answer = step(rollout, event, after(DAY_MS))
    assert isinstance(answer, Step)
    data = json.loads(json.dumps(answer.data))
    [approval] = data["approvals"]
    assert (approval["wave"], approval["actor"], approval["at"]) == ("general", "bob", NOW)
    cells_again, waiting_again = inputs.cells_read(data), inputs.waiting_read(data)
    again = step(rollout, Judged(judge(cells_again, rollout.plan), cells_again, waiting_again), after(DAY_MS))
    assert isinstance(again, Step)
    assert again.rollout == answer.rollout


def test_region_that_follows_begins_when_the_other_has_left_the_first_wave():
    """America waits until Europe's canaries are through, and does not wait for all of Europe."""
    rollout = started(regions={"eu": LEADER, "us": FOLLOWER})
    assert (place(rollout, "eu"), place(rollout, "us")) == ((P.ROLLING, 0), (P.PENDING, 0))
    waits = "region eu, which this one follows, must be through with wave canary first; it is in wave canary"
    assert said(rollout, NOW, region="us") == (waits, "")
    cells, waiting = {CANARY: AGED}, {**EVERYBODY, CANARY: 5}
    moved = ticked(rollout, after(DAY_MS), cells, waiting)
    assert (place(moved, "eu"), place(moved, "us")) == ((P.ROLLING, 1), (P.PENDING, 0))
    begun = ticked(moved, after(DAY_MS + HOUR_MS), cells, waiting)
    assert place(begun, "us") == (P.ROLLING, 0)
    assert begun.regions["us"].wave_started_at == after(DAY_MS + HOUR_MS)


def test_follower_stays_a_wave_behind():
    """However good its own canaries look, its next wave waits for the leader's."""
    rollout = started(regions={"eu": LEADER, "us": FOLLOWER})
    both_canary = replace(
        rollout, regions={name: replace(one, phase=P.ROLLING) for name, one in rollout.regions.items()}
    )
    leads = replace(both_canary, regions={**both_canary.regions, "eu": replace(both_canary.regions["eu"], wave=1)})
    cells = {CANARY: AGED, US_CANARY: AGED}
    waiting = {CANARY: 5, GENERAL: 60, US_CANARY: 5, US_GENERAL: 60}
    waits = "region eu, which this one follows, must be through with wave general first; it is in wave general"
    assert said(leads, after(DAY_MS), cells, waiting, "us") == (waits, "")
    assert place(ticked(leads, after(DAY_MS), cells, waiting), "us") == (P.ROLLING, 0)
    for phase in (P.AGING, P.HOLDOUT, P.DONE):
        past = replace(leads, regions={**leads.regions, "eu": replace(leads.regions["eu"], phase=phase)})
        assert place(ticked(past, after(DAY_MS), cells, waiting), "us") == (P.ROLLING, 1), phase


def test_approval_is_asked_for_after_the_followed_region():
    """What is missing is named one by one, people last."""
    rollout = started(first=1, regions={"eu": LEADER, "us": FOLLOWER})
    assert said(rollout, NOW, region="us")[0].endswith("it has not begun")
    assert said(rollout, NOW, region="us")[1] == ""
    ahead = replace(rollout, regions={**rollout.regions, "eu": replace(rollout.regions["eu"], phase=P.ROLLING, wave=1)})
    assert said(ahead, NOW, region="us")[1] == "canary"


def test_empty_region_that_has_not_begun_admits_nobody_later():
    """Done, it would admit whoever is delivered into it, without the approval; pending, it asks for it then."""
    rollout = started(first=1)
    nobody = ticked(replace(rollout, status=R.RUNNING), NOW, waiting={})
    assert nobody.status is R.COMPLETED
    two = started(first=1, regions={"cn": LEADER, "eu": LEADER})
    approved = approve(two, "bob", "canary", "eu").rollout
    going = ticked(approved, NOW)
    assert (place(going, "cn"), place(going, "eu")) == ((P.PENDING, 0), (P.ROLLING, 0))
    assert said(going, NOW, region="cn") == ("no vehicle is targeted here", "")
    cars = {**EVERYBODY, a_cell(region="cn"): 3}
    assert said(going, NOW, waiting=cars, region="cn")[1] == "canary"
    assert place(ticked(going, NOW, waiting=cars), "cn") == (P.PENDING, 0)


def test_empty_region_keeps_neither_followers_nor_the_end_waiting():
    """A rollout must not stand open for a region that has no vehicles, approved or not."""
    rollout = started(first=1, regions={"cn": LEADER, "us": replace(FOLLOWER, follow="cn")})
    waiting = {US_CANARY: 40, US_GENERAL: 60}
    approved = approve(rollout, "bob", "canary", "us").rollout
    assert place(ticked(approved, NOW, waiting=waiting), "us") == (P.ROLLING, 0)
    done = {US_CANARY: a_tally(succeeded=40, aged=((40, 0), (40, 0)))}
    over = replace(approved, regions={**approved.regions, "us": replace(approved.regions["us"], phase=P.DONE, wave=1)})
    assert ticked(over, after(9 * DAY_MS), done, {}).status is R.COMPLETED


def test_time_alone_does_not_begin_a_pending_region():
    """The evaluator need not wake for what only people or other regions change."""
    assert next_due(started(first=1), NOW) is None
    both = started(regions={"eu": LEADER, "us": FOLLOWER})
    assert next_due(both, NOW) == after(DAY_MS)


def test_old_rollouts_without_creator_and_rules_walk_on():
    """Documents written before these fields exist read with their defaults."""
    rollout = a_rollout(plan=a_plan(regions=("eu",), waves=two_waves()))
    assert rollout.creator == ""
    assert place(ticked(rollout, after(DAY_MS), {CANARY: AGED}, {CANARY: 5, GENERAL: 60})) == (P.ROLLING, 1)
