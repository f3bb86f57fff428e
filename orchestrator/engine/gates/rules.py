"""Rules over the counters of one scope: failures, silence, losses before the permit.

Owns what is compared with what, and how much of the accepted error each comparison may spend. The formulas are in
`evidence`; what the weighed quantities mean is the matter of `gates.findings`. Derivations and what was weighed:
docs/decisions, The gate in full.

| rules                     | hits of trials                                               | held against            |
|---------------------------|--------------------------------------------------------------|-------------------------|
| `failures_evalue`         | failed of exposed; pending ones count as good                | L, the failure limit    |
| `silence_evalue_0`, ...   | silent of those exposed as long as a checkpoint              | controls there, and L   |
| `silence_evalue_often_0`, | the same among vehicles of one habit, at the earlier ages of | controls of that habit  |
| ...                       | that habit                                                   | there, and L            |
| `losses_evalue`           | failed without a permit, of granted                          | LOSSES_FACTOR x L       |
| `losses_silence_evalue`   | silent without a permit, of grants that reached the first    | controls there, and L   |
|                           | checkpoint                                                   |                         |

Each halts by evidence and, as `*_posterior*`, holds by probability. Evidence is summed, each by its share of the
accepted error: an average of e-values is an e-value. HALT is when the sum reaches (scopes like it) / alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import fsum, log

from orchestrator.engine.gates.evidence import (
    FAILURE_GRID,
    SILENCE_GRID,
    Normal,
    alternatives,
    beta_above,
    log_e_beside,
    log_e_value,
)
from orchestrator.engine.gates.findings import Weighed, habit_groups
from orchestrator.engine.gates.habits import CONTROLS_MIN, POOLED_BELIEF, Told, tells
from orchestrator.engine.gates.terms import Scope
from orchestrator.engine.wording import duration
from orchestrator.model.fleet import HabitAge
from orchestrator.model.plan import GateLimits
from orchestrator.model.tally import AgeGroup, Tally

FAILURES_DOUBT = "failures_posterior"
"""The rule that holds for failures and, among a verdict's inputs, the probability that their limit is broken."""
SILENCE_DOUBT = "silence_posterior"
"""How the same is called of silence: a checkpoint or a habit follows."""
FAILURES_SHARE = 0.35
"""Of the accepted error, for failures. What a plan does not look at leaves its share to the others."""
CHECKPOINTS_SHARE = 0.35
"""For silence at the plan's checkpoints, all of them."""
HABITS_SHARE = 0.2
"""For silence at the earlier ages of habits, all of them."""
LOSSES_SHARE = 0.1
"""For losses before the permit, told and silent."""

FAILURES_PRIOR_WEIGHT = 0.25
"""Failures that the posterior begins with, and 2 / L - 1 times as many successes: its mean is half the limit."""
SILENCE_PRIOR_WEIGHT = 100.0
"""Exposures' worth of belief, in the posterior, that they are as silent as their controls."""
CONTROLS_ENOUGH = 300
"""Controls from which they speak alone; until then that belief fades in proportion."""
LARGEST_RATE = 0.99
"""Share of silence that is taken for normal, at most."""
LATER_MIN = 20
"""Exposures from which what they say at a later age is heard."""
LATER_SHARE = 0.9
"""Part of the exposures at a checkpoint that must have reached a later one before that bears on it."""
HABIT_DOUBT = 1.0
"""How much the posterior of a habit minds that its controls are few, see `gates.habits.Told`."""
HABIT_NORMAL = Normal(rate=0.1, spread_weight=10.0, trusted=0.1, trust_weight=0.0)
"""Where a habit's normal silence is looked for; nothing of it is believed."""
HABIT_RATES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
"""Alternatives for the silence of a habit."""
LOSSES_PRIOR_WEIGHT = 1.0
"""As FAILURES_PRIOR_WEIGHT, of attempts that fail before their permit: three of the first few hold, not two."""
LOSSES_FACTOR = 5.0
"""Attempts that may fail before their permit, in failure limits: it hurts nobody, and links and disks fail, too."""
LOSSES_RATIO_MAX = 0.5
"""The same, at most."""


