"""Figures of a study: what the runs of a cell say, and which claims they bear out.

Owns the statistics; how they are shown is the matter of `table`. Intervals of means are normal (the runs of a cell are
many), those of shares exact (Clopper and Pearson).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np
from scipy.stats import beta

from benchmarks.judge.study import BAD, GOOD, OUTRIDER, REFERENCE, VARIANT_FAILS, Case, Result
from orchestrator.rehearsal.fleets import VARIANT

Z_TWO_SIDED = 1.96
Z_ONE_SIDED = 1.645

HARM_EXCESS_MAX = 0.05
HALTED_MAX = 0.015
DAYS_EXCESS_MAX = 0.5
VARIANT_HARM_MAX = 3.0
HARM_HALVED = 0.5
DAYS_BEYOND = 16.0


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
    failed_ci95: tuple[float, float]
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


@dataclass(frozen=True, slots=True)
class Claim:
    """What was asked for, and what came of it."""

    text: str
    measured: str
    reached: bool


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
    spread = Z_TWO_SIDED * _standard_error(failed)
    days = [one.days_to_95 for one in runs if one.days_to_95 is not None]
    return Figures(
        rule=rule,
        fleet=case.fleet,
        limit=case.limit,
        failure_rate=case.failure_rate,
        silent_share=case.silent_share,
        runs=len(runs),
        failed_mean=float(failed.mean()),
        failed_ci95=(max(0.0, float(failed.mean()) - spread), float(failed.mean()) + spread),
        halted_share=_share(runs, "halted"),
        held_share=_share(runs, "held"),
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


def share_upper(hits: int, trials: int) -> float:
    """Upper 95 % bound of a share, exact."""
    return 1.0 if hits >= trials else float(beta.ppf(0.95, hits + 1, trials - hits))


def claims(study: Study) -> list[Claim]:
    """What was asked of the engine; only what its cells were run for."""
    found = [*_harm(study), *_good(study), *_variant(study), *_beyond(study)]
    return [claim for claim in found if claim is not None]


def _harm(study: Study) -> Iterable[Claim]:
    for rate, silent in BAD:
        pair = paired(study, Case("1.3", 0.01, rate, silent))
        if pair is not None:
            most = HARM_EXCESS_MAX * pair.reference_mean
            yield Claim(
                f"fleet 1.3, {_release(rate, silent)}: harm not worse than the reference",
                f"{pair.outrider_mean:.1f} against {pair.reference_mean:.1f}; difference at most {pair.upper95:+.1f}, "
                f"allowed {most:+.1f}",
                pair.upper95 <= most,
            )


def _good(study: Study) -> Iterable[Claim]:
    for rate, silent in GOOD:
        case = Case("1.3", 0.01, rate, silent)
        ours, theirs = study.get((OUTRIDER, case)), study.get((REFERENCE, case))
        if not ours or not theirs:
            continue
        what = f"fleet 1.3, good release, {_release(rate, silent)}"
        halted = sum(one.ending == "halted" for one in ours)
        upper = share_upper(halted, len(ours))
        measured = f"{halted} of {len(ours)}, upper bound {upper:.2%}"
        yield Claim(f"{what}: halted in under {HALTED_MAX:.1%}", measured, upper < HALTED_MAX)
        held, held_reference = _share(ours, "held"), _share(theirs, "held")
        measured = f"{held:.1%} against {held_reference:.1%}"
        yield Claim(f"{what}: held for a person no more often than the reference", measured, held <= held_reference)
        days, reference = (figures_of("", case, runs).days_to_95 for runs in (ours, theirs))
        if days is not None and reference is not None:
            text = f"{what}: 95 % done no later than the reference plus half a day"
            yield Claim(text, f"{days:.1f} d against {reference:.1f} d", days <= reference + DAYS_EXCESS_MAX)


def _variant(study: Study) -> Iterable[Claim]:
    for rate, silent in VARIANT_FAILS:
        runs = study.get((OUTRIDER, Case(VARIANT.name, 0.01, rate, silent)))
        if not runs:
            continue
        # The others fail at their own rate: what they add is taken off.
        mean = float(np.mean([one.failed - rate * one.exposed for one in runs]))
        if silent:
            text = "a variant of 0.5 % that always fails, silently: as few as its share of the first wave allows"
            yield Claim(text, f"{mean:.1f} vehicles of it", mean <= VARIANT_HARM_MAX + 5)
        else:
            text = f"a variant of 0.5 % that always fails, by word: at most {VARIANT_HARM_MAX:.0f} vehicles"
            yield Claim(text, f"{mean:.1f} vehicles of it", mean <= VARIANT_HARM_MAX)


def _beyond(study: Study) -> Iterable[Claim]:
    pairs = [paired(study, Case("habits", 0.01, rate, silent)) for rate, silent in BAD if silent == 1.0]
    known = [pair for pair in pairs if pair is not None]
    if not known:
        return
    told = ", ".join(f"{one.outrider_mean:.1f} against {one.reference_mean:.1f}" for one in known)
    halved = all(one.outrider_mean <= HARM_HALVED * one.reference_mean for one in known)
    yield Claim("fleet habits, all failures silent: half the reference's harm", told, halved)
    ours = study.get((OUTRIDER, Case("habits", 0.01, *GOOD[0])))
    days = figures_of("", Case("habits", 0.01, *GOOD[0]), ours).days_to_95 if ours else None
    same = all(one.outrider_mean <= one.reference_mean for one in known)
    text = f"or 95 % done in {DAYS_BEYOND:.0f} days there, at the same harm"
    measured = f"{days:.1f} d" if days is not None else "never"
    yield Claim(text, measured, (days or inf) <= DAYS_BEYOND and same)


def _release(rate: float, silent: float) -> str:
    return f"{rate:.1%} fail, {'all' if silent == 1.0 else f'{silent:.0%}'} silent"


def _share(runs: Sequence[Result], ending: str) -> float:
    return sum(one.ending == ending for one in runs) / len(runs)


def _standard_error(values: np.typing.NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else inf
