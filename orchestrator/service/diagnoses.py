"""Which update a critical diagnosis may belong to: the last exposure, while it is fresh enough to be blamed."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.ids import AttemptId, FleetTime, attempt_id
from orchestrator.model.vehicle import Diagnostic, Severity, VehicleRecord

BLAMED_MS = 30 * 24 * 3_600_000
"""Fleet time after the end of an exposed attempt in which a diagnosis opens a case for it."""
DETAIL_CODES_MAX = 3


def new_critical(told: Sequence[Diagnostic], record: VehicleRecord) -> Sequence[Diagnostic]:
    """Those that say that the vehicle is impaired, and that an exposure can have brought about.

    Not what was as bad at the last contact before: a vehicle that comes ill to its update was not hurt by it. What it
    says to have seen first after the permit is new as well, also when it was told before and nobody could note it.
    """
    known = {(each.code, each.ecu_serial) for each in record.diagnostics if each.severity is Severity.CRITICAL}
    attempt = record.attempt
    permitted_at = attempt.permitted_at if attempt is not None else None
    return [
        each
        for each in told
        if each.severity is Severity.CRITICAL
        and (
            (each.code, each.ecu_serial) not in known
            or (permitted_at is not None and each.first_seen_at >= permitted_at)
        )
    ]


def exposed_attempt(record: VehicleRecord, now: FleetTime) -> AttemptId | None:
    """The latest attempt with a permit that is live, or ended less than BLAMED_MS ago; None when there is none.

    An attempt granted since, and not yet permitted, changed nothing in the vehicle: it does not hide the one before.
    """
    found = [
        (tried.state_at, rollout_id, tried.number)
        for rollout_id, tried in record.tries.items()
        if tried.exposed and (not tried.state.terminal or now - tried.state_at < BLAMED_MS)
    ]
    if not found:
        return None
    _, rollout_id, number = max(found)
    return attempt_id(rollout_id, record.vehicle.vehicle_id, number)


def detail(diagnostics: Sequence[Diagnostic]) -> str:
    """What a case says of diagnoses, for example `U0100 of v-1-gw`."""
    told = [f"{each.code} of {each.ecu_serial}" if each.ecu_serial else each.code for each in diagnostics]
    more = f" and {len(told) - DETAIL_CODES_MAX} more" if len(told) > DETAIL_CODES_MAX else ""
    return ", ".join(told[:DETAIL_CODES_MAX]) + more
