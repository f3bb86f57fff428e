"""Vehicles as operators see them."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.v1 import fleet_pb2

from orchestrator.engine.explain import Explanation
from orchestrator.engine.habits import habit_of
from orchestrator.engine.wording import instant
from orchestrator.model.attempt import Attempt
from orchestrator.model.vehicle import EVERY_ROLLOUT, Exclusion, VehicleRecord
from orchestrator.rpc.convert.attempts import attempt
from orchestrator.rpc.convert.conditions import conditions_out, diagnostic_out
from orchestrator.rpc.convert.wire import duration, timestamp


def vehicle(record: VehicleRecord, *, revoked: bool, attempts: Sequence[Attempt] = ()) -> fleet_pb2.Vehicle:
    """A vehicle as operators see it."""
    value = record.vehicle
    return fleet_pb2.Vehicle(
        name=f"vehicles/{value.vehicle_id}",
        vehicle_id=value.vehicle_id,
        model=value.model,
        hardware=value.hardware,
        region=value.region,
        cohort=value.cohort,
        tags=value.tags,
        ecus=[
            fleet_pb2.Ecu(
                serial=ecu.serial, hardware_id=ecu.hardware_id, public_key=ecu.public_key, primary=ecu.primary
            )
            for ecu in value.ecus
        ],
        installed_release=record.installed,
        last_seen_time=None if record.last_seen_at is None else timestamp(record.last_seen_at),
        attempts=[attempt(item) for item in attempts],
        revoked=revoked,
        enrolled=record.enrolled,
        zone=value.zone,
        exclusions=[exclusion(each) for each in record.exclusions],
        conditions=None if record.conditions is None else conditions_out(record.conditions),
        diagnostics=[diagnostic_out(each) for each in record.diagnostics],
        usual_gap=duration(record.gaps.mean_ms) if record.gaps.heard else None,
        habit=habit_of(record.gaps).value,
    )


def exclusion(value: Exclusion) -> fleet_pb2.Exclusion:
    """What a vehicle is kept out of."""
    return fleet_pb2.Exclusion(
        rollout="" if value.scope == EVERY_ROLLOUT else f"rollouts/{value.scope}",
        reason=value.reason,
        actor=value.actor,
        create_time=timestamp(value.at),
    )


def explanation(value: Explanation) -> fleet_pb2.Explanation:
    """Why, for one rollout; when time alone changes it is one of the facts."""
    changes = {} if value.changes_at is None else {"changes_at": instant(value.changes_at)}
    return fleet_pb2.Explanation(
        rollout=f"rollouts/{value.rollout_id}",
        reason=value.reason,
        message=value.message,
        facts={**value.facts, **changes},
    )
