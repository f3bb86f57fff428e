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

CONTROLS_AHEAD = 32
"""Controls of each stratum and habit in all shards that are watched before there is an exposure. Few: they call at
another time of day than the exposures will, and first of all those that call most.
"""
CONTROLS_PER_EXPOSURE = 3
"""Further controls for each exposure: they harm nobody, and three make what is normal known nearly for sure."""
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


def mirrors(record: VehicleRecord, rollout: Rollout) -> bool:
    """Whether a vehicle that calls now and waits is like those that install: it calls for the first time in this wave.

    Exposures are first calls since the wave opened. Among vehicles that call at any moment those that call often are
    met most; compared with them, a good release on a fleet of mixed habits looks worse every day.

    Args:
        record: As before this call.
        rollout: In which it waits.
    """
    progress = rollout.regions.get(record.vehicle.region)
    return progress is None or record.last_seen_at is None or record.last_seen_at < progress.wave_started_at
