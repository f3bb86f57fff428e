"""Regions: what holds a region where it stands, and where it goes when nothing does.

Owns the walk of one region over the waves, by counters and by what the inventory still has waiting. Whether the rollout
may move at all (its status, the gate) is the matter of `progress`.

What a wave must have shown before the next is the matter of `promotion`, how many it admits that of `openings`. Which
vehicles are the holdout follows from their ids; counters do not know ids. So it may be more than expected: what is
waited for at the end leaves room for almost four standard deviations, so that chance alone never leaves a region stuck.

A wave begins when the one before it is through, then when the region that this one follows is through with it, then
when it is approved: an approval is what is missing last, so that whoever is asked for one decides on what can begin.
"""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from orchestrator.engine import approvals, brakes, openings, promotion, strata, waves
from orchestrator.engine.region_state import Region, aged
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import LIVE_STATES, AttemptState
from orchestrator.model.fleet import OTHER
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import RegionPhase, RegionProgress

STRAGGLERS_MAX = 0.05
"""Part of a region's target that a rollout does not wait for behind its patience."""

_MORE_SIGMAS = 3.7
_MORE_AT_LEAST = 2.0
_NEVER_AGAIN_EXPOSED = (AttemptState.FAILED, AttemptState.ROLLED_BACK, AttemptState.TIMED_OUT)
_ROUNDING = 1e-9


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
            return _begun(region, progress.wave, now)
        return None
    if region.empty:
        # A region that has not begun stays so: through, it would admit whoever comes, unapproved.
        return None if progress.phase is RegionPhase.PENDING else replace(progress, phase=RegionPhase.DONE)
    if hindrance(region, now):
        return replace(progress, closed=True) if _closes(region, now) else None
    if progress.phase is RegionPhase.PENDING:
        return _begun(region, progress.wave, now)
    if progress.phase is RegionPhase.ROLLING and progress.wave < region.last_wave:
        return _begun(region, progress.wave + 1, now)
    if progress.phase is RegionPhase.ROLLING:
        return replace(progress, phase=RegionPhase.AGING)
    if progress.phase is RegionPhase.AGING and _remaining(region) and region.plan.holdout_share > 0:
        return replace(progress, phase=RegionPhase.HOLDOUT, wave_started_at=now, closed=False)
    return replace(progress, phase=RegionPhase.DONE)


def _closes(region: Region, now: FleetTime) -> bool:
    """Whether a region stops waiting for stragglers: each would have to age, and there is always one more.

    Not while many are still to come, for then the plan's own limits may have kept them waiting.
    """
    progress = region.progress
    if progress.closed or progress.phase not in (RegionPhase.AGING, RegionPhase.HOLDOUT):
        return False
    left = _remaining(region) - _stays_out(region)
    return now >= patience_ends_at(region) and left <= STRAGGLERS_MAX * sum(region.targets.values())


def _begun(region: Region, wave: int, now: FleetTime) -> RegionProgress:
    """The region in a wave (index) that begins now, with the places that it has."""
    return replace(
        region.progress,
        phase=RegionPhase.ROLLING,
        wave=wave,
        wave_started_at=now,
        openings=openings.of_wave(region.plan, wave, region.targets, region.progress.openings, region.rollout.apart),
        trial=openings.trial(region.plan, wave, region.targets),
    )


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
        return _braked(region) or _soaking(region, now) or _unproven(region, now) or _led(region)
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
    together = brakes.on(region.rollout, str(OTHER))
    if together is not None and strata.together(region.rollout.apart, region.keys):
        parts.append(together)
    if not parts:
        return ""
    behind = region.progress.phase is not RegionPhase.ROLLING or region.progress.wave == region.last_wave
    nobody_moves = bool(promotion.opened_cells(region)) and not promotion.added_cells(region)
    return "; ".join(brakes.described(brake) for brake in parts) if behind or nobody_moves else ""


def _soaking(region: Region, now: FleetTime) -> str:
    until = soak_ends_at(region)
    wave = region.plan.waves[region.progress.wave]
    if now >= until:
        return ""
    return f"wave {wave.name} soaks until {instant(until)}, {duration(until - now)} more"


def _unproven(region: Region, now: FleetTime) -> str:
    return promotion.unproven(region, patience_ends_at(region), now)


def _remaining(region: Region) -> int:
    """Vehicles that wait and that nothing rules out for good."""
    remaining = 0
    for cell, count in region.waiting.items():
        tally = region.count(cell)
        lost = sum(tally.after_permit.get(state, 0) for state in _NEVER_AGAIN_EXPOSED)
        lost += tally.before_permit.get(AttemptState.REJECTED, 0)
        remaining += max(0, count - lost)
    return remaining


def _stays_out(region: Region) -> int:
    """How many of those that remain may be out of reach of the last wave: the holdout, and what no wave is for."""
    reached = waves.open_share if region.progress.phase is RegionPhase.HOLDOUT else waves.reached_share
    mean, variance = 0.0, 0.0
    for cell in sorted(region.keys):
        count, opening = region.targeted(cell), region.opening(cell)
        out = 1.0 - reached(region.plan, region.last_wave, cell.cohort)
        mean += count * out if opening is None else count - min(opening.quota, count)
        variance += count * out * (1.0 - out) if opening is None else 0.0
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
    old = aged(tally, -1)
    if old >= tally.exposed:
        return ""
    age = duration(region.plan.gate.checkpoints_ms[-1])
    return f"{tally.exposed - old} of {tally.exposed} exposures are younger than {age}"
