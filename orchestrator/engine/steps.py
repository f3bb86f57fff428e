"""Steps: what an event made of a rollout, and what the journal keeps of it.

Owns raising the epoch and the form of the journal's data. Which event makes what is the matter of `progress`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.engine.inputs import Json
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Approval, RegionProgress, Rollout

UNCHANGED = "unchanged"
"""Kind of a step that changes nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an event made of a rollout."""

    rollout: Rollout
    changed: bool
    """Whether there is anything to commit."""
    kind: str
    """In the past, for the journal: `rollout_halted`, `rollout_held`, `hold_cleared`, `regions_advanced`,
    `rollout_completed`, `rollout_paused`, `rollout_resumed`, `rollout_aborted`, `wave_approved`, `recovery_paused`, or
    `unchanged`.
    """
    data: Mapping[str, Json]
    """For the journal: what changed, by whom, why, and every input of the decision."""


@dataclass(frozen=True, slots=True)
class Illegal:
    """A request that the rollout's status does not allow."""

    message: str
    remedy: str


def same(rollout: Rollout) -> Step:
    """The step that changes nothing."""
    return Step(rollout=rollout, changed=False, kind=UNCHANGED, data={})


def changed(
    before: Rollout, after: Rollout, kind: str, now: FleetTime, more: Mapping[str, Json] = MappingProxyType({})
) -> Step:
    """The step to a changed rollout, its epoch raised, with all that the journal keeps of it.

    Args:
        before: As it stood.
        after: As it stands now, but for epoch and time.
        kind: See `Step.kind`.
        now: Fleet time.
        more: What else the journal shall keep: inputs of the decision, or what a person asked for. Wins over the rest.
    """
    raised = replace(after, epoch=before.epoch + 1, updated_at=now)
    data: dict[str, Json] = {
        "change": kind,
        "rollout_id": before.rollout_id,
        "status_before": before.status.value,
        "status": raised.status.value,
        "epoch": raised.epoch,
        "fence": raised.fence,
        "actor": raised.actor,
        "reason": raised.reason,
        "waived": list(raised.waived),
        "regions": {name: _region_data(progress) for name, progress in raised.regions.items()},
        "approvals": [_approval_data(approval) for approval in raised.approvals],
    }
    return Step(rollout=raised, changed=True, kind=kind, data={**data, **more})


def _region_data(progress: RegionProgress) -> Json:
    return {"phase": progress.phase.value, "wave": progress.wave, "wave_started_at": progress.wave_started_at}


def _approval_data(approval: Approval) -> Json:
    return {
        "wave": approval.wave,
        "region": approval.region,
        "actor": approval.actor,
        "reason": approval.reason,
        "at": approval.at,
    }
