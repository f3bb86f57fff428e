"""A rollout as operators see it: nothing that stands still, is silent or waits for a person is lost on the way."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from outrider.v1 import rollout_pb2

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Habit, HabitAge
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Purpose
from orchestrator.model.rollout import (
    Approval,
    Brake,
    BrakeKind,
    Opening,
    Rollout,
    RolloutStatus,
    Signal,
    SignalKind,
    Verdict,
    VerdictKind,
)
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.rpc import convert
from orchestrator.service.errors import InvalidInputError
from orchestrator.service.rollout_views import view_of
from tests.builders import DAY_MS, HOUR_MS, NOW, a_cell, a_plan, a_rollout, a_tally, after

EU = a_cell("eu")
SIGNAL = Signal("tow_rate", SignalKind.SAFETY, "eu/gen2", 2.5, 1.0, "sam", "from the call centre", after(HOUR_MS))


def sent(rollout: Rollout, tally: Tally | None = None, now: FleetTime = after(2 * HOUR_MS)) -> rollout_pb2.Rollout:
    """The message about a rollout whose only cell has these counts."""
    return convert.rollout(view_of(rollout, {} if tally is None else {EU: tally}, {}, now))


def a_stop(scope: str, kind: BrakeKind, verdict: Verdict | None = None) -> Brake:
    return Brake(scope, kind, after(HOUR_MS), "gate" if verdict else "ann", "because", verdict)


def test_each_part_that_stands_still_is_told_with_who_why_and_since_when() -> None:
    """Whoever is woken asks exactly that."""
    rollout = a_rollout(brakes=(a_stop("eu", BrakeKind.PAUSED), a_stop("us/gen2", BrakeKind.HALTED)))
    first, second = sent(rollout).brakes
    assert (first.scope, first.kind, first.actor, first.reason) == (
        "eu",
        rollout_pb2.BRAKE_KIND_PAUSED,
        "ann",
        "because",
    )
    assert first.since_time.ToMilliseconds() == after(HOUR_MS)
    assert (second.scope, second.kind) == ("us/gen2", rollout_pb2.BRAKE_KIND_HALTED)


def test_strata_that_are_judged_together_are_named():
    """Whoever scripts on it must not have to know how they are chosen."""
    cells = [a_cell(hardware=f"h{number}") for number in range(3)]
    view = view_of(a_rollout(apart=("eu/h1",)), dict.fromkeys(cells, Tally()), {}, NOW)
    assert list(convert.rollout(view).judged_together) == ["eu/h0", "eu/h2"]
    assert list(sent(a_rollout()).judged_together) == []


def test_signals_come_out_as_they_went_in() -> None:
    """A limit that is lost would make every value look fine."""
    [signal] = sent(a_rollout(signals=(SIGNAL,))).signals
    assert (signal.signal, signal.kind, signal.scope) == ("tow_rate", rollout_pb2.SIGNAL_KIND_SAFETY, "eu/gen2")
    assert (signal.value, signal.limit, signal.actor, signal.reason) == (2.5, 1.0, "sam", "from the call centre")
    assert signal.create_time.ToMilliseconds() == after(HOUR_MS)
    assert not signal.HasField("good_for")
    assert not signal.overdue


def test_signal_tells_how_old_it_is_and_whether_it_is_good_no_more() -> None:
    """Who looks at three in the morning must not take yesterday's number for today's."""
    aging = replace(SIGNAL, measured_at=after(HOUR_MS // 2), good_for_ms=2 * HOUR_MS)
    for passed_ms, overdue in ((2 * HOUR_MS, False), (3 * HOUR_MS, True)):
        [signal] = sent(a_rollout(signals=(aging,)), now=after(passed_ms)).signals
        assert signal.measure_time.ToMilliseconds() == after(HOUR_MS // 2)
        assert (signal.good_for.ToMilliseconds(), signal.overdue) == (2 * HOUR_MS, overdue)


@pytest.mark.parametrize("field", ["measure_time", "good_for"])
def test_age_of_a_signal_that_is_none_is_refused(field: str) -> None:
    """A clock that says 1970 must be mended, and must not become the usual age in silence."""
    value = rollout_pb2.Signal(signal="tow_rate", kind=rollout_pb2.SIGNAL_KIND_WARNING)
    for seconds, nanos in ((0, 0), (2**62, 0), (-1, 0), (1, 10**9), (1, -1)):
        getattr(value, field).seconds, getattr(value, field).nanos = seconds, nanos
        with pytest.raises(InvalidInputError, match=f"signal.{field}"):
            convert.signal_in(value, actor="ann", reason="a probe")
    getattr(value, field).FromMilliseconds(90_000)
    taken = convert.signal_in(value, actor="ann", reason="a probe")
    assert (taken.measured_at, taken.good_for_ms) in ((90_000, 0), (0, 90_000))


def test_rollout_says_what_it_waits_for_and_what_it_takes_the_place_of() -> None:
    """A draft that nobody knows to be one is waited for in vain."""
    plan = a_plan(purpose=Purpose.SECURITY, priority=7, approvals=2, supersedes="winter")
    approvals = (Approval("", "", "bob", "read it", NOW),)
    told = sent(a_rollout(plan=plan, status=RolloutStatus.DRAFT, approvals=approvals, release_sha256="ab" * 32))
    assert told.status == rollout_pb2.ROLLOUT_STATUS_DRAFT
    assert (told.purpose, told.priority, told.approvals_wanted) == ("security", 7, 2)
    assert (told.supersedes, told.release_sha256) == ("rollouts/winter", "ab" * 32)
    assert [(given.wave, given.actor) for given in told.approvals] == [("", "bob")]
    held = sent(a_rollout(status=RolloutStatus.HELD, hold_final=True))
    assert held.hold_final
    parts = (a_stop("eu", BrakeKind.HELD), replace(a_stop("us", BrakeKind.HELD), final=True))
    assert [each.final for each in sent(a_rollout(brakes=parts)).brakes] == [False, True]
    assert sent(a_rollout()).supersedes == ""


def test_losses_before_the_permit_are_told_apart() -> None:
    """A payload that crashes whoever downloads it never gets as far as an exposure."""
    before = {AttemptState.FAILED: 3, AttemptState.REJECTED: 1, AttemptState.DOWNLOADING: 6}
    tally = replace(a_tally(succeeded=20), before_permit=before, grants=AgeGroup(exposed=24, silent=5))
    [cell] = sent(a_rollout(), tally).cells
    assert (cell.failed_before_permit, cell.grants.exposed, cell.grants.silent) == (4, 24, 5)
    assert cell.grants.age.ToMilliseconds() == DAY_MS
    assert sum(cell.states.values()) == 30, "granted in all"


def test_controls_stand_beside_exposures_at_every_age() -> None:
    """Silence alone says nothing: 4 of 60 are many or few by what the controls are."""
    group = AgeGroup(exposed=60, silent=4, controls=61, controls_silent=3, unpaired=12, unpaired_silent=2)
    early = AgeGroup(exposed=50, silent=2, controls=40, controls_silent=1)
    tally = replace(
        a_tally(succeeded=60), age_groups=(group,), habit_groups={HabitAge(Habit.OFTEN, 6 * HOUR_MS): early}
    )
    [cell] = sent(a_rollout(), tally).cells
    [pooled], [habit] = cell.age_groups, cell.habit_groups
    assert (pooled.exposed, pooled.silent, pooled.controls, pooled.controls_silent) == (60, 4, 61, 3)
    assert (pooled.unpaired, pooled.unpaired_silent) == (12, 2)
    assert pooled.age.ToMilliseconds() == DAY_MS
    assert (habit.habit, habit.group.age.ToMilliseconds()) == ("often", 6 * HOUR_MS)
    assert (habit.group.exposed, habit.group.silent, habit.group.controls, habit.group.controls_silent) == (
        50,
        2,
        40,
        1,
    )
    assert {field.name for field in fields(AgeGroup)} | {"age"} == set(rollout_pb2.AgeGroup.DESCRIPTOR.fields_by_name)


def test_harm_after_success_and_reports_of_safety_are_counted_apart() -> None:
    """Both look like success by the manifest."""
    [cell] = sent(a_rollout(), replace(a_tally(succeeded=20), diagnosed=2, safety=1)).cells
    assert (cell.diagnosed, cell.safety, cell.failed) == (2, 1, 2)


def test_a_quota_is_told_where_there_is_one_and_absent_elsewhere() -> None:
    """0 admits nobody, absent admits everybody: they must not look alike."""
    rollout = a_rollout()
    assert not sent(rollout, Tally()).cells[0].HasField("quota")
    opened = replace(rollout.regions["eu"], openings={"gen2/canary": Opening(quota=0, share=0.3)})
    [cell] = sent(replace(rollout, regions={"eu": opened}), Tally()).cells
    assert cell.HasField("quota")
    assert cell.quota == 0


def test_a_dark_region_is_told_and_others_are_not() -> None:
    """Its vehicles are not silent because of the release."""
    rollout = a_rollout()
    dark = replace(rollout.regions["eu"], dark_since=FleetTime(NOW + 5))
    eu, us = sent(replace(rollout, regions={**rollout.regions, "eu": dark})).regions
    assert eu.dark_since_time.ToMilliseconds() == NOW + 5
    assert not us.HasField("dark_since_time")


def test_every_scope_has_its_verdict_and_a_stopped_one_the_verdict_that_stopped_it() -> None:
    """The counters of a stopped stratum may look better by now; it stands still by what was said then."""
    cells = {EU: a_tally(succeeded=20), a_cell("us"): a_tally(succeeded=20)}
    whole, eu, us = convert.rollout(view_of(a_rollout(), cells, {}, NOW)).gate.scopes
    assert (whole.scope, eu.scope, us.scope) == ("all", "eu/gen2", "us/gen2")
    assert {whole.verdict, eu.verdict, us.verdict} == {rollout_pb2.VERDICT_KIND_PROCEED}
    said = Verdict(VerdictKind.HALT, "failures_evalue", EU.stratum, "eu/gen2: 5 of 20 exposed failed", {})
    halted = a_rollout(brakes=(a_stop("eu/gen2", BrakeKind.HALTED, said),))
    whole, eu, us = convert.rollout(view_of(halted, cells, {}, NOW)).gate.scopes
    assert {whole.verdict, us.verdict} == {rollout_pb2.VERDICT_KIND_PROCEED}
    assert (eu.verdict, eu.rule) == (rollout_pb2.VERDICT_KIND_HALT, "failures_evalue")
    assert eu.message == "eu/gen2: 5 of 20 exposed failed"
