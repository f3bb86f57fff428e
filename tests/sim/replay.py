"""A rollout's whole life made again from its entries in the ledger and nothing else: same verdicts, same steps.

Promise 8 of the design. Knows the form of the entries and how each kind came about; every judgement and every step is
the engine's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.engine import inputs
from orchestrator.engine.gates import judge_rollout
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    Event,
    Judged,
    PauseRequested,
    RecoveryUnproven,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
    Step,
    SupersedeRequested,
    start,
    step,
)
from orchestrator.engine.reach import with_limits_for
from orchestrator.ledger import LedgerEntry
from orchestrator.ledger.entry import canonical
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.rollout import Rollout, Signal, SignalKind
from tests.sim.limits import BrokenPromiseError

Data = Mapping[str, Any]


def replayed(entries: Sequence[LedgerEntry]) -> Rollout:
    """The rollout as the entries make it.

    Raises:
        BrokenPromiseError: an entry says something else than what follows from those before it and from itself.
    """
    created, *decisions = entries
    rollout = _created(created)
    for entry in decisions:
        made = step(rollout, _event(rollout, entry), FleetTime(entry.at))
        if not isinstance(made, Step) or not made.changed:
            raise BrokenPromiseError(f"replayed, {entry.kind} at epoch {entry.data['epoch']} is {made}")
        for name, again in json.loads(canonical(dict(made.data))).items():
            if again != entry.data.get(name):
                raise BrokenPromiseError(
                    f"replayed, {entry.kind} at epoch {entry.data['epoch']} has {name} {again}, not {entry.data[name]}"
                )
        rollout = made.rollout
    return rollout


def _created(entry: LedgerEntry) -> Rollout:
    data: Data = entry.data
    # What a plan leaves to the start follows from how many it targets.
    plan = with_limits_for(read_plan(data["plan"]), sum(data["targeted"].values()))
    regions = plan.regions or dict.fromkeys(
        sorted({cell.partition("/")[0] for cell in data["targeted"]}), plan.region_defaults
    )
    return start(
        RolloutId(data["rollout_id"]),
        plan,
        data["plan"],
        bytes.fromhex(data["salt"]),
        regions,
        data["actor"],
        data["reason"],
        "",
        FleetTime(entry.at),
        data["reverts"],
        draft=data.get("draft", False),
    )


def _event(rollout: Rollout, entry: LedgerEntry) -> Event:
    data: Data = entry.data
    if "cells" in data:
        return _judged(rollout, data, FleetTime(entry.at))
    make = _ASKED.get(entry.kind)
    if make is None:
        raise BrokenPromiseError(f"nobody knows how {entry.kind} came about")
    return make({**data, "at": entry.at})


def _judged(rollout: Rollout, data: Data, now: FleetTime) -> Judged:
    cells, waiting = inputs.cells_read(data), inputs.waiting_read(data)
    judgement = inputs.judged_again(data)
    if judgement != judge_rollout(rollout, cells, waiting, now):
        raise BrokenPromiseError(f"what was judged at epoch {data['epoch']} was another rollout: {judgement.terms}")
    return Judged(judgement=judgement, cells=cells, waiting=waiting, dark=frozenset(data["dark"]))


def _signal(data: Data) -> Signal:
    said = data["signal"]
    return Signal(**{**said, "kind": SignalKind(said["kind"]), "at": FleetTime(said["at"])})


_ASKED: Mapping[str, Callable[[Data], Event]] = {
    "rollout_started": lambda data: StartRequested(data["actor"], data["reason"]),
    "rollout_paused": lambda data: PauseRequested(data["actor"], data["reason"]),
    "part_paused": lambda data: PauseRequested(data["actor"], data["reason"], data["scope"]),
    "rollout_resumed": lambda data: ResumeRequested(data["actor"], data["reason"]),
    "part_resumed": lambda data: ResumeRequested(data["actor"], data["reason"], data["scope"]),
    "rollout_aborted": lambda data: AbortRequested(data["actor"], data["reason"]),
    "recovery_paused": lambda data: RecoveryUnproven(data["reason"]),
    "rollout_approved": lambda data: ApproveRequested(data["actor"], "", "", data["reason"]),
    "wave_approved": lambda data: ApproveRequested(data["actor"], data["wave"], data["region"], data["reason"]),
    "rollout_superseded": lambda data: SupersedeRequested(data["superseded_by"], data["actor"], data["reason"]),
    "signal_posted": lambda data: SignalPosted(_signal(data)),
    "signal_cleared": lambda data: SignalCleared(
        data["signal"]["name"], data["signal"]["scope"], data["actor"], data["reason"]
    ),
}
"""What people asked, by the kind of the entry that it left."""
