"""Signals: what somebody outside says about the vehicles of a rollout, and what becomes of it.

Owns posting and taking back, and which of these make a step. What a signal that stands means is the gate's matter: it
is judged at the next tick, like every counter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from math import isfinite

from orchestrator.engine import brakes
from orchestrator.engine.inputs import Json
from orchestrator.engine.steps import Illegal, Step, changed, same, signal_data
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Rollout, Signal

SIGNALS_MAX = 64
"""Signals that may stand at once: a rollout is one record, read at every look."""
EVERYWHERE = "all"
"""Scope of a signal about all vehicles of a rollout."""

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
    """The rollout with a signal. A repetition that says the same of a limit that is kept makes no step: whoever
    measures once a minute must not make every grant stale.
    """
    signal = replace(event.signal, scope=event.signal.scope or EVERYWHERE, at=now)
    fault = _objection(rollout, signal)
    if fault is not None:
        return Illegal(*fault)
    stood = _standing(rollout, signal.name, signal.scope)
    if stood is not None and _says_the_same(stood, signal):
        return same(rollout)
    others = [each for each in rollout.signals if each is not stood]
    signals = tuple(sorted([*others, signal], key=lambda each: (each.name, each.scope)))
    return changed(
        rollout, replace(rollout, signals=signals), "signal_posted", now, _said(signal, signal.actor, signal.reason)
    )


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
    cleared = replace(rollout, signals=tuple(each for each in rollout.signals if each is not stood))
    return changed(rollout, cleared, "signal_cleared", now, _said(stood, event.actor, event.reason))


def _said(signal: Signal, actor: str, reason: str) -> dict[str, Json]:
    # Of the rollout itself actor and reason keep saying who made it stand as it does.
    return {"actor": actor, "reason": reason, "signal": signal_data(signal)}


def _standing(rollout: Rollout, name: str, scope: str) -> Signal | None:
    return next((each for each in rollout.signals if (each.name, each.scope) == (name, scope)), None)


def _says_the_same(stood: Signal, signal: Signal) -> bool:
    if (stood.kind, stood.limit) != (signal.kind, signal.limit):
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
