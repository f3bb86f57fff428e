"""The step: every status under every event, the walk of a region, and what is written down about it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from orchestrator.engine import inputs
from orchestrator.engine.gates import judge
from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    Illegal,
    Judged,
    PauseRequested,
    RecoveryUnproven,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
    Step,
    SupersedeRequested,
    next_due,
    start,
    step,
    waiting_for,
)
from orchestrator.model.attempt import AttemptState
from orchestrator.model.ids import RolloutId
from orchestrator.model.plan import RegionRules
from orchestrator.model.rollout import RegionPhase, RolloutStatus, VerdictKind
from orchestrator.model.tally import Tally
from tests.builders import (
    DAY_MS,
    HOUR_MS,
    NOW,
    a_cell,
    a_gate,
    a_plan,
    a_rollout,
    a_signal,
    a_tally,
    a_wave,
    after,
)

R, P = RolloutStatus, RegionPhase
GOOD = {a_cell(): a_tally(succeeded=5)}
HOLDING = {a_cell(): a_tally(failed=2, succeeded=15)}
HALTING = {a_cell(): a_tally(failed=3)}
CONTRADICTING = {a_cell(): a_tally(succeeded=5, aged=((6, 0), (0, 0)))}
ONE_REGION = a_plan(regions=("eu",))
LATER = after(HOUR_MS)


def judged(cells, waiting=None, *, plan=ONE_REGION, waived=(), held=False) -> Judged:
    """The event of an evaluator's tick."""
    everybody = {a_cell(): 50, a_cell(region="us"): 50} if waiting is None else waiting
    return Judged(judge(cells, plan, waived=waived, held=held), cells, everybody)


def stepped(rollout, event, now=LATER) -> Step:
    """A step that is legal."""
    answer = step(rollout, event, now)
    assert isinstance(answer, Step)
    return answer


def in_status(status: RolloutStatus, **changes):
    """A rollout as it gets into a status."""
    rollout = a_rollout(plan=ONE_REGION, **changes)
    if status is R.HELD:
        return stepped(rollout, judged(HOLDING)).rollout
    if status is R.HALTED:
        return stepped(rollout, judged(HALTING)).rollout
    return replace(rollout, status=status)


EVENTS = {
    "good": judged(GOOD),
    "holding": judged(HOLDING),
    "halting": judged(HALTING),
    "pause": PauseRequested("bob", "lunch"),
    "resume": ResumeRequested("bob", "all clear"),
    "abort": AbortRequested("bob", "wrong release"),
    "unproven": RecoveryUnproven("shard 3 is behind the ledger"),
    "start": StartRequested("bob", "go"),
    "supersede": SupersedeRequested(RolloutId("summer"), "bob", "rollout summer takes its place"),
    "approve": ApproveRequested("bob", "", "", "fine"),
    "signal": SignalPosted(a_signal()),
    "clear": SignalCleared("tow_rate", "all", "bob", "counted twice"),
}
SAME, NO, SAID = "same", "no", "said"
"""SAID: something is recorded, and the status stays."""
GONE = R.SUPERSEDED
MATRIX = {
    R.DRAFT: (SAME, SAME, SAME, NO, NO, R.ABORTED, SAME, R.RUNNING, GONE, NO, SAID, NO),
    R.APPROVED: (SAME, SAME, SAME, NO, NO, R.ABORTED, SAME, R.RUNNING, GONE, NO, SAID, NO),
    R.RUNNING: (SAME, R.HELD, R.HALTED, R.PAUSED, SAME, R.ABORTED, R.PAUSED, SAME, GONE, NO, SAID, NO),
    R.HELD: (R.RUNNING, SAME, R.HALTED, R.PAUSED, R.RUNNING, R.ABORTED, R.PAUSED, NO, GONE, NO, SAID, NO),
    R.PAUSED: (SAME, SAME, R.HALTED, SAME, R.RUNNING, R.ABORTED, SAME, NO, GONE, NO, SAID, NO),
    R.HALTED: (SAME, SAME, SAME, NO, R.RUNNING, R.ABORTED, SAME, NO, GONE, NO, SAID, NO),
    R.COMPLETED: (SAME, SAME, SAME, NO, NO, NO, SAME, NO, NO, NO, NO, NO),
    R.ABORTED: (SAME, SAME, SAME, NO, NO, SAME, SAME, NO, NO, NO, NO, NO),
    R.SUPERSEDED: (SAME, SAME, SAME, NO, NO, NO, SAME, NO, SAME, NO, NO, NO),
}


