"""Records of controls on their way in and out, by position as those in `codec`."""

from __future__ import annotations

from orchestrator.model.attempt import Control
from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import FleetTime, RolloutId, VehicleId
from orchestrator.store.redis.packing import SCHEMA, pack, unpack
from orchestrator.store.watched import Watched

CONTROL = (
    "schema",
    "rollout_id",
    "vehicle_id",
    "region",
    "hardware",
    "cohort",
    "habit",
    "enrolled_at",
    "checkpoints",
    "habit_ages",
    "aged",
    "silent",
    "habit_aged",
    "habit_silent",
)


def encode_watched(watched: Watched) -> bytes:
    """Record of a control."""
    control = watched.control
    return pack(
        [
            SCHEMA,
            control.rollout_id,
            control.vehicle_id,
            control.cell.region,
            control.cell.hardware,
            control.cell.cohort,
            control.habit.value,
            control.enrolled_at,
            control.checkpoints_ms,
            control.habit_ages_ms,
            watched.aged,
            watched.silent,
            watched.habit_aged,
            watched.habit_silent,
        ]
    )


def decode_watched(data: bytes) -> Watched:
    """A control from its record."""
    value = dict(zip(CONTROL, unpack(data, CONTROL), strict=True))
    return Watched(
        control=Control(
            rollout_id=RolloutId(value["rollout_id"]),
            vehicle_id=VehicleId(value["vehicle_id"]),
            cell=Cell(region=value["region"], hardware=value["hardware"], cohort=value["cohort"]),
            habit=Habit(value["habit"]),
            enrolled_at=FleetTime(value["enrolled_at"]),
            checkpoints_ms=tuple(value["checkpoints"]),
            habit_ages_ms=tuple(value["habit_ages"]),
        ),
        aged=tuple(value["aged"]),
        silent=tuple(value["silent"]),
        habit_aged=tuple(value["habit_aged"]),
        habit_silent=tuple(value["habit_silent"]),
    )
