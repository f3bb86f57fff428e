"""Signals from outside: posted, replaced, taken back, and bounded."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from orchestrator.engine.progress import Illegal, SignalCleared, SignalPosted, Step, next_due, step
from orchestrator.engine.signals import SIGNALS_MAX
from orchestrator.model.rollout import SignalKind
from tests.builders import DAY_MS, HOUR_MS, MINUTE_MS, a_rollout, a_signal, after

LATER = after(HOUR_MS)


def posted(rollout, signal) -> Step:
    """A signal that is taken."""
    answer = step(rollout, SignalPosted(signal), LATER)
    assert isinstance(answer, Step), answer
    return answer


def test_signal_stands_and_the_newer_one_replaces_it():
    """One measure is one signal, whatever its value; other scopes are others."""
    first = posted(a_rollout(), a_signal(value=6.0))
    assert (first.kind, first.data["actor"]) == ("signal_posted", "tows")
    assert first.rollout.signals == (a_signal(value=6.0, at=LATER, measured_at=LATER, good_for_ms=6 * HOUR_MS),)
    assert first.rollout.actor == "alice", "who started the rollout stays"
    second = posted(first.rollout, a_signal(value=7.0)).rollout
    third = posted(second, a_signal(value=7.0, scope="eu")).rollout
    assert [(each.value, each.scope) for each in third.signals] == [(7.0, "all"), (7.0, "eu")]


@pytest.mark.parametrize(
    ("changes", "makes_a_step"),
    [
        ({}, False),
        ({"value": 4.9}, False),
        ({"value": 5.1}, True),
        ({"limit": 6.0}, True),
        ({"kind": SignalKind.SAFETY}, True),
        ({"reason": "again", "actor": "other"}, False),
    ],
)
def test_repetition_within_the_limit_makes_no_step(changes, makes_a_step):
    """Whoever measures once a minute must not raise the epoch once a minute: every grant would be stale."""
    rollout = posted(a_rollout(), a_signal()).rollout
    assert posted(rollout, a_signal(**changes)).changed == makes_a_step


def test_value_beyond_the_limit_is_kept_current():
    """At three in the morning it matters whether it is 5.1 or 50; the same number again says nothing new."""
    rollout = posted(a_rollout(), a_signal(value=5.1)).rollout
    assert posted(rollout, a_signal(value=50.0)).rollout.signals[0].value == 50.0
    assert not posted(rollout, a_signal(value=5.1)).changed


def test_scope_left_out_means_all():
    """As the wire says."""
    assert posted(a_rollout(), a_signal(scope="")).rollout.signals[0].scope == "all"


@pytest.mark.parametrize(
    "changes",
    [
        {"value": nan},
        {"value": inf},
        {"limit": nan},
        {"limit": -inf},
        {"scope": "mars"},
        {"scope": "eu/"},
        {"name": ""},
        {"name": "Tow rate"},
        {"name": "x" * 65},
    ],
)
def test_signal_that_nobody_can_judge_is_refused(changes):
    """It must not stand there and hold nothing."""
    answer = step(a_rollout(), SignalPosted(replace(a_signal(), **changes)), LATER)
    assert isinstance(answer, Illegal)
    assert answer.remedy


def test_number_of_signals_is_bounded_and_those_that_stand_can_still_change():
    """A rollout is one record that every worker reads twice a second."""
    rollout = a_rollout()
    for number in range(SIGNALS_MAX):
        rollout = posted(rollout, a_signal(f"rate_{number}")).rollout
    answer = step(rollout, SignalPosted(a_signal("one_more")), LATER)
    assert isinstance(answer, Illegal)
    assert f"{SIGNALS_MAX} signals, limit {SIGNALS_MAX}" in answer.message
    assert posted(rollout, a_signal("rate_3", value=9.0)).changed


WAIVED = ("failures_evalue@all", "safety_reports=2@all", "safety_reports=1@eu", "signal_tow_rate=7.5@all")


@pytest.mark.parametrize(
    ("signal", "left"),
    [
        (a_signal("airbag", kind=SignalKind.SAFETY, scope="eu"), [WAIVED[0], "safety_reports=1@all", WAIVED[3]]),
        (a_signal("airbag", kind=SignalKind.SAFETY), [WAIVED[0], "safety_reports=1@all", *WAIVED[2:]]),
        (a_signal("airbag", kind=SignalKind.SAFETY, scope="us"), [WAIVED[0], "safety_reports=1@all", *WAIVED[2:]]),
        (a_signal(value=7.5), list(WAIVED[:3])),
        (a_signal(value=7.5, scope="eu"), list(WAIVED)),
        (a_signal("calls", value=7.5), list(WAIVED)),
    ],
)
def test_who_accepted_a_signal_has_not_accepted_the_next_one(signal, left):
    """The waiver of what is taken back goes with it: else another report of the same number would pass unseen."""
    rollout = replace(posted(a_rollout(), signal).rollout, waived=WAIVED)
    gone = step(rollout, SignalCleared(signal.name, signal.scope, "bob", "counted twice"), LATER)
    assert isinstance(gone, Step)
    assert list(gone.rollout.waived) == left
    assert gone.data["waived"] == left
    other = SignalKind.WARNING if signal.kind is SignalKind.SAFETY else SignalKind.SAFETY
    turned = posted(rollout, replace(signal, kind=other)).rollout
    assert list(turned.waived) == left


def test_signal_is_taken_back_by_name_and_scope():
    """And one that never stood is a mistake worth telling."""
    rollout = posted(a_rollout(), a_signal(value=6.0)).rollout
    gone = step(rollout, SignalCleared("tow_rate", "", "bob", "counted twice"), LATER)
    assert isinstance(gone, Step)
    assert (gone.kind, gone.rollout.signals, gone.data["actor"]) == ("signal_cleared", (), "bob")
    wrong = step(rollout, SignalCleared("tow_rate", "eu", "bob", "x"), LATER)
    assert isinstance(wrong, Illegal)
    assert "tow_rate in all" in wrong.remedy


# How old a measurement may be.


@pytest.mark.parametrize(("later_ms", "makes_a_step"), [(89 * MINUTE_MS, False), (90 * MINUTE_MS, True)])
def test_a_fresh_measurement_that_says_the_same_is_written_down_each_quarter_of_its_time(later_ms, makes_a_step):
    """Else a feed that lives would be overdue one day, or each of its looks would make every grant stale."""
    rollout = posted(a_rollout(), a_signal(measured_at=LATER)).rollout
    answer = step(rollout, SignalPosted(a_signal(measured_at=after(later_ms, LATER))), after(later_ms, LATER))
    assert isinstance(answer, Step)
    assert answer.changed == makes_a_step
    if makes_a_step:
        assert answer.rollout.signals[0].measured_at == after(later_ms, LATER)
        assert answer.data["signal"]["measured_at"] == after(later_ms, LATER), "the ledger knows"


def test_how_long_it_is_good_is_what_was_said_last():
    """Whoever slows a probe down says so with its next measurement."""
    rollout = posted(a_rollout(), a_signal(good_for_ms=DAY_MS)).rollout
    assert rollout.signals[0].good_for_ms == DAY_MS
    assert posted(rollout, a_signal(good_for_ms=2 * DAY_MS)).rollout.signals[0].good_for_ms == 2 * DAY_MS


def test_a_clock_that_is_a_little_fast_does_not_make_a_value_good_for_longer():
    """Clocks differ by minutes, and nobody is to be turned away for that."""
    signal = posted(a_rollout(), a_signal(measured_at=after(4 * MINUTE_MS, LATER))).rollout.signals[0]
    assert signal.measured_at == LATER


@pytest.mark.parametrize(
    ("changes", "said", "remedy"),
    [
        ({"measured_at": after(6 * MINUTE_MS, LATER)}, "and it is 2026-01-01T01:00:00Z now", "clock"),
        ({"measured_at": after(-5 * HOUR_MS, LATER)}, "good for 5 h: it is", "fresh"),
        ({"measured_at": after(-1, LATER)}, "and what stands at 2026-01-01T01:00:00Z", "drop it"),
        ({"good_for_ms": MINUTE_MS}, "tow_rate is good for 1 min", "10 min to 30 d"),
        ({"good_for_ms": 31 * DAY_MS}, "tow_rate is good for 31 d", "10 min to 30 d"),
        ({"kind": SignalKind.SAFETY}, "a report of safety, good for 5 h", "stands until"),
    ],
)
def test_measurement_that_is_none_of_now_is_refused_with_the_remedy(changes, said, remedy):
    """A queue that is emptied late must not make an old number today's; the newer one stays."""
    stands = posted(a_rollout(), a_signal(measured_at=LATER)).rollout
    answer = step(stands, SignalPosted(a_signal(**{"good_for_ms": 5 * HOUR_MS, **changes})), LATER)
    assert isinstance(answer, Illegal)
    assert said in answer.message
    assert remedy in answer.remedy


def test_a_report_of_safety_is_taken_however_old_and_does_not_age():
    """It happened: nothing newer takes it back, and that it came late is no reason not to hear it."""
    stands = posted(a_rollout(), a_signal(measured_at=LATER)).rollout
    report = a_signal(kind=SignalKind.SAFETY, measured_at=after(-30 * DAY_MS, LATER))
    signal = posted(stands, report).rollout.signals[0]
    assert (signal.kind, signal.good_for_ms) == (SignalKind.SAFETY, 0)
    assert not signal.overdue(after(365 * DAY_MS))


def test_a_running_rollout_is_looked_at_when_a_measurement_grows_old():
    """Nobody posts anything then: only time does."""
    signal = a_signal(measured_at=LATER, good_for_ms=20 * MINUTE_MS)
    assert next_due(a_rollout(signals=(signal,)), LATER) == after(20 * MINUTE_MS, LATER)
