"""Strata: which are judged each on its own, and which together, where a fleet has more of them than can be judged.

Owns the choice. The more strata are looked at, the more evidence each must show before it halts, and a plan for a
thousand variants would ask for so much that none ever did. So beyond STRATA_MAX the largest are judged apart and all
others together as `OTHER`: with one share of alpha, one verdict, one brake for all of them. The choice is made once, in
the first look that counts too many, and stands as `Rollout.apart` for the rest of the rollout: a stratum whose evidence
went from one to the other would be judged by half of it. Whatever appears later is judged with the others.

Both stores count by cell and know nothing of this. Source: docs/decisions/0020, Too many strata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Stratum
from orchestrator.model.rollout import Rollout, part_of
from orchestrator.model.tally import CellTallies, Tally, total

STRATA_MAX = 64
"""Parts that are judged each on its own; with more strata, the last of them is all others together."""


def largest(sizes: Mapping[Stratum, int], first: Iterable[str] = ()) -> tuple[str, ...]:
    """The strata that are judged apart, in order of name; none where all of them can be.

    Args:
        sizes: Targeted vehicles.
        first: Strata that come before larger ones: what stands still on its own has to go on doing so.
    """
    if len(sizes) <= STRATA_MAX:
        return ()
    stands = frozenset(first)
    ranked = sorted(sizes, key=lambda stratum: (str(stratum) not in stands, -sizes[stratum], stratum))
    return tuple(sorted(str(stratum) for stratum in ranked[: STRATA_MAX - 1]))


def largest_of(cells: Mapping[Cell, int]) -> tuple[str, ...]:
    """As `largest`, by targeted vehicles of each cell."""
    sizes: Counter[Stratum] = Counter()
    for cell, count in cells.items():
        sizes[cell.stratum] += count
    return largest(sizes)


def apart(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> tuple[str, ...]:
    """The strata of a rollout that are judged apart: as they stand, or as they would be chosen now.

    Args:
        rollout: As it stands.
        cells: Its counters.
        waiting: Vehicles by inventory that its plan is for and that do not have the release.
    """
    if rollout.apart:
        return rollout.apart
    sizes: Counter[Stratum] = Counter()
    for cell in {*cells, *waiting}:
        succeeded = cells[cell].state(AttemptState.SUCCEEDED) if cell in cells else 0
        sizes[cell.stratum] += max(0, waiting.get(cell, 0)) + succeeded
    return largest(sizes, (brake.scope for brake in rollout.brakes))


def folded(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> Rollout:
    """The rollout with that choice made, if it has to be."""
    chosen = apart(rollout, cells, waiting)
    return rollout if chosen == rollout.apart else replace(rollout, apart=chosen)


def together(chosen: Iterable[str], cells: Iterable[Cell]) -> tuple[str, ...]:
    """The strata, of those that have cells, that are judged with others.

    Args:
        chosen: Those that are judged apart; empty: each is.
        cells: Where there are vehicles, or were.
    """
    alone = tuple(chosen)
    strata = sorted({cell.stratum for cell in cells})
    return tuple(str(stratum) for stratum in strata if part_of(stratum, alone) != stratum)


def by_part(cells: CellTallies, chosen: tuple[str, ...]) -> dict[Stratum, Tally]:
    """One tally for each part that is judged on its own."""
    groups: dict[Stratum, list[Tally]] = {}
    for cell, tally in cells.items():
        groups.setdefault(part_of(cell.stratum, chosen), []).append(tally)
    # Most strata have one cell, and this is asked at every tick.
    return {part: tallies[0] if len(tallies) == 1 else total(tallies) for part, tallies in sorted(groups.items())}


def count_parts(cells: Iterable[Cell], waiting: Iterable[Cell], chosen: tuple[str, ...]) -> int:
    """Parts that a rollout has reached or will reach: how many are judged, each on its own."""
    return len({part_of(cell.stratum, chosen) for cell in (*cells, *waiting)})