def weigh(tally: Tally, scope: Scope, heard: Sequence[Told]) -> tuple[Weighed, ...]:
    """Every quantity of a scope that can be judged.

    Args:
        tally: Its counters.
        scope: By what it is judged.
        heard: What its silence tells at each checkpoint.
    """
    shares = _shares(scope.gate)
    return (
        _failures(tally, scope, log(shares["failures"])),
        *_checkpoints(heard, scope, log(shares["checkpoints"])),
        *_habits(tally, scope, log(shares.get("habits", 1.0))),
        *_losses(tally, scope, log(shares["losses"])),
    )


def halting_failures(gate: GateLimits, strata: int, *, most: int = 1000) -> int:
    """The fewest exposures that could halt one of so many strata, if every one failed; `most` when not even so many."""
    bound = log(max(1, strata) / gate.alpha / _shares(gate)["failures"])
    return next((n for n in range(1, most) if log_e_value(n, n, gate.failure_ratio_max, FAILURE_GRID) >= bound), most)


def usual(heard: Sequence[Told], scope: Scope) -> tuple[float, ...]:
    """Share normally silent at each checkpoint, by the controls of a scope and what is thought beforehand."""
    return tuple(estimate(each, share) for each, share in zip(heard, scope.normal, strict=True))


def estimate(told: Told, normal: float) -> float:
    """Share normally silent by the controls of what is judged; the fewer there are, the nearer to what was thought.

    Never nought or one: that none of a thousand controls was silent does not make silence impossible.
    """
    weight = max(1.0, reference_weight(told))
    return (weight * normal + told.group.controls_silent) / (weight + told.group.controls)


def resolved(group: AgeGroup, later: AgeGroup) -> float:
    """Share of exposures silent beside their controls at an age, and heard by a later one: slow, and not broken.

    An installation may last longer than the first look is late, and only exposures install.

    Args:
        group: At the age.
        later: The same vehicles at the later one, as far as they are as old.
    """
    if min(group.paired, group.controls, later.controls) < 1 or later.paired < LATER_MIN:
        return 0.0
    fewer = group.paired_silent / group.paired - later.paired_silent / later.paired
    usually = group.controls_silent / group.controls - later.controls_silent / later.controls
    return max(0.0, fewer - usually)


def _slow(told: Told) -> float:
    """Share at a checkpoint that was only slow, by the last checkpoint that nearly all have reached.

    What is heard by a later one was slow: a vehicle that is broken stays silent. While few are as old as that the
    difference of two chances would say nothing.
    """
    reached = [later for later in told.later if later.paired >= LATER_SHARE * told.group.paired]
    return resolved(told.group, reached[-1]) if reached else 0.0


def habit_estimate(group: AgeGroup) -> float:
    """Share normally silent at an early age, by the controls of a habit alone."""
    return (HABIT_NORMAL.rate + group.controls_silent) / (1.0 + group.controls)


def above_usual(told: Told, share: float, margin: float) -> float:
    """Probability that silence exceeds what is usual by more than the margin.

    Args:
        told: Exposures and controls, and how much these are worth.
        share: Of silence that is usual.
        margin: Beyond it.
    """
    group, share = told.group, min(share, LARGEST_RATE)
    a = SILENCE_PRIOR_WEIGHT * share + group.paired_silent
    b = SILENCE_PRIOR_WEIGHT * (1.0 - share) + group.paired - group.paired_silent
    # A share that is only estimated leaves the posterior as wide as its controls are few.
    worth = 1.0 + group.controls + reference_weight(told)
    known = worth / (worth + told.doubt * (a + b))
    return beta_above(min(share + margin, LARGEST_RATE), known * a, known * b)


def reference_weight(told: Told) -> float:
    """Controls' worth of belief in what was thought beforehand, beside the real ones."""
    return told.belief * max(0.0, 1.0 - told.group.controls / CONTROLS_ENOUGH)


def _failures(tally: Tally, scope: Scope, log_share: float) -> Weighed:
    limit, failed, exposed = scope.gate.failure_ratio_max, tally.failed, tally.exposed
    return Weighed(
        name="failures",
        suffix="",
        what="exposed failed",
        hits=failed,
        trials=exposed,
        log_e=log_share + log_e_value(failed, exposed, limit, FAILURE_GRID),
        likely=_above(limit, failed, tally.succeeded, FAILURES_PRIOR_WEIGHT),
        limit=limit,
    )


