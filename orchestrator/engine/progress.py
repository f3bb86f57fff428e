"""Progress: how a rollout answers to what happens, as one pure step.

Owns the rollout's status, epoch, fence and waivers. How a region walks over the waves is `regions`' matter, what the
counters mean is the gate's. Nothing is carried out here: whoever steps commits the new value by compare-and-set on the
epoch, and a step that lost the race is made again from what stands then.

| status    | PROCEED                | HOLD     | HALT     | pause    | resume    | abort     |
|-----------|------------------------|----------|----------|----------|-----------|-----------|
| RUNNING   | regions walk, the last | HELD     | HALTED * | PAUSED   | unchanged | ABORTED * |
|           | one done: COMPLETED    |          |          |          |           |           |
| HELD      | RUNNING                | stays    | HALTED * | PAUSED   | RUNNING w | ABORTED * |
| PAUSED    | stays                  | stays    | HALTED * | no change| RUNNING   | ABORTED * |
| HALTED    | stays                  | stays    | stays    | refused  | RUNNING w | ABORTED * |
| COMPLETED | stays                  | stays    | stays    | refused  | refused   | refused   |
| ABORTED   | stays                  | stays    | stays    | refused  | refused   | no change |

`*` raises the fence, `w` waives the rule that stopped it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from orchestrator.engine import inputs, regions
from orchestrator.engine.gates import INCONSISTENT, Judgement, waiver
from orchestrator.engine.inputs import Json
from orchestrator.model.attempt import LIVE_STATES
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.rollout import RegionPhase, RegionProgress, Rollout, RolloutStatus, Verdict, VerdictKind
from orchestrator.model.tally import CellTallies, Tally, total

GATE = "gate"
"""Actor of what the gate decides."""
EVALUATOR = "evaluator"
"""Actor of a region's walk."""
RECOVERY = "recovery"
"""Actor of what a start without proof decides."""
UNCHANGED = "unchanged"
"""Kind of a step that changes nothing."""


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


Event = Judged | PauseRequested | ResumeRequested | AbortRequested | RecoveryUnproven


@dataclass(frozen=True, slots=True)
class Step:
    """What an event made of a rollout."""

    rollout: Rollout
    changed: bool
    """Whether there is anything to commit."""
    kind: str
    """In the past, for the journal: `rollout_halted`, `rollout_held`, `hold_cleared`, `regions_advanced`,
    `rollout_completed`, `rollout_paused`, `rollout_resumed`, `rollout_aborted`, `recovery_paused`, or `unchanged`.
    """
    data: Mapping[str, Json]
    """For the journal: what changed, by whom, why, and every input of the decision."""


@dataclass(frozen=True, slots=True)
class Illegal:
    """A request that the rollout's status does not allow."""

    message: str
    remedy: str


