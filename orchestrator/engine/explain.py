"""Explain: the one true reason why a vehicle does or does not get an update, at any moment, with the values.

Owns which of several reasons is the one that a person is told, and the words for an attempt that is under way: what it
waits for, or since when it does what it does. Reasons against a grant are `admission`'s, those against a permit are
`permits`'. What only the store knows (slots taken, starts and budget spent, the dead-man) is added by the service.

A live attempt is looked at first, whatever the rollout's status: withdrawn at its next call, silent, kept out, then by
its state. Without one, admission answers; and a vehicle that would be granted but does not call is silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.engine import permits
from orchestrator.engine.admission import Candidate, consider, stopped
from orchestrator.engine.wording import duration, instant
from orchestrator.model.attempt import BEFORE_PERMIT_STATES, Attempt, AttemptState
from orchestrator.model.decision import Grant, Refusal, RefusalReason
from orchestrator.model.ids import FleetTime, RolloutId
from orchestrator.model.plan import Consent
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.model.vehicle import VehicleRecord

GRANT = "grant"
"""It is granted an attempt at its next call."""
SILENT = "silent"
"""Nothing but its call is missing."""
NOT_ENROLLED = "not_enrolled"
"""It has no certificate and cannot call."""
SILENT_AFTER_MS = 86_400_000
"""Without a word for so long a vehicle counts as silent here; the gate has its own measure, the plan's checkpoints."""

