"""Parts that stand still: every brake under everything that can happen to it, and what the rest does meanwhile."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from orchestrator.engine.gates import judge, judge_rollout
from orchestrator.engine.progress import (
    Illegal,
    Judged,
    PauseRequested,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    Step,
    next_due,
    step,
    waiting_for,
)
from orchestrator.model.fleet import Stratum
from orchestrator.model.rollout import Brake, BrakeKind, RegionPhase, RolloutStatus, Verdict, VerdictKind
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_plan, a_rollout, a_signal, a_tally, a_wave, after

R, K, V = RolloutStatus, BrakeKind, VerdictKind
PLAN = a_plan(regions=("eu", "us"), waves=(a_wave("canary", cohorts=("canary",)), a_wave("general")))
GEN1, GEN2 = a_cell(hardware="gen1"), a_cell(hardware="gen2")
FLEET = {GEN1: 40, GEN2: 40, a_cell(region="us"): 40}
LATER = after(HOUR_MS)


def said(kind: VerdictKind, hardware: str = "gen1", rule: str = "failures_evalue") -> Verdict:
    """What the gate says of one stratum of eu."""
    return Verdict(kind, rule, Stratum("eu", hardware), f"eu/{hardware}: as a test says", {})


def judged(*verdicts: Verdict, worst: Verdict | None = None, cells=None, waiting=None, dark=()) -> Judged:
    """A tick in which the gate says so of single strata, and PROCEED of the whole unless told otherwise."""
    base = judge({}, PLAN)
    overall = worst or base.verdicts[0]
    judgement = replace(base, verdicts=(overall, *verdicts), worst=overall)
    return Judged(judgement, cells or {}, FLEET if waiting is None else waiting, frozenset(dark))


def stepped(rollout, event, now=LATER) -> Step:
    """A step that is legal."""
    answer = step(rollout, event, now)
    assert isinstance(answer, Step), answer
    return answer


def brake(kind: BrakeKind, scope: str = "eu/gen1", *, actor: str = "gate") -> Brake:
    """A brake since NOW."""
    verdict = None if kind is K.PAUSED else said(V.HALT if kind is K.HALTED else V.HOLD)
    return Brake(scope, kind, NOW, actor, "a reason", verdict)


NONE = None
GATE_EVENTS = {V.PROCEED: judged(said(V.PROCEED)), V.HOLD: judged(said(V.HOLD)), V.HALT: judged(said(V.HALT))}
TABLE = {
    NONE: {V.PROCEED: NONE, V.HOLD: K.HELD, V.HALT: K.HALTED},
    K.HELD: {V.PROCEED: NONE, V.HOLD: K.HELD, V.HALT: K.HALTED},
    K.PAUSED: {V.PROCEED: K.PAUSED, V.HOLD: K.PAUSED, V.HALT: K.HALTED},
    K.HALTED: {V.PROCEED: K.HALTED, V.HOLD: K.HALTED, V.HALT: K.HALTED},
}


@pytest.mark.parametrize(("before", "verdict"), list(product(TABLE, V)))
def test_every_brake_under_every_verdict(before, verdict):
    """The table: weak evidence lets go by itself, strong evidence and people do not."""
    rollout = a_rollout(plan=PLAN, brakes=(brake(before),) if before else ())
    answer = stepped(rollout, GATE_EVENTS[verdict])
    expected = TABLE[before][verdict]
    assert [each.kind for each in answer.rollout.brakes] == ([expected] if expected else [])
    assert answer.changed == (expected is not before)
    assert answer.rollout.status is R.RUNNING
    halts = expected is K.HALTED and before is not K.HALTED
    assert dict(answer.rollout.fences) == ({"eu/gen1": answer.rollout.epoch} if halts else {})
    assert answer.rollout.fence == 0, "the rest of the rollout keeps its attempts"
    if answer.changed:
        assert answer.kind == "parts_braked"
        assert answer.rollout.epoch == rollout.epoch + 1
        assert "eu/gen1" in str(answer.data["reason"])
        json.dumps(answer.data)


@pytest.mark.parametrize("before", TABLE)
def test_people_pause_and_resume_a_part(before):
    """With the same answers as of the whole: what is halted is not paused, what is resumed waives its rule."""
    rollout = a_rollout(plan=PLAN, brakes=(brake(before),) if before else ())
    paused = step(rollout, PauseRequested("bob", "lunch", "eu/gen1"), LATER)
    if before is K.HALTED:
        assert isinstance(paused, Illegal)
        assert "halted" in paused.message
    else:
        assert isinstance(paused, Step)
        assert [each.kind for each in paused.rollout.brakes] == [K.PAUSED]
        assert paused.changed == (before is not K.PAUSED)
        assert not paused.changed or (paused.data["actor"], paused.data["scope"]) == ("bob", "eu/gen1")
        assert paused.rollout.actor == rollout.actor, "who started the whole stays"
    resumed = stepped(rollout, ResumeRequested("bob", "seen", "eu/gen1"))
    assert resumed.rollout.brakes == ()
    assert resumed.changed == (before is not NONE)
    assert resumed.rollout.waived == (("failures_evalue@eu/gen1",) if before in (K.HELD, K.HALTED) else ())


def test_resume_of_a_part_that_has_no_brake_names_those_that_have():
    """At three in the morning "done" must not mean the wrong part."""
    rollout = a_rollout(plan=PLAN, brakes=(brake(K.HALTED),))
    answer = step(rollout, ResumeRequested("bob", "seen", "eu"), LATER)
    assert isinstance(answer, Illegal)
    assert "eu/gen1" in answer.remedy


@pytest.mark.parametrize("scope", ["cn", "cn/gen1", "eu/"])
@pytest.mark.parametrize("request_type", [PauseRequested, ResumeRequested])
def test_scope_that_is_none_of_the_rollouts_is_refused(scope, request_type):
    """A brake on a misspelt region would stop nobody."""
    answer = step(a_rollout(plan=PLAN), request_type("bob", "oops", scope), LATER)
    assert isinstance(answer, Illegal)
    assert answer.remedy


@pytest.mark.parametrize("status", [R.DRAFT, R.APPROVED, R.COMPLETED, R.ABORTED, R.SUPERSEDED])
def test_part_of_what_does_not_run_cannot_be_braked(status):
    """Neither before it started nor after it ended."""
    rollout = a_rollout(plan=PLAN, status=status)
    assert isinstance(step(rollout, PauseRequested("bob", "x", "eu"), LATER), Illegal)
    assert isinstance(step(rollout, ResumeRequested("bob", "x", "eu"), LATER), Illegal)
    assert not stepped(rollout, GATE_EVENTS[V.HALT]).changed


@pytest.mark.parametrize("status", [R.HELD, R.PAUSED])
def test_strong_evidence_about_a_part_counts_while_the_whole_stands(status):
    """Its fence must be up before anybody resumes the whole; weak evidence adds nothing to a stop."""
    rollout = a_rollout(plan=PLAN, status=status, reason="lunch")
    whole = Verdict(V.HOLD, "failures_posterior", None, "all: as a test says", {})
    halted = stepped(rollout, judged(said(V.HALT), worst=whole))
    assert (halted.rollout.status, halted.rollout.reason) == (status, "lunch")
    assert [each.kind for each in halted.rollout.brakes] == [K.HALTED]
    assert not stepped(rollout, judged(said(V.HOLD), worst=whole)).changed


# With the gate's own verdicts.


def looked_at(rollout, cells, now=LATER) -> Step:
    """A tick of the evaluator."""
    return stepped(rollout, Judged(judge_rollout(rollout, cells, FLEET, now), cells, FLEET), now)


def test_bad_stratum_stops_alone_once_the_others_have_shown_themselves():
    """FCA 2018: one trim in one region reboots for ever; four hundred good exposures elsewhere say it is the trim."""
    cells = {
        GEN1: a_tally(failed=3),
        GEN2: a_tally(succeeded=200, aged=((200, 8), (200, 8))),
        a_cell(region="us"): a_tally(succeeded=200, aged=((200, 8), (200, 8))),
    }
    halted = looked_at(a_rollout(plan=PLAN), cells).rollout
    assert (halted.status, [(each.scope, each.kind) for each in halted.brakes]) == (R.RUNNING, [("eu/gen1", K.HALTED)])
    second = {**cells, GEN2: a_tally(succeeded=200, failed=40, aged=((200, 8), (200, 8)))}
    both = looked_at(halted, second).rollout
    assert (both.status, both.fence) == (R.HALTED, both.epoch)
    resumed = stepped(halted, ResumeRequested("bob", "a bench car", "eu/gen1")).rollout
    assert not looked_at(resumed, cells).rollout.brakes, "and it is not stopped for the same again"


def test_signal_about_a_region_brakes_the_region_and_lets_it_go():
    """A tow rate of one country is no matter of the others."""
    warned = stepped(a_rollout(plan=PLAN), SignalPosted(a_signal(scope="eu", value=9.0))).rollout
    held = looked_at(warned, {}).rollout
    assert (held.status, [(each.scope, each.kind) for each in held.brakes]) == (R.RUNNING, [("eu", K.HELD)])
    cleared = stepped(held, SignalCleared("tow_rate", "eu", "bob", "counted twice")).rollout
    assert looked_at(cleared, {}).rollout.brakes == ()


def test_feed_that_died_about_a_region_brakes_it_until_somebody_measures_again():
    """The tow desk of one country is closed: the others go on, and the country does when the desk calls."""
    feed = a_signal(scope="eu", value=0.0)
    watched = stepped(a_rollout(plan=PLAN), SignalPosted(feed), NOW).rollout
    assert not looked_at(watched, {}, after(6 * HOUR_MS - 1)).rollout.brakes
    held = looked_at(watched, {}, after(6 * HOUR_MS)).rollout
    assert [(each.scope, each.kind, each.actor) for each in held.brakes] == [("eu", K.HELD, "gate")]
    assert "tow_rate is overdue" in held.brakes[0].reason
    again = stepped(held, SignalPosted(feed), after(7 * HOUR_MS)).rollout
    assert looked_at(again, {}, after(7 * HOUR_MS)).rollout.brakes == ()


# What the rest does.

GOOD = a_tally(succeeded=35, aged=((35, 0), (35, 0)))


def test_rest_of_the_region_goes_on_without_the_stratum_that_stands():
    """Its wave is neither held up by the missing exposures of the braked stratum, nor judged by its good ones."""
    rollout = a_rollout(plan=PLAN, brakes=(brake(K.HALTED, "eu/gen1"),))
    cells = {GEN1: a_tally(failed=3), GEN2: GOOD}
    event = judged(cells=cells, waiting={GEN1: 40, GEN2: 5, a_cell(cohort="general"): 100})
    assert stepped(rollout, event, after(2 * DAY_MS)).rollout.regions["eu"].wave == 1
    other = replace(rollout, brakes=(brake(K.HALTED, "eu/gen2"),))
    assert stepped(other, event, after(2 * DAY_MS)).rollout.regions["eu"].wave == 0


@pytest.mark.parametrize("scopes", [("eu",), ("eu/gen1", "eu/gen2")])
def test_region_in_which_nobody_moves_does_not_reach_its_next_wave(scopes):
    """A wave without any exposure that counts would be promoted on nothing."""
    rollout = a_rollout(plan=PLAN, brakes=tuple(brake(K.PAUSED, scope, actor="bob") for scope in scopes))
    cells = {GEN1: GOOD, GEN2: GOOD}
    waiting = {GEN1: 5, GEN2: 5}
    event, now = judged(cells=cells, waiting=waiting), after(2 * DAY_MS)
    assert stepped(rollout, event, now).rollout.regions["eu"].wave == 0
    assert "is paused since 2026-01-01T00:00:00Z by bob: a reason" in waiting_for(rollout, cells, waiting, "eu", now)


def test_rollout_does_not_complete_over_a_brake():
    """A halted stratum is unfinished business of a person, not a success."""
    done = {GEN1: a_tally(failed=3, aged=((3, 0), (3, 0))), GEN2: GOOD}
    now = after(20 * DAY_MS)
    for phase in (RegionPhase.ROLLING, RegionPhase.AGING, RegionPhase.HOLDOUT, RegionPhase.DONE):
        rollout = a_rollout(plan=replace(PLAN, holdout_share=0.1), wave=1, phase=phase, brakes=(brake(K.HALTED),))
        kept = stepped(rollout, judged(cells=done, waiting={GEN1: 37}), now).rollout
        assert (kept.status, kept.regions["eu"].phase) == (R.RUNNING, phase)
    resumed = replace(rollout, brakes=())
    assert stepped(resumed, judged(cells=done, waiting={}), now).rollout.status is R.COMPLETED


# Holds of a part that last.

OLD = a_tally(failed=1, succeeded=9, aged=((10, 0), (10, 0)))
YOUNG = a_tally(failed=1, succeeded=9, aged=((10, 0), (9, 0)))
LIVE = a_tally(failed=1, installing=9, aged=((10, 0), (10, 0)))
HELD_PART = judged(said(V.HOLD, rule="failures_posterior"), cells={GEN1: YOUNG, GEN2: YOUNG})


def part(tally, verdict=V.HOLD, rule="failures_posterior", worst=None) -> Judged:
    """A tick in which the gate says so of eu/gen1, whose counters are these; those of eu/gen2 are young."""
    return judged(said(verdict, rule=rule), worst=worst, cells={GEN1: tally, GEN2: YOUNG})


def test_hold_of_a_part_is_final_when_its_own_exposures_have_nothing_more_to_say():
    """As of the whole: what the others still have to say is not about this part."""
    held = stepped(a_rollout(plan=PLAN), HELD_PART).rollout
    now = after(DAY_MS)
    for tally in (YOUNG, LIVE):
        assert not stepped(held, part(tally), now).changed
    final = stepped(held, part(OLD), now)
    [brake_now] = final.rollout.brakes
    assert (final.kind, brake_now.kind, brake_now.final, brake_now.since) == ("parts_braked", K.HELD, True, LATER)
    assert "eu/gen1: the hold is final (all 10 exposures are past the last checkpoint)" in str(final.data["reason"])
    assert [each["final"] for each in final.data["brakes"]] == [True]
    assert final.rollout.status is R.RUNNING, "the rest goes on"
    for verdict in (V.HOLD, V.PROCEED):
        assert not stepped(final.rollout, part(OLD, verdict), now).changed, "late good news does not clear it"
    assert stepped(final.rollout, part(OLD, V.HALT), now).rollout.brakes[0].kind is K.HALTED
    resumed = stepped(final.rollout, ResumeRequested("bob", "two bench cars", "eu/gen1"), now)
    assert (resumed.rollout.brakes, resumed.rollout.waived) == ((), ("failures_posterior@eu/gen1",))
    assert resumed.data["reason"] == "two bench cars"


def test_hold_of_a_part_is_final_after_its_time():
    """Also where nothing was exposed, or a signal from outside holds it: a week of amber is red."""
    for rule in ("losses_posterior", "signal_tow_rate"):
        held = stepped(a_rollout(plan=PLAN), part(OLD, rule=rule)).rollout
        week = held.plan.gate.hold_final_ms
        early = stepped(held, part(OLD if rule.startswith("signal") else YOUNG, rule=rule), after(week - 1, LATER))
        assert not early.rollout.brakes[0].final, "whoever posted a signal may take it back"
        assert stepped(held, part(OLD, rule=rule), after(week, LATER)).rollout.brakes[0].final
        waiting = replace(held, regions={})
        assert next_due(waiting, LATER) == after(week, LATER)
        assert next_due(waiting, after(week, LATER)) is None


@pytest.mark.parametrize("status", [R.RUNNING, R.HELD, R.PAUSED])
def test_hold_of_a_part_becomes_final_whatever_the_whole_does(status):
    """Else it would clear by itself because somebody paused the rest."""
    held = replace(stepped(a_rollout(plan=PLAN), HELD_PART).rollout, status=status)
    whole = Verdict(V.HOLD, "failures_posterior", None, "all: as a test says", {}) if status is R.HELD else None
    assert stepped(held, part(OLD, worst=whole), after(DAY_MS)).rollout.brakes[0].final


def test_region_says_that_it_waits_for_a_person_where_only_a_stopped_part_is_left():
    """A rollout that can never end must not look as if it ran."""
    old = {GEN1: OLD, GEN2: GOOD}
    for last in (replace(brake(K.HELD), final=True), brake(K.HALTED)):
        rollout = a_rollout(plan=PLAN, wave=1, phase=RegionPhase.AGING, brakes=(last,))
        waits = waiting_for(rollout, old, {GEN1: 30}, "eu", after(20 * DAY_MS))
        assert "a person must resume eu/gen1, or abort the rollout" in waits
        assert ("will not clear by itself" in waits) == last.final
    held = a_rollout(plan=PLAN, wave=1, phase=RegionPhase.AGING, brakes=(brake(K.HELD),))
    assert "a person" not in waiting_for(held, old, {GEN1: 30}, "eu", after(20 * DAY_MS))


def test_part_is_held_in_the_step_in_which_the_whole_goes_on():
    """Between the two it would admit whoever calls."""
    held = a_rollout(plan=PLAN, status=R.HELD, held_since=NOW)
    answer = stepped(held, judged(said(V.HOLD)))
    assert (answer.rollout.status, [each.kind for each in answer.rollout.brakes]) == (R.RUNNING, [K.HELD])
    final = replace(held, hold_final=True)
    assert stepped(final, judged(said(V.HOLD))).rollout.brakes == ()


# Dark regions.


def of_region(kind: VerdictKind) -> Verdict:
    """What the gate says of eu by a signal."""
    return Verdict(kind, "signal_tow_rate", Stratum("eu", ""), "eu: tow_rate (9) > limit (5)", {})


def kinds(rollout) -> list:
    """Brakes on eu: how, and by whom."""
    return [(each.kind, each.actor) for each in rollout.brakes if each.scope == "eu"]


def test_region_held_by_a_signal_that_goes_dark_stands_still_for_both():
    """The signal is taken back in the middle of the outage: nobody may be exposed unseen."""
    held = stepped(a_rollout(plan=PLAN), judged(of_region(V.HOLD))).rollout
    assert kinds(held) == [(K.HELD, "gate")]
    dark = stepped(held, judged(of_region(V.HOLD), dark=["eu"])).rollout
    assert kinds(dark) == [(K.PAUSED, "evaluator")]
    cleared = stepped(dark, judged(dark=["eu"]))
    assert (cleared.changed, kinds(cleared.rollout)) == (False, [(K.PAUSED, "evaluator")])
    assert kinds(stepped(cleared.rollout, judged()).rollout) == []


@pytest.mark.parametrize("first", ["signal", "darkness"])
def test_dark_region_about_which_a_signal_stands_is_held_as_soon_as_it_is_light(first):
    """In the same step, whichever came first: between two ticks a hundred vehicles call."""
    rollout = a_rollout(plan=PLAN)
    if first == "signal":
        rollout = stepped(rollout, judged(of_region(V.HOLD))).rollout
    dark = stepped(rollout, judged(of_region(V.HOLD), dark=["eu"])).rollout
    assert kinds(dark) == [(K.PAUSED, "evaluator")]
    light = stepped(dark, judged(of_region(V.HOLD))).rollout
    assert (kinds(light), light.regions["eu"].dark_since) == ([(K.HELD, "gate")], None)


@pytest.mark.parametrize("stopped", [brake(K.HALTED, "eu"), replace(brake(K.HELD, "eu"), final=True)])
def test_who_answers_to_the_gate_has_said_nothing_of_the_darkness(stopped):
    """What only a person lets go stays while it is dark, and its resume leaves the darkness to stop the region."""
    rollout = a_rollout(plan=PLAN, brakes=(stopped,))
    dark = stepped(rollout, judged(dark=["eu"])).rollout
    assert kinds(dark) == [(stopped.kind, "gate")]
    resumed = stepped(dark, ResumeRequested("bob", "towed in a storm", "eu")).rollout
    assert kinds(resumed) == [(K.PAUSED, "evaluator")]
    again = stepped(resumed, ResumeRequested("bob", "and it is no outage", "eu")).rollout
    assert kinds(again) == []
    assert not stepped(again, judged(dark=["eu"])).changed, "who resumes what the darkness stopped is believed"
    light = stepped(dark, judged()).rollout
    assert kinds(stepped(light, ResumeRequested("bob", "towed in a storm", "eu")).rollout) == []


def test_dark_region_stands_still_and_goes_on_when_it_is_light_again():
    """A network outage is neither a hold nor a halt, and nobody has to be woken for its end."""
    dark = stepped(a_rollout(plan=PLAN), judged(dark=["eu"])).rollout
    assert dark.regions["eu"].dark_since == LATER
    assert dark.regions["us"].dark_since is None
    assert [(each.scope, each.kind, each.actor) for each in dark.brakes] == [("eu", K.PAUSED, "evaluator")]
    assert not stepped(dark, judged(dark=["eu"])).changed
    light = stepped(dark, judged()).rollout
    assert (light.brakes, light.regions["eu"].dark_since) == ((), None)
    assert light.status is R.RUNNING


def test_person_who_pauses_a_dark_region_keeps_it_paused():
    """Light again is not what that person waited for."""
    dark = stepped(a_rollout(plan=PLAN), judged(dark=["eu"])).rollout
    taken = stepped(dark, PauseRequested("bob", "the mast burns", "eu")).rollout
    assert [each.actor for each in taken.brakes] == ["bob"]
    light = stepped(taken, judged()).rollout
    assert [each.actor for each in light.brakes] == ["bob"]
    assert light.regions["eu"].dark_since is None


def test_person_who_resumes_a_dark_region_is_believed_until_it_was_light():
    """Otherwise the brake would be back within a second; the next outage is another one."""
    dark = stepped(a_rollout(plan=PLAN), judged(dark=["eu"])).rollout
    resumed = stepped(dark, ResumeRequested("bob", "the counters are wrong", "eu")).rollout
    still = stepped(resumed, judged(dark=["eu"]))
    assert not still.changed
    light = stepped(resumed, judged()).rollout
    again = stepped(light, judged(dark=["eu"])).rollout
    assert [each.scope for each in again.brakes] == ["eu"]


def test_stratum_halts_in_a_dark_region_too():
    """What was heard before the outage still counts."""
    dark = stepped(a_rollout(plan=PLAN), judged(said(V.HALT), dark=["eu"])).rollout
    assert [(each.scope, each.kind) for each in dark.brakes] == [("eu", K.PAUSED), ("eu/gen1", K.HALTED)]
    assert dark.brake_on(Stratum("eu", "gen1")).kind is K.HALTED
    assert dark.brake_on(Stratum("eu", "gen2")).kind is K.PAUSED
    assert dark.brake_on(Stratum("us", "gen1")) is None
