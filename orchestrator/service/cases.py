"""Use cases of cases: list them, look into one, close one. What could be done about one is said by `case_advice`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.clock import FleetClock
from orchestrator.model.attempt import Case
from orchestrator.model.ids import AttemptId, FleetTime, RolloutId, split_attempt_id
from orchestrator.service.case_advice import CaseFile, advice
from orchestrator.service.errors import NotFoundError, StateError
from orchestrator.store.base import Store


@dataclass(frozen=True, slots=True)
class AdvisedCase:
    """A case, and what could be done about it."""

    case: Case
    advice: Sequence[str]


class CaseDesk:
    """Serves operators in what concerns cases.

    Args:
        store: committed to.
        clock: fleet time.
    """

    def __init__(self, *, store: Store, clock: FleetClock) -> None:
        self._store = store
        self._clock = clock

    async def list(self, rollout_id: RolloutId | None, *, settled: bool) -> Sequence[Case]:
        """Vehicles that an update hurt, or may have, newest first."""
        return await self._store.cases(rollout_id=rollout_id, settled=settled)

    async def get(self, attempt_id: AttemptId) -> AdvisedCase:
        """One case with advice.

        Raises:
            NotFoundError: the attempt never had one.
        """
        case = await self._store.case(attempt_id)
        if case is None:
            raise unknown(attempt_id)
        attempts = {attempt.attempt_id: attempt for attempt in await self._store.attempts(case.vehicle_id)}
        rollouts = {rollout.rollout_id: rollout for rollout in await self._store.rollouts()}
        open_cases = await self._store.cases(rollout_id=case.rollout_id, settled=False)
        file = CaseFile(
            case=case,
            record=await self._store.vehicle(case.vehicle_id),
            attempt=attempts.get(attempt_id),
            rollout=rollouts.get(case.rollout_id),
            alike=sum((each.cause, each.detail) == (case.cause, case.detail) for each in open_cases),
            now=self._now(),
        )
        return AdvisedCase(case=case, advice=advice(file))

    async def close(self, attempt_id: AttemptId, *, actor: str, reason: str) -> Case:
        """A person settles a case; closing it again by the same person for the same reason changes nothing.

        Raises:
            NotFoundError: the attempt never had one.
            StateError: it is settled already, by a later report or by somebody else.
        """
        case = await self._store.close_case(attempt_id, actor=actor, reason=reason, now=self._now())
        if case is None:
            raise unknown(attempt_id)
        if (case.closed_by, case.close_reason) != (actor, reason):
            by = f"{case.closed_by} closed it: {case.close_reason}" if case.closed_by else "a later report settled it"
            raise StateError(
                f"the case of {attempt_id} is settled already: {by}",
                reason="CASE_SETTLED",
                remedy=f"`outrider case show {attempt_id}` shows it; nothing is left to close",
            )
        return case

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def unknown(attempt_id: AttemptId) -> NotFoundError:
    """The refusal where no case was."""
    parts = split_attempt_id(attempt_id)
    look = f"`outrider vehicle show {parts[1]}` shows its attempts" if parts else "its id is that of the attempt"
    return NotFoundError(
        f"there is no case {attempt_id[:160]}",
        reason="CASE_UNKNOWN",
        remedy=f"`outrider case list --settled` shows all cases; {look}",
    )
