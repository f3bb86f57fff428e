"""Claims: what was asked of the engine, and what a study says of it.

Owns the limits that were asked for and the words. Whether a claim holds is said of the runs that there are: the bound
that stands beside it says what so many runs can tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.judge.cells import (
    BAD,
    COHORTS,
    GOOD,
    HELD_OUT,
    LIMIT,
    OTHER_PLANS,
    OUTRIDER,
    PERFECT,
    REFERENCE,
    SILENT_BAD,
    VARIANT_FAILS,
    Case,
)
from benchmarks.judge.figures import Study, ended, figures_of, paired, share_upper
from benchmarks.judge.plans import variant_places
from benchmarks.judge.study import Result
from orchestrator.rehearsal.fleets import VARIANT

HARM_EXCESS_MAX = 0.05
HALTED_MAX = 0.015
PERFECT_HELD_MAX = 0.01
DAYS_EXCESS_MAX = 0.5
VARIANT_HARM_MAX = 3.0
HARM_HALVED = 0.5
DAYS_BEYOND = 16.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What was asked for, and what came of it."""

    text: str
    measured: str
    reached: bool


def claims(study: Study) -> list[Claim]:
    """What was asked of the engine; only what its cells were run for."""
    return [
        *_harm(study, "1.3", BAD),
        *_good(study),
        *_variant(study),
        *_beyond(study),
        *_perfect(study),
        *(claim for fleet in (*HELD_OUT, *COHORTS) for claim in _harm(study, fleet, SILENT_BAD)),
    ]


def _harm(study: Study, fleet: str, releases: Sequence[tuple[float, float]]) -> Iterator[Claim]:
    for rate, silent in releases:
        pair = paired(study, Case(fleet, LIMIT, rate, silent))
        if pair is not None:
            most = HARM_EXCESS_MAX * pair.reference_mean
            yield Claim(
                f"fleet {fleet}, {release_words(rate, silent)}: harm not worse than the reference",
                f"{pair.outrider_mean:.1f} against {pair.reference_mean:.1f}; difference at most {pair.upper95:+.1f}, "
                f"allowed {most:+.1f}",
                pair.upper95 <= most,
            )


def _good(study: Study) -> Iterator[Claim]:
    for rate, silent in GOOD:
        case = Case("1.3", LIMIT, rate, silent)
        ours, theirs = study.get((OUTRIDER, case)), study.get((REFERENCE, case))
        if not ours or not theirs:
            continue
        what = f"fleet 1.3, good release, {release_words(rate, silent)}"
        halted = ended(ours, "halted")
        upper = share_upper(halted, len(ours))
        measured = f"{halted} of {len(ours)}, upper bound {upper:.2%}"
        yield Claim(f"{what}: halted in under {HALTED_MAX:.1%}", measured, upper < HALTED_MAX)
        held, held_reference = _share(ours, "held"), _share(theirs, "held")
        measured = f"{held:.1%} against {held_reference:.1%}"
        yield Claim(f"{what}: held for a person no more often than the reference", measured, held <= held_reference)
        days, reference = _days(ours), _days(theirs)
        if days is not None and reference is not None:
            text = f"{what}: 95 % done no later than the reference plus half a day"
            yield Claim(text, f"{days:.1f} d against {reference:.1f} d", days <= reference + DAYS_EXCESS_MAX)


def _perfect(study: Study) -> Iterator[Claim]:
    for fleet in ("1.3", "habits", *HELD_OUT, *OTHER_PLANS):
        runs = study.get((OUTRIDER, Case(fleet, LIMIT, *PERFECT)))
        if not runs:
            continue
        halted, held, count = ended(runs, "halted"), ended(runs, "held"), len(runs)
        stalled = ended(runs, "stalled")
        yield Claim(
            f"fleet {fleet}, perfect release: never halted, held in under {PERFECT_HELD_MAX:.0%}, never stalled",
            f"of {count} {halted} halted, {held} held (upper bound {share_upper(held, count):.1%}), {stalled} stalled",
            not halted and not stalled and held < PERFECT_HELD_MAX * count,
        )


def _variant(study: Study) -> Iterator[Claim]:
    for rate, silent in VARIANT_FAILS:
        case = Case(VARIANT.name, LIMIT, rate, silent)
        runs = study.get((OUTRIDER, case))
        if not runs:
            continue
        mean = float(np.mean([one.failed_variant for one in runs]))
        if silent:
            places = variant_places(case)
            text = "a variant of 0.5 % that always fails, silently: as few as its share of the first wave allows"
            yield Claim(text, f"{mean:.1f} vehicles of it; the first wave has {places} places for it", mean <= places)
        else:
            text = f"a variant of 0.5 % that always fails, by word: at most {VARIANT_HARM_MAX:.0f} vehicles"
            yield Claim(text, f"{mean:.1f} vehicles of it", mean <= VARIANT_HARM_MAX)


def _beyond(study: Study) -> Iterator[Claim]:
    pairs = [paired(study, Case("habits", LIMIT, *release)) for release in SILENT_BAD]
    known = [pair for pair in pairs if pair is not None]
    if not known:
        return
    told = ", ".join(f"{one.outrider_mean:.1f} against {one.reference_mean:.1f}" for one in known)
    halved = all(one.outrider_mean <= HARM_HALVED * one.reference_mean for one in known)
    yield Claim("fleet habits, all failures silent: half the reference's harm", told, halved)
    ours = study.get((OUTRIDER, Case("habits", LIMIT, *GOOD[0])))
    days = _days(ours) if ours else None
    same = all(one.outrider_mean <= one.reference_mean for one in known)
    text = f"or 95 % done in {DAYS_BEYOND:.0f} days there, at the same harm"
    measured = f"{days:.1f} d" if days is not None else "never"
    yield Claim(text, measured, days is not None and days <= DAYS_BEYOND and same)


def release_words(rate: float, silent: float) -> str:
    """A release, for people."""
    return f"{rate:.1%} fail, {'all' if silent == 1.0 else f'{silent:.0%}'} silent"


def _share(runs: Sequence[Result], ending: str) -> float:
    return ended(runs, ending) / len(runs)


def _days(runs: Sequence[Result]) -> float | None:
    return figures_of("", runs[0].case, runs).days_to_95
