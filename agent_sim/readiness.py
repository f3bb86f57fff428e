"""What an attempt still needs before it may go on: consent and conditions, and what waiting makes of the state. Pure.

Owns which cause is named when several hold, and which events waiting tells. Leaves when to look to `agent`, conditions
to its senses, and the owner's word to whoever asks him. Source: `vehicle.proto`, InstallDirective and EventKind.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from agent_sim import steps
from agent_sim.messages import Conditions, Consent, EventKind, Preconditions
from agent_sim.persisted import PersistedState, Phase, Progress


class Missing(StrEnum):
    """Why an attempt waits; the failure code of DEFERRED."""

    CONSENT = "consent_pending"
    LINK = "link_unsuitable"
    UNMETERED = "link_metered"
    STORAGE = "storage_low"
    BATTERY = "battery_low"
    PARKED = "not_parked"


NOTHING = ""


def missing(progress: Progress, conditions: Conditions) -> str:
    """What the attempt needs for its next step, or NOTHING.

    The owner comes first: conditions change by themselves, he must be asked. A download needs the link alone.
    """
    wanted = progress.preconditions
    link = _link_missing(wanted, conditions)
    if progress.phase is Phase.DOWNLOADING:
        return link
    if progress.phase is not Phase.DOWNLOADED:
        return NOTHING
    if progress.consent is Consent.REQUIRED and not progress.consented:
        return Missing.CONSENT
    if link:
        return link
    if conditions.storage_free_bytes < wanted.storage_free_bytes_min:
        return Missing.STORAGE
    if conditions.battery_percent < wanted.battery_percent_min:
        return Missing.BATTERY
    return Missing.PARKED if wanted.parked and not conditions.parked else NOTHING


def comes_on_the_way(progress: Progress, cause: str) -> bool:
    """Whether what is missing is no reason against an offline permit, if there is one: it is driven there and charged
    there, and looked at again before anything is written.
    """
    return progress.offline_permit_ms > 0 and cause in (Missing.PARKED, Missing.BATTERY)


def _link_missing(wanted: Preconditions, conditions: Conditions) -> str:
    if wanted.links and conditions.link not in wanted.links:
        return Missing.LINK
    return Missing.UNMETERED if wanted.unmetered and conditions.metered else NOTHING


def wait_for(state: PersistedState, cause: str, now: int) -> PersistedState:
    """The attempt waits for `cause` from here on, or goes on when that is NOTHING; each change is told once."""
    progress = steps.progress_of(state)
    if progress.waiting_for == cause:
        return state
    changed = replace(state, progress=replace(progress, waiting_for=cause))
    if progress.permitted:
        # The orchestrator counts it as exposed, and no event takes that back.
        return changed
    downloaded = progress.phase is Phase.DOWNLOADED
    gone_on = EventKind.DOWNLOAD_FINISHED if downloaded else EventKind.DOWNLOAD_STARTED
    if progress.waiting_for:
        # Also between two causes: a deferred attempt that is deferred again would keep the first one's name.
        changed = steps.tell(changed, progress.attempt_id, gone_on, now)
    return steps.tell(changed, progress.attempt_id, EventKind.DEFERRED, now, cause) if cause else changed


def owner_due_at(progress: Progress) -> int | None:
    """Fleet time from which the owner is to be told or asked; None: he is not."""
    if progress.phase is not Phase.DOWNLOADED:
        return None
    if progress.consent is Consent.REQUIRED and not progress.consented:
        return progress.ask_owner_at
    return 0 if progress.consent is Consent.NOTICE and not progress.owner_told else None


def told(state: PersistedState) -> PersistedState:
    """The owner was told."""
    return replace(state, progress=replace(steps.progress_of(state), owner_told=True))


def agreed(state: PersistedState) -> PersistedState:
    """The owner said yes."""
    return replace(state, progress=replace(steps.progress_of(state), consented=True))


def postponed(state: PersistedState, ask_again_at: int) -> PersistedState:
    """The owner said "later"."""
    progress = steps.progress_of(state)
    later = replace(progress, postponed=progress.postponed + 1, ask_owner_at=ask_again_at)
    return replace(state, progress=later)


def declined(state: PersistedState, now: int) -> PersistedState:
    """The owner said no: nothing is installed, and this attempt is over."""
    return steps.reject(state, "consent_declined", now)
