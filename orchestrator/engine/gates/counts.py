"""Counts that cannot be true: what a gate looks for before it judges.

Owns the question whether counters contradict themselves, cell by cell, as errors of opposite sign cancel in a sum.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.plan import GateLimits
from orchestrator.model.tally import AgeGroup, CellTallies, Tally


def contradiction(cells: CellTallies, gate: GateLimits) -> str:
    """What cannot be true of any cell; empty when all may be."""
    for cell, tally in cells.items():
        fault = fault_of(tally, gate)
        if fault:
            return f"{cell.stratum} {cell.cohort}: {fault}"
    return ""


def fault_of(tally: Tally, gate: GateLimits) -> str:
    """What cannot be true of these counts; empty when they may be."""
    return next(_faults(tally, gate), "")


def _faults(tally: Tally, gate: GateLimits) -> Iterator[str]:
    for states in (tally.before_permit, tally.after_permit):
        for state, count in states.items():
            if not _is_count(count):
                yield f"{state} ({count}) is no count"
    for name, count in (("diagnosed", tally.diagnosed), ("safety reports", tally.safety)):
        if not (_is_count(count) and count <= tally.exposed):
            yield f"{name} ({count}) not within 0 and the exposures ({tally.exposed})"
    if tally.failed > tally.exposed:
        yield f"failed and diagnosed ({tally.failed}) > exposures ({tally.exposed})"
    if len(tally.age_groups) > len(gate.checkpoints_ms):
        yield f"age groups ({len(tally.age_groups)}) > checkpoints ({len(gate.checkpoints_ms)})"
    older = tally.exposed
    for index, group in enumerate(tally.age_groups):
        yield from _of_group(f"at checkpoint {index}", group, older)
        older = group.exposed
    for place, group in tally.habit_groups.items():
        yield from _of_group(f"of habit {place.habit} at {place.age_ms} ms", group, tally.exposed)
    yield from _of_group("without a permit at checkpoint 0", tally.grants, tally.granted)


def _of_group(where: str, group: AgeGroup, most: int) -> Iterator[str]:
    if not (_is_count(group.exposed) and group.exposed <= most):
        yield f"reached {where} ({group.exposed}) not within 0 and those before it ({most})"
    elif not (_is_count(group.silent) and group.silent <= group.exposed):
        yield f"silent {where} ({group.silent}) not within 0 and those that reached it ({group.exposed})"
    elif not (_is_count(group.unpaired) and group.unpaired <= group.exposed):
        yield f"unpaired {where} ({group.unpaired}) not within 0 and those that reached it ({group.exposed})"
    elif not (_is_count(group.unpaired_silent) and 0 <= group.paired_silent <= group.paired):
        yield f"silent unpaired {where} ({group.unpaired_silent}) of {group.unpaired} leave too many for the paired"
    elif not _is_count(group.controls):
        yield f"controls {where} ({group.controls}) is no count"
    elif not (_is_count(group.controls_silent) and group.controls_silent <= group.controls):
        yield f"silent controls {where} ({group.controls_silent}) not within 0 and the controls ({group.controls})"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 0
