"""Attempts that wait for their window, for conditions, for their owner, or by a coin: DEFERRED, so that waiting holds
no slot.

A vehicle tells what it waits for itself; what only the plan knows (its window) or sees differently, it hears from the
permit desk, and keeps asking. Then it is the orchestrator that defers. The slot follows from the journal
(`ledger_feed`), and is taken again with the permit.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.engine.permits import rules_of, window_refusal
from orchestrator.model.attempt import BEFORE_PERMIT_STATES, Attempt, AttemptEvent, AttemptState
from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.store.base import VehicleStore

WAITED_FOR = frozenset(
    {
        RefusalReason.WINDOW_CLOSED,
        RefusalReason.FREEZE_DAY,
        RefusalReason.CONSENT_MISSING,
        RefusalReason.LINK_METERED,
        RefusalReason.LINK_UNSUITABLE,
        RefusalReason.STORAGE_LOW,
        RefusalReason.BATTERY_LOW,
        RefusalReason.NOT_PARKED,
        RefusalReason.WATCHED,
        RefusalReason.QUOTA_SPENT,
    }
)
"""Refusals of a permit that the passing of time, the vehicle, its owner or the next wave will mend."""


def code_of(refusal: Refusal) -> str:
    """The failure code of a deferral: as a vehicle names it, where it has a name for it."""
    return "consent_pending" if refusal.reason is RefusalReason.CONSENT_MISSING else refusal.reason.value


def asks_by_itself(attempt: Attempt) -> bool:
    """Whether it has all that it needs but leave to install, which its vehicle asks for when it was told to, and is
    heard by that: polls in between bring nothing.
    """
    return attempt.state in (AttemptState.DOWNLOADED, AttemptState.DEFERRED)


@dataclass(frozen=True, slots=True)
class PollPace:
    """How often vehicles shall call, fleet time."""

    idle_ms: int
    live_ms: int
    """While an attempt is live and lacks more than leave to install."""

    def of(self, attempt: Attempt | None) -> int:
        """When a vehicle polls next that is at an attempt; None: at none."""
        return self.idle_ms if attempt is None or asks_by_itself(attempt) else self.live_ms


async def defer(
    store: VehicleStore, attempt: Attempt, refusal: Refusal, now: FleetTime, *, anew: bool = False
) -> VehicleRecord | None:
    """Let an attempt wait for what a refusal says, if it is a wait, the attempt has no permit, and does not wait for
    that already. The vehicle's record after a change; None when nothing was to change.

    Args:
        store: Of the vehicle.
        attempt: As it was read.
        refusal: What it waits for.
        now: Fleet time.
        anew: Whether it begins to wait once more, though for the same: its deadline counts from now.

    Raises:
        StoreUnavailableError: the outcome is unknown; the next call makes it good.
    """
    code = code_of(refusal)
    waits = attempt.state is AttemptState.DEFERRED and attempt.failure_code == code
    if (waits and not anew) or attempt.state not in BEFORE_PERMIT_STATES or refusal.reason not in WAITED_FOR:
        return None
    applied = await store.change(attempt.attempt_id, AttemptEvent.DEFERRED, now=now, failure_code=code)
    return applied.record if applied else None


def closed(record: VehicleRecord, attempt: Attempt, rollout: Rollout, now: FleetTime) -> Refusal | None:
    """Why an attempt that has everything waits for its window all the same, without having asked; None when it does
    not. A late word about its download must not make it hold a slot through the day.
    """
    if attempt.state is not AttemptState.DOWNLOADED:
        return None
    found = window_refusal(record, rules_of(attempt.cell.region, rollout), now)
    return found[0] if found is not None else None
