"""Regions: what holds a region where it stands, and where it goes when nothing does.

Owns the walk of one region over the waves, by counters and by what the inventory still has waiting. Whether the rollout
may move at all (its status, the gate) is the matter of `progress`.

Which vehicles a share draws follows from their ids; counters do not know ids. So a share of a small region may draw
fewer than expected, or none, and the holdout more: every demand here leaves room for three to four standard deviations,
so that chance alone never leaves a region stuck.

A wave begins when the one before it is through, then when the region that this one follows is through with it, then
when it is approved: an approval is what is missing last, so that whoever is asked for one decides on what can begin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, sqrt

from orchestrator.engine import approvals, brakes, waves
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import LIVE_STATES, AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import RegionPhase, RegionProgress, Rollout
from orchestrator.model.tally import CellTallies, Tally, total

REACHED_SHARE_MIN = 0.7
"""Part of a wave's quota that must be exposed before the next wave."""
REACHED_SHARE_CAP = 0.8
"""Part of a wave's quota beyond which even the minimum sample does not ask for more: some vehicles stay away."""
AGED_SHARE_MIN = 0.8
"""Part of a wave's exposures that must be older than the first checkpoint before the next wave."""

_FEWER_SIGMAS = 3.0
_MORE_SIGMAS = 3.7
_MORE_AT_LEAST = 2.0
_NEVER_AGAIN_EXPOSED = (AttemptState.FAILED, AttemptState.ROLLED_BACK, AttemptState.TIMED_OUT)
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Region:
    """One region of a rollout at one moment."""

    name: str
    rollout: Rollout
    cells: CellTallies
    """Of this region only."""
    waiting: Mapping[Cell, int]
    """Vehicles by inventory, of this region, that match the target now and do not have the release."""
    evidence: int
    """Exposures of the whole rollout that reached the first checkpoint."""
    leader: Region | None
    """The region that this one follows; None when it follows nobody."""

    @property
    def plan(self) -> Plan:
        """The rollout's."""
        return self.rollout.plan

    @property
    def progress(self) -> RegionProgress:
        """Where it stands."""
        return self.rollout.regions[self.name]

    @property
    def tally(self) -> Tally:
        """All cells together."""
        return total(self.cells.values())

    @property
    def keys(self) -> frozenset[Cell]:
        """Cells that have vehicles, or had."""
        return frozenset(self.cells) | frozenset(self.waiting)

    def targeted(self, cell: Cell) -> int:
        """Vehicles of a cell that the plan is for: those that wait and those that are through."""
        return self.waiting.get(cell, 0) + _count(self.cells, cell).state(AttemptState.SUCCEEDED)

    @property
    def empty(self) -> bool:
        """Whether the plan is for nobody here."""
        return self.tally.granted == 0 and not any(self.targeted(cell) for cell in self.keys)

    @property
    def last_wave(self) -> int:
        """Index of the last wave."""
        return len(self.plan.waves) - 1


