"""The contract for vehicle agents: its clauses can be named, and the code bears its tables out."""

from __future__ import annotations

import re
from collections import Counter

from tests.repo.checkout import sources, text_of

CONTRACT = "docs/agent-protocol.md"
CLAUSE = re.compile(r"^- \*\*(P-([A-Z]+)-(\d+))\*\* (MUST|SHOULD|MAY)\b(.*)$", flags=re.MULTILINE)
INSIDE = " *(inside)*"
"""Marks a clause that no judge outside of the vehicle can see."""


def clauses() -> dict[str, str]:
    """The text of every clause by its id."""
    return {match[1]: match[0] for match in CLAUSE.finditer(text_of(CONTRACT))}


def test_every_clause_has_an_id_of_its_own_and_says_how_much_it_binds() -> None:
    """A verdict names a clause by its id: two meanings of one id would judge the wrong thing."""
    items = [line for line in text_of(CONTRACT).splitlines() if line.startswith("- **P-")]
    matches = [match for line in items if (match := CLAUSE.fullmatch(line))]
    assert len(matches) == len(items), "a clause is `- **P-AREA-N** MUST|SHOULD|MAY ...` in one line"
    assert len(items) >= 40
    assert [name for name, times in Counter(match[1] for match in matches).items() if times > 1] == []


def test_clauses_of_an_area_are_numbered_without_holes() -> None:
    """A hole would be a clause that somebody took out, and its number would be given again."""
    areas: dict[str, list[int]] = {}
    for match in CLAUSE.finditer(text_of(CONTRACT)):
        areas.setdefault(match[2], []).append(int(match[3]))
    assert {area: numbers for area, numbers in areas.items() if numbers != list(range(1, len(numbers) + 1))} == {}


def test_what_the_judge_judges_stands_in_the_contract_and_can_be_seen_from_outside() -> None:
    """`conform` holds an author to this page: it must not know obligations that the page does not tell."""
    known = clauses()
    judged = {name for path in sources(".py") for name in named_clauses(path) if path.startswith("agent_sim/conform/")}
    assert judged - set(known) == set()
    assert {name for name in judged if known[name].endswith(INSIDE)} == set()


def test_every_clause_that_is_mentioned_exists() -> None:
    """A reference to a clause is looked up."""
    mentioned = {
        name
        for path in sources(".py", ".md", ".proto")
        for name in named_clauses(path)
        if path != "tests/repo/test_agent_protocol.py"
    }
    assert mentioned - set(clauses()) == set()


def named_clauses(path: str) -> set[str]:
    """Every id of a clause in a file."""
    return set(re.findall(r"\bP-[A-Z]+-\d+\b", text_of(path)))
