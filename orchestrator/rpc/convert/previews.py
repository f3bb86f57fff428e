"""Previews as operators see them."""

from __future__ import annotations

from outrider.v1 import rollout_pb2

from orchestrator.engine.calendar import RegionPreview
from orchestrator.engine.preview import Preview
from orchestrator.model.plan import Plan
from orchestrator.rpc.convert.conditions import CONSENT_POLICIES
from orchestrator.rpc.convert.wire import duration, timestamp


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
        expected_duration=None if value.expected_ms is None else duration(value.expected_ms),
        conflicts=value.conflicts,
        expected_often_duration=None if value.expected_often_ms is None else duration(value.expected_often_ms),
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
