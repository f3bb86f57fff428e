"""Budgets: how many vehicles may be at risk while it is not known what the release does to them.

Owns both ceilings. Source: docs/decisions/0018; the blast budget is that of 0006.

- Permits: exposures younger than the first checkpoint, times the worst rate of harm that the aged ones do not exclude,
  stay within B.
- Grants: the same of vehicles that have the payload and no permit, which may crash on it before it installs: slots
  without a permit, times the worst rate of silence beyond the normal one, stay within B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from orchestrator.engine.gates.evidence import wilson_upper
from orchestrator.model.tally import AgeGroup, Tally

FIRST_YOUNG = 40
"""Exposures until AGED_MIN of them have aged: nothing is known of silence until then."""
FIRST_YOUNG_SHARE = 0.2
"""The same as a share of B, where that is more."""
FIRST_DOUBTFUL = 5
"""Of these, how many may be unheard before any is heard."""
FIRST_DOUBTFUL_SHARE = 0.025
"""The same as a share of B, where that is more."""
FIRST_HEARD = 0.5
"""How many more may be unheard for each one that has succeeded."""
GROWTH = 1
"""Young exposures, at most, for each one whose silence is known: what is not seen in a few is not tried on many."""
TOLD_SHARE_MIN = 0.5
"""Part of the aged exposures whose silence must tell something at the checkpoint that the budget rests on."""
AGED_MIN = 20
"""Aged exposures, or grants, below which nothing is excluded and every young one counts as harmed."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How the pace falls with the probability that a limit is broken: linear between two of them."""

    start: float
    """Up to it the pace is whole."""
    end: float
    """From it on the pace is at its least; a hold begins somewhat higher."""
    least: float
    """Part of the pace that remains: what would settle the doubt has to be seen."""

    def at(self, doubt: float) -> float:
        """Part of the pace that remains at a probability."""
        return max(self.least, min(1.0, (self.end - doubt) / (self.end - self.start)))


FAILURES_SLOPE = Slope(start=0.2, end=0.6, least=0.1)
SILENCE_SLOPE = Slope(start=0.4, end=0.8, least=0.2)
"""Later and less steep: of silence alone a good release is in doubt more often."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Probabilities that a limit is broken, as far as nobody answered for it."""

    failures: float = 0.0
    silence: float = 0.0
    """The most of what each checkpoint and each habit says."""

    @property
    def pace(self) -> float:
        """Part of GROWTH that is left: all while a release seems well, little shortly before a hold."""
        return min(FAILURES_SLOPE.at(self.failures), SILENCE_SLOPE.at(self.silence))


def blast_upper(failed: int, aged: AgeGroup, reference: float, told: AgeGroup | None = None) -> float:
    """The worst rate of harm that the aged exposures do not exclude, failures and unusual silence together.

    Args:
        failed: Explicit failures among all exposures.
        aged: Exposures that reached the first checkpoint.
        reference: Share normally silent there.
        told: Of the aged ones, those whose silence tells something; None: all.

    Returns:
        U, within (0, 2); 1 until AGED_MIN exposures have aged.
    """
    if aged.exposed < AGED_MIN:
        return 1.0
    failures = wilson_upper(min(failed, aged.exposed), aged.exposed)
    told = aged if told is None else told
    return failures + max(0.0, wilson_upper(told.paired_silent, told.paired) - reference)


def losses_upper(grants: AgeGroup, reference: float) -> float:
    """The worst rate of losses before the permit that the aged grants do not exclude.

    Who says that it failed is not lost: only silence counts. As that is compared with what is normal, nothing might be
    left of it; so never less than what so many grants could hide at all.

    Args:
        grants: Grants that reached the first checkpoint, silent the ones without a permit that were not heard since.
        reference: Share normally silent there.

    Returns:
        U, within (0, 1]; 1 until AGED_MIN grants have aged.
    """
    if grants.exposed < AGED_MIN:
        return 1.0
    unusual = wilson_upper(grants.silent, grants.exposed) - reference
    return max(unusual, wilson_upper(0, grants.exposed))


def permit_allowance(blast_budget: int, upper: float, young: int) -> int:
    """Exposures that may be added while `young` ones have not aged.

    Args:
        blast_budget: B, vehicles that may be hurt at worst.
        upper: U, the worst rate of harm that is not excluded.
        young: Exposures below the first checkpoint.
    """
    return max(0, floor(blast_budget / upper) - young)


def _paced(tally: Tally, aged: AgeGroup, told: AgeGroup, blast_budget: int, doubt: Doubt) -> int:
    """Exposures that may be added by the pace of what is known, whatever the budget.

    The budget alone opens all at once: a few hundred exposures that seem well allow ten thousand more. A release that
    breaks one vehicle in fifty looks well in so many one time in five, and is known for sure in twice as many. While
    that is in doubt fewer are added: a hold is where a slope ends. Before anything has aged never many more are in
    doubt than were heard to be well: a release that breaks one in five is stopped by its first words, if these are
    waited for.
    """
    first = max(FIRST_YOUNG, floor(FIRST_YOUNG_SHARE * blast_budget))
    room = max(first, floor(GROWTH * doubt.pace * told.exposed)) - (tally.exposed - aged.exposed)
    if aged.exposed < AGED_MIN:
        doubtful = tally.exposed - tally.succeeded - tally.failed
        heard = floor(FIRST_HEARD * tally.succeeded)
        room = min(room, max(FIRST_DOUBTFUL, floor(FIRST_DOUBTFUL_SHARE * blast_budget)) + heard - doubtful)
    return max(0, room)


def shut(tally: Tally, blast_budget: int) -> dict[str, float]:
    """Nothing is added: the ceiling is what is given already; what is no count is none."""
    aged = tally.age_groups[0].exposed if tally.age_groups else 0
    exposed = tally.exposed if isinstance(tally.exposed, int) else 0
    return {
        "blast_budget": blast_budget,
        "blast_upper": 1.0,
        "losses_upper": 1.0,
        "young": exposed - aged,
        "at_risk": tally.at_risk_before_permit,
        "permit_allowance": 0,
        "permit_ceiling": max(0, exposed),
        "grant_ceiling": 0,
    }


def opened(
    tally: Tally, blast_budget: int, references: Sequence[float], told: Sequence[AgeGroup], doubt: Doubt
) -> dict[str, float]:
    """Both ceilings of a rollout that proceeds, with what they are made from.

    Args:
        tally: Over all strata; its counts add up.
        blast_budget: B.
        references: Share normally silent at each checkpoint.
        told: Exposures that reached each and whose silence tells something there.
        doubt: Whether it breaks a limit.
    """
    groups = tally.age_groups or (AgeGroup(),)
    # The first checkpoint that tells something of most; it may be late where vehicles call seldom.
    enough = (each.exposed >= TOLD_SHARE_MIN * group.exposed for each, group in zip(told, groups, strict=False))
    at = next((index for index, most in enumerate(enough) if most), 0)
    aged, losses = groups[at], losses_upper(tally.grants, references[0])
    upper = blast_upper(tally.failed, aged, references[at], told[at])
    allowance = permit_allowance(blast_budget, upper, tally.exposed - aged.exposed)
    allowance = min(allowance, _paced(tally, aged, told[at], blast_budget, doubt))
    return {
        **shut(tally, blast_budget),
        "blast_upper": upper,
        "losses_upper": losses,
        "permit_allowance": allowance,
        "permit_ceiling": tally.exposed + allowance,
        "grant_ceiling": floor(blast_budget / losses),
    }
