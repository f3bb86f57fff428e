"""Figures of a study: what the runs of a cell say.

Owns the statistics; what was asked of them is the matter of `claims`, how they are shown that of `table`. Intervals of
means are normal (the runs of a cell are many), those of shares exact (Clopper and Pearson).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.stats import beta

from benchmarks.judge.cells import OUTRIDER, REFERENCE, Case
from benchmarks.judge.study import Result

Z_TWO_SIDED = 1.96
Z_ONE_SIDED = 1.645


@dataclass(frozen=True, slots=True)
class Figures:
    """One row of the table."""

    rule: str
    fleet: str
    limit: float
    failure_rate: float
    silent_share: float
    runs: int
    failed_mean: float
    """Vehicles that failed, or will, those in flight included."""
    failed_ci95: tuple[float, float] | None
    """None of a single run, which says nothing about others."""
    halted_share: float
    held_share: float
    """Holds that end up needing a person."""
    days_to_95: float | None
    """Mean of the runs that reach it; None when none does."""


@dataclass(frozen=True, slots=True)
class Paired:
    """Difference of harm between the engine and the reference on the same seeds."""

    case: Case
    runs: int
    reference_mean: float
    outrider_mean: float
    difference: float
    upper95: float
    """Upper 95 % bound of the mean difference."""


Study = Mapping[tuple[str, Case], Sequence[Result]]


def grouped(results: Iterable[Result]) -> Study:
    """Runs by rule and cell, in the order of their seeds."""
    found: defaultdict[tuple[str, Case], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda one: one.seed):
        found[result.rule, result.case].append(result)
    return found


def figures_of(rule: str, case: Case, runs: Sequence[Result]) -> Figures:
    """One row."""
    failed = np.array([one.failed for one in runs], dtype=float)
    mean, spread = float(failed.mean()), Z_TWO_SIDED * _standard_error(failed)
    days = [one.days_to_95 for one in runs if one.days_to_95 is not None]
    return Figures(
        rule=rule,
        fleet=case.fleet,
        limit=case.limit,
        failure_rate=case.failure_rate,
        silent_share=case.silent_share,
        runs=len(runs),
        failed_mean=mean,
        failed_ci95=(max(0.0, mean - spread), mean + spread) if len(runs) > 1 else None,
        halted_share=ended(runs, "halted") / len(runs),
        held_share=ended(runs, "held") / len(runs),
        days_to_95=float(np.mean(days)) if days else None,
    )


def paired(study: Study, case: Case) -> Paired | None:
    """The engine against the reference in one cell; None where one of them did not run."""
    ours = {one.seed: one.failed for one in study.get((OUTRIDER, case), ())}
    theirs = {one.seed: one.failed for one in study.get((REFERENCE, case), ())}
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    a, b = (np.array([of[seed] for seed in seeds], dtype=float) for of in (ours, theirs))
    upper = float((a - b).mean()) + Z_ONE_SIDED * _standard_error(a - b)
    return Paired(case, len(seeds), float(b.mean()), float(a.mean()), float((a - b).mean()), upper)


def ended(runs: Sequence[Result], ending: str) -> int:
    """How many runs ended so."""
    return sum(one.ending == ending for one in runs)


def share_upper(hits: int, trials: int) -> float:
    """Upper 95 % bound of a share, exact."""
    return 1.0 if hits >= trials else float(beta.ppf(0.95, hits + 1, trials - hits))


def _standard_error(values: np.typing.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else inf
