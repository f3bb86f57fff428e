"""The notes that an owner reads, by language."""

from __future__ import annotations

import pytest

from signing.notes import suited

WRITTEN = {"en": "Brakes better.", "de": "Bremst besser.", "zh-Hant": "煞車更佳", "pt-BR": "Freia melhor."}


@pytest.mark.parametrize(
    ("language", "tag"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("DE-at", "de"),
        ("de_AT.UTF-8", "de"),
        ("C.UTF-8", "en"),
        ("zh-Hant-TW", "zh-Hant"),
        ("zh-Hant-x-rural", "zh-Hant"),
        ("pt-BR", "pt-BR"),
        ("pt", "en"),
        ("zh-Hans", "en"),
        ("fr", "en"),
        ("", "en"),
    ],
)
def test_an_owner_reads_the_notes_in_their_language(language: str, tag: str):
    """Or in what it is a kind of; never in another kind of it, and never nothing where there are notes."""
    assert suited(WRITTEN["en"], WRITTEN, language) == WRITTEN[tag]


def test_without_languages_there_are_the_notes():
    """Most releases have one text."""
    assert suited("Brakes better.", {}, "de-AT") == "Brakes better."
