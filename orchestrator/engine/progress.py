"""Progress: how a rollout answers to what happens, as one pure step.

Owns the rollout's status, epoch, fence and waivers, and which module answers to which event. How a region walks over
the waves is `regions`' matter, what stands still in parts that of `brakes`, what the counters mean is the gate's.
Nothing is carried out here: whoever steps commits the new value by compare-and-set on the epoch, and a step that lost
the race is made again from what stands then.

| status     | PROCEED                | HOLD  | HALT     | start   | pause  | resume    | abort     | supersede    |
|------------|------------------------|-------|----------|---------|--------|-----------|-----------|--------------|
| DRAFT      | stays                  | stays | stays    | RUNNING a | refused | refused | ABORTED * | SUPERSEDED * |
| APPROVED   | stays                  | stays | stays    | RUNNING | refused | refused  | ABORTED * | SUPERSEDED * |
| RUNNING    | regions walk, the last | HELD  | HALTED * | no change | PAUSED | no change | ABORTED * | SUPERSEDED * |
|            | one done: COMPLETED *  |       |          |         |        |           |           |              |
| HELD       | RUNNING f              | stays | HALTED * | refused | PAUSED | RUNNING w | ABORTED * | SUPERSEDED * |
| PAUSED     | stays                  | stays | HALTED * | refused | no change | RUNNING | ABORTED * | SUPERSEDED * |
| HALTED     | stays                  | stays | stays    | refused | refused | RUNNING w | ABORTED * | SUPERSEDED * |
| COMPLETED  | stays                  | stays | stays    | refused | refused | refused | refused   | refused      |
| ABORTED    | stays                  | stays | stays    | refused | refused | refused | no change | refused      |
| SUPERSEDED | stays                  | stays | stays    | refused | refused | refused | refused   | no change    |

`*` raises the fence, `w` waives the rule that stopped it, `a` only when the plan asks for no approval: the last one it
asks for makes a DRAFT APPROVED. `f`: not after a final hold, which needs a person. PROCEED, HOLD and HALT are about the
rollout as a whole; verdicts on single strata, dark regions, and requests with a scope change `brakes` in RUNNING, HELD
and PAUSED. Approvals and signals are recorded unless it is over; approvals not while it is HALTED.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from orchestrator.engine import (
    approvals,
    brakes,
    holds,
    inputs,
    openings,
    promotion,
    regions,
    requests,
    signals,
    strata,
)
from orchestrator.engine.approvals import ApproveRequested
from orchestrator.engine.brakes import EVALUATOR, GATE
from orchestrator.engine.gates import Judgement
from orchestrator.engine.inputs import Json
from orchestrator.engine.region_state import Region, region_at
from orchestrator.engine.requests import (
    AbortRequested,
    PauseRequested,
    ResumeRequested,
    StartRequested,
    SupersedeRequested,
    start,
)
from orchestrator.engine.signals import SignalCleared, SignalPosted
from orchestrator.engine.steps import UNCHANGED, Illegal, Step, changed, same
from orchestrator.model.fleet import OTHER, Cell
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import (
    RegionPhase,
    RegionProgress,
    Rollout,
    RolloutStatus,
    Verdict,
    VerdictKind,
)
from orchestrator.model.tally import CellTallies, total

__all__ = [
    "EVALUATOR",
    "GATE",
    "RECOVERY",
    "UNCHANGED",
    "AbortRequested",
    "ApproveRequested",
    "Event",
    "Illegal",
    "Judged",
    "PauseRequested",
    "RecoveryUnproven",
    "ResumeRequested",
    "SignalCleared",
    "SignalPosted",
    "StartRequested",
    "Step",
    "SupersedeRequested",
    "approval_wanted",
    "next_due",
    "start",
    "step",
    "waiting_for",
]

RECOVERY = "recovery"
"""Actor of what a start without proof decides."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The counters were summed and the gate was asked."""

    judgement: Judgement
    cells: CellTallies
    waiting: Mapping[Cell, int]
    """Vehicles by inventory that match the target now and do not have the release."""
    dark: frozenset[str] = frozenset()
    """Regions whose network seems to be down."""


