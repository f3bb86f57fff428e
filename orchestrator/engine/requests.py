"""Requests: what people ask of a rollout as a whole, or of a part of it, from its creation to its end.

Owns what a new rollout is, and which request a status allows, with the words for the others. The table stands in
`progress`, that of the parts in `brakes`; whose approval counts is the matter of `approvals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.engine import approvals, brakes, regions
from orchestrator.engine.approvals import ApproveRequested
from orchestrator.engine.inputs import Json
from orchestrator.engine.steps import Illegal, Step, changed, same
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Plan, RegionRules
from orchestrator.model.rollout import Approval, BrakeKind, RegionProgress, Rollout, RolloutStatus


@dataclass(frozen=True, slots=True)
class StartRequested:
    """A person wants a draft to start."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class PauseRequested:
    """A person wants no more grants and permits for now."""

    actor: str
    reason: str
    scope: str = ""
    """`region` or `region/hardware`; empty: everywhere."""


@dataclass(frozen=True, slots=True)
class ResumeRequested:
    """A person wants it to go on."""

    actor: str
    reason: str
    scope: str = ""
    """Of the brake that is taken off; empty: the rollout's own stop."""


@dataclass(frozen=True, slots=True)
class AbortRequested:
    """A person wants it to end."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class SupersedeRequested:
    """Another rollout starts that takes its place."""

    by: RolloutId
    actor: str
    reason: str


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
    *,
    draft: bool = False,
    release_sha256: str = "",
) -> Rollout:
    """A new rollout, every region in its first wave or pending, epoch 1, fence 0: running, or a draft.

    A plan that asks for approvals makes a draft in any case.

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
        draft: Only written down; `StartRequested` starts it.
        release_sha256: Digest of the plan's release, see `pins`; empty: it is not looked at.
    """
    started = replace(plan, regions=dict(region_rules))
    return Rollout(
        rollout_id=rollout_id,
        plan=started,
        plan_text=plan_text,
        salt=salt,
        status=RolloutStatus.DRAFT if draft or plan.approvals else RolloutStatus.RUNNING,
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
        release_sha256=release_sha256,
    )


def launch(rollout: Rollout, event: StartRequested, now: FleetTime) -> Step | Illegal:
    """A draft starts: its waves count from now."""
    if rollout.status is RolloutStatus.RUNNING:
        return same(rollout)
    if rollout.status.over:
        return over(rollout)
    if rollout.status.begun:
        return Illegal(f"rollout {rollout.rollout_id} was started before: it is {rollout.status}", "resume it instead")
    lacking = approvals.missing_start(rollout)
    if lacking:
        return Illegal(f"rollout {rollout.rollout_id} cannot start: {lacking}", "ask people with role approver")
    begun = {
        name: RegionProgress(phase=regions.first_phase(name, rollout.plan), wave=0, wave_started_at=now)
        for name in rollout.regions
    }
    running = replace(rollout, status=RolloutStatus.RUNNING, regions=begun, actor=event.actor, reason=event.reason)
    return changed(rollout, running, "rollout_started", now)


def pause(rollout: Rollout, event: PauseRequested, now: FleetTime) -> Step | Illegal:
    """It stands still, or a part of it does."""
    if rollout.status.over:
        return over(rollout)
    if not rollout.status.begun:
        return _draft(rollout)
    if rollout.status is RolloutStatus.HALTED:
        return Illegal(
            f"rollout {rollout.rollout_id} is halted: it admits nobody already",
            "resume it or abort it, or leave it halted",
        )
    if event.scope:
        return _pause_part(rollout, event, now)
    if rollout.status is RolloutStatus.PAUSED:
        return same(rollout)
    paused = replace(
        rollout, status=RolloutStatus.PAUSED, actor=event.actor, reason=event.reason, held_since=None, hold_final=False
    )
    return changed(rollout, paused, "rollout_paused", now)


def resume(rollout: Rollout, event: ResumeRequested, now: FleetTime) -> Step | Illegal:
    """It goes on, or a part of it does; what the gate stopped it for is waived."""
    if rollout.status.over:
        return over(rollout)
    if not rollout.status.begun:
        return _draft(rollout)
    if event.scope:
        return _resume_part(rollout, event, now)
    if rollout.status is RolloutStatus.RUNNING:
        return same(rollout)
    waived = rollout.waived
    if rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED):
        waived = brakes.waived(waived, rollout.verdict)
    resumed = replace(
        rollout,
        status=RolloutStatus.RUNNING,
        actor=event.actor,
        reason=event.reason,
        waived=waived,
        held_since=None,
        hold_final=False,
    )
    return changed(rollout, resumed, "rollout_resumed", now)


def abort(rollout: Rollout, event: AbortRequested, now: FleetTime) -> Step | Illegal:
    """It ends; the fence withdraws every attempt before its permit."""
    if rollout.status is RolloutStatus.ABORTED:
        return same(rollout)
    if rollout.status.over:
        return over(rollout)
    aborted = replace(
        rollout, status=RolloutStatus.ABORTED, fence=rollout.epoch + 1, actor=event.actor, reason=event.reason
    )
    return changed(rollout, aborted, "rollout_aborted", now)


def supersede(rollout: Rollout, event: SupersedeRequested, now: FleetTime) -> Step | Illegal:
    """It ends, as another takes its place; what has a permit runs on."""
    if rollout.status is RolloutStatus.SUPERSEDED:
        return same(rollout)
    if rollout.status.over:
        return over(rollout)
    ended = replace(
        rollout, status=RolloutStatus.SUPERSEDED, fence=rollout.epoch + 1, actor=event.actor, reason=event.reason
    )
    return changed(rollout, ended, "rollout_superseded", now, {"superseded_by": event.by})


def approve(rollout: Rollout, event: ApproveRequested, now: FleetTime) -> Step | Illegal:
    """A person lets a wave begin, or a draft start."""
    if rollout.status.over:
        return over(rollout)
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
    if rollout.status is RolloutStatus.DRAFT and not event.wave and not approvals.missing_start(approved):
        approved = replace(approved, status=RolloutStatus.APPROVED)
    if rollout.status in (RolloutStatus.RUNNING, RolloutStatus.DRAFT):
        # Of a rollout that stands, actor and reason keep saying who stopped it, and why.
        approved = replace(approved, actor=event.actor, reason=event.reason)
    said: dict[str, Json] = {
        "actor": event.actor,
        "reason": event.reason,
        "wave": event.wave,
        "region": event.region,
        "approvals_wanted": approvals.wanted(rollout, event.wave),
    }
    return changed(rollout, approved, "wave_approved" if event.wave else "rollout_approved", now, said)


def over(rollout: Rollout) -> Illegal:
    """What anybody hears who wants something of a rollout that is over."""
    return Illegal(
        f"rollout {rollout.rollout_id} is {rollout.status}: nothing changes it any more", "start a new rollout"
    )


def _draft(rollout: Rollout) -> Illegal:
    return Illegal(f"rollout {rollout.rollout_id} is a draft: it was never started", "start it, or abort it")


def _pause_part(rollout: Rollout, event: PauseRequested, now: FleetTime) -> Step | Illegal:
    fault = brakes.objection(rollout, event.scope)
    if fault is not None:
        return Illegal(*fault)
    brake = brakes.on(rollout, event.scope)
    if brake is not None and brake.kind is BrakeKind.HALTED:
        return Illegal(
            f"{event.scope} of rollout {rollout.rollout_id} is halted: it admits nobody already",
            "resume that part, or leave it halted",
        )
    paused = brakes.paused(rollout, event.scope, event.actor, event.reason, now)
    if paused == rollout:
        return same(rollout)
    return changed(rollout, paused, "part_paused", now, _of_part(event))


def _resume_part(rollout: Rollout, event: ResumeRequested, now: FleetTime) -> Step | Illegal:
    fault = brakes.objection(rollout, event.scope)
    if fault is not None:
        return Illegal(*fault)
    if brakes.on(rollout, event.scope) is not None:
        return changed(rollout, brakes.resumed(rollout, event.scope, now), "part_resumed", now, _of_part(event))
    if not rollout.brakes:
        return same(rollout)
    standing = ", ".join(brake.scope for brake in rollout.brakes)
    return Illegal(
        f"{event.scope} of rollout {rollout.rollout_id} has no brake of its own", f"these parts stand still: {standing}"
    )


def _of_part(event: PauseRequested | ResumeRequested) -> dict[str, Json]:
    # The rollout's own actor and reason stay: they say why it stands as a whole as it does.
    return {"actor": event.actor, "reason": event.reason, "scope": event.scope}
