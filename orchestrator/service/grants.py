"""What a grant becomes: the attempt that it starts, and what it asks of its rollout's keys."""

from __future__ import annotations

from orchestrator.engine.habits import ages_of
from orchestrator.engine.permits import rules_of
from orchestrator.engine.suitability import transfer_ms
from orchestrator.model.attempt import Attempt, AttemptState
from orchestrator.model.decision import Grant
from orchestrator.model.ids import FleetTime, attempt_id
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.store.base import SlotRequest


def offered(record: VehicleRecord, grant: Grant, rollout: Rollout, now: FleetTime) -> Attempt:
    """The attempt that a grant starts."""
    deadlines, gate = rollout.plan.deadlines_ms, rollout.plan.gate
    return Attempt(
        attempt_id=attempt_id(grant.rollout_id, record.vehicle.vehicle_id, grant.number),
        rollout_id=grant.rollout_id,
        vehicle_id=record.vehicle.vehicle_id,
        number=grant.number,
        release=grant.release,
        cell=grant.cell,
        epoch=grant.epoch,
        state=AttemptState.OFFERED,
        state_at=now,
        deadline_at=FleetTime(now + deadlines[AttemptState.OFFERED]),
        granted_at=now,
        permitted_at=None,
        failure_code="",
        deadlines_ms=deadlines,
        checkpoints_ms=gate.checkpoints_ms,
        aged=tuple(False for _ in gate.checkpoints_ms),
        silent=tuple(False for _ in gate.checkpoints_ms),
        habit=grant.habit,
        habit_ages_ms=ages_of(gate, grant.habit),
    )


def slot_request(
    record: VehicleRecord, grant: Grant, rollout: Rollout, release: Release | None, now: FleetTime
) -> SlotRequest:
    """What a grant asks for: a slot, a place in its wave, and its bytes' share of its region's bandwidth."""
    rules = rules_of(grant.cell.region, rollout)
    return SlotRequest(
        cell=grant.cell,
        epoch=grant.epoch,
        region_max=rules.in_flight_max,
        total_max=rollout.plan.limits.in_flight_max,
        quota=grant.quota,
        transfer_ms=transfer_ms(record.vehicle, release, rules.bandwidth_bytes_per_s),
        now=now,
    )
