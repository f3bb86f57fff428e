"""A rollout with everything a person wants to see of it, put together from its counters and the inventory. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.engine import windows
from orchestrator.engine.gates import Judgement, judge_rollout
from orchestrator.engine.permits import rules_of
from orchestrator.engine.progress import approval_wanted, waiting_for
from orchestrator.engine.reach import waiting
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell, Profile
from orchestrator.model.ids import FleetTime
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import CellTallies
from orchestrator.store.base import Standing


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A rollout with everything a person wants to see of it."""

    rollout: Rollout
    cells: CellTallies
    waiting: Mapping[Cell, int]
    """Targeted vehicles without the release, by inventory now."""
    judgement: Judgement
    waiting_for: Mapping[str, str]
    """By region."""
    approval_wanted: Mapping[str, str]
    """By region: name of the wave that waits for an approval alone; regions without one are absent."""
    opens_at: Mapping[str, FleetTime]
    """By region: when its closed window opens, by the region's zone; absent where it is open, or never will be."""
    now: FleetTime
    outstanding: int = 0
    """Permits that may still be used, whatever becomes of the rollout: not lapsed, and no word of the installation."""
    outstanding_until: FleetTime | None = None
    """When the last of them lapses; None when there are none."""


def view_of(
    rollout: Rollout,
    cells: CellTallies,
    profiles: Mapping[Profile, int],
    now: FleetTime,
    releases: Sequence[Release] = (),
    standing: Standing | None = None,
) -> RolloutView:
    """A rollout with its counts.

    Args:
        rollout: As it stands.
        cells: Its counters.
        profiles: How many vehicles have each profile.
        now: Fleet time.
        releases: Every registered one: who runs a newer one is not waiting.
        standing: How far its limits are used; None: not asked.
    """
    unreached = waiting(rollout.plan, profiles, releases)
    outstanding = _outstanding(cells, standing) if standing else 0
    return RolloutView(
        rollout=rollout,
        cells=cells,
        waiting=unreached,
        judgement=judge_rollout(rollout, cells, unreached, now),
        waiting_for={region: waiting_for(rollout, cells, unreached, region, now) for region in rollout.regions},
        approval_wanted={
            region: wave
            for region in rollout.regions
            if (wave := approval_wanted(rollout, cells, unreached, region, now))
        },
        opens_at=openings(rollout, now),
        now=now,
        outstanding=outstanding,
        outstanding_until=standing.outstanding_until if standing and outstanding else None,
    )


def _outstanding(cells: CellTallies, standing: Standing) -> int:
    """Permits that may still be used: an upper bound.

    Who has told of installing has used its own, as the shards count; which have lapsed the rollout's keys know. Neither
    knows both.
    """
    untold = sum(tally.after_permit.get(AttemptState.PERMITTED, 0) for tally in cells.values())
    return min(untold, standing.outstanding)


def openings(rollout: Rollout, now: FleetTime) -> Mapping[str, FleetTime]:
    """When the closed windows of a rollout's regions open, by the regions' own zones."""
    opens: dict[str, FleetTime] = {}
    for region in rollout.regions:
        rules = rules_of(region, rollout)
        state = windows.at(rules, rules.zone, now)
        if not rollout.status.over and isinstance(state, windows.Closed) and state.opens_at is not None:
            opens[region] = state.opens_at
    return opens
