"""Counter fields and what they add up to: how both stores name a count, and how they sum counts into tallies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from orchestrator.model.attempt import Attempt, AttemptState
from orchestrator.model.fleet import Cell, Habit, HabitAge
from orchestrator.model.tally import AgeGroup, CellTallies, Tally
from orchestrator.store.watched import Watched

Counters = Mapping[str, int]
"""Counts of one rollout by field, `<region>|<hardware>|<cohort>|` and:

- `b|<state>`, `p|<state>`: attempts before or after their permit;
- `<a, s, k, l, u or v><i>`: exposures aged and silent, controls aged and silent, and of the exposures those that are
  in no trial, aged and silent, at the i-th checkpoint;
- `h|<habit>|<age in ms>|<a, s, k, l, u or v>`: the same at an age of a habit;
- `g|<a or s>`: grants aged and silent;
- `f|diagnosed`, `f|safety`: exposures that are not well, or that reported a failure of the safety class.
"""

AGED, SILENT, CONTROLS, CONTROLS_SILENT, UNPAIRED, UNPAIRED_SILENT = "a", "s", "k", "l", "u", "v"
_WHATS = (AGED, SILENT, CONTROLS, CONTROLS_SILENT, UNPAIRED, UNPAIRED_SILENT)
_REMEMBERED = 4096
"""Most fields whose meaning is kept: of all strata together there are some hundreds."""
FAILED_STATES = (AttemptState.FAILED, AttemptState.ROLLED_BACK)
"""Explicit failures: who is in one of them is not counted as diagnosed too."""


def checkpoint_field(cell: Cell, what: str, checkpoint: int) -> str:
    """Where something is counted that reached a checkpoint."""
    return f"{_prefix(cell)}{what}{checkpoint}"


def habit_field(cell: Cell, what: str, age: HabitAge) -> str:
    """Where something is counted that reached an age of its habit."""
    return f"{_prefix(cell)}h|{age.habit.value}|{age.age_ms}|{what}"


def grant_field(cell: Cell, what: str) -> str:
    """Where a grant is counted that reached the first checkpoint."""
    return f"{_prefix(cell)}g|{what}"


def standing_fields(attempt: Attempt) -> Iterator[str]:
    """Where an attempt is counted by what it is now: its state, `p` once it has a permit, and how it fared."""
    prefix = _prefix(attempt.cell)
    yield f"{prefix}{'p' if attempt.exposed else 'b'}|{attempt.state.value}"
    if attempt.diagnosed and attempt.state not in FAILED_STATES:
        yield f"{prefix}f|diagnosed"
    if attempt.safety:
        yield f"{prefix}f|safety"


def aged_counts(attempt: Attempt, silent: bool) -> Iterator[tuple[str, int]]:
    """What an exposure is counted as at an age, and by how much."""
    yield AGED, 1
    yield SILENT, int(silent)
    if not attempt.paired:
        yield UNPAIRED, 1
        yield UNPAIRED_SILENT, int(silent)


def _prefix(cell: Cell) -> str:
    return f"{cell.region}|{cell.hardware}|{cell.cohort}|"


def count_records(attempts: Iterable[Attempt], watched: Iterable[Watched]) -> dict[str, int]:
    """The counters that the records of one rollout's attempts and controls amount to."""
    counters: Counter[str] = Counter()
    for attempt in attempts:
        counters.update(standing_fields(attempt))
        _count_ages(counters, attempt, (AGED, SILENT), attempt.exposed)
        if not attempt.paired:
            _count_ages(counters, attempt, (UNPAIRED, UNPAIRED_SILENT), False)
        if attempt.grant_aged:
            counters[grant_field(attempt.cell, AGED)] += 1
            counters[grant_field(attempt.cell, SILENT)] += attempt.grant_silent
    for control in watched:
        _count_ages(counters, control, (CONTROLS, CONTROLS_SILENT), False)
    return dict(counters)


def _count_ages(counters: Counter[str], record: Attempt | Watched, names: tuple[str, str], exposed: bool) -> None:
    """What a record's ages amount to. An exposure has all its age groups from the first on, empty ones included."""
    for what, flags, early in zip(
        names, (record.aged, record.silent), (record.habit_aged, record.habit_silent), strict=True
    ):
        for index, flag in enumerate(flags):
            if exposed or flag:
                counters[checkpoint_field(record.cell, what, index)] += flag
        for age_ms, flag in zip(record.habit_ages_ms, early, strict=False):
            counters[habit_field(record.cell, what, HabitAge(record.habit, age_ms))] += flag


def add(parts: Iterable[Counters]) -> dict[str, int]:
    """The sum of counters, for example over shards."""
    summed: dict[str, int] = {}
    for part in parts:
        for field, count in part.items():
            summed[field] = summed.get(field, 0) + count
    return summed


def tallies(counters: Counters) -> CellTallies:
    """Counters as tallies by cell.

    What counts zero is left out, so that equal counts make equal tallies; but a cell has all its age groups from its
    first exposure on, empty ones included.
    """
    cells: dict[str, dict[str, int]] = {}
    for field, count in counters.items():
        end = field.index("|", field.index("|", field.index("|") + 1) + 1)
        rest = field[end + 1 :]
        if count or "|" not in rest:
            cells.setdefault(field[:end], {})[rest] = count
    return dict(sorted((_cell(name), _tally(counts)) for name, counts in cells.items()))


def _cell(name: str) -> Cell:
    region, hardware, cohort = name.split("|")
    return Cell(region=region, hardware=hardware, cohort=cohort)


def _tally(counts: Mapping[str, int]) -> Tally:
    before: dict[AttemptState, int] = {}
    after: dict[AttemptState, int] = {}
    ages: set[HabitAge] = set()
    checkpoints = 0
    for field, count in counts.items():
        meaning = _meaning(field)
        if isinstance(meaning, int):
            checkpoints = max(checkpoints, meaning + 1)
        elif isinstance(meaning, AttemptState):
            (after if field[0] == "p" else before)[meaning] = count
        elif meaning is not None:
            ages.add(meaning)
    return Tally(
        before_permit=before,
        after_permit=after,
        age_groups=tuple(_group(counts, "", str(index)) for index in range(checkpoints)),
        habit_groups={age: _group(counts, f"h|{age.habit.value}|{age.age_ms}|", "") for age in sorted(ages)},
        grants=AgeGroup(exposed=counts.get("g|a", 0), silent=counts.get("g|s", 0)),
        diagnosed=counts.get("f|diagnosed", 0),
        safety=counts.get("f|safety", 0),
    )


@lru_cache(maxsize=_REMEMBERED)
def _meaning(field: str) -> int | AttemptState | HabitAge | None:
    """What is counted by a field without its cell: a checkpoint, a state, an age of a habit; None: neither."""
    parts = field.split("|")
    if len(parts) == 1:
        return int(field[1:])
    if parts[0] in ("b", "p"):
        return AttemptState(parts[1])
    return HabitAge(Habit(parts[1]), int(parts[2])) if parts[0] == "h" else None


def _group(counts: Mapping[str, int], before: str, after: str) -> AgeGroup:
    # In the order of the fields of an age group.
    return AgeGroup(*(counts.get(f"{before}{what}{after}", 0) for what in _WHATS))
