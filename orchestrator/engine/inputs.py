"""Inputs of a decision as JSON, for the journal, and back, to make the decision again.

Owns the form in which the ledger keeps counters, inventory, terms and verdicts beside a rollout's transition. Nothing
else is needed: `judged_again` makes the judgement from that record alone. A number that JSON cannot write (a limit that
is none, for example) is written as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from orchestrator.engine.gates import Judgement, judge_by, scope_name
from orchestrator.engine.gates.terms import Terms
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Habit, HabitAge
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import GateLimits
from orchestrator.model.rollout import Signal, SignalKind, Verdict
from orchestrator.model.tally import AgeGroup, CellTallies, Tally

_BEFORE_CONTROLS = 3
"""Parts of a counted cell before controls, habits and losses were counted."""
_HABIT_PARTS = (6, 8)
"""Parts of a counted habit: without exposures that are compared with nobody, and with them."""

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def written(judgement: Judgement, cells: CellTallies, waiting: Mapping[Cell, int]) -> dict[str, Json]:
    """Everything that a judged step is made from: verdicts, ceilings, terms, counters and waiting vehicles."""
    return {
        "permit_ceiling": judgement.permit_ceiling,
        "grant_ceiling": judgement.grant_ceiling,
        "verdicts": [_verdict(verdict) for verdict in judgement.verdicts],
        "terms": _terms(judgement.terms),
        "cells": [_cell(cell, tally) for cell, tally in sorted(cells.items())],
        "waiting": [[*_names(cell), count] for cell, count in sorted(waiting.items()) if count],
    }


def judged_again(data: Mapping[str, Json]) -> Judgement:
    """The judgement that `written` wrote, made anew from its counters and terms. Only tests call it:
    they hold the promise that whoever has the ledger can do so.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    return judge_by(cells_read(data), terms_read(data))


def cells_read(data: Mapping[str, Json]) -> dict[Cell, Tally]:
    """The counters that `written` wrote.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    return dict(_counted_read(_list(entry)) for entry in _list(data.get("cells")))


def waiting_read(data: Mapping[str, Json]) -> dict[Cell, int]:
    """The waiting vehicles that `written` wrote, of which a step is replayed. Only tests call it, as `judged_again`.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    return {_cell_read(_list(entry, 4)[:3]): _int(_list(entry, 4)[3]) for entry in _list(data.get("waiting"))}