def start(
    rollout_id: RolloutId,
    plan: Plan,
    plan_text: str,
    salt: bytes,
    regions: Mapping[str, RegionRules],
    actor: str,
    reason: str,
    request_id: str,
    now: FleetTime,
) -> Rollout:
    """A new rollout, running, every region in its first wave, epoch 1, fence 0.

    Args:
        rollout_id: Its id.
        plan: As read.
        plan_text: The file as it was given.
        salt: 16 random bytes.
        regions: Every region it runs in, see `preview.regions_of`; becomes the plan's.
        actor: Who starts it.
        reason: Why.
        request_id: Of the creation.
        now: Fleet time.
    """
    return Rollout(
        rollout_id=rollout_id,
        plan=replace(plan, regions=dict(regions)),
        plan_text=plan_text,
        salt=salt,
        status=RolloutStatus.RUNNING,
        epoch=1,
        fence=0,
        regions={
            region: RegionProgress(phase=RegionPhase.ROLLING, wave=0, wave_started_at=now) for region in sorted(regions)
        },
        created_at=now,
        updated_at=now,
        actor=actor,
        reason=reason,
        request_id=request_id,
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
        case RecoveryUnproven():
            if rollout.status not in (RolloutStatus.RUNNING, RolloutStatus.HELD):
                return _same(rollout)
            paused = replace(rollout, status=RolloutStatus.PAUSED, actor=RECOVERY, reason=event.reason)
            return _changed(rollout, paused, "recovery_paused", now)
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
        person = "a person to resume or abort"
        return f"the gate to clear, or {person}" if rollout.status is RolloutStatus.HELD else person
    return regions.hindrance(regions.region_at(region, rollout.plan, progress, cells, waiting), now)


def next_due(rollout: Rollout, now: FleetTime) -> FleetTime | None:
    """When time alone may next change a running rollout: a soak or a patience that ends after `now`.

    Returns:
        The earliest such fleet time; None when only counters or people can change it.
    """
    if rollout.status is not RolloutStatus.RUNNING:
        return None
    due: list[FleetTime] = []
    for name, progress in rollout.regions.items():
        region = regions.region_at(name, rollout.plan, progress, {}, {})
        if progress.phase is RegionPhase.ROLLING:
            due.append(regions.soak_ends_at(region))
        if progress.phase is not RegionPhase.DONE:
            due.append(regions.patience_ends_at(region))
    return min((at for at in due if at > now), default=None)


def _judged(rollout: Rollout, event: Judged, now: FleetTime) -> Step:
    worst = event.judgement.worst
    if rollout.status.over or rollout.status is RolloutStatus.HALTED:
        return _same(rollout)
    if worst.kind is VerdictKind.HALT:
        halted = replace(
            rollout,
            status=RolloutStatus.HALTED,
            fence=rollout.epoch + 1,
            actor=GATE,
            reason=worst.message,
            verdict=worst,
        )
        return _changed(rollout, halted, "rollout_halted", now, event)
    if rollout.status is RolloutStatus.RUNNING and worst.kind is VerdictKind.HOLD:
        held = replace(rollout, status=RolloutStatus.HELD, actor=GATE, reason=worst.message, verdict=worst)
        return _changed(rollout, held, "rollout_held", now, event)
    if rollout.status is RolloutStatus.HELD and worst.kind is VerdictKind.PROCEED:
        cleared = replace(rollout, status=RolloutStatus.RUNNING, actor=GATE, reason=worst.message, verdict=worst)
        return _changed(rollout, cleared, "hold_cleared", now, event)
    if rollout.status is RolloutStatus.RUNNING:
        return _walked(rollout, event, now)
    return _same(rollout)


def _walked(rollout: Rollout, event: Judged, now: FleetTime) -> Step:
    """Let every region take its step; complete the rollout when all are through and nothing runs any more."""
    moves: list[str] = []
    after: dict[str, RegionProgress] = {}
    for name, progress in rollout.regions.items():
        region = regions.region_at(name, rollout.plan, progress, event.cells, event.waiting)
        moved = regions.walk(region, now)
        after[name] = moved or progress
        if moved is not None:
            moves.append(f"{name}: {_place(rollout.plan, progress)} -> {_place(rollout.plan, moved)}")
    moved_on = replace(rollout, regions=after, actor=EVALUATOR, reason="; ".join(moves), verdict=event.judgement.worst)
    done = all(progress.phase is RegionPhase.DONE for progress in after.values())
    if done and _settled(total(event.cells.values())):
        reason = "; ".join([*moves, "every region is through"])
        # The fence withdraws a vehicle that was granted in the very moment: it must not wait on a rollout that is over.
        fence = rollout.epoch + 1
        completed = replace(moved_on, status=RolloutStatus.COMPLETED, fence=fence, reason=reason)
        return _changed(rollout, completed, "rollout_completed", now, event)
    if not moves:
        return _same(rollout)
    return _changed(rollout, moved_on, "regions_advanced", now, event)


def _settled(tally: Tally) -> bool:
    """Whether nothing is on its way: vehicles that came late into a region that was through count as well."""
    aged = tally.age_groups[-1].exposed if tally.age_groups else 0
    return not any(tally.state(state) for state in LIVE_STATES) and aged >= tally.exposed


def _place(plan: Plan, progress: RegionProgress) -> str:
    if progress.phase is RegionPhase.ROLLING:
        return f"wave {plan.waves[progress.wave].name}"
    return progress.phase.value


def _pause(rollout: Rollout, event: PauseRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.PAUSED:
        return _same(rollout)
    if rollout.status is RolloutStatus.HALTED:
        return Illegal(
            f"rollout {rollout.rollout_id} is halted: it admits nobody already",
            "resume it or abort it, or leave it halted",
        )
    if rollout.status.over:
        return _over(rollout)
    paused = replace(rollout, status=RolloutStatus.PAUSED, actor=event.actor, reason=event.reason)
    return _changed(rollout, paused, "rollout_paused", now)


def _resume(rollout: Rollout, event: ResumeRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.RUNNING:
        return _same(rollout)
    if rollout.status.over:
        return _over(rollout)
    waived = rollout.waived
    if rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED):
        waived = _waived(waived, rollout.verdict)
    resumed = replace(rollout, status=RolloutStatus.RUNNING, actor=event.actor, reason=event.reason, waived=waived)
    return _changed(rollout, resumed, "rollout_resumed", now)


def _waived(waived: tuple[str, ...], verdict: Verdict | None) -> tuple[str, ...]:
    # Nobody can waive that counters contradict themselves: it holds again at once.
    if verdict is None or verdict.kind is VerdictKind.PROCEED or verdict.rule == INCONSISTENT:
        return waived
    return tuple(dict.fromkeys((*waived, waiver(verdict))))


def _abort(rollout: Rollout, event: AbortRequested, now: FleetTime) -> Step | Illegal:
    if rollout.status is RolloutStatus.ABORTED:
        return _same(rollout)
    if rollout.status.over:
        return _over(rollout)
    aborted = replace(
        rollout, status=RolloutStatus.ABORTED, fence=rollout.epoch + 1, actor=event.actor, reason=event.reason
    )
    return _changed(rollout, aborted, "rollout_aborted", now)


def _over(rollout: Rollout) -> Illegal:
    return Illegal(
        f"rollout {rollout.rollout_id} is {rollout.status}: nothing changes it any more", "start a new rollout"
    )


def _same(rollout: Rollout) -> Step:
    return Step(rollout=rollout, changed=False, kind=UNCHANGED, data={})


def _changed(before: Rollout, after: Rollout, kind: str, now: FleetTime, event: Judged | None = None) -> Step:
    raised = replace(after, epoch=before.epoch + 1, updated_at=now)
    data: dict[str, Json] = {
        "change": kind,
        "rollout_id": before.rollout_id,
        "status_before": before.status.value,
        "status": raised.status.value,
        "epoch": raised.epoch,
        "fence": raised.fence,
        "actor": raised.actor,
        "reason": raised.reason,
        "waived": list(raised.waived),
        "regions": {name: _region_data(progress) for name, progress in raised.regions.items()},
    }
    if event is not None:
        data |= inputs.written(event.judgement, event.cells, event.waiting)
    return Step(rollout=raised, changed=True, kind=kind, data=data)


def _region_data(progress: RegionProgress) -> Json:
    return {"phase": progress.phase.value, "wave": progress.wave, "wave_started_at": progress.wave_started_at}
