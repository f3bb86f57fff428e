"""The judge and the contract speak of the same clauses."""

from __future__ import annotations

import inspect
import re

from agent_sim.conform import CLAUSES, SCENARIOS, UNSEEN, invariants
from tests.repo.checkout import text_of

CONTRACT = "docs/agent-protocol.md"
_CLAUSE = re.compile(r"P-[A-Z]+-\d+")


def in_contract() -> dict[str, str]:
    """Each clause of the document, with its paragraph."""
    found = re.findall(r"^- \*\*(P-[A-Z]+-\d+)\*\*(.*)$", text_of(CONTRACT), re.MULTILINE)
    return dict(found)


def judged_by_scenarios() -> set[str]:
    return {clause for scenario in SCENARIOS for clause in scenario.clauses}


def judged_by_invariants() -> set[str]:
    return set(_CLAUSE.findall(inspect.getsource(invariants)))


def test_judge_knows_exactly_the_clauses_of_the_contract() -> None:
    """An id that only one of the two knows would be judged by nobody, or by no text."""
    assert list(CLAUSES) == list(in_contract())


def test_every_clause_is_judged_or_said_to_be_unseen() -> None:
    """A clause without a scenario must not look like one that an agent keeps."""
    assert set(CLAUSES) == judged_by_scenarios() | judged_by_invariants() | set(UNSEEN)
    assert not judged_by_scenarios() & set(UNSEEN)


def test_every_clause_that_the_contract_calls_inside_is_unseen() -> None:
    """The document promises its reader which clauses nobody can judge from outside."""
    inside = {clause for clause, text in in_contract().items() if "*(inside)*" in text}
    assert inside <= set(UNSEEN)


def test_scenarios_have_names_of_their_own() -> None:
    """A finding names its scenario."""
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
