"""Last contacts on their way in and out: one value a vehicle, written behind over the one before.

What functions look at stands in front in plain figures, `<fleet time>|<mean gap>|<gaps heard>|`; behind it, packed,
what they only carry: conditions (link, signal, metered, battery, parked, storage; `false` when it told none) and
diagnostics (code, ECU, severity, first seen). Nothing stands there of a vehicle that has not said anything of itself
yet. No schema version: a contact is worth a poll, and the next replaces it.
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from orchestrator.model.ids import FleetTime
from orchestrator.model.vehicle import Conditions, Contact, Diagnostic, Gaps, LinkType, Severity

_LINKS = {link.value: link for link in LinkType}
"""Read at every call, and looked up in a fifth of the time that an enumeration takes."""


def encode_told(contact: Contact) -> bytes:
    """The packed part: what the vehicle said of itself; empty when it said nothing."""
    if not contact.told:
        return b""
    packed: bytes = msgpack.packb(
        [
            _condition_fields(contact.conditions),
            [[each.code, each.ecu_serial, each.severity.value, each.first_seen_at] for each in contact.diagnostics],
        ]
    )
    return packed


def decode_seen(data: bytes) -> tuple[Contact, Gaps]:
    """A contact, and what is known of the vehicle's gaps."""
    at, mean_ms, heard, told = data.split(b"|", 3)
    words: Any = msgpack.unpackb(told) if told else (False, ())
    conditions, diagnostics = words
    contact = Contact(
        at=FleetTime(int(at)),
        conditions=_conditions(conditions) if conditions else None,
        diagnostics=tuple(
            [
                Diagnostic(
                    code=code,
                    ecu_serial=ecu_serial,
                    severity=Severity(severity),
                    first_seen_at=FleetTime(first_seen_at),
                )
                for code, ecu_serial, severity, first_seen_at in diagnostics
            ]
        ),
    )
    return contact, Gaps(mean_ms=int(mean_ms), heard=int(heard))


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
        link=_LINKS[link],
        signal_percent=signal_percent,
        metered=metered,
        battery_percent=battery_percent,
        parked=parked,
        storage_free_bytes=storage_free_bytes,
    )