@dataclass(frozen=True, slots=True)
class RecoveryUnproven:
    """The store came up and nothing proves that it is complete."""

    reason: str


Event = (
    Judged
    | StartRequested
    | PauseRequested
    | ResumeRequested
    | AbortRequested
    | ApproveRequested
    | SupersedeRequested
    | SignalPosted
    | SignalCleared
    | RecoveryUnproven
)


def step(rollout: Rollout, event: Event, now: FleetTime) -> Step | Illegal:
    """What an event makes of a rollout.

    Args:
        rollout: As it stands.
        event: What happened.
        now: Fleet time.

    Returns:
        The rollout after it, its epoch one higher if it changed; Illegal when its status forbids the request.
    """
    match event:
        case Judged():
            return _judged(rollout, event, now)
        case StartRequested():
            return requests.launch(rollout, event, now)
        case PauseRequested():
            return requests.pause(rollout, event, now)
        case ResumeRequested():
            return requests.resume(rollout, event, now)
        case AbortRequested():
            return requests.abort(rollout, event, now)
        case ApproveRequested():
            return requests.approve(rollout, event, now)
        case SupersedeRequested():
            return requests.supersede(rollout, event, now)
        case SignalPosted():
            return requests.over(rollout) if rollout.status.over else signals.post(rollout, event, now)
        case SignalCleared():
            return requests.over(rollout) if rollout.status.over else signals.clear(rollout, event, now)
        case RecoveryUnproven():
            return _unproven(rollout, event, now)
        case _:
            assert_never(event)


def waiting_for(rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], region: str, now: FleetTime) -> str:
    """What a region waits for, for people, with the numbers; empty when it is through.

    Args:
        rollout: As it stands.
        cells: Its counters.
        waiting: As in Judged.
        region: One of the rollout's.
        now: Fleet time.
    """
    progress = rollout.regions[region]
    if rollout.status.over or progress.phase is RegionPhase.DONE:
        return ""
    if not rollout.status.begun:
        return approvals.missing_start(rollout) or "a person to start it"
    if rollout.status is not RolloutStatus.RUNNING:
        clears = rollout.status is RolloutStatus.HELD and not rollout.hold_final
        return f"{'the gate to clear, or ' if clears else ''}a person to resume or abort"
    return regions.hindrance(region_at(region, rollout, cells, waiting), now)


def approval_wanted(
    rollout: Rollout, cells: CellTallies, waiting: Mapping[Cell, int], region: str, now: FleetTime
) -> str:
    """The name of the wave that would begin in a region if it were approved; empty when anything else is missing.

    Args:
        rollout: As it stands.
        cells: Its counters.
        waiting: As in Judged.
        region: One of the rollout's.
        now: Fleet time.
    """
    running = rollout.status is RolloutStatus.RUNNING
    return regions.approval_wanted(region_at(region, rollout, cells, waiting), now) if running else ""


def next_due(rollout: Rollout, now: FleetTime) -> FleetTime | None:
    """When time alone may next change a running rollout: a soak, a patience, a signal or a hold of a part ends then.

    Returns:
        The earliest such fleet time; None when only counters or people can change it.
    """
    if rollout.status is not RolloutStatus.RUNNING:
        return None
    due = [FleetTime(each.measured_at + each.good_for_ms) for each in rollout.signals if each.good_for_ms]
    due += brakes.final_at(rollout)
    for name, progress in rollout.regions.items():
        region = region_at(name, rollout, {}, {})
        if progress.phase is RegionPhase.ROLLING:
            due.append(regions.soak_ends_at(region))
        # A region that has not begun waits for people and for other regions, not for time.
        if progress.phase not in (RegionPhase.PENDING, RegionPhase.DONE):
            due.append(regions.patience_ends_at(region))
    return min((at for at in due if at > now), default=None)


