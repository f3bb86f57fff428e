"""Progress: how a rollout answers to what happens, as one pure step.

Owns the rollout's status, epoch, fence and waivers. How a region walks over the waves is `regions`' matter, what the
counters mean is the gate's. Nothing is carried out here: whoever steps commits the new value by compare-and-set on the
epoch, and a step that lost the race is made again from what stands then.

| status    | PROCEED                | HOLD     | HALT     | pause    | resume    | abort     | approve  |
|-----------|------------------------|----------|----------|----------|-----------|-----------|----------|
| RUNNING   | regions walk, the last | HELD     | HALTED * | PAUSED   | unchanged | ABORTED * | recorded |
|           | one done: COMPLETED    |          |          |          |           |           |          |
| HELD      | RUNNING                | stays    | HALTED * | PAUSED   | RUNNING w | ABORTED * | recorded |
| PAUSED    | stays                  | stays    | HALTED * | no change| RUNNING   | ABORTED * | recorded |
| HALTED    | stays                  | stays    | stays    | refused  | RUNNING w | ABORTED * | refused  |
| COMPLETED | stays                  | stays    | stays    | refused  | refused   | refused   | refused  |
| ABORTED   | stays                  | stays    | stays    | refused  | refused   | no change | refused  |

`*` raises the fence, `w` waives the rule that stopped it. Whose approval counts is the matter of `approvals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from orchestrator.engine import approvals, inputs, regions
from orchestrator.engine.approvals import ApproveRequested
from orchestrator.engine.gates import INCONSISTENT, Judgement, waiver
from orchestrator.engine.inputs import Json
from orchestrator.engine.steps import UNCHANGED, Illegal, Step, changed, same
from orchestrator.model.attempt import LIVE_STATES
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.rollout import (
    Approval,
    RegionPhase,
    RegionProgress,
    Rollout,
    RolloutStatus,
    Verdict,
    VerdictKind,
)
from orchestrator.model.tally import CellTallies, Tally, total

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
    "Step",
    "approval_wanted",
    "next_due",
    "start",
    "step",
    "waiting_for",
]

GATE = "gate"
"""Actor of what the gate decides."""
EVALUATOR = "evaluator"
"""Actor of a region's walk."""
RECOVERY = "recovery"
"""Actor of what a start without proof decides."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The counters were summed and the gate was asked."""

    judgement: Judgement
    cells: CellTallies
    waiting: Mapping[Cell, int]
    """Vehicles by inventory that match the target now and do not have the release."""


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A person wants no more grants and permits for now."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A person wants it to go on."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class AbortRequested:
    """A person wants it to end."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class RecoveryUnproven:
    """The store came up and nothing proves that it is complete."""

    reason: str


Event = Judged | PauseRequested | ResumeRequested | AbortRequested | ApproveRequested | RecoveryUnproven


def start(
    rollout_id: RolloutId,
    plan: Plan,
    plan_text: str,
    salt: bytes,
    region_rules: Mapping[str, RegionRules],
    actor: str,
    reason: str,
    request_id: str,
    now: FleetTime,
    reverts: str = "",
) -> Rollout:
    """A new rollout, running, every region in its first wave or pending, epoch 1, fence 0.

    Args:
        rollout_id: Its id.
        plan: As read.
        plan_text: The file as it was given.
        salt: 16 random bytes.
        region_rules: Of every region it runs in, see `preview.regions_of`; becomes the plan's.
        actor: Who starts it: its creator.
        reason: Why.
        request_id: Of the creation.
        now: Fleet time.
        reverts: Id of the rollout that it undoes; empty for others.
    """
    started = replace(plan, regions=dict(region_rules))
    return Rollout(
        rollout_id=rollout_id,
        plan=started,
        plan_text=plan_text,
        salt=salt,
        status=RolloutStatus.RUNNING,
        epoch=1,
        fence=0,
        regions={
            region: RegionProgress(phase=regions.first_phase(region, started), wave=0, wave_started_at=now)
            for region in sorted(region_rules)
        },
        created_at=now,
        updated_at=now,
        actor=actor,
        reason=reason,
        request_id=request_id,
        creator=actor,
        reverts=reverts,
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
        case PauseRequested():
            return _pause(rollout, event, now)
        case ResumeRequested():
            return _resume(rollout, event, now)
        case AbortRequested():
            return _abort(rollout, event, now)
        case ApproveRequested():
            return _approve(rollout, event, now)
        case RecoveryUnproven():
            if rollout.status not in (RolloutStatus.RUNNING, RolloutStatus.HELD):
                return same(rollout)
            paused = replace(rollout, status=RolloutStatus.PAUSED, actor=RECOVERY, reason=event.reason)
            return changed(rollout, paused, "recovery_paused", now)
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
    if rollout.status is not RolloutStatus.RUNNING:
        held = rollout.status is RolloutStatus.HELD
        return f"{'the gate to clear, or ' if held else ''}a person to resume or abort"
    return regions.hindrance(regions.region_at(region, rollout, cells, waiting), now)


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
    return regions.approval_wanted(regions.region_at(region, rollout, cells, waiting), now) if running else ""


def next_due(rollout: Rollout, now: FleetTime) -> FleetTime | None:
    """When time alone may next change a running rollout: a soak or a patience that ends after `now`.

    Returns:
        The earliest such fleet time; None when only counters or people can change it.
    """
    if rollout.status is not RolloutStatus.RUNNING:
        return None
    due: list[FleetTime] = []
    for name, progress in rollout.regions.items():
        region = regions.region_at(name, rollout, {}, {})
        if progress.phase is RegionPhase.ROLLING:
            due.append(regions.soak_ends_at(region))
        # A region that has not begun waits for people and for other regions, not for time.
        if progress.phase not in (RegionPhase.PENDING, RegionPhase.DONE):
            due.append(regions.patience_ends_at(region))
    return min((at for at in due if at > now), default=None)


def _judged(rollout: Rollout, event: Judged, now: FleetTime) -> Step:
    worst = event.judgement.worst
    if rollout.status.over or not rollout.status.begun or rollout.status is RolloutStatus.HALTED:
        return same(rollout)
    if worst.kind is VerdictKind.HALT:
        halted = replace(
            rollout,
            status=RolloutStatus.HALTED,
            fence=rollout.epoch + 1,
            actor=GATE,
            reason=worst.message,
            verdict=worst,
        )
        return changed(rollout, halted, "rollout_halted", now, _seen(event))
    if rollout.status is RolloutStatus.RUNNING and worst.kind is VerdictKind.HOLD:
        held = replace(rollout, status=RolloutStatus.HELD, actor=GATE, reason=worst.message, verdict=worst)
        return changed(rollout, held, "rollout_held", now, _seen(event))
    if rollout.status is RolloutStatus.HELD and worst.kind is VerdictKind.PROCEED:
        cleared = replace(rollout, status=RolloutStatus.RUNNING, actor=GATE, reason=worst.message, verdict=worst)
        return changed(rollout, cleared, "hold_cleared", now, _seen(event))
    if rollout.status is RolloutStatus.RUNNING:
        return _walked(rollout, event, now)
    return same(rollout)


def _walked(rollout: Rollout, event: Judged, now: FleetTime) -> Step:
    """Let every region take its step; complete the rollout when all are through and nothing runs any more."""
    moves: list[str] = []
    after: dict[str, RegionProgress] = {}
    done = True
    for name, progress in rollout.regions.items():
        region = regions.region_at(name, rollout, event.cells, event.waiting)
        moved = regions.walk(region, now)
        after[name] = moved or progress
        done &= after[name].phase is RegionPhase.DONE or (progress.phase is RegionPhase.PENDING and region.empty)
        if moved is not None:
            moves.append(f"{name}: {_place(rollout.plan, progress)} -> {_place(rollout.plan, moved)}")
    moved_on = replace(rollout, regions=after, actor=EVALUATOR, reason="; ".join(moves), verdict=event.judgement.worst)
    if done and _settled(total(event.cells.values())):
        reason = "; ".join([*moves, "every region is through"])
        # The fence withdraws a vehicle that was granted in the very moment: it must not wait on a rollout that is over.
        fence = rollout.epoch + 1
        completed = replace(moved_on, status=RolloutStatus.COMPLETED, fence=fence, reason=reason)
        return changed(rollout, completed, "rollout_completed", now, _seen(event))
    if not moves:
        return same(rollout)
    return changed(rollout, moved_on, "regions_advanced", now, _seen(event))


def _settled(tally: Tally) -> bool:
    """Whether nothing is on its way: vehicles that came late into a region that was through count as well."""
    aged = tally.age_groups[-1].exposed if tally.age_groups else 0
    return not any(tally.state(state) for state in LIVE_STATES) and aged >= tally.exposed


def _seen(event: Judged) -> dict[str, Json]:
    return inputs.written(event.judgement, event.cells, event.waiting)


def _place(plan: Plan, progress: RegionProgress) -> str:
    if progress.phase is RegionPhase.ROLLING:
        return f"wave {plan.waves[progress.wave].name}"
    return progress.phase.value


def _pause(rollout: Rollout, event: PauseRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.PAUSED:
        return same(rollout)
    if not rollout.status.begun:
        return _draft(rollout)
    if rollout.status is RolloutStatus.HALTED:
        return Illegal(
            f"rollout {rollout.rollout_id} is halted: it admits nobody already",
            "resume it or abort it, or leave it halted",
        )
    if rollout.status.over:
        return _over(rollout)
    paused = replace(rollout, status=RolloutStatus.PAUSED, actor=event.actor, reason=event.reason)
    return changed(rollout, paused, "rollout_paused", now)


def _resume(rollout: Rollout, event: ResumeRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.RUNNING:
        return same(rollout)
    if not rollout.status.begun:
        return _draft(rollout)
    if rollout.status.over:
        return _over(rollout)
    waived = rollout.waived
    if rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED):
        waived = _waived(waived, rollout.verdict)
    resumed = replace(rollout, status=RolloutStatus.RUNNING, actor=event.actor, reason=event.reason, waived=waived)
    return changed(rollout, resumed, "rollout_resumed", now)


def _waived(waived: tuple[str, ...], verdict: Verdict | None) -> tuple[str, ...]:
    # Nobody can waive that counters contradict themselves: it holds again at once.
    if verdict is None or verdict.kind is VerdictKind.PROCEED or verdict.rule == INCONSISTENT:
        return waived
    return tuple(dict.fromkeys((*waived, waiver(verdict))))


def _abort(rollout: Rollout, event: AbortRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.ABORTED:
        return same(rollout)
    if rollout.status.over:
        return _over(rollout)
    aborted = replace(
        rollout, status=RolloutStatus.ABORTED, fence=rollout.epoch + 1, actor=event.actor, reason=event.reason
    )
    return changed(rollout, aborted, "rollout_aborted", now)


def _approve(rollout: Rollout, event: ApproveRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status.over:
        return _over(rollout)
    if rollout.status is RolloutStatus.HALTED:
        return Illegal(
            f"rollout {rollout.rollout_id} is halted: no wave of it can begin", "resume it first, if it shall go on"
        )
    objection = approvals.objection(rollout, event)
    if objection is not None:
        return Illegal(*objection)
    if approvals.repeated(rollout, event):
        return same(rollout)
    approval = Approval(wave=event.wave, region=event.region, actor=event.actor, reason=event.reason, at=now)
    approved = replace(rollout, approvals=(*rollout.approvals, approval))
    if rollout.status is RolloutStatus.RUNNING:
        # Of a rollout that stands, actor and reason keep saying who stopped it, and why.
        approved = replace(approved, actor=event.actor, reason=event.reason)
    said: dict[str, Json] = {
        "actor": event.actor,
        "reason": event.reason,
        "wave": event.wave,
        "region": event.region,
        "approvals_wanted": next(wave.approvals for wave in rollout.plan.waves if wave.name == event.wave),
    }
    return changed(rollout, approved, "wave_approved", now, said)


def _draft(rollout: Rollout) -> Illegal:
    return Illegal(f"rollout {rollout.rollout_id} is a draft: it was never started", "start it, or abort it")


def _over(rollout: Rollout) -> Illegal:
    return Illegal(
        f"rollout {rollout.rollout_id} is {rollout.status}: nothing changes it any more", "start a new rollout"
    )
