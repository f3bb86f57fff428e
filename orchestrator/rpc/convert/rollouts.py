"""Rollouts and previews as operators see them."""

from __future__ import annotations

from outrider.v1 import rollout_pb2

from orchestrator.engine.calendar import RegionPreview
from orchestrator.engine.gates import Judgement
from orchestrator.engine.preview import Preview
from orchestrator.model.attempt import AttemptState
from orchestrator.model.fleet import Cell
from orchestrator.model.plan import Plan
from orchestrator.model.rollout import RegionPhase, RolloutStatus, VerdictKind
from orchestrator.model.tally import Tally
from orchestrator.rpc.convert.conditions import CONSENT_POLICIES
from orchestrator.rpc.convert.wire import duration, timestamp
from orchestrator.service.rollout_views import RolloutView
from orchestrator.service.rollouts import etag_of

ROLLOUT_STATUSES = {state: rollout_pb2.RolloutStatus.Value(f"ROLLOUT_STATUS_{state.name}") for state in RolloutStatus}

REGION_PHASES = {phase: rollout_pb2.RegionPhase.Value(f"REGION_PHASE_{phase.name}") for phase in RegionPhase}

VERDICTS = {kind: rollout_pb2.VerdictKind.Value(f"VERDICT_KIND_{kind.name}") for kind in VerdictKind}


def rollout(view: RolloutView) -> rollout_pb2.Rollout:
    """A rollout with its counts."""
    value = view.rollout
    return rollout_pb2.Rollout(
        name=f"rollouts/{value.rollout_id}",
        release=value.plan.release,
        status=ROLLOUT_STATUSES[value.status],
        epoch=value.epoch,
        etag=etag_of(value),
        plan=value.plan_text,
        create_time=timestamp(value.created_at),
        update_time=timestamp(value.updated_at),
        last_actor=value.actor,
        last_reason=value.reason,
        regions=[
            rollout_pb2.RegionProgress(
                region=name,
                phase=REGION_PHASES[region.phase],
                wave=region.wave,
                wave_start_time=timestamp(region.wave_started_at),
                waiting_for=view.waiting_for.get(name, ""),
                approval_wanted=view.approval_wanted.get(name, ""),
                window_open_time=timestamp(view.opens_at[name]) if name in view.opens_at else None,
            )
            for name, region in sorted(value.regions.items())
        ],
        cells=[
            cell_counts(cell, view.cells.get(cell, Tally()), view.waiting.get(cell, 0), value.plan)
            for cell in sorted(view.cells.keys() | view.waiting.keys())
        ],
        gate=gate_report(view.judgement, view),
        waves=[wave.name for wave in value.plan.waves],
        fleet_time=timestamp(view.now),
        creator=value.creator,
        approvals=[
            rollout_pb2.Approval(
                wave=approval.wave,
                region=approval.region,
                actor=approval.actor,
                reason=approval.reason,
                create_time=timestamp(approval.at),
            )
            for approval in value.approvals
        ],
        reverts=f"rollouts/{value.reverts}" if value.reverts else "",
    )


def cell_counts(cell: Cell, tally: Tally, waiting: int, plan: Plan) -> rollout_pb2.CellCounts:
    """Counts of one (region, hardware, cohort)."""
    groups = zip(plan.gate.checkpoints_ms, tally.age_groups, strict=False)
    return rollout_pb2.CellCounts(
        region=cell.region,
        hardware=cell.hardware,
        cohort=cell.cohort,
        targeted=waiting + tally.succeeded_in_all,
        states={state.value: tally.state(state) for state in AttemptState if tally.state(state)},
        exposed=tally.exposed,
        failed=tally.failed,
        age_groups=[
            rollout_pb2.AgeGroup(age=duration(age), exposed=group.exposed, silent=group.silent) for age, group in groups
        ],
    )


def gate_report(judgement: Judgement, view: RolloutView) -> rollout_pb2.GateReport:
    """What the gate says now; while stopped, what it said when it stopped the rollout."""
    stopped = view.rollout.status in (RolloutStatus.HELD, RolloutStatus.HALTED)
    verdict = view.rollout.verdict if stopped and view.rollout.verdict else judgement.worst
    return rollout_pb2.GateReport(
        verdict=VERDICTS[verdict.kind],
        rule=verdict.rule,
        scope=str(verdict.scope) if verdict.scope else "all",
        message=verdict.message,
        inputs=verdict.inputs,
        judge_time=timestamp(view.rollout.updated_at if verdict is view.rollout.verdict else view.now),
        permit_allowance=max(0, judgement.permit_ceiling - sum(tally.exposed for tally in view.cells.values())),
    )


def preview(plan: Plan, value: Preview, effective: str) -> rollout_pb2.PreviewRolloutResponse:
    """What a plan would do."""
    return rollout_pb2.PreviewRolloutResponse(
        release=plan.release,
        registered=value.registered,
        targeted=value.targeted,
        cells=[
            rollout_pb2.CellCounts(region=cell.region, hardware=cell.hardware, cohort=cell.cohort, targeted=count)
            for cell, count in sorted(value.cells.items())
        ],
        waves=[rollout_pb2.WavePreview(wave=name, added=added) for name, added in value.waves],
        excluded=value.excluded,
        warnings=value.warnings,
        effective_plan=effective,
        shortest_duration=duration(value.shortest_ms),
        regions=[region_preview(region) for region in value.regions],
    )


def region_preview(value: RegionPreview) -> rollout_pb2.RegionPreview:
    """When one region can move."""
    return rollout_pb2.RegionPreview(
        region=value.region,
        targeted=value.targeted,
        follow=value.follow,
        consent=CONSENT_POLICIES[value.consent],
        windows=[
            rollout_pb2.OpenWindow(
                zone=window.zone,
                vehicles=window.vehicles,
                start_time=timestamp(window.start),
                end_time=None if window.end is None else timestamp(window.end),
            )
            for window in value.windows
        ],
        message=value.message,
    )
