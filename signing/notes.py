"""Which of a release's notes an owner reads: those in their language, else the ones that the release put first."""

from __future__ import annotations

from collections.abc import Mapping


def suited(notes: str, by_language: Mapping[str, str], language: str) -> str:
    """The notes in a language, or in the one that it is a kind of.

    Args:
        notes: Of the directive; what everybody gets who asks for nothing that is there.
        by_language: Of the directive, by language tag (BCP 47).
        language: Of the owner, as `de-AT`, or a system's locale as `de_AT.UTF-8`; empty when nobody said.

    Source: RFC 4647, Lookup.
    """
    found = {tag.lower(): text for tag, text in by_language.items()}
    parts = language.partition(".")[0].replace("_", "-").lower().split("-")
    while parts:
        if (text := found.get("-".join(parts))) is not None:
            return text
        # A single letter or digit begins an extension, and means nothing without what followed it.
        parts = parts[:-2] if len(parts) > 1 and len(parts[-2]) == 1 else parts[:-1]
    return notes
