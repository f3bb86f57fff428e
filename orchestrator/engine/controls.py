"""Controls: targeted vehicles that wait, watched beside the exposures of their stratum and habit.

Owns who may be watched and how many are owed. Silence after an installation is only worth something against the silence
of like vehicles that did not install, over the same days: a storm, a holiday and a network that is down hit both. The
stores keep the watch and count; what the counts mean is the matter of `gates`.
"""

from __future__ import annotations

from orchestrator.engine.habits import ages_of, habit_of
from orchestrator.model.attempt import Control
from orchestrator.model.decision import RefusalReason
from orchestrator.model.fleet import Cell
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord

CONTROLS_AHEAD = 320
"""Controls of each stratum and habit in all shards that are watched before there is an exposure: the normal rate is
known when the first vehicle installs.
"""
CONTROLS_PER_EXPOSURE = 1
"""Further controls for each exposure: the reference is as young, and in the end as well known, as what it is held
against.
"""
WATCHED_WHEN = frozenset(
    {
        RefusalReason.HOLDOUT,
        RefusalReason.NOT_YET_DRAWN,
        RefusalReason.WAVE_NOT_REACHED,
        RefusalReason.QUOTA_SPENT,
        RefusalReason.FOLLOWED_REGION_FIRST,
        RefusalReason.APPROVAL_MISSING,
    }
)
"""Refusals that say nothing about the vehicle but that its turn has not come."""


def ahead(shards: int) -> int:
    """Controls ahead of exposures on one of so many shards, rounded up."""
    return -(-CONTROLS_AHEAD // shards)


def control_of(record: VehicleRecord, rollout: Rollout, now: FleetTime) -> Control:
    """A vehicle that called now and waits, as it would be watched."""
    vehicle, gate = record.vehicle, rollout.plan.gate
    habit = habit_of(record.gaps)
    return Control(
        rollout_id=rollout.rollout_id,
        vehicle_id=vehicle.vehicle_id,
        cell=Cell(region=vehicle.region, hardware=vehicle.hardware, cohort=vehicle.cohort),
        habit=habit,
        enrolled_at=now,
        checkpoints_ms=gate.checkpoints_ms,
        habit_ages_ms=ages_of(gate, habit),
    )