@pytest.mark.parametrize(("status", "name"), list(product(R, EVENTS)))
def test_every_status_under_every_event(status, name):
    """The whole table: in particular nothing resumes unasked, and what is over stays over."""
    rollout = in_status(status)
    expected = MATRIX[status][list(EVENTS).index(name)]
    answer = step(rollout, EVENTS[name], LATER)
    if expected == NO:
        assert isinstance(answer, Illegal)
        assert rollout.rollout_id in answer.message
        assert answer.remedy
        return
    assert isinstance(answer, Step)
    if expected == SAME:
        assert not answer.changed
        assert answer.rollout == rollout
        return
    assert answer.changed
    assert answer.rollout.status is (status if expected == SAID else expected)
    assert answer.rollout.epoch == rollout.epoch + 1
    assert answer.rollout.updated_at == LATER
    assert answer.rollout.reason
    fenced = expected in (R.HALTED, R.ABORTED, R.SUPERSEDED)
    assert answer.rollout.fence == (answer.rollout.epoch if fenced else rollout.fence)
    json.dumps(answer.data)


def test_start_is_one_value():
    """O(1) at any fleet size: every region in its first wave, nothing per vehicle."""
    plan = a_plan(regions={})
    rollout = start("spring", plan, "text", b"s" * 16, {"us": RegionRules(5), "eu": RegionRules(7)}, "a", "r", "q", NOW)
    assert (rollout.status, rollout.epoch, rollout.fence) == (R.RUNNING, 1, 0)
    assert rollout.plan.regions == {"us": RegionRules(5), "eu": RegionRules(7)}
    assert list(rollout.regions) == ["eu", "us"]
    assert all((one.phase, one.wave, one.wave_started_at) == (P.ROLLING, 0, NOW) for one in rollout.regions.values())
    assert (rollout.creator, rollout.reverts) == ("a", "")
    undo = start("spring", plan, "text", b"s" * 16, {"eu": RegionRules(5)}, "a", "r", "q", NOW, "winter")
    assert undo.reverts == "winter"


def test_resume_after_a_halt_waives_what_stopped_it_and_nothing_else():
    """A person decided about one rule at one scope; the next tick must neither stop for it again nor forget others."""
    halted = in_status(R.HALTED)
    resumed = stepped(halted, EVENTS["resume"]).rollout
    assert resumed.waived == ("failures_evalue@all",)
    assert not stepped(resumed, judged(HALTING, waived=resumed.waived)).changed
    silent = {a_cell(): a_tally(failed=3, timed_out=20, aged=((20, 12), (0, 0)))}
    again = stepped(resumed, judged(silent, waived=resumed.waived)).rollout
    assert again.status is R.HALTED
    both = stepped(again, EVENTS["resume"]).rollout
    assert both.waived == ("failures_evalue@all", "silence_evalue_0@all")
    assert not stepped(both, judged(silent, waived=both.waived)).changed


def test_fence_stays_when_a_halt_is_resumed():
    """Attempts granted before the halt stay dead; only what is granted from now on may install."""
    resumed = stepped(in_status(R.HALTED), EVENTS["resume"]).rollout
    assert resumed.fence == resumed.epoch - 1
    assert resumed.epoch >= resumed.fence


def test_contradiction_cannot_be_waived():
    """Resuming over broken counters holds again at once."""
    held = stepped(a_rollout(plan=ONE_REGION), judged(CONTRADICTING)).rollout
    assert held.status is R.HELD
    resumed = stepped(held, EVENTS["resume"]).rollout
    assert resumed.waived == ()
    assert stepped(resumed, judged(CONTRADICTING)).rollout.status is R.HELD


