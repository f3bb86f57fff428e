"""Signals from outside: posted, replaced, taken back, and bounded."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest

from orchestrator.engine.progress import Illegal, SignalCleared, SignalPosted, Step, step
from orchestrator.engine.signals import SIGNALS_MAX
from orchestrator.model.rollout import SignalKind
from tests.builders import HOUR_MS, a_rollout, a_signal, after

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
    assert first.rollout.signals == (a_signal(value=6.0, at=LATER),)
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


def test_signal_is_taken_back_by_name_and_scope():
    """And one that never stood is a mistake worth telling."""
    rollout = posted(a_rollout(), a_signal(value=6.0)).rollout
    gone = step(rollout, SignalCleared("tow_rate", "", "bob", "counted twice"), LATER)
    assert isinstance(gone, Step)
    assert (gone.kind, gone.rollout.signals, gone.data["actor"]) == ("signal_cleared", (), "bob")
    wrong = step(rollout, SignalCleared("tow_rate", "eu", "bob", "x"), LATER)
    assert isinstance(wrong, Illegal)
    assert "tow_rate in all" in wrong.remedy
