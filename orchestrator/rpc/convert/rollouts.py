"""Rollouts as operators see them."""

from __future__ import annotations

from outrider.v1 import rollout_pb2

from orchestrator.engine.gates import Judgement, scope_name
from orchestrator.engine.strata import apart, together
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.rollout import (
    Approval,
    Brake,
    BrakeKind,
    RegionPhase,
    RegionProgress,
    Rollout,
    RolloutStatus,
    Verdict,
    VerdictKind,
)
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.rpc.convert.signals import signal
from orchestrator.rpc.convert.wire import duration, timestamp
from orchestrator.service.rollout_views import RolloutView
from orchestrator.service.rollouts import etag_of

ROLLOUT_STATUSES = {state: rollout_pb2.RolloutStatus.Value(f"ROLLOUT_STATUS_{state.name}") for state in RolloutStatus}

REGION_PHASES = {phase: rollout_pb2.RegionPhase.Value(f"REGION_PHASE_{phase.name}") for phase in RegionPhase}

VERDICTS = {kind: rollout_pb2.VerdictKind.Value(f"VERDICT_KIND_{kind.name}") for kind in VerdictKind}

BRAKES = {kind: rollout_pb2.BrakeKind.Value(f"BRAKE_KIND_{kind.name}") for kind in BrakeKind}


def rollout(view: RolloutView) -> rollout_pb2.Rollout:
    """A rollout with its counts."""
    value, plan = view.rollout, view.rollout.plan
    return rollout_pb2.Rollout(
        name=resource_name(value.rollout_id),
        release=plan.release,
        status=ROLLOUT_STATUSES[value.status],
        epoch=value.epoch,
        etag=etag_of(value),
        plan=value.plan_text,
        create_time=timestamp(value.created_at),
        update_time=timestamp(value.updated_at),
        last_actor=value.actor,
        last_reason=value.reason,
        regions=[region_progress(name, region, view) for name, region in sorted(value.regions.items())],
        cells=[
            cell_counts(cell, view.cells.get(cell, Tally()), view.waiting.get(cell, 0), value)
            for cell in sorted(view.cells.keys() | view.waiting.keys())
        ],
        gate=gate_report(view.judgement, view),
        waves=[wave.name for wave in plan.waves],
        fleet_time=timestamp(view.now),
        creator=value.creator,
        approvals=[approval(each) for each in value.approvals],
        reverts=resource_name(value.reverts),
        brakes=[brake(each) for each in value.brakes],
        signals=[signal(each, view.now) for each in value.signals],
        hold_final=value.hold_final,
        priority=plan.priority,
        purpose=plan.purpose.value,
        supersedes=resource_name(plan.supersedes),
        approvals_wanted=plan.approvals,
        release_sha256=value.release_sha256,
        outstanding_permits=view.outstanding,
        outstanding_permits_end_time=None if view.outstanding_until is None else timestamp(view.outstanding_until),
        judged_together=together(apart(value, view.cells, view.waiting), (*view.cells, *view.waiting)),
    )


def resource_name(rollout_id: str) -> str:
    """For example `rollouts/spring`; empty for no rollout."""
    return f"rollouts/{rollout_id}" if rollout_id else ""


def region_progress(name: str, region: RegionProgress, view: RolloutView) -> rollout_pb2.RegionProgress:
    """Where one region stands in its walk."""
    return rollout_pb2.RegionProgress(
        region=name,
        phase=REGION_PHASES[region.phase],
        wave=region.wave,
        wave_start_time=timestamp(region.wave_started_at),
        waiting_for=view.waiting_for.get(name, ""),
        approval_wanted=view.approval_wanted.get(name, ""),
        window_open_time=timestamp(view.opens_at[name]) if name in view.opens_at else None,
        dark_since_time=None if region.dark_since is None else timestamp(region.dark_since),
    )