def test_resume_from_a_pause_waives_nothing():
    """Who paused a held rollout and resumes it has not said that the hold was wrong."""
    paused = stepped(in_status(R.HELD), EVENTS["pause"]).rollout
    resumed = stepped(paused, EVENTS["resume"]).rollout
    assert resumed.waived == ()
    assert stepped(resumed, judged(HOLDING)).rollout.status is R.HELD


def test_decision_can_be_made_again_from_the_journal():
    """Promise 8: the entry holds what the gate saw, and the gate says the same of it again."""
    rollout = a_rollout(plan=ONE_REGION)
    halted = stepped(rollout, judged(HALTING, {a_cell(): 40}))
    data = json.loads(json.dumps(halted.data))
    cells = inputs.cells_read(data)
    assert cells == {cell: replace(tally, before_permit={}) for cell, tally in HALTING.items()}
    assert inputs.waiting_read(data) == {a_cell(): 40}
    again = step(rollout, Judged(judge(cells, rollout.plan), cells, inputs.waiting_read(data)), LATER)
    assert isinstance(again, Step)
    assert again.rollout == halted.rollout


@pytest.mark.parametrize("data", [{}, {"cells": 3}, {"cells": [[]]}, {"cells": [[["a", "b"], [], []]]}])
def test_damaged_inputs_are_an_error(data):
    """A ledger row that was tampered with must not replay as something else."""
    with pytest.raises(ValueError, match=r"not the inputs|not enough values"):
        inputs.cells_read(data)


# The walk of one region. The plan: 100 vehicles, canary cohort first, then everybody; sample 20.

WALK = a_plan(regions=("eu",), waves=(a_wave("canary", cohorts=("canary",)), a_wave("general")), holdout_share=0.0)
CANARY, GENERAL = a_cell(cohort="canary"), a_cell(cohort="general")


def walked(cells, waiting, now, *, wave=0, phase=P.ROLLING, plan=WALK, waited=None):
    """The region after one tick, and what it said it waits for."""
    rollout = a_rollout(plan=plan, wave=wave, phase=phase)
    event = Judged(judge(cells, plan), cells, waiting)
    said = waiting_for(rollout, cells, waiting, "eu", now)
    answer = stepped(rollout, event, now)
    progress = answer.rollout.regions["eu"]
    moved = (progress.phase, progress.wave) != (phase, wave)
    # What is said and what is done are one: silent only when it moves.
    assert (said == "") == moved
    if waited is not None:
        assert waited in said
    return progress.phase, progress.wave


AGED = a_tally(succeeded=35, aged=((35, 1), (0, 0)))


def test_wave_waits_for_its_soak():
    """However good it looks, a wave has its least time."""
    waiting = {CANARY: 5, GENERAL: 60}
    early = after(DAY_MS - 1)
    assert walked({CANARY: AGED}, waiting, early, waited="soaks until 2026-01-02T00:00:00Z") == (P.ROLLING, 0)
    assert walked({CANARY: AGED}, waiting, after(DAY_MS)) == (P.ROLLING, 1)


def test_wave_waits_until_enough_were_exposed():
    """70 % of 40 canaries: 28, and no fewer."""
    for exposed, expected in ((27, 0), (28, 1)):
        cells = {CANARY: a_tally(succeeded=exposed, aged=((exposed, 0), (0, 0)))}
        waiting = {CANARY: 40 - exposed, GENERAL: 60}
        assert walked(cells, waiting, after(2 * DAY_MS)) == (P.ROLLING, expected)
    assert walked(
        {CANARY: a_tally(succeeded=27, aged=((27, 0), (0, 0)))},
        {CANARY: 13, GENERAL: 60},
        after(2 * DAY_MS),
        waited="exposed 27 of at least 28",
    ) == (P.ROLLING, 0)


def test_wave_waits_until_its_exposures_have_aged():
    """80 % of the wave's own exposures must be past the first checkpoint: fast acknowledgements prove nothing about
    silence.
    """
    for aged, expected in ((27, 0), (28, 1)):
        cells = {CANARY: a_tally(succeeded=35, aged=((aged, 0), (0, 0)))}
        assert walked(cells, {CANARY: 5, GENERAL: 60}, after(2 * DAY_MS)) == (P.ROLLING, expected)


