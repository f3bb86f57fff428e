"""Repeats: whether a vehicle failed so often in a row that it is kept out until a person has looked at it.

Owns what counts as a vehicle's own failure, and when there are too many. Who keeps it out, and tells people, is the
matter of the service; whether a single rollout tries it again is that of `retries`.

A rollout counts against a vehicle when it is done with it there: it failed, rolled back, rejected the release, or was
lost after a permit, and no other try follows. It does not count

- when the release is suspected or given up: only rollouts that run or are complete count, with nothing standing still
  where the vehicle is, and no rollout that undoes them. Canaries meet every bad release, and are not ill for it;
- when it merely did not call before a permit: a bad link is no fault of the vehicle;
- when a success, or a person who lifted its quarantine, came later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.engine.retries import settled
from orchestrator.model.attempt import AttemptState, Try
from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import AttemptId, RolloutId, attempt_id
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.vehicle import EVERY_ROLLOUT, VehicleRecord

REPEATS_MAX = 3
"""Rollouts in a row that a vehicle fails in before it is kept out."""

_FAILED = frozenset({AttemptState.FAILED, AttemptState.ROLLED_BACK, AttemptState.REJECTED})
_TRUSTED = frozenset({RolloutStatus.RUNNING, RolloutStatus.COMPLETED})


@dataclass(frozen=True, slots=True)
class Repeated:
    """Why a vehicle is to be kept out of every rollout."""

    reason: str
    """For people: which rollouts, and how each ended."""
    attempt_id: AttemptId
    """The latest of the attempts that count."""


def repeated(record: VehicleRecord, rollouts: Mapping[RolloutId, Rollout], *, repeats_max: int) -> Repeated | None:
    """Whether a vehicle failed once too often.

    Args:
        record: Of the vehicle.
        rollouts: All that are known.
        repeats_max: Rollouts in a row; 0: however many.

    Returns:
        None when it did not, or when it is kept out of every rollout already.
    """
    if not 0 < repeats_max <= len(record.tries) or any(each.scope == EVERY_ROLLOUT for each in record.exclusions):
        return None
    well = [each.state_at for each in record.tries.values() if each.state is AttemptState.SUCCEEDED]
    since = max([record.forgiven_at, *well])
    undone = {each.reverts for each in rollouts.values() if each.reverts and each.status.begun}
    failed = sorted(
        (tried.state_at, rollout_id, tried)
        for rollout_id, tried in record.tries.items()
        if tried.state_at > since and rollout_id not in undone and _counts(tried, rollouts.get(rollout_id), record)
    )
    if len(failed) < repeats_max:
        return None
    told = ", ".join(f"{rollout_id} ({_ending(tried)})" for _, rollout_id, tried in failed[-repeats_max:])
    _, latest, tried = failed[-1]
    return Repeated(
        reason=f"failed in {len(failed)} rollouts in a row, limit {repeats_max}: {told}",
        attempt_id=attempt_id(latest, record.vehicle.vehicle_id, tried.number),
    )


def _counts(tried: Try, rollout: Rollout | None, record: VehicleRecord) -> bool:
    if rollout is None or rollout.status not in _TRUSTED:
        return False
    if rollout.brake_on(Stratum(record.vehicle.region, record.vehicle.hardware)) is not None:
        return False
    lost = tried.state is AttemptState.TIMED_OUT and tried.exposed
    if tried.state not in _FAILED and not lost:
        return False
    return tried.number >= rollout.plan.limits.attempts_max or bool(settled(tried, rollout.plan))


def _ending(tried: Try) -> str:
    return f"{tried.state}: {tried.failure_code}" if tried.failure_code else tried.state.value
