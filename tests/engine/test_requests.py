"""The life of a rollout beside the gate: drafts, their approvals and start, what takes its place, final holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.gates import judge
from orchestrator.engine.progress import (
    ApproveRequested,
    Illegal,
    Judged,
    ResumeRequested,
    StartRequested,
    Step,
    SupersedeRequested,
    start,
    step,
    waiting_for,
)
from orchestrator.model.ids import RolloutId
from orchestrator.model.plan import RegionRules
from orchestrator.model.rollout import RegionPhase, RolloutStatus, Verdict, VerdictKind
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_gate, a_plan, a_rollout, a_tally, a_wave, after

R = RolloutStatus
LATER = after(HOUR_MS)
FOLLOWING = {"eu": RegionRules(in_flight_max=9), "us": RegionRules(in_flight_max=9, follow="eu")}


def stepped(rollout, event, now=LATER) -> Step:
    """A step that is legal."""
    answer = step(rollout, event, now)
    assert isinstance(answer, Step), answer
    return answer


def refused(rollout, event) -> str:
    """The message of a request that is not."""
    answer = step(rollout, event, LATER)
    assert isinstance(answer, Illegal)
    assert answer.remedy
    return answer.message


def a_draft(approvals: int = 0, **changes):
    """A draft by alice."""
    plan = a_plan(regions=FOLLOWING, waves=(a_wave(),), approvals=approvals)
    rollout = start(RolloutId("spring"), plan, "text", b"s" * 16, FOLLOWING, "alice", "r", "q", NOW, draft=True)
    return replace(rollout, **changes)


def approval(actor: str) -> ApproveRequested:
    """Of the rollout itself."""
    return ApproveRequested(actor, "", "", "read it")


def test_draft_starts_its_waves_when_it_starts_and_not_when_it_was_written():
    """A soak that ran while nobody was admitted would be no soak."""
    draft = a_draft()
    assert (draft.status, draft.epoch) == (R.DRAFT, 1)
    assert waiting_for(draft, {}, {}, "eu", NOW) == "a person to start it"
    running = stepped(draft, StartRequested("bob", "go"), after(30 * DAY_MS))
    assert running.kind == "rollout_started"
    rollout = running.rollout
    assert (rollout.status, rollout.actor, rollout.creator) == (R.RUNNING, "bob", "alice")
    assert {progress.wave_started_at for progress in rollout.regions.values()} == {after(30 * DAY_MS)}
    assert [rollout.regions[name].phase for name in ("eu", "us")] == [RegionPhase.ROLLING, RegionPhase.PENDING]


def test_plan_that_wants_approvals_never_starts_at_once():
    """Two people are two people, also for who forgets to say that it is a draft."""
    plan = a_plan(regions=FOLLOWING, waves=(a_wave(),), approvals=2)
    rollout = start(RolloutId("spring"), plan, "text", b"s" * 16, FOLLOWING, "alice", "r", "q", NOW)
    assert rollout.status is R.DRAFT


def test_draft_waits_for_every_approval_and_the_creators_is_none():
    """The four-eyes rule of a release: who wrote it does not count, and nobody counts twice."""
    draft = a_draft(approvals=2)
    assert "needs 2 approvals of people other than alice and has none" in refused(draft, StartRequested("alice", "go"))
    assert "cannot approve" in refused(draft, approval("alice"))
    once = stepped(draft, approval("bob"))
    assert (once.kind, once.rollout.status) == ("rollout_approved", R.DRAFT)
    assert not stepped(once.rollout, approval("bob")).changed
    assert "has 1 (bob)" in refused(once.rollout, StartRequested("alice", "go"))
    assert "has 1 (bob)" in waiting_for(once.rollout, {}, {}, "eu", NOW)
    twice = stepped(once.rollout, approval("carol")).rollout
    assert twice.status is R.APPROVED
    assert stepped(twice, StartRequested("alice", "go")).rollout.status is R.RUNNING


def test_approval_of_a_wave_is_none_of_the_rollout():
    """Who agreed to the first wave has not agreed to the start, and the other way round."""
    plan = a_plan(regions=FOLLOWING, waves=(a_wave(approvals=1),), approvals=1)
    draft = a_draft(plan=plan, approvals=())
    waved = stepped(draft, ApproveRequested("bob", "canary", "", "fine")).rollout
    assert waved.status is R.DRAFT
    assert "needs 1 approval" in refused(waved, StartRequested("alice", "go"))
    started = stepped(stepped(draft, approval("bob")).rollout, StartRequested("alice", "go")).rollout
    assert "has none" in waiting_for(started, {}, {a_cell(): 5}, "eu", NOW)


def test_rollout_is_approved_as_a_whole_and_before_it_starts():
    """What cannot be followed is refused in words."""
    assert "region" in refused(a_draft(approvals=1), ApproveRequested("bob", "", "eu", "fine"))
    assert "needs no approval" in refused(a_draft(), approval("bob"))
    assert "was started" in refused(a_rollout(plan=a_plan(approvals=1)), approval("bob"))


def test_superseded_rollout_is_over_and_its_fence_is_up():
    """Two releases for the same units must not both be on their way; what has a permit runs on."""
    ended = stepped(a_rollout(), SupersedeRequested(RolloutId("summer"), "bob", "summer takes its place"))
    assert ended.rollout.status is R.SUPERSEDED
    assert ended.rollout.status.over
    assert ended.rollout.fence == ended.rollout.epoch == 2
    assert ended.data["superseded_by"] == "summer"


# Holds that last.

HOLD = Verdict(VerdictKind.HOLD, "failures_posterior", None, "all: too many", {})
PLAN = a_plan(regions=("eu",), gate=a_gate(hold_final_ms=7 * DAY_MS))
YOUNG = {a_cell(): a_tally(failed=1, succeeded=9, aged=((10, 0), (9, 0)))}
OLD = {a_cell(): a_tally(failed=1, succeeded=9, aged=((10, 0), (10, 0)))}
LIVE = {a_cell(): a_tally(failed=1, installing=9, aged=((10, 0), (10, 0)))}


def tick(cells, verdict=HOLD) -> Judged:
    """A tick in which the gate says so of the whole."""
    base = judge({}, PLAN)
    said = base.verdicts[0] if verdict is None else verdict
    return Judged(replace(base, verdicts=(said,), worst=said), cells, {a_cell(): 50})


def held(verdict=HOLD):
    """A rollout that the gate holds since LATER."""
    return stepped(a_rollout(plan=PLAN), tick(YOUNG, verdict)).rollout


def test_hold_is_final_when_no_exposure_has_anything_more_to_say():
    """Nothing that could clear it will ever come by itself: a person is told, and the hold does not let go."""
    rollout = held()
    assert (rollout.held_since, rollout.hold_final) == (LATER, False)
    for cells in (YOUNG, LIVE):
        assert not stepped(rollout, tick(cells)).changed
    final = stepped(rollout, tick(OLD))
    assert (final.kind, final.rollout.hold_final, final.rollout.status) == ("hold_final", True, R.HELD)
    assert "all 10 exposures" in str(final.data["final_because"])
    assert final.rollout.reason == rollout.reason
    assert not stepped(final.rollout, tick(OLD)).changed
    assert not stepped(final.rollout, tick(OLD, None)).changed, "and late good news does not clear it"
    assert waiting_for(final.rollout, OLD, {}, "eu", LATER) == "a person to resume or abort"
    resumed = stepped(final.rollout, ResumeRequested("bob", "a lamp")).rollout
    assert (resumed.status, resumed.hold_final, resumed.held_since) == (R.RUNNING, False, None)


def test_hold_is_final_after_its_time():
    """A week of amber is red."""
    rollout = held()
    assert not stepped(rollout, tick(YOUNG), after(7 * DAY_MS - 1, LATER)).changed
    assert stepped(rollout, tick(YOUNG), after(7 * DAY_MS, LATER)).kind == "hold_final"


@pytest.mark.parametrize("rule", ["signal_tow_rate", "overdue_tow_rate"])
def test_hold_by_a_signal_waits_for_whoever_posted_it(rule):
    """Exposures that are through say nothing about a measure from outside, which may still be posted or taken back."""
    rollout = held(replace(HOLD, rule=rule))
    assert not stepped(rollout, tick(OLD, rollout.verdict)).changed
    assert stepped(rollout, tick(OLD, None)).rollout.status is R.RUNNING


def test_hold_that_clears_and_comes_back_begins_anew():
    """The week counts from this hold, not from the first."""
    cleared = stepped(held(), tick(YOUNG, None)).rollout
    assert (cleared.status, cleared.held_since) == (R.RUNNING, None)
    assert stepped(cleared, tick(YOUNG), after(9 * DAY_MS)).rollout.held_since == after(9 * DAY_MS)


@pytest.mark.parametrize("cells", [{}, {a_cell(): a_tally()}])
def test_hold_without_an_exposure_is_not_final_at_once(cells):
    """Nothing is exposed, so nothing is old: losses before the permit may hold a rollout that early."""
    assert not stepped(held(), tick(cells)).changed