def test_wave_is_judged_by_what_it_adds():
    """Forty aged canaries must not wave through a second wave of which nobody was exposed yet."""
    cells = {CANARY: a_tally(succeeded=40, aged=((40, 0), (40, 0)))}
    assert walked(cells, {GENERAL: 5}, after(2 * DAY_MS), wave=1, waited="exposed 0 of at least 4") == (P.ROLLING, 1)


def test_small_wave_needs_most_of_its_vehicles_but_not_all():
    """Of 20 canaries 16 must do: the sample of 20 would hang on a single car in a garage."""
    for exposed, expected in ((15, 0), (16, 1)):
        cells = {CANARY: a_tally(succeeded=exposed, aged=((exposed, 0), (0, 0)))}
        waiting = {CANARY: 20 - exposed, GENERAL: 80}
        assert walked(cells, waiting, after(2 * DAY_MS)) == (P.ROLLING, expected)


def test_wave_that_adds_nobody_here_passes_after_its_soak():
    """A region without canaries must not wait for canaries."""
    assert walked({}, {GENERAL: 60}, after(DAY_MS - 1)) == (P.ROLLING, 0)
    assert walked({}, {GENERAL: 60}, after(DAY_MS)) == (P.ROLLING, 1)


def test_tiny_share_that_chance_may_draw_empty_passes():
    """0.1 % of 60 vehicles may be nobody: nothing is demanded that the draw cannot be sure to give."""
    plan = replace(WALK, waves=(a_wave("first", share=0.001), a_wave("all")))
    assert walked({}, {GENERAL: 60}, after(DAY_MS), plan=plan) == (P.ROLLING, 1)


def test_vehicles_updated_past_us_count_as_reached():
    """A workshop's installs are not exposures, but nobody needs to wait for them."""
    cells = {CANARY: a_tally(before={AttemptState.SUCCEEDED: 38})}
    assert walked(cells, {CANARY: 2, GENERAL: 60}, after(DAY_MS)) == (P.ROLLING, 1)


def test_patience_needs_some_evidence():
    """After the patience a wave goes on with less than its quota, but never on no exposure at all."""
    over = after(14 * DAY_MS)
    few = {CANARY: a_tally(succeeded=3, aged=((3, 0), (3, 0)))}
    assert walked(few, {CANARY: 37, GENERAL: 60}, over) == (P.ROLLING, 1)
    assert walked({}, {CANARY: 40, GENERAL: 60}, over, waited="exposed none") == (P.ROLLING, 0)


def test_nothing_moves_unless_the_gate_proceeds():
    """A held rollout keeps its waves."""
    rollout = a_rollout(plan=WALK)
    cells = {CANARY: a_tally(failed=2, succeeded=33, aged=((35, 1), (0, 0)))}
    held = stepped(rollout, Judged(judge(cells, WALK), cells, {CANARY: 5, GENERAL: 60}), after(DAY_MS)).rollout
    assert held.status is R.HELD
    assert held.regions == rollout.regions
    assert waiting_for(held, cells, {}, "eu", after(DAY_MS)) == "the gate to clear, or a person to resume or abort"


ALL_AGED = a_tally(succeeded=40, aged=((40, 1), (40, 1)))
ALL_YOUNG = a_tally(succeeded=60, aged=((60, 0), (20, 0)))


def test_region_ages_and_ends():
    """After the last wave it waits for everybody admitted and for the last checkpoint, then it is through."""
    now = after(2 * DAY_MS)
    cells = {CANARY: ALL_AGED, GENERAL: ALL_YOUNG}
    assert walked(cells, {}, now, wave=1) == (P.AGING, 1)
    younger = "40 of 100 exposures are younger than 3 d"
    assert walked(cells, {}, now, wave=1, phase=P.AGING, waited=younger) == (P.AGING, 1)
    some_live = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=59, installing=1, aged=((60, 0), (60, 0)))}
    assert walked(some_live, {}, now, wave=1, phase=P.AGING, waited="1 attempt is live") == (P.AGING, 1)
    done = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=60, aged=((60, 0), (60, 0)))}
    two_wait = "2 vehicles wait; at the latest until 2026-01-15T00:00:00Z"
    assert walked(done, {GENERAL: 2}, now, wave=1, phase=P.AGING, waited=two_wait) == (P.AGING, 1)
    assert walked(done, {GENERAL: 2}, after(14 * DAY_MS), wave=1, phase=P.AGING) == (P.DONE, 1)
    assert walked(done, {}, now, wave=1, phase=P.AGING) == (P.DONE, 1)


