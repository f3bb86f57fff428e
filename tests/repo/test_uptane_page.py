"""The page about Uptane says what is so: no unknown id, no promise without a test, no excuse for what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uptane.attack_list import ATTACKS
from tests.uptane.citations import CitationError, citations
from tests.uptane.entries import Entry, Verdict
from tests.uptane.page import PAGE, all_entries, by_key, page

CITED = by_key(citations())


def test_the_page_is_what_the_generator_says() -> None:
    """A page by hand would promise what nobody tests: run `make uptane-page`."""
    assert PAGE.read_text(encoding="utf-8") == page(citations())


def test_every_id_that_a_test_cites_is_listed() -> None:
    """A typing error would be a proof of nothing."""
    assert set(CITED) - {entry.key for entry in all_entries()} == set()


def test_the_thirty_attacks_are_listed_once_each() -> None:
    """Their numbers are known elsewhere."""
    assert [entry.key for entry in ATTACKS] == [f"A{number}" for number in range(1, 31)]
    keys = [entry.key for entry in all_entries()]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("entry", list(all_entries()), ids=lambda entry: entry.key)
def test_a_verdict_is_proven_by_a_test_or_admitted(entry: Entry) -> None:
    """Met needs a test, and what is not met must have none that claims it."""
    assert bool(CITED.get(entry.key)) == (entry.verdict is not Verdict.NOT_MET)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('@pytest.mark.uptane("A1")\ndef helper(): ...', "is no test"),
        ('@pytest.mark.skip\n@pytest.mark.uptane("A1")\ndef test_x(): ...', "is not run"),
        ("@pytest.mark.uptane\ndef test_x(): ...", "cites nothing"),
        ("@pytest.mark.uptane()\ndef test_x(): ...", "cites nothing"),
        ("@pytest.mark.uptane(KEY)\ndef test_x(): ...", "no plain text"),
    ],
)
def test_a_citation_that_proves_nothing_is_refused(tmp_path: Path, source: str, fault: str) -> None:
    """A test that never runs must not stand on the page."""
    (tmp_path / "test_x.py").write_text(source)
    with pytest.raises(CitationError, match=fault):
        citations(tmp_path)


def test_citations_are_found_without_running_anything(tmp_path: Path) -> None:
    """Also of asynchronous tests, and in classes."""
    source = '@pytest.mark.uptane("A2", "A1")\nasync def test_x():\n    """Why."""\n\nraise SystemExit\n'
    (tmp_path / "test_x.py").write_text(source)
    assert [(found.key, found.test, found.promise) for found in citations(tmp_path)] == [
        ("A1", "test_x", "Why."),
        ("A2", "test_x", "Why."),
    ]


def test_an_entry_says_what_is_lacking_exactly_when_something_is() -> None:
    """Met with an excuse, or not met without a reason, would both mislead."""
    with pytest.raises(ValueError, match="lacking"):
        Entry("X1", "", "", Verdict.MET, "but")
    with pytest.raises(ValueError, match="lacking"):
        Entry("X1", "", "", Verdict.NOT_MET)
