"""Promotion: what a wave must have shown in a region before the next one may begin.

Owns the rule, with the numbers in words. When anything else holds a region is the matter of `regions`.

- Enough were exposed: 70 % of the wave's exact quota, or the minimum sample if that is more but still within 80 %.
- Every stratum that the wave is for is present: with `stratum_sample` exposures, or 80 % of its vehicles if these are
  fewer; strata that are judged together count as one.
- These are old enough: 80 % past the first checkpoint; past the last one for the first two promotions of a plan that
  says `safety_critical`.

After the plan's patience a wave goes on with less, but never on no evidence at all; what it never reached is named.
Strata that stand still (`brakes`) are not counted. Source: docs/decisions/0020, Promotion.

Cells of which a wave opens all have no exact quota but the holdout: which vehicles that is follows from their ids, and
counters do not know ids. There the demand leaves room for three standard deviations, so that chance alone never leaves
a region stuck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import ceil, sqrt

from orchestrator.engine import waves
from orchestrator.engine.region_state import Region, aged
from orchestrator.engine.wording import duration
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import OTHER, Cell, Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import part_of
from orchestrator.model.tally import Tally, total

REACHED_SHARE_MIN = 0.7
"""Part of a wave's quota that must be exposed before the next wave."""
REACHED_SHARE_CAP = 0.8
"""Part of a wave's quota, or of a stratum, beyond which no minimum asks for more: some vehicles stay away."""
AGED_SHARE_MIN = 0.8
"""Part of a wave's exposures that must be past the checkpoint before the next wave."""
CAREFUL_PROMOTIONS = 2
"""First promotions of a safety-critical plan that wait for the last checkpoint instead of the first."""

_FEWER_SIGMAS = 3.0
_ROUNDING = 1e-9


def opened_cells(region: Region) -> list[Cell]:
    """Cells that the current wave adds vehicles of."""
    plan, wave = region.plan, region.progress.wave
    return [
        cell
        for cell in sorted(region.keys)
        if waves.reached_share(plan, wave, cell.cohort) > waves.reached_share(plan, wave - 1, cell.cohort)
    ]


def added_cells(region: Region) -> list[Cell]:
    """The same without those of strata that stand still."""
    return [cell for cell in opened_cells(region) if region.rollout.brake_on(cell.stratum) is None]


def unproven(region: Region, patience_ends_at: FleetTime, now: FleetTime) -> str:
    """What the current wave has not shown yet, for people, with the numbers; empty when it has.

    Args:
        region: Rolling.
        patience_ends_at: When it stops waiting for vehicles that do not call.
        now: Fleet time.
    """
    patient = now < patience_ends_at
    return _unreached(region, patient=patient) or (_unseen(region) if patient else "") or _young(region)


def absent_strata(region: Region) -> list[str]:
    """Hardware variants with targeted vehicles in the region of which nobody was exposed so far."""
    seen: Counter[str] = Counter()
    for cell in region.keys:
        seen[cell.hardware] += region.count(cell).exposed
    targeted = {cell.hardware for cell, count in region.targets.items() if count > 0}
    absent = sorted(hardware for hardware in targeted if not seen[hardware])
    alone = [name for name in absent if part_of(Stratum(region.name, name), region.rollout.apart) != OTHER]
    together = len(absent) - len(alone)
    return [*alone, f"{together} that are judged together"] if together else alone


def needed(region: Region, added: Iterable[Cell]) -> int:
    """Vehicles that the current wave must have reached in the cells that it adds to."""
    quota, variance = 0.0, 0.0
    for cell in added:
        count, opening = region.targeted(cell), region.opening(cell)
        share = waves.reached_share(region.plan, region.progress.wave, cell.cohort)
        quota += count * share if opening is None else min(opening.quota, count)
        variance += count * share * (1.0 - share) if opening is None else 0.0
    surely = quota - _FEWER_SIGMAS * sqrt(variance)
    sample = min(float(region.plan.gate.sample_min), REACHED_SHARE_CAP * quota)
    return max(0, ceil(min(surely, max(REACHED_SHARE_MIN * quota, sample)) - _ROUNDING))


def _unreached(region: Region, *, patient: bool) -> str:
    added = added_cells(region)
    least = needed(region, added)
    reached = sum(_reached(region.count(cell)) for cell in added)
    if reached >= least or not any(region.waiting.get(cell) for cell in added):
        return ""
    wave = region.plan.waves[region.progress.wave].name
    if patient:
        return f"wave {wave} has exposed {reached} of at least {least}"
    # Patience is over: some evidence must do, its own or that of the other regions; of a few vehicles none can be had.
    few = sum(region.targets.values()) <= region.plan.gate.sample_min
    if reached or few or region.evidence >= region.plan.gate.sample_min:
        return ""
    return (
        f"wave {wave} has exposed none of at least {least}, "
        f"and all regions together {region.evidence} of {region.plan.gate.sample_min} aged"
    )


def _unseen(region: Region) -> str:
    """The first stratum that the wave is for and that has too few exposures to be judged on its own."""
    there: Counter[Stratum] = Counter()
    places: Counter[Stratum] = Counter()
    reached: Counter[Stratum] = Counter()
    for cell in added_cells(region):
        count, opening = region.targeted(cell), region.opening(cell)
        opened = int(count * waves.reached_share(region.plan, region.progress.wave, cell.cohort))
        # Of a few places in a large stratum each can be taken by another vehicle that calls.
        part = part_of(cell.stratum, region.rollout.apart)
        there[part] += opened if opening is None else count
        places[part] += opened if opening is None else min(opening.quota, count)
        reached[part] += _reached(region.count(cell))
    for stratum in sorted(there):
        most = min(places[stratum], ceil(REACHED_SHARE_CAP * there[stratum] - _ROUNDING))
        least = min(region.plan.gate.stratum_sample_min, most)
        if reached[stratum] < least:
            wave = region.plan.waves[region.progress.wave].name
            return f"wave {wave} has exposed {reached[stratum]} of at least {least} of stratum {stratum}"
    return ""


def _reached(tally: Tally) -> int:
    # Whoever got the release past us is reached as well, though no exposure.
    return tally.exposed + tally.before_permit.get(AttemptState.SUCCEEDED, 0)


def _young(region: Region) -> str:
    plan = region.plan
    careful = plan.gate.safety_critical and region.progress.wave < CAREFUL_PROMOTIONS
    checkpoint = -1 if careful else 0
    tally = total(region.count(cell) for cell in added_cells(region))
    old, least = aged(tally, checkpoint), ceil(AGED_SHARE_MIN * tally.exposed - _ROUNDING)
    if old >= least:
        return ""
    age = duration(plan.gate.checkpoints_ms[checkpoint])
    wave = plan.waves[region.progress.wave].name
    return f"wave {wave} has {old} of at least {least} exposures older than {age}"
