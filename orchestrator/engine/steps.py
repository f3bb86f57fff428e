"""Steps: what an event made of a rollout, and what the journal keeps of it.

Owns raising the epoch and the form of the journal's data. Which event makes what is the matter of `progress`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.engine.inputs import Json
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Approval, Brake, RegionProgress, Rollout, Signal

UNCHANGED = "unchanged"
"""Kind of a step that changes nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """What an event made of a rollout."""

    rollout: Rollout
    changed: bool
    """Whether there is anything to commit."""
    kind: str
    """In the past, for the journal: `rollout_halted`, `rollout_held`, `hold_cleared`, `hold_final`, `regions_advanced`,
    `parts_braked`, `places_counted`, `strata_folded`, `rollout_completed`, `rollout_started`, `rollout_paused`,
    `rollout_resumed`, `part_paused`, `part_resumed`, `rollout_aborted`, `rollout_superseded`,
    `rollout_approved`, `wave_approved`, `signal_posted`, `signal_cleared`, `recovery_paused`, or `unchanged`.
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
        "brakes": [_brake_data(brake) for brake in raised.brakes],
        "fences": dict(raised.fences),
        "signals": [signal_data(signal) for signal in raised.signals],
        "hold_final": raised.hold_final,
        "apart": [*raised.apart],
    }
    return Step(rollout=raised, changed=True, kind=kind, data={**data, **more})


def _region_data(progress: RegionProgress) -> Json:
    return {
        "phase": progress.phase.value,
        "wave": progress.wave,
        "wave_started_at": progress.wave_started_at,
        "closed": progress.closed,
        "dark_since": progress.dark_since,
        "trial": progress.trial,
        "openings": {cell: [opening.quota, opening.share] for cell, opening in progress.openings.items()},
    }


def _brake_data(brake: Brake) -> Json:
    return {
        "scope": brake.scope,
        "kind": brake.kind.value,
        "since": brake.since,
        "actor": brake.actor,
        "reason": brake.reason,
        "rule": brake.verdict.rule if brake.verdict is not None else "",
        "final": brake.final,
    }


def signal_data(signal: Signal) -> dict[str, Json]:
    """A signal as the journal keeps it."""
    return {
        "name": signal.name,
        "kind": signal.kind.value,
        "scope": signal.scope,
        "value": signal.value,
        "limit": signal.limit,
        "actor": signal.actor,
        "reason": signal.reason,
        "at": signal.at,
        "measured_at": signal.measured_at,
        "good_for_ms": signal.good_for_ms,
    }


def _approval_data(approval: Approval) -> Json:
    return {
        "wave": approval.wave,
        "region": approval.region,
        "actor": approval.actor,
        "reason": approval.reason,
        "at": approval.at,
    }
