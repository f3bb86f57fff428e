"""Conditions, diagnoses and consent, as vehicles tell and hear them and operators see them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from outrider.v1 import vehicle_pb2

from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Consent, Preconditions
from orchestrator.model.vehicle import Conditions, Diagnostic, LinkType, Severity
from orchestrator.rpc.convert.wire import is_time, timestamp
from orchestrator.service.errors import Violation

DIAGNOSTICS_MAX = 32
CODE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}")
SERIAL_PATTERN = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})?")
STORAGE_MAX = 2**62
"""Fits the record; no vehicle has as much."""

LINK_TYPES = {
    vehicle_pb2.LINK_TYPE_CELLULAR: LinkType.CELLULAR,
    vehicle_pb2.LINK_TYPE_WIFI: LinkType.WIFI,
    vehicle_pb2.LINK_TYPE_WIRED: LinkType.WIRED,
}
SEVERITIES = {
    vehicle_pb2.SEVERITY_INFO: Severity.INFO,
    vehicle_pb2.SEVERITY_WARNING: Severity.WARNING,
    vehicle_pb2.SEVERITY_CRITICAL: Severity.CRITICAL,
}
CONSENT_POLICIES = {policy: vehicle_pb2.ConsentPolicy.Value(f"CONSENT_POLICY_{policy.name}") for policy in Consent}
LINK_TYPES_OUT = {model: wire for wire, model in LINK_TYPES.items()}
_SEVERITIES_OUT = {model: wire for wire, model in SEVERITIES.items()}


def conditions(request: vehicle_pb2.CheckInRequest | vehicle_pb2.AuthorizeInstallRequest) -> Conditions | None:
    """Conditions of a request, to be checked, None when it tells none; a link type that is not known yet is unknown."""
    if not request.HasField("conditions"):
        return None
    value = request.conditions
    return Conditions(
        link=LINK_TYPES.get(value.link_type, LinkType.UNKNOWN),
        signal_percent=value.signal_percent,
        metered=value.metered,
        battery_percent=value.battery_percent,
        parked=value.parked,
        storage_free_bytes=value.storage_free_bytes,
    )


def condition_faults(told: Conditions | None) -> list[Violation]:
    """What is wrong with the conditions of a request."""
    if told is None:
        return []
    faults = []
    if not 0 <= told.signal_percent <= 100:
        faults.append(Violation("conditions.signal_percent", f"{told.signal_percent} is not within 0 and 100"))
    if not 0 <= told.battery_percent <= 100:
        faults.append(Violation("conditions.battery_percent", f"{told.battery_percent} is not within 0 and 100"))
    if not 0 <= told.storage_free_bytes <= STORAGE_MAX:
        faults.append(Violation("conditions.storage_free_bytes", "out of range"))
    return faults


def conditions_out(value: Conditions) -> vehicle_pb2.Conditions:
    """Conditions as operators see them."""
    return vehicle_pb2.Conditions(
        link_type=LINK_TYPES_OUT.get(value.link, vehicle_pb2.LINK_TYPE_UNSPECIFIED),
        signal_percent=value.signal_percent,
        metered=value.metered,
        battery_percent=value.battery_percent,
        parked=value.parked,
        storage_free_bytes=value.storage_free_bytes,
    )


def preconditions_out(value: Preconditions) -> vehicle_pb2.Preconditions:
    """What must hold, as vehicles hear it."""
    return vehicle_pb2.Preconditions(
        unmetered=value.unmetered,
        parked=value.parked,
        battery_percent_min=value.battery_percent_min,
        storage_free_bytes_min=value.storage_free_bytes_min,
        link_types=[LINK_TYPES_OUT[link] for link in value.links if link in LINK_TYPES_OUT],
    )


def diagnostic_faults(values: Sequence[vehicle_pb2.Diagnostic]) -> list[Violation]:
    """What is wrong with diagnoses."""
    if len(values) > DIAGNOSTICS_MAX:
        return [Violation("diagnostics", f"{len(values)} given, at most {DIAGNOSTICS_MAX}")]
    faults = []
    for index, value in enumerate(values):
        where = f"diagnostics[{index}]"
        if not CODE_PATTERN.fullmatch(value.code):
            faults.append(Violation(f"{where}.code", "needs 1 to 32 of A-Z a-z 0-9 _ . : -"))
        if not SERIAL_PATTERN.fullmatch(value.ecu_serial):
            faults.append(Violation(f"{where}.ecu_serial", "needs at most 64 of A-Z a-z 0-9 _ -"))
        if value.severity not in SEVERITIES:
            faults.append(Violation(f"{where}.severity", f"{value.severity} is no severity"))
        if not is_time(value.first_seen_time):
            faults.append(Violation(f"{where}.first_seen_time", "is no time of the years 1 to 9999"))
    return faults


def diagnostic(value: vehicle_pb2.Diagnostic) -> Diagnostic:
    """A checked diagnosis."""
    return Diagnostic(
        code=value.code,
        ecu_serial=value.ecu_serial,
        severity=SEVERITIES[value.severity],
        first_seen_at=FleetTime(value.first_seen_time.ToMilliseconds()),
    )


def diagnostic_out(value: Diagnostic) -> vehicle_pb2.Diagnostic:
    """A diagnosis as operators see it."""
    return vehicle_pb2.Diagnostic(
        code=value.code,
        ecu_serial=value.ecu_serial,
        severity=_SEVERITIES_OUT[value.severity],
        first_seen_time=timestamp(value.first_seen_at),
    )