def _judged(rollout: Rollout, event: Judged, now: FleetTime) -> Step:
    if rollout.status.over or not rollout.status.begun or rollout.status is RolloutStatus.HALTED:
        return same(rollout)
    braked = _braked(_opened(strata.folded(rollout, event.cells, event.waiting), event), event, now)
    worst = event.judgement.worst
    if worst.kind is VerdictKind.HALT:
        return _halted(rollout, event, worst, now)
    if rollout.status is RolloutStatus.RUNNING and worst.kind is VerdictKind.HOLD:
        held = replace(
            braked.rollout,
            status=RolloutStatus.HELD,
            held_since=now,
            actor=GATE,
            reason=worst.message,
            verdict=worst,
        )
        return changed(rollout, held, "rollout_held", now, _seen(event))
    if rollout.status is RolloutStatus.HELD and worst.kind is VerdictKind.PROCEED and not rollout.hold_final:
        cleared = replace(
            braked.rollout,
            status=RolloutStatus.RUNNING,
            held_since=None,
            actor=GATE,
            reason=worst.message,
            verdict=worst,
        )
        return changed(rollout, cleared, "hold_cleared", now, _seen(event))
    if rollout.status is RolloutStatus.HELD and not rollout.hold_final and (why := _lasts(rollout, event, now)):
        # Who held it, and by which rule, stays: this only says that it does not clear by itself any more.
        return changed(rollout, replace(braked.rollout, hold_final=True), "hold_final", now, {**_seen(event), **why})
    if rollout.status is RolloutStatus.RUNNING:
        return _walked(rollout, braked, event, now)
    return _with_brakes(rollout, braked, event, now)


def _opened(rollout: Rollout, event: Judged) -> Rollout:
    """The rollout with the places of waves that it started in, and of cells that had no vehicle when theirs began.

    Whatever the gate says: nobody is granted before a tick has looked, so no place is taken uncounted.
    """
    after = dict(rollout.regions)
    for name, progress in rollout.regions.items():
        region = region_at(name, rollout, event.cells, event.waiting)
        after[name] = openings.completed(rollout.plan, progress, region.targets, rollout.apart)
    return replace(rollout, regions=after) if after != dict(rollout.regions) else rollout


def _braked(rollout: Rollout, event: Judged, now: FleetTime) -> brakes.Braked:
    """The brakes after this look. Darkness first: what it lets go may be held in the same step."""
    proceeds = event.judgement.worst.kind is VerdictKind.PROCEED
    held = rollout.status is RolloutStatus.HELD and not rollout.hold_final
    runs = proceeds and (rollout.status is RolloutStatus.RUNNING or held)
    by_dark = brakes.darkened(rollout, event.dark, now)
    by_gate = brakes.judged(by_dark.rollout, event.judgement.verdicts, now, runs=runs)
    lasting = brakes.lasting(by_gate.rollout, event.cells, now)
    return brakes.Braked(lasting.rollout, (*by_dark.moves, *by_gate.moves, *lasting.moves))


def _halted(rollout: Rollout, event: Judged, worst: Verdict, now: FleetTime) -> Step:
    halted = replace(
        rollout,
        status=RolloutStatus.HALTED,
        fence=rollout.epoch + 1,
        held_since=None,
        hold_final=False,
        actor=GATE,
        reason=worst.message,
        verdict=worst,
    )
    return changed(rollout, halted, "rollout_halted", now, _seen(event))


def _lasts(rollout: Rollout, event: Judged, now: FleetTime) -> dict[str, Json]:
    """Why a hold does not clear by itself any more, for the journal; empty when it still may."""
    tally = total(event.cells.values())
    why = holds.final_because(rollout.plan.gate, rollout.verdict, tally, rollout.held_since, now)
    return {"final_because": why} if why else {}