def test_vehicles_that_are_lost_are_not_waited_for():
    """Failed, timed out and rejecting vehicles are cases for people; a rollout does not stay open for them."""
    done = {
        CANARY: ALL_AGED,
        GENERAL: a_tally(
            before={AttemptState.REJECTED: 1}, succeeded=995, failed=1, timed_out=2, aged=((998, 2), (998, 2))
        ),
    }
    now = after(3 * DAY_MS)
    assert walked(done, {GENERAL: 4}, now, wave=1, phase=P.AGING) == (P.DONE, 1)
    assert walked(done, {GENERAL: 5}, now, wave=1, phase=P.AGING) == (P.AGING, 1)


def test_holdout_comes_last_and_ages_too():
    """The holdout is admitted when all others have aged, with a patience of its own, and the rollout ends after it."""
    plan = replace(WALK, holdout_share=0.1)
    cells = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=50, aged=((50, 0), (50, 0)))}
    now = after(20 * DAY_MS)
    rollout = a_rollout(plan=plan, wave=1, phase=P.AGING)
    event = Judged(judge(cells, plan), cells, {GENERAL: 10})
    region = stepped(rollout, event, now).rollout.regions["eu"]
    assert (region.phase, region.wave_started_at) == (P.HOLDOUT, now)
    waits = walked(cells, {GENERAL: 10}, after(DAY_MS), wave=1, phase=P.HOLDOUT, plan=plan, waited="10 vehicles wait")
    assert waits == (P.HOLDOUT, 1)
    all_in = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=60, aged=((60, 0), (60, 0)))}
    assert walked(all_in, {}, now, wave=1, phase=P.HOLDOUT, plan=plan) == (P.DONE, 1)


def test_holdout_that_chance_left_empty_is_skipped():
    """Nobody to admit, nothing to wait for."""
    plan = replace(WALK, holdout_share=0.01)
    cells = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=60, aged=((60, 0), (60, 0)))}
    assert walked(cells, {}, after(9 * DAY_MS), wave=1, phase=P.AGING, plan=plan) == (P.DONE, 1)


def test_vehicles_that_no_wave_is_for_are_not_waited_for():
    """A plan for half of a cohort ends when that half is through."""
    plan = replace(WALK, waves=(a_wave("canary", cohorts=("canary",)), a_wave("half", share=0.5)))
    cells = {CANARY: ALL_AGED, GENERAL: a_tally(succeeded=52, aged=((52, 0), (52, 0)))}
    now = after(9 * DAY_MS)
    assert walked(cells, {GENERAL: 48}, now, wave=1, phase=P.AGING, plan=plan) == (P.DONE, 1)
    assert walked(cells, {GENERAL: 130}, now, wave=1, phase=P.AGING, plan=plan) == (P.AGING, 1)


def test_regions_walk_by_themselves():
    """One region's canaries do not promote another's wave."""
    rollout = a_rollout(plan=a_plan(waves=WALK.waves))
    us = a_cell(region="us")
    cells = {CANARY: AGED, us: a_tally(permitted=3)}
    answer = stepped(rollout, Judged(judge(cells, rollout.plan), cells, {GENERAL: 60, us: 37}), after(DAY_MS))
    assert [answer.rollout.regions[name].wave for name in ("eu", "us")] == [1, 0]
    assert answer.kind == "regions_advanced"
    assert answer.rollout.reason == "eu: wave canary -> wave general"