_DEFERRED: Mapping[str, RefusalReason] = MappingProxyType(
    {
        "consent_pending": RefusalReason.CONSENT_MISSING,
        "link_metered": RefusalReason.LINK_METERED,
        "link_unsuitable": RefusalReason.LINK_UNSUITABLE,
        "storage_low": RefusalReason.STORAGE_LOW,
        "battery_low": RefusalReason.BATTERY_LOW,
        "not_parked": RefusalReason.NOT_PARKED,
        RefusalReason.WATCHED.value: RefusalReason.WATCHED,
        RefusalReason.QUOTA_SPENT.value: RefusalReason.QUOTA_SPENT,
    }
)
"""What an attempt waits for, by the code of its deferral: the vehicle's, or ours where it asked for a permit in vain.
Source: docs/agent-protocol.md, Failure codes.
"""
_BY_THE_CLOCK = (RefusalReason.WINDOW_CLOSED.value, RefusalReason.FREEZE_DAY.value)
"""Codes with which the orchestrator defers: what is in the way is asked for anew, as of an attempt that has all."""
_WAITS: Mapping[RefusalReason, str] = MappingProxyType(
    {
        RefusalReason.CONSENT_MISSING: "waits for its owner to agree",
        RefusalReason.LINK_METERED: "waits for an unmetered link",
        RefusalReason.LINK_UNSUITABLE: "waits for a link that the plan allows",
        RefusalReason.STORAGE_LOW: "waits for more free storage",
        RefusalReason.BATTERY_LOW: "waits for more battery",
        RefusalReason.NOT_PARKED: "waits to be parked",
        RefusalReason.QUOTA_SPENT: "stood aside as a control, and waits for a place in a wave",
    }
)
_DOES: Mapping[AttemptState, str] = MappingProxyType(
    {
        AttemptState.OFFERED: "is offered and not taken up yet",
        AttemptState.DOWNLOADING: "downloads",
        AttemptState.DOWNLOADED: "has everything and asks for a permit at its next call",
        AttemptState.DEFERRED: "waits, and asks for a permit when it goes on",
        AttemptState.PERMITTED: "has its permit and has not told of installing",
        AttemptState.INSTALLING: "installs",
        AttemptState.REBOOTING: "reboots",
        AttemptState.VERIFYING: "runs the new software and checks itself",
    }
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why, for one rollout."""

    rollout_id: RolloutId
    reason: str
    """GRANT, SILENT, NOT_ENROLLED, the word of a refusal, or the state of an attempt that simply goes on."""
    message: str
    """For people, with the values."""
    facts: Mapping[str, str]
    """The values that decided."""
    changes_at: FleetTime | None = None
    """When time alone changes it: a window opens, a retry falls due, an attempt times out; None when it does not."""


def explain(record: VehicleRecord, candidate: Candidate, now: FleetTime) -> Explanation:
    """The one true reason why a vehicle does or does not get a rollout's release.

    Args:
        record: The vehicle as it stands now.
        candidate: The rollout, also one that is over.
        now: Fleet time.
    """
    attempt, rollout = record.attempt, candidate.rollout
    if attempt is not None and attempt.rollout_id == rollout.rollout_id and not attempt.state.terminal:
        return _live(record, attempt, rollout, now)
    if rollout.status.over:
        return _afterwards(record, candidate, now)
    answer = consider(record, rollout, candidate.release, candidate.target, now)
    if isinstance(answer, Refusal):
        return _refused(record, rollout, answer)
    return _granted(record, answer, now)


def _granted(record: VehicleRecord, grant: Grant, now: FleetTime) -> Explanation:
    if not record.enrolled:
        message = "it has not enrolled and cannot call: hand its agent an enrolment token"
        return Explanation(grant.rollout_id, NOT_ENROLLED, message, grant.facts)
    silence = _silence(record, now)
    if silence is not None:
        message, facts = silence
        return Explanation(
            grant.rollout_id, SILENT, f"{message}; it would be granted at its next call", {**grant.facts, **facts}
        )
    return Explanation(grant.rollout_id, GRANT, f"granted at its next call: {grant.message}", grant.facts)


def _refused(record: VehicleRecord, rollout: Rollout, refusal: Refusal) -> Explanation:
    facts, message = dict(refusal.facts), refusal.message
    attempt = record.attempt
    if attempt is not None and attempt.rollout_id == rollout.rollout_id and attempt.failure_code:
        facts["failure_code"] = attempt.failure_code
        if refusal.reason in (RefusalReason.ATTEMPT_SETTLED, RefusalReason.ATTEMPTS_SPENT, RefusalReason.RETRY_LATER):
            message = f"{message}; the vehicle says {attempt.failure_code}"
    due = facts.get("retry_at_ms")
    return Explanation(
        rollout.rollout_id, refusal.reason.value, message, facts, FleetTime(int(due)) if due is not None else None
    )


def _afterwards(record: VehicleRecord, candidate: Candidate, now: FleetTime) -> Explanation:
    """Why a vehicle did not get what is not given any more: what admission would say if the rollout ran."""
    rollout = candidate.rollout
    ended = f"the rollout is {rollout.status} since {instant(rollout.updated_at)}"
    running = replace(rollout, status=RolloutStatus.RUNNING)
    answer = consider(record, running, candidate.release, candidate.target, now)
    facts = {**answer.facts, "status": rollout.status.value, "ended_at": instant(rollout.updated_at)}
    if isinstance(answer, Grant) or answer.reason is RefusalReason.RETRY_LATER:
        seen = instant(record.last_seen_at) if record.last_seen_at is not None else "never"
        facts["last_seen"] = seen
        message = f"{ended}; the vehicle's turn had come, and it was not through by then (last heard: {seen})"
        return Explanation(rollout.rollout_id, RefusalReason.ROLLOUT_OVER.value, message, facts)
    said = _refused(record, rollout, answer)
    return Explanation(rollout.rollout_id, said.reason, f"{ended}; {said.message}", {**said.facts, **facts})


def _live(record: VehicleRecord, attempt: Attempt, rollout: Rollout, now: FleetTime) -> Explanation:
    facts = _attempt_facts(record, attempt)
    waiting = attempt.state in BEFORE_PERMIT_STATES
    fence = rollout.fence_of(attempt.cell.stratum)
    if waiting and attempt.epoch < fence:
        part = f" in {attempt.cell.stratum}" if fence > rollout.fence else ""
        status = "halted" if part else rollout.status.value
        message = f"attempt {attempt.number} is withdrawn at its next call: the rollout is {status}{part}"
        facts |= {"epoch": str(attempt.epoch), "fence": str(fence), "status": status}
        return Explanation(rollout.rollout_id, RefusalReason.FENCED.value, message, facts)
    away_until = _away_until(attempt)
    if away_until is not None and now < away_until:
        since = f"since {instant(attempt.state_at)}, for {duration(now - attempt.state_at)}"
        message = (
            f"attempt {attempt.number} has an offline permit {since}: it may install out of reach until "
            f"{instant(away_until)}, and nothing calls it back"
        )
        facts |= {"offline_permit_until": instant(away_until)}
        return Explanation(rollout.rollout_id, attempt.state.value, message, facts, away_until)
    silence = _silence(record, now)
    if silence is not None:
        message, more = silence
        does = f"attempt {attempt.number} is {attempt.state} since {instant(attempt.state_at)}"
        return Explanation(
            rollout.rollout_id, SILENT, f"{message}; {does}{_until(attempt)}", facts | more, attempt.deadline_at
        )
    found = _hindered(record, attempt, rollout, now) if waiting else None
    if found is not None:
        refusal, changes_at = found
        message = f"attempt {attempt.number} is {attempt.state}: {refusal.message}"
        return Explanation(rollout.rollout_id, refusal.reason.value, message, facts | dict(refusal.facts), changes_at)
    code = f" ({attempt.failure_code})" if attempt.failure_code else ""
    since = f"since {instant(attempt.state_at)}, for {duration(now - attempt.state_at)}"
    message = f"attempt {attempt.number} {_DOES[attempt.state]}{code}, {since}{_until(attempt)}"
    return Explanation(rollout.rollout_id, attempt.state.value, message, facts, attempt.deadline_at)


def _hindered(
    record: VehicleRecord, attempt: Attempt, rollout: Rollout, now: FleetTime
) -> tuple[Refusal, FleetTime | None] | None:
    """What keeps an attempt from its permit, and when time alone changes that; None when nothing is known to."""
    excluded = permits.excluded(record, rollout)
    if excluded is not None:
        return excluded, None
    plan, conditions = rollout.plan, record.conditions
    if attempt.state is AttemptState.DEFERRED and attempt.failure_code not in _BY_THE_CLOCK:
        deferred = _deferred(record, attempt, rollout, now)
        return (deferred, attempt.deadline_at) if deferred is not None else None
    if attempt.state not in (AttemptState.DOWNLOADED, AttemptState.DEFERRED):
        # Of the conditions only this one binds the download, and only what the vehicle told.
        metered = plan.preconditions.unmetered and conditions is not None and conditions.metered
        unmet = permits.unmet(plan.preconditions, conditions) if metered else None
        return (unmet, attempt.deadline_at) if unmet is not None else None
    paused = stopped(rollout, attempt.cell.stratum)
    if paused is not None:
        return paused, attempt.deadline_at
    rules = permits.rules_of(attempt.cell.region, rollout)
    closed = permits.window_refusal(record, rules, now)
    if closed is not None:
        return closed
    unmet = permits.unmet(plan.preconditions, conditions)
    if unmet is None and rules.consent is Consent.REQUIRED:
        unmet = Refusal(
            RefusalReason.CONSENT_MISSING,
            f"{_WAITS[RefusalReason.CONSENT_MISSING]}; no permit is asked for before",
            {"consent": rules.consent.value},
        )
    return (unmet, attempt.deadline_at) if unmet is not None else None


def _deferred(record: VehicleRecord, attempt: Attempt, rollout: Rollout, now: FleetTime) -> Refusal | None:
    reason = _DEFERRED.get(attempt.failure_code)
    if reason is None:
        return None
    since = f"since {instant(attempt.state_at)}, for {duration(now - attempt.state_at)}"
    facts = {"failure_code": attempt.failure_code}
    if reason is RefusalReason.WATCHED:
        return Refusal(reason, f"watched as a control {since}: its permit comes at a later call", facts)
    if reason in (RefusalReason.CONSENT_MISSING, RefusalReason.QUOTA_SPENT):
        return Refusal(reason, f"{_WAITS[reason]} {since}", facts)
    told = record.conditions
    values = "it has not told how it stands"
    if told is not None:
        facts |= {"link": told.link.value, "metered": str(told.metered).lower(), "parked": str(told.parked).lower()}
        facts |= {"battery": f"{told.battery_percent} %"}
        link = f"{told.link} link, {'metered' if told.metered else 'unmetered'}"
        values = f"at its last call: {link}; battery {told.battery_percent} %; {'' if told.parked else 'not '}parked"
    least = rollout.plan.preconditions.battery_percent_min
    wanted = f" (at least {least} %)" if reason is RefusalReason.BATTERY_LOW and least else ""
    return Refusal(reason, f"{_WAITS[reason]}{wanted} {since}; {values}", facts)


def _silence(record: VehicleRecord, now: FleetTime) -> tuple[str, dict[str, str]] | None:
    """That nothing was heard of a vehicle for long, for people, with the values; None when it was."""
    attempt = record.attempt
    # Last contacts are written behind; a live attempt changes in no other way than by a call.
    called_at = [record.last_seen_at] if record.last_seen_at is not None else []
    if attempt is not None and not attempt.state.terminal:
        called_at.append(attempt.state_at)
    if not called_at:
        return "it was never heard", {"last_seen": "never"}
    seen = max(called_at)
    if now - seen < SILENT_AFTER_MS:
        return None
    return f"silent since {instant(seen)}, for {duration(now - seen)}", {"last_seen": instant(seen)}


def _away_until(attempt: Attempt) -> FleetTime | None:
    """When the offline permit lapses that an attempt holds and has not told of using; None when it holds none."""
    if attempt.state is not AttemptState.PERMITTED or attempt.permitted_at is None or not attempt.offline_ms:
        return None
    return FleetTime(attempt.permitted_at + attempt.offline_ms)


def _until(attempt: Attempt) -> str:
    return f"; it times out at {instant(attempt.deadline_at)}" if attempt.deadline_at is not None else ""


def _attempt_facts(record: VehicleRecord, attempt: Attempt) -> dict[str, str]:
    facts = {
        "attempt_id": attempt.attempt_id,
        "number": str(attempt.number),
        "state": attempt.state.value,
        "state_at": instant(attempt.state_at),
    }
    if attempt.deadline_at is not None:
        facts["deadline_at"] = instant(attempt.deadline_at)
    if record.last_seen_at is not None:
        facts["last_seen"] = instant(record.last_seen_at)
    return facts