def region_at(name: str, rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> Region:
    """One region out of a rollout's counters and inventory, with the one it follows."""
    return Region(
        name=name,
        rollout=rollout,
        cells={cell: tally for cell, tally in cells.items() if cell.region == name},
        waiting={cell: count for cell, count in waiting.items() if cell.region == name and count > 0},
        evidence=_aged(total(cells.values()), 0),
        leader=_leader(name, rollout, cells, waiting),
    )


def first_phase(name: str, plan: Plan) -> RegionPhase:
    """The phase in which a region starts: PENDING if its first wave is bound to anything."""
    bound = plan.waves[0].approvals > 0 or plan.regions[name].follow in plan.regions
    return RegionPhase.PENDING if bound else RegionPhase.ROLLING


def through(progress: RegionProgress, wave: int) -> bool:
    """Whether a region has left a wave (index) behind."""
    if progress.phase is RegionPhase.ROLLING:
        return progress.wave > wave
    return progress.phase is not RegionPhase.PENDING


def walk(region: Region, now: FleetTime) -> RegionProgress | None:
    """Where a region goes now; None when it stays. One step at most.

    The caller has made sure that the rollout runs and that the gate says PROCEED.
    """
    progress = region.progress
    if progress.phase is RegionPhase.DONE:
        # Done before its last wave: it was empty. Vehicles that came since then start from where it stood.
        if progress.wave < region.last_wave and not region.empty:
            return replace(progress, phase=RegionPhase.ROLLING, wave_started_at=now)
        return None
    if region.empty:
        # A region that has not begun stays so: through, it would admit whoever comes, unapproved.
        return None if progress.phase is RegionPhase.PENDING else replace(progress, phase=RegionPhase.DONE)
    if hindrance(region, now):
        return None
    if progress.phase is RegionPhase.PENDING:
        return replace(progress, phase=RegionPhase.ROLLING, wave_started_at=now)
    if progress.phase is RegionPhase.ROLLING and progress.wave < region.last_wave:
        return replace(progress, wave=progress.wave + 1, wave_started_at=now)
    if progress.phase is RegionPhase.ROLLING:
        return replace(progress, phase=RegionPhase.AGING)
    if progress.phase is RegionPhase.AGING and _remaining(region) and region.plan.holdout_share > 0:
        return replace(progress, phase=RegionPhase.HOLDOUT, wave_started_at=now)
    return replace(progress, phase=RegionPhase.DONE)


def hindrance(region: Region, now: FleetTime) -> str:
    """What holds a region where it stands, for people, with the numbers; empty when nothing does."""
    wave = _next_wave(region)
    return _unready(region, now) or (approvals.missing(region.rollout, wave, region.name) if wave is not None else "")


def approval_wanted(region: Region, now: FleetTime) -> str:
    """The name of the wave that could begin if it were approved; empty when anything else is missing, or nothing."""
    wave = _next_wave(region)
    if wave is None or _unready(region, now) or not approvals.missing(region.rollout, wave, region.name):
        return ""
    return region.plan.waves[wave].name


def patience_ends_at(region: Region) -> FleetTime:
    """When the region stops waiting for vehicles that do not call."""
    return FleetTime(region.progress.wave_started_at + region.plan.limits.patience_ms)


def soak_ends_at(region: Region) -> FleetTime:
    """When the region's wave has had its least time."""
    return FleetTime(region.progress.wave_started_at + region.plan.waves[region.progress.wave].soak_ms)


def _leader(name: str, rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int]) -> Region | None:
    rules = rollout.plan.regions.get(name)
    followed = rules.follow if rules is not None else ""
    if followed not in rollout.regions or rollout.regions[name].phase is RegionPhase.DONE:
        return None
    # One step is enough: how the leader fares with its own leader shows in where it stands.
    return Region(
        name=followed,
        rollout=rollout,
        cells={cell: tally for cell, tally in cells.items() if cell.region == followed},
        waiting={cell: count for cell, count in waiting.items() if cell.region == followed and count > 0},
        evidence=0,
        leader=None,
    )


def _next_wave(region: Region) -> int | None:
    """The index of the wave that the region would begin next; None when there is none."""
    if region.progress.phase is RegionPhase.PENDING:
        return region.progress.wave
    if region.progress.phase is RegionPhase.ROLLING and region.progress.wave < region.last_wave:
        return region.progress.wave + 1
    return None


def _unready(region: Region, now: FleetTime) -> str:
    """As `hindrance`, but for approvals."""
    phase = region.progress.phase
    if phase is RegionPhase.DONE:
        return ""
    if phase is RegionPhase.PENDING:
        return "no vehicle is targeted here" if region.empty else _led(region)
    if phase is RegionPhase.ROLLING:
        return _braked(region) or _soaking(region, now) or _unreached(region, now) or _young(region) or _led(region)
    return _braked(region) or _outstanding(region, now) or _running(region) or _unaged(region)


def _led(region: Region) -> str:
    """What the region that this one follows still has to do before the next wave may begin here."""
    leader, wave = region.leader, _next_wave(region)
    # A leader without vehicles holds nobody up.
    if leader is None or wave is None or through(leader.progress, wave) or leader.empty:
        return ""
    name = region.plan.waves[wave].name
    where = "has not begun"
    if leader.progress.phase is RegionPhase.ROLLING:
        where = f"is in wave {leader.plan.waves[leader.progress.wave].name}"
    return f"region {leader.name}, which this one follows, must be through with wave {name} first; it {where}"


def _braked(region: Region) -> str:
    """Which brake the region cannot move on with; empty when it can.

    A stratum that stands still keeps the others neither from the next wave, nor is it counted in this one. Behind the
    last wave there is nothing left to wait for but that stratum.
    """
    whole = brakes.on(region.rollout, region.name)
    if whole is not None:
        return brakes.described(whole)
    parts = [brake for brake in region.rollout.brakes if brake.scope.startswith(f"{region.name}/")]
    if not parts:
        return ""
    behind = region.progress.phase is not RegionPhase.ROLLING or region.progress.wave == region.last_wave
    nobody_moves = bool(_opened_cells(region)) and not _added_cells(region)
    return "; ".join(brakes.described(brake) for brake in parts) if behind or nobody_moves else ""


def _count(cells: CellTallies, cell: Cell) -> Tally:
    return cells.get(cell) or Tally()


def _aged(tally: Tally, checkpoint: int) -> int:
    return tally.age_groups[checkpoint].exposed if -len(tally.age_groups) <= checkpoint < len(tally.age_groups) else 0


def _opened_cells(region: Region) -> list[Cell]:
    """Cells that the current wave adds vehicles of."""
    plan, wave = region.plan, region.progress.wave
    return [
        cell
        for cell in region.keys
        if waves.reached_share(plan, wave, cell.cohort) > waves.reached_share(plan, wave - 1, cell.cohort)
    ]


