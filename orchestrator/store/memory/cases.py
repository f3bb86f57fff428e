"""One shard's cases in memory: opened by what hurts, settled by a later report or by a person.

Says in Python what `store/redis/functions/cases.lua` says in Lua.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.engine.attempts import case_cause
from orchestrator.model.attempt import Attempt, AttemptState, Case
from orchestrator.model.ids import AttemptId, FleetTime
from orchestrator.store.base import Json
from orchestrator.store.memory.journal import Journal

DIAGNOSIS = "diagnosis"
"""Cause of a case that a critical diagnosis opened."""
REPEATED = "repeated"
"""Cause of a case that a quarantine after repeated failures opened."""
STANDING = (DIAGNOSIS, REPEATED)
"""Causes that stand whatever becomes of the update."""


class Cases:
    """Open and settled ones; an attempt has at most one.

    Args:
        journal: the shard's stream.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._open: dict[AttemptId, Case] = {}
        self._settled: dict[AttemptId, Case] = {}

    @property
    def open(self) -> Sequence[Case]:
        """Open ones."""
        return tuple(self._open.values())

    @property
    def settled(self) -> Sequence[Case]:
        """Settled ones."""
        return tuple(self._settled.values())

    def of(self, attempt_id: AttemptId) -> Case | None:
        """The case of an attempt; None when there never was one."""
        return self._open.get(attempt_id) or self._settled.get(attempt_id)

    def follow(self, attempt: Attempt, before: AttemptState, now: FleetTime) -> None:
        """An attempt moved: open or change its case, or settle it."""
        name = attempt.attempt_id
        cause = case_cause(attempt.state, attempt.exposed)
        settled = self._settled.get(name)
        # Whoever closed the case knew already that nothing was heard.
        known = settled is not None and settled.closed_by != "" and attempt.state is AttemptState.TIMED_OUT
        if cause is not None and not known:
            self._open_one(attempt, cause, attempt.failure_code or f"in {before.value}", now)
            return
        if settled is not None:
            self._settled[name] = replace(settled, attempt_state=attempt.state)
        case = self._open.get(name)
        if case is None:
            return
        case = replace(case, attempt_state=attempt.state)
        self._open[name] = case
        if attempt.state.terminal and case.cause not in STANDING:
            self._settle(replace(case, settled_at=now))
            data = {**about(attempt), "cause": case.cause, "state": attempt.state.value}
            self._journal.append("case_settled", now, data)

    def fell_silent(self, attempt: Attempt, checkpoint: int, now: FleetTime) -> None:
        """An exposure was silent at a checkpoint: a case, unless there is or was one."""
        if self.of(attempt.attempt_id) is None:
            self._open_one(attempt, "silent", f"checkpoint {checkpoint + 1} in {attempt.state.value}", now)

    def diagnosed(self, attempt: Attempt, detail: str, now: FleetTime) -> bool:
        """A vehicle with this exposure told a critical diagnosis; False when there is or was a case."""
        if self.of(attempt.attempt_id) is not None:
            return False
        self._open_one(attempt, DIAGNOSIS, detail, now)
        return True

    def repeated(self, attempt: Attempt, detail: str, now: FleetTime) -> None:
        """Its vehicle was put in quarantine after this attempt: a case, whatever there was before."""
        self._open_one(attempt, REPEATED, detail, now)

    def close(self, attempt: Attempt, *, actor: str, reason: str, now: FleetTime) -> Case | None:
        """A person settles the case of an attempt."""
        case = self._open.get(attempt.attempt_id)
        if case is not None:
            self._settle(replace(case, settled_at=now, closed_by=actor, close_reason=reason))
            data = {"cause": case.cause, "state": attempt.state.value, "actor": actor, "reason": reason}
            self._journal.append("case_closed", now, {**about(attempt), **data})
        return self._settled.get(attempt.attempt_id)

    def _settle(self, case: Case) -> None:
        del self._open[case.attempt_id]
        self._settled[case.attempt_id] = case

    def _open_one(self, attempt: Attempt, cause: str, detail: str, now: FleetTime) -> None:
        case = self._open.get(attempt.attempt_id)
        kind = "case_changed"
        if case is None:
            kind = "case_opened"
            self._settled.pop(attempt.attempt_id, None)
            case = Case(
                attempt_id=attempt.attempt_id,
                rollout_id=attempt.rollout_id,
                vehicle_id=attempt.vehicle_id,
                cell=attempt.cell,
                cause=cause,
                detail=detail,
                opened_at=now,
                settled_at=None,
                attempt_state=attempt.state,
            )
        self._open[attempt.attempt_id] = replace(case, cause=cause, detail=detail, attempt_state=attempt.state)
        self._journal.append(kind, now, {**about(attempt), "cause": cause, "detail": detail})


def about(attempt: Attempt) -> dict[str, Json]:
    """What every journal entry about an attempt says."""
    return {
        "rollout_id": attempt.rollout_id,
        "vehicle_id": attempt.vehicle_id,
        "attempt_id": attempt.attempt_id,
        "number": attempt.number,
        "release": attempt.release,
        "region": attempt.cell.region,
        "hardware": attempt.cell.hardware,
        "cohort": attempt.cell.cohort,
        "exposed": attempt.exposed,
    }