def _with_brakes(rollout: Rollout, braked: brakes.Braked, event: Judged, now: FleetTime) -> Step:
    """The step of a rollout of which only parts were braked or let go, or places were counted."""
    if braked.moves:
        said: dict[str, Json] = {"actor": GATE, "reason": "; ".join(braked.moves)}
        return changed(rollout, braked.rollout, "parts_braked", now, {**_seen(event), **said})
    if braked.rollout.apart != rollout.apart:
        said = {"actor": EVALUATOR, "reason": _folded(braked.rollout, event)}
        return changed(rollout, braked.rollout, "strata_folded", now, {**_seen(event), **said})
    if braked.rollout != rollout:
        said = {"actor": EVALUATOR, "reason": "places of the wave were counted"}
        return changed(rollout, braked.rollout, "places_counted", now, {**_seen(event), **said})
    return same(rollout)


def _folded(rollout: Rollout, event: Judged) -> str:
    """Which strata are judged together from now on, for people."""
    names = strata.together(rollout.apart, (*event.cells, *event.waiting))
    return f"{len(rollout.apart)} strata are judged each on its own, {len(names)} together as {OTHER}"


def _walked(rollout: Rollout, braked: brakes.Braked, event: Judged, now: FleetTime) -> Step:
    """Let every region take its step; complete the rollout when all are through and nothing runs any more."""
    moves: list[str] = []
    after: dict[str, RegionProgress] = {}
    done = not braked.rollout.brakes
    for name, progress in braked.rollout.regions.items():
        region = region_at(name, braked.rollout, event.cells, event.waiting)
        moved = regions.walk(region, now)
        after[name] = moved or progress
        done &= after[name].phase is RegionPhase.DONE or (progress.phase is RegionPhase.PENDING and region.empty)
        if moved is not None:
            moves.append(_move(region, moved))
    if not moves and not done:
        return _with_brakes(rollout, braked, event, now)
    reasons = [*braked.moves, *moves]
    moved_on = replace(
        braked.rollout, regions=after, actor=EVALUATOR, reason="; ".join(reasons), verdict=event.judgement.worst
    )
    # Vehicles that came late into a region that was through count as well.
    if done and holds.settled(total(event.cells.values())):
        reason = "; ".join([*reasons, "every region is through"])
        # The fence withdraws a vehicle that was granted in the very moment: it must not wait on a rollout that is over.
        fence = rollout.epoch + 1
        completed = replace(moved_on, status=RolloutStatus.COMPLETED, fence=fence, reason=reason)
        return changed(rollout, completed, "rollout_completed", now, _seen(event))
    if not moves:
        return _with_brakes(rollout, braked, event, now)
    return changed(rollout, moved_on, "regions_advanced", now, _seen(event))


def _seen(event: Judged) -> dict[str, Json]:
    dark: list[Json] = [*sorted(event.dark)]
    return {**inputs.written(event.judgement, event.cells, event.waiting), "dark": dark}


def _move(region: Region, moved: RegionProgress) -> str:
    """Where a region went, for people, and who was not represented in the wave that it leaves."""
    plan, before = region.plan, region.progress
    said = f"{region.name}: {_place(plan, before)} -> {_place(plan, moved)}"
    absent = promotion.absent_strata(region) if before.phase is RegionPhase.ROLLING else []
    return f"{said} (nobody exposed so far of {', '.join(absent)})" if absent else said


def _place(plan: Plan, progress: RegionProgress) -> str:
    if progress.phase is RegionPhase.ROLLING:
        return f"wave {plan.waves[progress.wave].name}"
    return f"{progress.phase.value}{', closed' if progress.closed else ''}"


def _unproven(rollout: Rollout, event: RecoveryUnproven, now: FleetTime) -> Step:
    if rollout.status not in (RolloutStatus.RUNNING, RolloutStatus.HELD):
        return same(rollout)
    paused = replace(
        rollout,
        status=RolloutStatus.PAUSED,
        actor=RECOVERY,
        reason=event.reason,
        held_since=None,
        hold_final=False,
    )
    return changed(rollout, paused, "recovery_paused", now)
