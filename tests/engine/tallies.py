"""Counters for properties: such as a store may count, and such as none ever should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Habit, HabitAge, Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import Brake, BrakeKind, Signal, SignalKind
from orchestrator.model.tally import AgeGroup, Tally
from tests.builders import HOUR_MS, NOW, a_cell, a_gate

OFTEN_6H = HabitAge(Habit.OFTEN, 6 * HOUR_MS)
DAILY_18H = HabitAge(Habit.DAILY, 18 * HOUR_MS)
HABIT_GATE = a_gate(habit_ages_ms={Habit.OFTEN: (OFTEN_6H.age_ms,), Habit.DAILY: (DAILY_18H.age_ms,)})
"""The default gate, which also looks early at who calls often or daily."""

CELLS = tuple(a_cell(region, hardware) for region in ("eu", "us") for hardware in ("gen1", "gen2"))
SCOPES = ("all", "eu", "us", "eu/gen1", "eu/gen2", "us/gen1")
AFTER = (
    AttemptState.PERMITTED,
    AttemptState.INSTALLING,
    AttemptState.SUCCEEDED,
    AttemptState.FAILED,
    AttemptState.ROLLED_BACK,
    AttemptState.TIMED_OUT,
)
BEFORE = (AttemptState.OFFERED, AttemptState.DOWNLOADED, AttemptState.FAILED, AttemptState.REJECTED)


@st.composite
def groups(draw: st.DrawFn, most: int) -> AgeGroup:
    """An age group of at most so many exposures."""
    exposed, controls = draw(st.integers(0, most)), draw(st.integers(0, 600))
    return AgeGroup(
        exposed=exposed,
        silent=draw(st.integers(0, exposed)),
        controls=controls,
        controls_silent=draw(st.integers(0, controls)),
    )


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    """Counts that do not contradict themselves."""
    after = {state: draw(st.integers(0, 60)) for state in AFTER}
    before = {state: draw(st.integers(0, 20)) for state in BEFORE}
    exposed = sum(after.values())
    bad = after[AttemptState.FAILED] + after[AttemptState.ROLLED_BACK]
    first = draw(groups(exposed))
    return Tally(
        before_permit=before,
        after_permit=after,
        age_groups=(first, draw(groups(first.exposed))),
        habit_groups={place: draw(groups(exposed)) for place in (OFTEN_6H, DAILY_18H)},
        grants=draw(groups(exposed + sum(before.values()))),
        diagnosed=draw(st.integers(0, min(5, exposed - bad))),
        safety=draw(st.integers(0, min(2, exposed))),
    )


cell_tallies = st.dictionaries(st.sampled_from(CELLS), tallies(), max_size=4)

signals = st.builds(
    Signal,
    name=st.sampled_from(["tow_rate", "dtc_u0100"]),
    kind=st.sampled_from(SignalKind),
    scope=st.sampled_from(SCOPES),
    value=st.floats(0, 10),
    limit=st.floats(0, 10),
    actor=st.just("tows"),
    reason=st.just("call centre"),
    at=st.just(NOW),
    measured_at=st.integers(NOW - 12 * HOUR_MS, NOW),
    good_for_ms=st.sampled_from([0, 6 * HOUR_MS]),
)

brakes = st.builds(
    Brake,
    scope=st.sampled_from(SCOPES[1:]),
    kind=st.sampled_from(BrakeKind),
    since=st.just(FleetTime(NOW)),
    actor=st.just("gate"),
    reason=st.just("weak evidence"),
)

RULES = (
    "failures_evalue",
    "failures_posterior",
    "silence_evalue_0",
    "silence_posterior_often_0",
    "losses_evalue",
    "safety_reports=1",
    "strata_halted=2",
)
waivers = st.builds("{}@{}".format, st.sampled_from(RULES), st.sampled_from(SCOPES))

NONSENSE = (-1, -1_000_000, 10**9, float("nan"), float("inf"), 0.5)
"""Counts that no store should count, or not beside the others."""


def _changing(name: str) -> Callable[[AgeGroup, Any], AgeGroup]:
    return lambda group, value: replace(group, **{name: value})


def spoilt(tally: Tally, value: Any) -> dict[str, Tally]:
    """The same counts with one of them replaced, for every one of them, by its name."""
    found: dict[str, Tally] = {}
    for state in tally.before_permit:
        found[f"before:{state}"] = replace(tally, before_permit={**tally.before_permit, state: value})
    for state in tally.after_permit:
        found[f"after:{state}"] = replace(tally, after_permit={**tally.after_permit, state: value})
    for name in ("exposed", "silent", "controls", "controls_silent"):
        change = _changing(name)
        for index, group in enumerate(tally.age_groups):
            changed = (*tally.age_groups[:index], change(group, value), *tally.age_groups[index + 1 :])
            found[f"age {index}:{name}"] = replace(tally, age_groups=changed)
        for place, group in tally.habit_groups.items():
            habits = {**tally.habit_groups, place: change(group, value)}
            found[f"habit {place.habit}:{name}"] = replace(tally, habit_groups=habits)
        if name in ("exposed", "silent"):
            found[f"grants:{name}"] = replace(tally, grants=change(tally.grants, value))
    found["diagnosed"] = replace(tally, diagnosed=value)
    found["safety"] = replace(tally, safety=value)
    return found


def spoilt_gates(gate: GateLimits, value: float) -> dict[str, GateLimits]:
    """The same limits with one of them replaced, for every one of them."""
    return {
        "failure_ratio_max": replace(gate, failure_ratio_max=value),
        "alpha": replace(gate, alpha=value),
        "silence_reference 0": replace(gate, silence_reference=(value, *gate.silence_reference[1:])),
        "silence_reference 1": replace(gate, silence_reference=(*gate.silence_reference[:-1], value)),
    }


def a_stratum(name: str) -> Stratum:
    """`eu/gen2` as a value; `eu` as a region."""
    region, _, hardware = name.partition("/")
    return Stratum(region=region, hardware=hardware)


def in_two_strata(tally: Tally, other: Tally) -> dict[Cell, Tally]:
    """One tally of eu/gen2 and one of eu/gen1."""
    return {a_cell(): tally, a_cell(hardware="gen1"): other}
