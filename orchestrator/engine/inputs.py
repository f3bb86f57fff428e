"""Inputs of a decision as JSON, for the journal, and back, to make the decision again.

Owns the form in which the ledger keeps counters, inventory and verdicts beside a rollout's transition. Whoever replays
takes the plan from the rollout and the rest from here.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.engine.gates import Judgement, scope_name
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.rollout import Verdict
from orchestrator.model.tally import AgeGroup, CellTallies, Tally

Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


def written(judgement: Judgement, cells: CellTallies, waiting: Mapping[Cell, int]) -> dict[str, Json]:
    """Everything that a judged step is made from: verdicts, permit ceiling, counters and waiting vehicles."""
    return {
        "permit_ceiling": judgement.permit_ceiling,
        "verdicts": [_verdict(verdict) for verdict in judgement.verdicts],
        "cells": [_cell(cell, tally) for cell, tally in sorted(cells.items())],
        "waiting": [[*_names(cell), count] for cell, count in sorted(waiting.items()) if count],
    }


def cells_read(data: Mapping[str, Json]) -> dict[Cell, Tally]:
    """The counters that `written` wrote.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    return {_cell_read(_list(entry, 3)[0]): _tally_read(_list(entry, 3)) for entry in _list(data.get("cells"))}


def waiting_read(data: Mapping[str, Json]) -> dict[Cell, int]:
    """The waiting vehicles that `written` wrote.

    Raises:
        ValueError: they are not there, or not in that form.
    """
    return {_cell_read(_list(entry, 4)[:3]): _int(_list(entry, 4)[3]) for entry in _list(data.get("waiting"))}


def _verdict(verdict: Verdict) -> Json:
    return {
        "kind": verdict.kind.value,
        "rule": verdict.rule,
        "scope": scope_name(verdict.scope),
        "message": verdict.message,
        "inputs": dict(verdict.inputs),
    }


def _names(cell: Cell) -> list[Json]:
    return [cell.region, cell.hardware, cell.cohort]


def _cell(cell: Cell, tally: Tally) -> Json:
    states: list[Json] = []
    for exposed, counts in ((False, tally.before_permit), (True, tally.after_permit)):
        states.extend([exposed, state.value, count] for state, count in counts.items() if count)
    return [_names(cell), states, [[group.exposed, group.silent] for group in tally.age_groups]]


def _cell_read(data: Json) -> Cell:
    region, hardware, cohort = (str(name) for name in _list(data, 3))
    return Cell(region=region, hardware=hardware, cohort=cohort)


def _tally_read(entry: list[Json]) -> Tally:
    counts: tuple[dict[AttemptState, int], dict[AttemptState, int]] = ({}, {})
    for item in _list(entry[1]):
        exposed, state, count = _list(item, 3)
        counts[bool(exposed)][AttemptState(str(state))] = _int(count)
    groups = tuple(AgeGroup(*(_int(count) for count in _list(group, 2))) for group in _list(entry[2]))
    return Tally(before_permit=counts[False], after_permit=counts[True], age_groups=groups)


def _list(data: Json, length: int | None = None) -> list[Json]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        msg = f"not the inputs of a decision: {str(data)[:80]}"
        raise ValueError(msg)
    return data


def _int(data: Json) -> int:
    if not isinstance(data, int):
        msg = f"not the inputs of a decision: {str(data)[:80]} is no count"
        raise ValueError(msg)
    return data
