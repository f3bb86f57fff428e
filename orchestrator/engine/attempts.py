"""What can happen to an attempt: the one transition table, and the step over it.

Owns which event is legal in which state and what it leads to. The stores apply it: the memory store calls `advance`,
the Redis function library is rendered from TRANSITIONS, which therefore is plain data. What an attempt takes and gives
back (slots, counters, journal entries) is theirs.

What the table holds to:

- Terminal states never go back to live; nothing regresses. What is not in the table is ignored.
- Vehicles may lose events, so theirs may skip states forward.
- Exposure begins with PERMIT_ISSUED and with nothing else.
- The truth is a signed manifest: ATTESTED_RELEASE settles whatever state the attempt was believed to be in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.model.attempt import (
    BEFORE_PERMIT_STATES,
    LIVE_STATES,
    TERMINAL_STATES,
    Attempt,
    AttemptEvent,
    AttemptState,
)
from orchestrator.model.ids import FleetTime

_S = AttemptState
_E = AttemptEvent


@dataclass(frozen=True, slots=True)
class Transition:
    """Where an event leads."""

    state: AttemptState
    """The state it enters."""
    correction: bool
    """Whether it corrects a terminal state by a later word."""


@dataclass(frozen=True, slots=True)
class Changed:
    """An attempt after a legal event."""

    attempt: Attempt
    transition: Transition


TransitionKey = tuple[AttemptState, bool, AttemptEvent]
"""State, whether a permit was issued, event."""

EXPOSED_LIVE_STATES = (_S.PERMITTED, _S.INSTALLING, _S.REBOOTING, _S.VERIFYING)
"""Live states that only a permit leads to."""
UNEXPOSED_LIVE_STATES = (_S.OFFERED, _S.DOWNLOADING, _S.DOWNLOADED, _S.DEFERRED)
"""Live states before the permit."""

_Row = tuple[Iterable[AttemptState], AttemptEvent, AttemptState]

_BEFORE_PERMIT: tuple[_Row, ...] = (
    ((_S.OFFERED, _S.DEFERRED), _E.DOWNLOAD_STARTED, _S.DOWNLOADING),
    ((_S.OFFERED, _S.DOWNLOADING, _S.DEFERRED), _E.DOWNLOAD_FINISHED, _S.DOWNLOADED),
    # From DEFERRED as well: what it waits for now counts, not what it waited for first.
    (UNEXPOSED_LIVE_STATES, _E.DEFERRED, _S.DEFERRED),
    # From DEFERRED as well: who asks has what it was waiting for, and the images.
    ((_S.DOWNLOADED, _S.DEFERRED), _E.PERMIT_ISSUED, _S.PERMITTED),
    (UNEXPOSED_LIVE_STATES, _E.WITHDRAWN, _S.WITHDRAWN),
    (UNEXPOSED_LIVE_STATES, _E.WITHDRAWAL_OBEYED, _S.WITHDRAWN),
    (UNEXPOSED_LIVE_STATES, _E.REJECTED, _S.REJECTED),
    (UNEXPOSED_LIVE_STATES, _E.FAILED, _S.FAILED),
    (UNEXPOSED_LIVE_STATES, _E.DEADLINE_PASSED, _S.TIMED_OUT),
    # Someone installed it past us, for example in a workshop: the manifest counts, the attempt was no exposure.
    (UNEXPOSED_LIVE_STATES, _E.ATTESTED_RELEASE, _S.SUCCEEDED),
    ((_S.FAILED, _S.REJECTED, _S.TIMED_OUT, _S.WITHDRAWN), _E.ATTESTED_RELEASE, _S.SUCCEEDED),
    # No row for INSTALL_STARTED, REBOOT_STARTED and VERIFY_STARTED: an install without a permit is not an exposure
    # because a vehicle says so; its signed manifest will still tell the truth.
    # No row for ROLLED_BACK: there is nothing to roll back from.
    # No row for ATTESTED_OTHER: a vehicle may attest at any boot before it installs.
)

_AFTER_PERMIT: tuple[_Row, ...] = (
    ((_S.PERMITTED,), _E.INSTALL_STARTED, _S.INSTALLING),
    ((_S.PERMITTED, _S.INSTALLING), _E.REBOOT_STARTED, _S.REBOOTING),
    ((_S.PERMITTED, _S.INSTALLING, _S.REBOOTING), _E.VERIFY_STARTED, _S.VERIFYING),
    (EXPOSED_LIVE_STATES, _E.FAILED, _S.FAILED),
    (EXPOSED_LIVE_STATES, _E.ROLLED_BACK, _S.ROLLED_BACK),
    (EXPOSED_LIVE_STATES, _E.DEADLINE_PASSED, _S.TIMED_OUT),
    (EXPOSED_LIVE_STATES, _E.ATTESTED_RELEASE, _S.SUCCEEDED),
    # Before the reboot the old software still runs and may attest itself.
    ((_S.REBOOTING, _S.VERIFYING), _E.ATTESTED_OTHER, _S.ROLLED_BACK),
    # Late words correct a time-out, and a manifest corrects anything, a success that was reverted included.
    ((_S.TIMED_OUT,), _E.FAILED, _S.FAILED),
    ((_S.TIMED_OUT,), _E.ROLLED_BACK, _S.ROLLED_BACK),
    ((_S.TIMED_OUT, _S.SUCCEEDED), _E.ATTESTED_OTHER, _S.ROLLED_BACK),
    ((_S.FAILED, _S.ROLLED_BACK, _S.TIMED_OUT), _E.ATTESTED_RELEASE, _S.SUCCEEDED),
    # No row for WITHDRAWN, WITHDRAWAL_OBEYED, REJECTED and DEFERRED: nothing takes an exposure back.
)


def _table() -> Mapping[TransitionKey, Transition]:
    table: dict[TransitionKey, Transition] = {}
    for exposed, rows in ((False, _BEFORE_PERMIT), (True, _AFTER_PERMIT)):
        for states, event, reached in rows:
            for state in states:
                assert (state, exposed, event) not in table, "two rows for one cell"
                table[state, exposed, event] = Transition(state=reached, correction=state in TERMINAL_STATES)
    return MappingProxyType(table)


TRANSITIONS: Mapping[TransitionKey, Transition] = _table()
"""Every legal event by (state, whether a permit was issued, event). What is absent is ignored."""

SAFETY_CLASS = "safety_"
"""What failure codes begin with that say that somebody may be hurt."""

_CAUSES: Mapping[AttemptState, str] = MappingProxyType(
    {_S.FAILED: "failed", _S.ROLLED_BACK: "rolled_back", _S.TIMED_OUT: "timed_out"}
)


def advance(attempt: Attempt, event: AttemptEvent, *, now: FleetTime, failure_code: str = "") -> Changed | None:
    """Take an attempt through one event.

    Args:
        attempt: As it stands.
        event: What happened.
        now: Fleet time; the new state's deadline counts from it.
        failure_code: What the event says went wrong; replaces the attempt's, also when it is empty.

    Returns:
        The changed attempt with the transition it went through, or None when the event is not legal in its state and
        changes nothing.
    """
    transition = TRANSITIONS.get((attempt.state, attempt.exposed, event))
    if transition is None:
        return None
    changed = replace(
        attempt,
        state=transition.state,
        state_at=now,
        deadline_at=deadline(attempt, transition.state, now),
        permitted_at=now if event is AttemptEvent.PERMIT_ISSUED else attempt.permitted_at,
        failure_code=failure_code,
        # No later word takes it back: it happened.
        safety=attempt.safety or (attempt.exposed and failure_code.startswith(SAFETY_CLASS)),
    )
    return Changed(attempt=changed, transition=transition)


def deadline(attempt: Attempt, state: AttemptState, now: FleetTime) -> FleetTime | None:
    """When `attempt` times out if it enters `state` at `now`; None when that state is terminal.

    All its states before a permit together last no longer than the sum of their deadlines: a vehicle that defers and
    goes on again and again must not hold its place for ever.
    """
    if state not in LIVE_STATES:
        return None
    ends_at = now + attempt.deadlines_ms[state]
    if state is AttemptState.PERMITTED:
        # Out of reach it cannot say that it began; nobody is late before the permit has lapsed.
        ends_at += attempt.offline_ms
    if state in BEFORE_PERMIT_STATES:
        life_ms = sum(attempt.deadlines_ms[each] for each in BEFORE_PERMIT_STATES)
        ends_at = min(ends_at, attempt.granted_at + life_ms)
    return FleetTime(ends_at)


def case_cause(state: AttemptState, exposed: bool) -> str | None:
    """Why a case opens when an attempt enters `state`.

    Returns:
        `failed`, `rolled_back` or `timed_out`; None when no case opens: the attempt had no permit, or the state hurts
        nobody. A case for silence (`silent`) opens at a checkpoint instead, and a correction to SUCCEEDED settles
        whichever is open.
    """
    return _CAUSES.get(state) if exposed else None
