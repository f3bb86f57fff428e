"""Counter fields and what they add up to: how both stores name a count, and how they sum counts into tallies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.model.attempt import Attempt, AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.tally import AgeGroup, CellTallies, Tally

Counters = Mapping[str, int]
"""Counts of one rollout by field: `<region>|<hardware>|<cohort>|<b or p>|<state>`, `...|a<checkpoint>`,
`...|s<checkpoint>`.
"""


def state_field(attempt: Attempt) -> str:
    """Where an attempt is counted by its state; `p` once it has a permit."""
    return f"{_cell_prefix(attempt.cell)}{'p' if attempt.exposed else 'b'}|{attempt.state.value}"


def aged_field(cell: Cell, checkpoint: int) -> str:
    """Where an exposure is counted that reached a checkpoint."""
    return f"{_cell_prefix(cell)}a{checkpoint}"


def silent_field(cell: Cell, checkpoint: int) -> str:
    """Where an exposure is counted that was silent at a checkpoint."""
    return f"{_cell_prefix(cell)}s{checkpoint}"


def _cell_prefix(cell: Cell) -> str:
    return f"{cell.region}|{cell.hardware}|{cell.cohort}|"


def count_attempts(attempts: Iterable[Attempt]) -> dict[str, int]:
    """The counters that the records of one rollout's attempts amount to."""
    counters: dict[str, int] = {}
    for attempt in attempts:
        field = state_field(attempt)
        counters[field] = counters.get(field, 0) + 1
        if attempt.exposed:
            for index, (aged, silent) in enumerate(zip(attempt.aged, attempt.silent, strict=True)):
                for field, flag in (
                    (aged_field(attempt.cell, index), aged),
                    (silent_field(attempt.cell, index), silent),
                ):
                    counters[field] = counters.get(field, 0) + flag
    return counters


def add(parts: Iterable[Counters]) -> dict[str, int]:
    """The sum of counters, for example over shards."""
    summed: dict[str, int] = {}
    for part in parts:
        for field, count in part.items():
            summed[field] = summed.get(field, 0) + count
    return summed


def tallies(counters: Counters) -> CellTallies:
    """Counters as tallies by cell.

    States that count zero are left out, so that equal counts make equal tallies. A cell has all its age groups from its
    first exposure on, empty ones included.
    """
    cells: dict[Cell, dict[str, int]] = {}
    for field, count in counters.items():
        region, hardware, cohort, rest = field.split("|", 3)
        if count or "|" not in rest:
            cells.setdefault(Cell(region=region, hardware=hardware, cohort=cohort), {})[rest] = count
    return {cell: _tally(counts) for cell, counts in sorted(cells.items())}


def _tally(counts: Mapping[str, int]) -> Tally:
    before: dict[AttemptState, int] = {}
    after: dict[AttemptState, int] = {}
    for field, count in counts.items():
        kind, bar, state = field.partition("|")
        if bar:
            (after if kind == "p" else before)[AttemptState(state)] = count
    checkpoints = max((int(field[1:]) + 1 for field in counts if "|" not in field), default=0)
    groups = tuple(
        AgeGroup(exposed=counts.get(f"a{index}", 0), silent=counts.get(f"s{index}", 0)) for index in range(checkpoints)
    )
    return Tally(before_permit=before, after_permit=after, age_groups=groups)