def terms_read(data: Mapping[str, Json]) -> Terms:
    """The terms that `written` wrote.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    terms = _dict(data.get("terms"))
    return Terms(
        gate=_gate_read(_dict(terms.get("gate"))),
        blast_budget=_int(terms.get("blast_budget")),
        waived=_texts(terms.get("waived")),
        held=bool(terms.get("held")),
        held_scopes=_texts(terms.get("held_scopes")),
        halted_scopes=_texts(terms.get("halted_scopes")),
        signals=tuple(_signal_read(_dict(signal)) for signal in _list(terms.get("signals"))),
        # Ledgers keep decisions of builds whose signals had no age.
        now=FleetTime(_int(terms.get("now", 0))),
        strata=_int(terms.get("strata")),
        apart=_texts(terms.get("apart", [])),
    )


def _terms(terms: Terms) -> dict[str, Json]:
    return {
        "gate": _gate(terms.gate),
        "blast_budget": terms.blast_budget,
        "waived": [*terms.waived],
        "held": terms.held,
        "held_scopes": [*terms.held_scopes],
        "halted_scopes": [*terms.halted_scopes],
        "signals": [_signal(signal) for signal in terms.signals],
        "now": terms.now,
        "strata": terms.strata,
        "apart": [*terms.apart],
    }


def _gate(gate: GateLimits) -> dict[str, Json]:
    return {
        "failure_ratio_max": _number(gate.failure_ratio_max),
        "sample_min": gate.sample_min,
        "checkpoints_ms": [*gate.checkpoints_ms],
        "silence_reference": [_number(share) for share in gate.silence_reference],
        "alpha": _number(gate.alpha),
        "controls_per_exposure": gate.controls_per_exposure,
        "habit_ages_ms": {habit.value: [*ages] for habit, ages in gate.habit_ages_ms.items()},
        "stratum_sample_min": gate.stratum_sample_min,
        "hold_final_ms": gate.hold_final_ms,
        "safety_critical": gate.safety_critical,
    }


def _gate_read(data: Mapping[str, Json]) -> GateLimits:
    ages = _dict(data.get("habit_ages_ms"))
    return GateLimits(
        failure_ratio_max=_float(data.get("failure_ratio_max")),
        sample_min=_int(data.get("sample_min")),
        checkpoints_ms=_ints(data.get("checkpoints_ms")),
        silence_reference=tuple(_float(share) for share in _list(data.get("silence_reference"))),
        alpha=_float(data.get("alpha")),
        controls_per_exposure=_int(data.get("controls_per_exposure") or 0),
        habit_ages_ms={Habit(habit): _ints(several) for habit, several in ages.items()},
        stratum_sample_min=_int(data.get("stratum_sample_min")),
        hold_final_ms=_int(data.get("hold_final_ms")),
        safety_critical=bool(data.get("safety_critical")),
    )


def _signal(signal: Signal) -> dict[str, Json]:
    return {
        "name": signal.name,
        "kind": signal.kind.value,
        "scope": signal.scope,
        "value": _number(signal.value),
        "limit": _number(signal.limit),
        "actor": signal.actor,
        "reason": signal.reason,
        "at": signal.at,
        "measured_at": signal.measured_at,
        "good_for_ms": signal.good_for_ms,
    }


def _signal_read(data: Mapping[str, Json]) -> Signal:
    return Signal(
        name=str(data.get("name")),
        kind=SignalKind(str(data.get("kind"))),
        scope=str(data.get("scope")),
        value=_float(data.get("value")),
        limit=_float(data.get("limit")),
        actor=str(data.get("actor")),
        reason=str(data.get("reason")),
        at=FleetTime(_int(data.get("at"))),
        measured_at=FleetTime(_int(data.get("measured_at", 0))),
        good_for_ms=_int(data.get("good_for_ms", 0)),
    )


def _verdict(verdict: Verdict) -> Json:
    return {
        "kind": verdict.kind.value,
        "rule": verdict.rule,
        "scope": scope_name(verdict.scope),
        "message": verdict.message,
        "inputs": {name: _number(value) for name, value in verdict.inputs.items()},
    }


def _names(cell: Cell) -> list[Json]:
    return [cell.region, cell.hardware, cell.cohort]


def _cell(cell: Cell, tally: Tally) -> Json:
    states: list[Json] = []
    for exposed, counts in ((False, tally.before_permit), (True, tally.after_permit)):
        states.extend([exposed, state.value, count] for state, count in counts.items() if count)
    habits: list[Json] = [
        [place.habit.value, place.age_ms, *_group(group)] for place, group in sorted(tally.habit_groups.items())
    ]
    groups: list[Json] = [_group(group) for group in tally.age_groups]
    return [_names(cell), states, groups, habits, _group(tally.grants), tally.diagnosed, tally.safety]


def _group(group: AgeGroup) -> list[Json]:
    counts = [group.exposed, group.silent, group.controls, group.controls_silent]
    # Most plans and most waves leave none out.
    return [*counts, group.unpaired, group.unpaired_silent] if group.unpaired else [*counts]


def _cell_read(data: Json) -> Cell:
    region, hardware, cohort = (str(name) for name in _list(data, 3))
    return Cell(region=region, hardware=hardware, cohort=cohort)


def _counted_read(entry: list[Json]) -> tuple[Cell, Tally]:
    # Ledgers keep decisions of builds that counted states and age groups alone.
    none_of_these: list[Json] = [[], [0, 0], 0, 0]
    whole = entry + none_of_these if len(entry) == _BEFORE_CONTROLS else entry
    names, states, groups, habits, grants, diagnosed, safety = _list(whole, 7)
    counts: tuple[dict[AttemptState, int], dict[AttemptState, int]] = ({}, {})
    for item in _list(states):
        exposed, state, count = _list(item, 3)
        counts[bool(exposed)][AttemptState(str(state))] = _int(count)
    tally = Tally(
        before_permit=counts[False],
        after_permit=counts[True],
        age_groups=tuple(AgeGroup(*_ints(group)) for group in _list(groups)),
        habit_groups=dict(_habit_read(_list(item)) for item in _list(habits)),
        grants=AgeGroup(*_ints(grants)),
        diagnosed=_int(diagnosed),
        safety=_int(safety),
    )
    return _cell_read(names), tally


def _habit_read(item: list[Json]) -> tuple[HabitAge, AgeGroup]:
    habit, age_ms, *counts = _list([*item], len(item) if len(item) in _HABIT_PARTS else 6)
    return HabitAge(Habit(str(habit)), _int(age_ms)), AgeGroup(*_ints(counts))


def _number(value: float) -> Json:
    return value if isfinite(value) else repr(value)


def _float(data: Json) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float | str):
        raise _no(data, "a number")
    return float(data)


def _int(data: Json) -> int:
    if not isinstance(data, int):
        raise _no(data, "a count")
    return data


def _ints(data: Json) -> tuple[int, ...]:
    return tuple(_int(item) for item in _list(data))


def _texts(data: Json) -> tuple[str, ...]:
    return tuple(str(item) for item in _list(data))


def _dict(data: Json) -> dict[str, Json]:
    if not isinstance(data, dict):
        raise _no(data, "an object")
    return data


def _list(data: Json, length: int | None = None) -> list[Json]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise _no(data, "a list" if length is None else f"a list of {length}")
    return data


def _no(data: Json, wanted: str) -> ValueError:
    return ValueError(f"not the inputs of a decision: {str(data)[:80]} is not {wanted}")
