"""Last contacts on their way in and out: one packed value a vehicle, written behind over the one before.

No schema version: a contact is worth a poll, and the next one replaces it. Positions: fleet time, conditions (link,
signal, metered, battery, parked, storage; `false` when it told none), diagnostics (code, ECU, severity, first seen).
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from orchestrator.model.ids import FleetTime
from orchestrator.model.vehicle import Conditions, Contact, Diagnostic, LinkType, Severity


def encode_contact(contact: Contact) -> bytes:
    """One packed value."""
    packed: bytes = msgpack.packb(
        [
            contact.at,
            _condition_fields(contact.conditions),
            [[each.code, each.ecu_serial, each.severity.value, each.first_seen_at] for each in contact.diagnostics],
        ]
    )
    return packed


def decode_contact(data: bytes) -> Contact:
    """A contact from its packed value, or from the plain number that was kept before there were conditions."""
    if data.isdigit():
        # No packed array begins with a digit of ASCII.
        return Contact(at=FleetTime(int(data)))
    at, conditions, diagnostics = msgpack.unpackb(data)
    return Contact(
        at=FleetTime(at),
        conditions=_conditions(conditions) if conditions else None,
        diagnostics=tuple(
            Diagnostic(
                code=code, ecu_serial=ecu_serial, severity=Severity(severity), first_seen_at=FleetTime(first_seen_at)
            )
            for code, ecu_serial, severity, first_seen_at in diagnostics
        ),
    )


def _condition_fields(conditions: Conditions | None) -> list[Any] | bool:
    if conditions is None:
        return False
    return [
        conditions.link.value,
        conditions.signal_percent,
        conditions.metered,
        conditions.battery_percent,
        conditions.parked,
        conditions.storage_free_bytes,
    ]


def _conditions(fields: list[Any]) -> Conditions:
    link, signal_percent, metered, battery_percent, parked, storage_free_bytes = fields
    return Conditions(
        link=LinkType(link),
        signal_percent=signal_percent,
        metered=metered,
        battery_percent=battery_percent,
        parked=parked,
        storage_free_bytes=storage_free_bytes,
    )