def approval(value: Approval) -> rollout_pb2.Approval:
    """Who let a wave begin, or the rollout."""
    return rollout_pb2.Approval(
        wave=value.wave,
        region=value.region,
        actor=value.actor,
        reason=value.reason,
        create_time=timestamp(value.at),
    )


def brake(value: Brake) -> rollout_pb2.Brake:
    """A part that stands still."""
    return rollout_pb2.Brake(
        scope=value.scope,
        kind=BRAKES[value.kind],
        actor=value.actor,
        reason=value.reason,
        since_time=timestamp(value.since),
        final=value.final,
    )


def cell_counts(cell: Cell, tally: Tally, waiting: int, value: Rollout) -> rollout_pb2.CellCounts:
    """Counts of one (region, hardware, cohort)."""
    checkpoints = zip(value.plan.gate.checkpoints_ms, tally.age_groups, strict=False)
    return rollout_pb2.CellCounts(
        region=cell.region,
        hardware=cell.hardware,
        cohort=cell.cohort,
        targeted=waiting + tally.succeeded_in_all,
        states={state.value: tally.state(state) for state in AttemptState if tally.state(state)},
        exposed=tally.exposed,
        failed=tally.failed,
        age_groups=[age_group(age_ms, group) for age_ms, group in checkpoints],
        quota=quota_of(cell, value),
        diagnosed=tally.diagnosed,
        safety=tally.safety,
        habit_groups=[
            rollout_pb2.HabitGroup(habit=key.habit.value, group=age_group(key.age_ms, group))
            for key, group in sorted(tally.habit_groups.items())
        ],
        failed_before_permit=tally.failed_before_permit,
        grants=age_group(value.plan.gate.checkpoints_ms[0], tally.grants),
    )


def quota_of(cell: Cell, value: Rollout) -> int | None:
    """Vehicles of a cell that may have been admitted in the present wave; None when it is open to all."""
    region = value.regions.get(cell.region)
    opening = region.openings.get(f"{cell.hardware}/{cell.cohort}") if region is not None else None
    return None if opening is None else opening.quota


def age_group(age_ms: int, group: AgeGroup) -> rollout_pb2.AgeGroup:
    """Exposures that reached an age, and the controls beside them."""
    return rollout_pb2.AgeGroup(
        age=duration(age_ms),
        exposed=group.exposed,
        silent=group.silent,
        controls=group.controls,
        controls_silent=group.controls_silent,
        unpaired=group.unpaired,
        unpaired_silent=group.unpaired_silent,
    )


def gate_report(judgement: Judgement, view: RolloutView) -> rollout_pb2.GateReport:
    """What the gate says now; of whatever it stopped, what it said when it did."""
    value = view.rollout
    stopped = value.status in (RolloutStatus.HELD, RolloutStatus.HALTED)
    verdict = value.verdict if stopped and value.verdict else judgement.worst
    return rollout_pb2.GateReport(
        verdict=VERDICTS[verdict.kind],
        rule=verdict.rule,
        scope=scope_name(verdict.scope),
        message=verdict.message,
        inputs=verdict.inputs,
        judge_time=timestamp(value.updated_at if verdict is value.verdict else view.now),
        permit_allowance=max(0, judgement.permit_ceiling - sum(tally.exposed for tally in view.cells.values())),
        scopes=scope_verdicts(judgement, value),
    )


def scope_verdicts(judgement: Judgement, value: Rollout) -> list[rollout_pb2.ScopeVerdict]:
    """What the gate says of every scope; of a stratum that it stopped, what it said then: that is what stands."""
    stopped = {each.scope: each.verdict for each in value.brakes if each.verdict is not None}
    verdicts: list[Verdict] = [stopped.get(scope_name(each.scope), each) for each in judgement.verdicts]
    return [
        rollout_pb2.ScopeVerdict(
            scope=scope_name(each.scope), verdict=VERDICTS[each.kind], rule=each.rule, message=each.message
        )
        for each in verdicts
    ]
