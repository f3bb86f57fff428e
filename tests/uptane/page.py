"""The page docs/uptane.md, made from the list of entries and from what tests cite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.uptane.attack_list import ATTACKS
from tests.uptane.citations import ROOT, Citation
from tests.uptane.entries import Entry, Verdict
from tests.uptane.requirements import GROUPS

PAGE = ROOT / "docs" / "uptane.md"
HEAD = """\
# Uptane, requirement by requirement

What Uptane 2.1.0 demands in sections 5.1 to 5.4, what its deployment practices advise, and thirty attacks: for each
whether Outrider keeps it, and which tests prove it. The words are ours, the demands are the Standard's. A test names
what it proves (`@pytest.mark.uptane("A10", "C-timestamp")`), `make uptane-page` writes this page from these names,
and a test compares. What is not met says why.
"""


def all_entries() -> Iterator[Entry]:
    """Every entry, in the order of the page."""
    for _, entries in GROUPS:
        yield from entries
    yield from ATTACKS


def by_key(found: Iterable[Citation]) -> dict[str, list[Citation]]:
    """The citations of each entry."""
    cited: dict[str, list[Citation]] = {}
    for citation in found:
        cited.setdefault(citation.key, []).append(citation)
    return cited


def page(found: Iterable[Citation]) -> str:
    """The whole page."""
    cited = by_key(found)
    lines = [HEAD, *_summary(), ""]
    for title, entries in (*GROUPS, ("Attacks", ATTACKS)):
        lines += [f"## {title}", "", *_table(entries), ""]
    lines += ["## Proof", "", "Each test by the entry that it cites.", ""]
    for entry in all_entries():
        lines += _proof(entry, cited)
    return "\n".join(lines).rstrip("\n") + "\n"


def _summary() -> list[str]:
    lines = ["| | met | partly met | not met |", "|---|---|---|---|"]
    for title, entries in (("Requirements", [e for _, group in GROUPS for e in group]), ("Attacks", list(ATTACKS))):
        counts = [sum(entry.verdict is verdict for entry in entries) for verdict in Verdict]
        lines.append(f"| {title} | {counts[0]} | {counts[1]} | {counts[2]} |")
    return lines


def _table(entries: Sequence[Entry]) -> list[str]:
    lines = ["| id | source | what has to hold | kept |", "|---|---|---|---|"]
    for entry in entries:
        name = entry.key if entry.verdict is Verdict.NOT_MET else f"[{entry.key}](#{entry.key.lower()})"
        kept = f"{entry.verdict}: {entry.lacking}" if entry.lacking else str(entry.verdict)
        lines.append(f"| {name} | {entry.source} | {entry.asks} | {kept} |")
    return lines


def _proof(entry: Entry, cited: Mapping[str, list[Citation]]) -> list[str]:
    tests = cited.get(entry.key, [])
    if not tests:
        return []
    lines = [f"### {entry.key}", ""]
    for file in dict.fromkeys(citation.file for citation in tests):
        names = ", ".join(f"`{citation.test}`" for citation in tests if citation.file == file)
        lines.append(f"- [{file}](../{file}): {names}")
    return [*lines, ""]