def _added_cells(region: Region) -> list[Cell]:
    """The same without those of strata that stand still."""
    return [cell for cell in _opened_cells(region) if region.rollout.brake_on(cell.stratum) is None]


def _needed(region: Region, added: list[Cell]) -> int:
    """Vehicles that the current wave must have reached in the cells that it adds to.

    70 % of what it opens there, or the minimum sample if that is more but still within 80 %; never more than chance
    has surely drawn.
    """
    opened = [
        (region.targeted(cell), waves.reached_share(region.plan, region.progress.wave, cell.cohort)) for cell in added
    ]
    quota = sum(count * share for count, share in opened)
    surely = quota - _FEWER_SIGMAS * sqrt(sum(count * share * (1.0 - share) for count, share in opened))
    sample = min(float(region.plan.gate.sample_min), REACHED_SHARE_CAP * quota)
    return max(0, ceil(min(surely, max(REACHED_SHARE_MIN * quota, sample)) - _ROUNDING))


def _soaking(region: Region, now: FleetTime) -> str:
    until = soak_ends_at(region)
    wave = region.plan.waves[region.progress.wave]
    if now >= until:
        return ""
    return f"wave {wave.name} soaks until {instant(until)}, {duration(until - now)} more"


def _unreached(region: Region, now: FleetTime) -> str:
    added = _added_cells(region)
    needed = _needed(region, added)
    tallies = [_count(region.cells, cell) for cell in added]
    # Whoever got the release past us is reached as well, though no exposure.
    reached = sum(tally.exposed + tally.before_permit.get(AttemptState.SUCCEEDED, 0) for tally in tallies)
    if reached >= needed or not any(region.waiting.get(cell) for cell in added):
        return ""
    wave = region.plan.waves[region.progress.wave].name
    if now < patience_ends_at(region):
        return f"wave {wave} has exposed {reached} of at least {needed}"
    # Patience is over: some evidence must do, its own or that of the other regions.
    if reached or region.evidence >= region.plan.gate.sample_min:
        return ""
    return (
        f"wave {wave} has exposed none of at least {needed}, "
        f"and all regions together {region.evidence} of {region.plan.gate.sample_min} aged"
    )


def _young(region: Region) -> str:
    tally = total(_count(region.cells, cell) for cell in _added_cells(region))
    aged, needed = _aged(tally, 0), ceil(AGED_SHARE_MIN * tally.exposed - _ROUNDING)
    if aged >= needed:
        return ""
    age = duration(region.plan.gate.checkpoints_ms[0])
    wave = region.plan.waves[region.progress.wave].name
    return f"wave {wave} has {aged} of at least {needed} exposures older than {age}"


def _remaining(region: Region) -> int:
    """Vehicles that wait and that nothing rules out for good."""
    remaining = 0
    for cell, count in region.waiting.items():
        tally = _count(region.cells, cell)
        lost = sum(tally.after_permit.get(state, 0) for state in _NEVER_AGAIN_EXPOSED)
        lost += tally.before_permit.get(AttemptState.REJECTED, 0)
        remaining += max(0, count - lost)
    return remaining


def _stays_out(region: Region) -> int:
    """How many of those that remain may be out of reach of the last wave: the holdout, and what no wave is for."""
    reached = waves.open_share if region.progress.phase is RegionPhase.HOLDOUT else waves.reached_share
    mean, variance = 0.0, 0.0
    for cell in region.keys:
        out = 1.0 - reached(region.plan, region.last_wave, cell.cohort)
        mean += region.targeted(cell) * out
        variance += region.targeted(cell) * out * (1.0 - out)
    chance = _MORE_SIGMAS * sqrt(variance) + _MORE_AT_LEAST if variance > 0 else 0.0
    return int(mean + chance + _ROUNDING)


def _outstanding(region: Region, now: FleetTime) -> str:
    remaining, allowed = _remaining(region), _stays_out(region)
    if remaining <= allowed or now >= patience_ends_at(region):
        return ""
    until = instant(patience_ends_at(region))
    waits = "1 vehicle waits" if remaining - allowed == 1 else f"{remaining - allowed} vehicles wait"
    beyond = f" beyond the {allowed} that no wave may ever draw" if allowed else ""
    return f"{waits}{beyond}; at the latest until {until}"


def _running(region: Region) -> str:
    live = sum(region.tally.state(state) for state in LIVE_STATES)
    return f"{live} attempts are live" if live > 1 else "1 attempt is live" if live else ""


def _unaged(region: Region) -> str:
    tally = region.tally
    aged = _aged(tally, -1)
    if aged >= tally.exposed:
        return ""
    age = duration(region.plan.gate.checkpoints_ms[-1])
    return f"{tally.exposed - aged} of {tally.exposed} exposures are younger than {age}"
