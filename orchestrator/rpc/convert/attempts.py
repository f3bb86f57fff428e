"""Attempts and cases as operators see them."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.v1 import attempt_pb2, case_pb2

from orchestrator.model.attempt import Attempt, AttemptState, Case
from orchestrator.rpc.convert.wire import timestamp

ATTEMPT_STATES = {state: attempt_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state.name}") for state in AttemptState}


def attempt(value: Attempt) -> attempt_pb2.Attempt:
    """An attempt."""
    return attempt_pb2.Attempt(
        attempt_id=value.attempt_id,
        rollout_id=value.rollout_id,
        vehicle_id=value.vehicle_id,
        release=value.release,
        state=ATTEMPT_STATES[value.state],
        state_time=timestamp(value.state_at),
        deadline_time=None if value.deadline_at is None else timestamp(value.deadline_at),
        grant_time=timestamp(value.granted_at),
        permit_time=None if value.permitted_at is None else timestamp(value.permitted_at),
        failure_code=value.failure_code,
        number=value.number,
    )


def case(value: Case, *, advice: Sequence[str] = ()) -> case_pb2.Case:
    """A case."""
    return case_pb2.Case(
        name=f"cases/{value.attempt_id}",
        vehicle_id=value.vehicle_id,
        rollout_id=value.rollout_id,
        attempt_id=value.attempt_id,
        cause=value.cause,
        detail=value.detail,
        open_time=timestamp(value.opened_at),
        settle_time=None if value.settled_at is None else timestamp(value.settled_at),
        attempt_state=ATTEMPT_STATES[value.attempt_state],
        region=value.cell.region,
        hardware=value.cell.hardware,
        cohort=value.cell.cohort,
        close_actor=value.closed_by,
        close_reason=value.close_reason,
        advice=advice,
    )