def test_region_without_vehicles_is_done_at_once_and_the_last_completes():
    """An empty region does not keep a rollout open; when every region is through it is complete."""
    rollout = a_rollout(plan=a_plan(regions=("eu", "cn")), wave=2)
    waits = {a_cell(): 5}
    first = stepped(rollout, Judged(judge({}, rollout.plan), {}, waits)).rollout
    assert (first.regions["cn"].phase, first.regions["eu"].phase) == (P.DONE, P.ROLLING)
    assert first.status is R.RUNNING
    done = {a_cell(): a_tally(succeeded=5, aged=((5, 0), (5, 0)))}
    aging = replace(first, regions={**first.regions, "eu": replace(first.regions["eu"], phase=P.AGING)})
    answer = stepped(aging, Judged(judge(done, aging.plan), done, {}))
    assert answer.kind == "rollout_completed"
    assert answer.rollout.status is R.COMPLETED


def test_region_that_was_empty_begins_when_vehicles_come():
    """Cars delivered into a region that had none walk through its waves like everybody else."""
    rollout = a_rollout(plan=a_plan(regions=("eu", "cn")))
    emptied = stepped(rollout, judged({}, {a_cell(): 5})).rollout
    assert emptied.regions["cn"].phase is P.DONE
    later = stepped(emptied, judged({}, {a_cell(): 5, a_cell(region="cn"): 7}), after(5 * DAY_MS)).rollout
    assert (later.regions["cn"].phase, later.regions["cn"].wave_started_at) == (P.ROLLING, after(5 * DAY_MS))


def test_rollout_does_not_complete_over_live_attempts():
    """A vehicle that came late into a finished region is waited for: its permit must not be refused as over."""
    rollout = a_rollout(plan=WALK, wave=1, phase=P.DONE)
    live = {GENERAL: a_tally(before={AttemptState.DOWNLOADING: 1}, succeeded=60, aged=((60, 0), (60, 0)))}
    assert not stepped(rollout, judged(live, {GENERAL: 1}, plan=WALK)).changed
    gone = {GENERAL: replace(live[GENERAL], before_permit={})}
    assert stepped(rollout, judged(gone, {}, plan=WALK)).rollout.status is R.COMPLETED


def test_waiting_text_alone_changes_nothing():
    """An epoch a second would make every grant stale: only decisions raise it."""
    rollout = a_rollout(plan=WALK)
    for exposed in range(5):
        answer = stepped(rollout, judged({CANARY: a_tally(permitted=exposed)}, {CANARY: 40, GENERAL: 60}, plan=WALK))
        assert not answer.changed
        assert answer.rollout is rollout


def test_next_due_is_the_next_soak_or_patience():
    """The evaluator may sleep until then, and no longer."""
    rollout = a_rollout(plan=WALK)
    assert next_due(rollout, NOW) == after(DAY_MS)
    assert next_due(rollout, after(DAY_MS)) == after(14 * DAY_MS)
    assert next_due(rollout, after(14 * DAY_MS)) is None
    assert next_due(a_rollout(plan=WALK, wave=1, phase=P.AGING), NOW) == after(14 * DAY_MS)
    assert next_due(a_rollout(plan=WALK, wave=1, phase=P.DONE), NOW) is None
    assert next_due(replace(rollout, status=R.PAUSED), NOW) is None


@pytest.mark.parametrize("phase", P)
@pytest.mark.parametrize("tally", [Tally(), a_tally(), AGED, ALL_AGED, a_tally(permitted=7)])
def test_walk_is_total(phase, tally):
    """Any phase, counters and inventory have an answer, without checkpoints counted too."""
    for wave, waiting in product((0, 1), ({}, {CANARY: 3}, {CANARY: 0, GENERAL: 5})):
        for cells in ({}, {CANARY: tally}, {GENERAL: tally}):
            rollout = a_rollout(plan=replace(WALK, gate=a_gate(sample_min=1)), wave=wave, phase=phase)
            answer = step(rollout, Judged(judge(cells, rollout.plan), cells, waiting), after(2 * DAY_MS))
            assert isinstance(answer, Step)
            assert answer.rollout.regions["eu"].wave >= wave


def test_verdict_of_a_transition_is_kept():
    """What the gate said when it moved a rollout stands on the rollout, for whoever looks."""
    held = in_status(R.HELD)
    assert held.verdict is not None
    assert held.verdict.kind is VerdictKind.HOLD
    assert (held.actor, held.reason) == ("gate", held.verdict.message)
