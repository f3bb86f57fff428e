"""What happened: pages of the ledger for whoever asks about a rollout, a vehicle or an attempt.

Owns what can be asked together and what an unreadable ledger means to the caller. Leaves the file to `LedgerReader`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.ledger import EntryFilter, LedgerBrokenError, LedgerReader, LedgerUnavailableError, Recorded
from orchestrator.model.ids import split_attempt_id
from orchestrator.service.errors import InvalidInputError, StateError, TryLaterError

RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Some entries, and where the next page begins."""

    entries: Sequence[Recorded]
    """Oldest first."""
    following: int | None
    """Place of the last one, to ask for what comes after it; None at the end."""
    archived: int
    """How many of the oldest entries of the ledger are in archives, and here no more."""


class HistoryDesk:
    """Answers from the ledger. What happened within the last second may not be there yet: the evaluator carries it."""

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger

    async def page(self, wanted: EntryFilter, *, after: int, count: int) -> HistoryPage:
        """Entries in order.

        Args:
            wanted: Which.
            after: Only those beyond this place; 0 for all.
            count: At most so many, from 1.

        Raises:
            InvalidInputError: the attempt id is none, or not one of the vehicle or the rollout that is given as well.
            StateError: the ledger's file cannot be used.
            TryLaterError: the ledger cannot be read now.
        """
        try:
            found = await self._ledger.entries(narrowed(wanted), after=after, count=count + 1)
            archived = await self._ledger.archived()
        except LedgerUnavailableError as exc:
            raise TryLaterError(
                f"the ledger cannot be read now: {exc}",
                reason="LEDGER_UNAVAILABLE",
                remedy="call again",
                retry_after_s=RETRY_AFTER_S,
            ) from exc
        except LedgerBrokenError as exc:
            raise StateError(
                str(exc), reason="LEDGER_BROKEN", remedy="check it on the server's machine: `outrider ledger verify`"
            ) from exc
        entries = found[:count]
        return HistoryPage(entries, entries[-1].seq if len(found) > count else None, archived)


def narrowed(wanted: EntryFilter) -> EntryFilter:
    """The same, with the vehicle and the rollout that an attempt's id names: the ledger finds entries by vehicle.

    Raises:
        InvalidInputError: the attempt id is none, or contradicts what is given beside it.
    """
    if not wanted.attempt_id:
        return wanted
    parts = split_attempt_id(wanted.attempt_id)
    if parts is None:
        raise InvalidInputError(
            f"`{wanted.attempt_id[:200]}` is no attempt id",
            reason="ATTEMPT_ID_MALFORMED",
            remedy="attempts are named ROLLOUT.VEHICLE.NUMBER; `outrider vehicle show` lists them",
        )
    rollout_id, vehicle_id, _ = parts
    if wanted.rollout_id not in ("", rollout_id) or wanted.vehicle_id not in ("", vehicle_id):
        raise InvalidInputError(
            f"attempt {wanted.attempt_id} is one of vehicle {vehicle_id} at rollout {rollout_id}, nothing else",
            reason="FILTER_CONTRADICTS",
            remedy="give the attempt alone",
        )
    return replace(wanted, rollout_id=rollout_id, vehicle_id=vehicle_id)
