"""Signals from outside, both ways."""

from __future__ import annotations

import re
from math import isfinite

from outrider.v1 import rollout_pb2

from orchestrator.model.ids import NAME_PATTERN, FleetTime
from orchestrator.model.rollout import Signal, SignalKind
from orchestrator.rpc.convert.wire import duration, is_length, is_time, malformed, timestamp
from orchestrator.service.errors import Violation

SIGNALS = {kind: rollout_pb2.SignalKind.Value(f"SIGNAL_KIND_{kind.name}") for kind in SignalKind}
_KINDS = {number: kind for kind, number in SIGNALS.items()}
_NAME = re.compile(r"[a-z0-9_]{1,64}")
_SCOPE = re.compile(rf"({NAME_PATTERN.pattern}(/{NAME_PATTERN.pattern})?)?")
"""What a scope can look like at all; which there are, the rollout knows."""


def signal_in(value: rollout_pb2.Signal, *, actor: str, reason: str) -> Signal:
    """A signal as the service takes it; when it is, and by whom, is ours to say.

    Raises:
        InvalidInputError: a field does not fit; every fault of it at once.
    """
    faults = []
    if not _NAME.fullmatch(value.signal):
        faults.append(Violation("signal.signal", "needs 1 to 64 of a-z 0-9 _"))
    if value.kind not in _KINDS:
        faults.append(Violation("signal.kind", "must be WARNING or SAFETY"))
    if not _SCOPE.fullmatch(value.scope):
        faults.append(Violation("signal.scope", "must be `all`, a region, or region/hardware"))
    # Nothing is greater than NaN: a probe that broke would look like one that is content.
    faults += [
        Violation(f"signal.{name}", f"{number} is no finite number")
        for name, number in (("value", value.value), ("limit", value.limit))
        if not isfinite(number)
    ]
    measured, good = value.measure_time, value.good_for
    if value.HasField("measure_time") and not (is_time(measured) and measured.ToMilliseconds() > 0):
        faults.append(Violation("signal.measure_time", "is no time at which anything was measured"))
    if value.HasField("good_for") and not (is_length(good) and good.ToMilliseconds() > 0):
        faults.append(
            Violation("signal.good_for", "must be a length of time, longer than nothing; leave it out for the usual")
        )
    if faults:
        raise malformed(faults)
    return Signal(
        name=value.signal,
        kind=_KINDS[value.kind],
        scope=value.scope,
        value=value.value,
        limit=value.limit,
        actor=actor,
        reason=reason,
        at=FleetTime(0),
        measured_at=FleetTime(measured.ToMilliseconds()),
        good_for_ms=good.ToMilliseconds(),
    )


def signal(value: Signal, now: FleetTime) -> rollout_pb2.Signal:
    """What somebody outside says, as operators see it now."""
    return rollout_pb2.Signal(
        signal=value.name,
        kind=SIGNALS[value.kind],
        scope=value.scope,
        value=value.value,
        limit=value.limit,
        actor=value.actor,
        reason=value.reason,
        create_time=timestamp(value.at),
        measure_time=timestamp(value.measured_at) if value.measured_at else None,
        good_for=duration(value.good_for_ms) if value.good_for_ms else None,
        overdue=value.overdue(now),
    )
