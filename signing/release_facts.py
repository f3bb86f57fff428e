"""What is signed about a release beside its bytes: what has to run before it, what it must not follow, its RXSWINs.

Owns the form of these fields in a target's `custom` section, which is the same for each image of a release. Vehicles
look at none of it; the orchestrator heeds it, and an auditor reads it from what offline keys signed. Pure.
Source: Uptane 2.1.0, Custom metadata about images; UN R156, 7.1.2.3 (RXSWIN).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RXSWIN_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._/-]{0,62}[A-Za-z0-9])?")
"""An identifier as a manufacturer writes it, for example `R79 SWIN 0042-01`."""
LIST_MAX = 32
_CLAUSE_MAX = 256


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What a release says of itself."""

    requires: str = ""
    """Comparisons with the release that a vehicle runs, for example `>=1.0.0`; empty: it may follow anything."""
    conflicts: tuple[str, ...] = ()
    """Releases that it must not follow."""
    rxswin: tuple[str, ...] = ()
    """Regulatory identifiers of the software that a vehicle has with it."""
    safety_relevant: bool | None = None
    """Whether it touches what keeps people safe; None when nobody said."""


NO_FACTS = ReleaseFacts()
"""Of a release that says nothing of itself."""


def facts_fields(facts: ReleaseFacts) -> Mapping[str, Any]:
    """As they are signed; what was not said is left out."""
    fields: dict[str, Any] = {}
    if facts.requires:
        fields["requires"] = facts.requires
    if facts.conflicts:
        fields["conflicts"] = list(facts.conflicts)
    if facts.rxswin:
        fields["rxswin"] = list(facts.rxswin)
    if facts.safety_relevant is not None:
        fields["safetyRelevant"] = facts.safety_relevant
    return fields


def facts_of(custom: Mapping[str, Any]) -> ReleaseFacts:
    """The inverse; a field of another form was not signed by this program and says nothing."""
    requires, safety = custom.get("requires"), custom.get("safetyRelevant")
    return ReleaseFacts(
        requires=requires if isinstance(requires, str) else "",
        conflicts=_texts(custom.get("conflicts")),
        rxswin=_texts(custom.get("rxswin")),
        safety_relevant=safety if isinstance(safety, bool) else None,
    )


def facts_fault(facts: ReleaseFacts) -> str | None:
    """What is wrong with them; None when nothing is. Whether comparisons can be read is the orchestrator's to say."""
    if len(facts.conflicts) > LIST_MAX or len(facts.rxswin) > LIST_MAX:
        return f"it names more than {LIST_MAX} conflicts or RXSWINs"
    for text in (facts.requires, *facts.conflicts):
        if not text.isascii() or not text.isprintable() or len(text) > _CLAUSE_MAX:
            return f"{text[:80]!r} is no comparison of versions"
    odd = next((each for each in facts.rxswin if not RXSWIN_PATTERN.fullmatch(each)), None)
    return f"{odd[:80]!r} is no RXSWIN: letters, digits, spaces and ._/-, 64 at most" if odd is not None else None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