def _checkpoints(heard: Sequence[Told], scope: Scope, log_share: float) -> Iterator[Weighed]:
    for index, (age_ms, each) in enumerate(zip(scope.gate.checkpoints_ms, heard, strict=True)):
        what = f"exposed were silent after {duration(age_ms)}"
        yield _at_checkpoint("silence", f"_{index}", what, each, index, scope, log_share)


def _losses(tally: Tally, scope: Scope, log_share: float) -> Iterator[Weighed]:
    limit = min(LOSSES_RATIO_MAX, LOSSES_FACTOR * scope.gate.failure_ratio_max)
    failed, granted = tally.failed_before_permit, tally.granted
    yield Weighed(
        name="losses",
        suffix="",
        what="granted failed before their permit",
        hits=failed,
        trials=granted,
        log_e=log_share + log_e_value(failed, granted, limit, FAILURE_GRID),
        likely=_above(limit, failed, tally.exposed, LOSSES_PRIOR_WEIGHT),
        limit=limit,
    )
    # Grants are as old as the first checkpoint: so are the controls there.
    beside = tally.age_groups[0] if tally.age_groups else AgeGroup()
    group = AgeGroup(tally.grants.exposed, tally.grants.silent, beside.controls, beside.controls_silent)
    what = f"granted were silent without a permit after {duration(scope.gate.checkpoints_ms[0])}"
    yield _at_checkpoint("losses_silence", "", what, Told(group, POOLED_BELIEF), 0, scope, log_share)


def _at_checkpoint(
    name: str, suffix: str, what: str, told: Told, index: int, scope: Scope, log_share: float
) -> Weighed:
    group, weight = told.group, reference_weight(told)
    # Alternatives must not move with what is seen: they stay with the plan's reference.
    margin, reference, thought = scope.gate.failure_ratio_max, scope.gate.silence_reference[index], scope.normal[index]
    share = estimate(told, thought)
    normal = Normal(
        rate=reference,
        spread_weight=told.belief,
        trusted=thought,
        trust_weight=weight,
    )
    return Weighed(
        name=name,
        suffix=suffix,
        what=what,
        hits=group.paired_silent,
        trials=group.paired,
        log_e=log_share + _beside(group, margin, normal, alternatives(reference + margin, SILENCE_GRID)),
        likely=above_usual(told, share + _slow(told), margin),
        limit=share + margin,
        usual=share,
    )


def _habits(tally: Tally, scope: Scope, log_share: float) -> Iterator[Weighed]:
    margin = scope.gate.failure_ratio_max
    for place, index, group in habit_groups(tally, scope.gate):
        if group.controls < CONTROLS_MIN or not tells(group):
            continue
        later = tally.habit_groups.get(HabitAge(place.habit, scope.gate.checkpoints_ms[0]), AgeGroup())
        share = habit_estimate(group) + resolved(group, later)
        yield Weighed(
            name="silence",
            suffix=f"_{place.habit}_{index}",
            what=f"exposed that call {place.habit} were silent after {duration(place.age_ms)}",
            hits=group.paired_silent,
            trials=group.paired,
            log_e=log_share + _beside(group, margin, HABIT_NORMAL, HABIT_RATES),
            likely=above_usual(Told(group, POOLED_BELIEF, HABIT_DOUBT), share, margin),
            limit=share + margin,
            usual=share,
        )


def _beside(group: AgeGroup, margin: float, normal: Normal, rates: tuple[float, ...]) -> float:
    hits, trials = group.paired_silent, group.paired
    return log_e_beside(hits, trials, group.controls_silent, group.controls, margin=margin, normal=normal, rates=rates)


def _above(limit: float, failed: int, good: int, weight: float) -> float:
    """Probability that a rate of failures exceeds its limit."""
    return beta_above(limit, weight + failed, weight * (2.0 / limit - 1.0) + good)


def _shares(gate: GateLimits) -> Mapping[str, float]:
    """What one quantity of each family may spend of the accepted error: in all one, whatever the plan looks at."""
    families = {
        "failures": (FAILURES_SHARE, 1),
        "checkpoints": (CHECKPOINTS_SHARE, len(gate.checkpoints_ms)),
        "habits": (HABITS_SHARE, sum(map(len, gate.habit_ages_ms.values()))),
        "losses": (LOSSES_SHARE, 2),
    }
    spent = fsum(share for share, members in families.values() if members)
    return {family: share / spent / members for family, (share, members) in families.items() if members}
