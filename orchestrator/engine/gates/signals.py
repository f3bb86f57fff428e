"""What people and vehicles say beside the counters: signals from outside, reports of the safety class.

Owns when one holds and when it halts, and what a signal is about. A report of the safety class is a failure as well:
as such the rules count it, here it counts for what it says.

- A warning holds its scope while its value does not keep its limit.
- A warning that is overdue holds its scope as well, whatever it said: whoever measures may be dead. A waiver covers the
  measurement that it was about, and not the next feed that dies.
- One report of safety holds, two halt: signals of that kind and reports of vehicles alike, whatever their values. Over
  all strata, a signal about a part counts as the second, not as the first: one holds its part alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.engine.gates.terms import Finding, scope_name, stratum_of, waived_by, waiver_of
from orchestrator.engine.wording import duration, instant
from orchestrator.model.fleet import Stratum
from orchestrator.model.ids import FleetTime
from orchestrator.model.rollout import Signal, SignalKind, VerdictKind

SAFETY = "safety_reports"
"""Rule of reports of the safety class."""
SIGNAL = "signal_"
"""What the rule of a signal beyond its limit begins with; its name follows."""
OVERDUE = "overdue_"
"""What the rule of a signal begins with that is good no more."""
SAFETY_HALT = 2
"""Reports of the safety class that halt."""
ALL = scope_name(None)


def scope_of(signal: Signal) -> Stratum | None:
    """What a signal is about: everything (None), a region (a stratum without hardware), or a stratum."""
    return scope_of_name(signal.scope)


def scope_of_name(name: str) -> Stratum | None:
    """What a written scope is about, as `scope_of`."""
    return None if name in ("", ALL) else stratum_of(name)


def scopes_of(signals: Sequence[Signal]) -> tuple[Stratum, ...]:
    """The parts that signals are about, in order."""
    scopes = {scope_of(signal) for signal in signals}
    return tuple(sorted(scope for scope in scopes if scope is not None))


def findings(scope: Stratum | None, vehicles: int, signals: Sequence[Signal], now: FleetTime) -> Iterator[Finding]:
    """What stands about one scope.

    Args:
        scope: Which; None: over all strata.
        vehicles: Its vehicles that reported a failure of the safety class.
        signals: That stand, about whatever.
        now: Fleet time.
    """
    here = [signal for signal in signals if scope_of(signal) == scope]
    yield from _safety(scope, vehicles, here, signals)
    for signal in here:
        # Written so that a value or a limit that is no number does not pass.
        if signal.kind is SignalKind.WARNING and not signal.value <= signal.limit:
            yield Finding(
                rule=SIGNAL + signal.name,
                kind=VerdictKind.HOLD,
                message=f"{signal.name} ({signal.value:g}) > limit ({signal.limit:g}): {signal.actor}, {signal.reason}",
                measure=signal.value,
            )
        if signal.overdue(now):
            yield Finding(
                rule=OVERDUE + signal.name,
                kind=VerdictKind.HOLD,
                message=f"{signal.name} is overdue: measured at {instant(signal.measured_at)}, good for "
                f"{duration(signal.good_for_ms)}, and nothing newer came: {signal.actor}, {signal.reason}",
                measure=float(signal.measured_at),
            )


def safety_reports(scope: Stratum | None, vehicles: int, signals: Sequence[Signal]) -> int:
    """Reports of the safety class about a scope; over all strata, about any part."""
    return vehicles + sum(
        signal.kind is SignalKind.SAFETY and (scope is None or scope_of(signal) == scope) for signal in signals
    )


def forgotten(waived: Sequence[str], signal: Signal) -> tuple[str, ...]:
    """What stays waived when a signal is taken back: a waiver covers what a person saw, not what comes in its place.

    Args:
        waived: As in `Rollout.waived`.
        signal: That stood.
    """
    if signal.kind is not SignalKind.SAFETY:
        gone = {(rule + signal.name, signal.scope or ALL) for rule in (SIGNAL, OVERDUE)}
        return tuple(each for each in waived if waived_by(each)[::2] not in gone)
    after: list[str] = []
    for each in waived:
        rule, reports, scope = waived_by(each)
        if rule == SAFETY and scope in (ALL, signal.scope or ALL):
            after.extend([waiver_of(rule, scope_of_name(scope), int(reports) - 1)] if reports > 1 else [])
        else:
            after.append(each)
    return tuple(after)


def _safety(
    scope: Stratum | None, vehicles: int, here: Sequence[Signal], signals: Sequence[Signal]
) -> Iterator[Finding]:
    reports = safety_reports(scope, vehicles, signals)
    own = vehicles + sum(signal.kind is SignalKind.SAFETY for signal in here)
    if reports < SAFETY_HALT and not own:
        return
    names = ", ".join(signal.name for signal in signals if signal.kind is SignalKind.SAFETY)
    said = f"{vehicles} by vehicles" + (f", and {names}" if names else "")
    yield Finding(
        rule=SAFETY,
        kind=VerdictKind.HALT if reports >= SAFETY_HALT else VerdictKind.HOLD,
        message=f"{reports} reports of the safety class ({said}): one holds, {SAFETY_HALT} halt",
        measure=reports,
    )
