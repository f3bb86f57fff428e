"""Signals: what somebody outside says about the vehicles of a rollout, and what becomes of it.

Owns posting and taking back, how old a measurement may be, and which of these make a step. What a signal that stands
means is the gate's matter: it is judged at the next tick, like every counter. A warning is a measurement and ages: who
measures posts again before it is good no more. A report of safety happened, and stands until it is taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import isfinite

from orchestrator.engine import brakes
from orchestrator.engine.gates.signals import forgotten
from orchestrator.engine.inputs import Json
from orchestrator.engine.steps import Illegal, Step, changed, same, signal_data
from orchestrator.engine.wording import duration, instant
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import MEASURED_AHEAD_MS, Rollout, Signal, SignalKind

SIGNALS_MAX = 64
"""Signals that may stand at once: a rollout is one record, read at every look."""
EVERYWHERE = "all"
"""Scope of a signal about all vehicles of a rollout."""
GOOD_FOR_MS = 6 * 3_600_000
"""How long a warning is good that does not say it: two looks a day are no feed, and a night must not pass unseen."""
GOOD_FOR_BOUNDS_MS = (10 * 60_000, 30 * 24 * 3_600_000)
"""What a warning may say: shorter ones would make a step every minute, longer ones outlive what they are about."""
RENEWED_AFTER = 4
"""A measurement that says the same is written down once it is newer by this part of how long it is good."""

_NAME = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class SignalPosted:
    """Somebody outside says how the vehicles fare; replaces what stood under that name and scope."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class SignalCleared:
    """A signal does not stand any more."""

    name: str
    scope: str
    """As it was posted."""
    actor: str
    reason: str


def post(rollout: Rollout, event: SignalPosted, now: FleetTime) -> Step | Illegal:
    """The rollout with a signal. A repetition that says the same of a limit that is kept makes no step before a quarter
    of its time is over: whoever measures once a minute must not make every grant stale.
    """
    signal = _completed(event.signal, now)
    fault = _objection(rollout, signal)
    fault = fault or _age_objection(signal, _standing(rollout, signal.name, signal.scope), now)
    if fault is not None:
        return Illegal(*fault)
    stood = _standing(rollout, signal.name, signal.scope)
    if stood is not None and _says_the_same(stood, signal):
        return same(rollout)
    others = [each for each in rollout.signals if each is not stood]
    signals = tuple(sorted([*others, signal], key=lambda each: (each.name, each.scope)))
    waived = rollout.waived
    if stood is not None and stood.kind is not signal.kind:
        waived = forgotten(waived, stood)
    after = replace(rollout, signals=signals, waived=waived)
    return changed(rollout, after, "signal_posted", now, _said(signal, signal.actor, signal.reason))


def clear(rollout: Rollout, event: SignalCleared, now: FleetTime) -> Step | Illegal:
    """The rollout without a signal."""
    scope = event.scope or EVERYWHERE
    stood = _standing(rollout, event.name, scope)
    if stood is None:
        known = ", ".join(f"{each.name} in {each.scope}" for each in rollout.signals)
        return Illegal(
            f"rollout {rollout.rollout_id} has no signal `{event.name[:64]}` in `{scope[:64]}`",
            f"there are {known}" if known else "there is none",
        )
    others = tuple(each for each in rollout.signals if each is not stood)
    cleared = replace(rollout, signals=others, waived=forgotten(rollout.waived, stood))
    return changed(rollout, cleared, "signal_cleared", now, _said(stood, event.actor, event.reason))


def _said(signal: Signal, actor: str, reason: str) -> dict[str, Json]:
    # Of the rollout itself actor and reason keep saying who made it stand as it does.
    return {"actor": actor, "reason": reason, "signal": signal_data(signal)}


def _standing(rollout: Rollout, name: str, scope: str) -> Signal | None:
    return next((each for each in rollout.signals if (each.name, each.scope) == (name, scope)), None)


def _completed(signal: Signal, now: FleetTime) -> Signal:
    """A signal with what whoever posted it left out."""
    usual_ms = GOOD_FOR_MS if signal.kind is SignalKind.WARNING else 0
    measured_at = signal.measured_at or now
    return replace(
        signal,
        scope=signal.scope or EVERYWHERE,
        at=now,
        # A clock that is a little fast must not make the value good for longer.
        measured_at=min(measured_at, now) if measured_at <= now + MEASURED_AHEAD_MS else measured_at,
        good_for_ms=signal.good_for_ms or usual_ms,
    )


def _says_the_same(stood: Signal, signal: Signal) -> bool:
    if (stood.kind, stood.limit, stood.good_for_ms) != (signal.kind, signal.limit, signal.good_for_ms):
        return False
    if signal.good_for_ms and (signal.measured_at - stood.measured_at) * RENEWED_AFTER >= signal.good_for_ms:
        return False
    # Beyond the limit the number matters to whoever looks, and a rollout that is held grants nothing anyway.
    return stood.value == signal.value or (stood.value <= stood.limit and signal.value <= signal.limit)


def _objection(rollout: Rollout, signal: Signal) -> tuple[str, str] | None:
    if not _NAME.fullmatch(signal.name):
        return f"`{signal.name[:64]}` is no name of a signal", f"it must match {_NAME.pattern}"
    if not isfinite(signal.value) or not isfinite(signal.limit):
        return (
            f"signal {signal.name} has value {signal.value:g} and limit {signal.limit:g}",
            "both must be finite numbers: leave the last value standing rather than send none",
        )
    if signal.scope != EVERYWHERE and (fault := brakes.objection(rollout, signal.scope)) is not None:
        return fault
    known = _standing(rollout, signal.name, signal.scope) is not None
    if not known and len(rollout.signals) >= SIGNALS_MAX:
        return (
            f"rollout {rollout.rollout_id} has {len(rollout.signals)} signals, limit {SIGNALS_MAX}",
            "take back those that say nothing any more",
        )
    return None


def _age_objection(signal: Signal, stood: Signal | None, now: FleetTime) -> tuple[str, str] | None:
    """Why a measurement is none of now, and the remedy; None when it is. A report of safety is taken however old."""
    if signal.kind is SignalKind.SAFETY:
        if signal.good_for_ms:
            return (
                f"{signal.name} is a report of safety, good for {duration(signal.good_for_ms)}",
                "leave out how long it is good: it stands until a person takes it back",
            )
        return None
    measured, good_for = instant(signal.measured_at), duration(signal.good_for_ms)
    least_ms, most_ms = GOOD_FOR_BOUNDS_MS
    if not least_ms <= signal.good_for_ms <= most_ms:
        return f"{signal.name} is good for {good_for}", f"say {duration(least_ms)} to {duration(most_ms)}"
    if signal.measured_at > now:
        return (
            f"{signal.name} was measured at {measured}, and it is {instant(now)} now",
            "set the clock of what measures, or leave the time out",
        )
    if signal.overdue(now):
        return (
            f"{signal.name} was measured at {measured} and good for {good_for}: it is {instant(now)} now",
            "post a fresh measurement, or say that it is good for longer",
        )
    if stood is not None and stood.kind is SignalKind.WARNING and signal.measured_at < stood.measured_at:
        return (
            f"{signal.name} was measured at {measured}, and what stands at {instant(stood.measured_at)}",
            "drop it: the newer measurement stands",
        )
    return None
