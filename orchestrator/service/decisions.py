"""Decisions about rollouts, as the journal keeps them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.rollout import Rollout
from orchestrator.store.base import JournalEntry, Json
from orchestrator.store.streams import rollout_stream

CAS_TRIES = 8
"""Times that a change of a rollout is made anew because another one was faster, before it is given up."""


def decision_entry(rollout: Rollout, kind: str, data: Mapping[str, Json]) -> JournalEntry:
    """The journal entry of a decision about a rollout, with what it became."""
    facts: dict[str, Json] = {
        "rollout_id": rollout.rollout_id,
        "epoch": rollout.epoch,
        "fence": rollout.fence,
        "status": rollout.status.value,
        "actor": rollout.actor,
        "reason": rollout.reason,
    }
    return JournalEntry(
        stream=rollout_stream(rollout.rollout_id),
        entry_id="",
        kind=kind,
        at=rollout.updated_at,
        data=facts | dict(data),
    )
