"""What is signed about a release beside its bytes: what has to run before it, what it must not follow, its RXSWINs.

Owns the form of these fields in a target's `custom` section, which is the same for each image of a release. Vehicles
look at none of it; the orchestrator heeds it, and an auditor reads it from what offline keys signed. Pure.
Source: Uptane 2.1.0, Custom metadata about images; UN R156, 7.1.2.3 (RXSWIN).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signing.canonical import JsonFormError, decode
from signing.names import SHA256_PATTERN

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
    notes_sha256: str = ""
    """Hex digest of its notes in several languages (`notes_file`); empty when there is one text only."""


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
    if facts.notes_sha256:
        fields["notes"] = facts.notes_sha256
    return fields


def facts_of(custom: Mapping[str, Any]) -> ReleaseFacts:
    """The inverse; a field of another form was not signed by this program and says nothing."""
    requires, safety, notes = custom.get("requires"), custom.get("safetyRelevant"), custom.get("notes")
    return ReleaseFacts(
        requires=requires if isinstance(requires, str) else "",
        conflicts=_texts(custom.get("conflicts")),
        rxswin=_texts(custom.get("rxswin")),
        safety_relevant=safety if isinstance(safety, bool) else None,
        notes_sha256=notes if isinstance(notes, str) and SHA256_PATTERN.fullmatch(notes) else "",
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


def notes_file(notes: Mapping[str, str]) -> bytes:
    """Notes by language, as a file that is kept beside the images; its digest is signed with each of them."""
    return json.dumps({"notes": dict(sorted(notes.items()))}, ensure_ascii=False, separators=(",", ":")).encode()


def read_notes(data: bytes) -> Mapping[str, str]:
    """The inverse; empty for anything else."""
    try:
        notes = decode(data)["notes"]
        return {language: text for language, text in notes.items() if isinstance(text, str)}
    except (JsonFormError, KeyError, TypeError, AttributeError):
        return {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()
