"""What a person and a program read of a run."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from agent_sim.conform import CLAUSES, SCENARIOS, Played, Report
from agent_sim.conform.report import as_json, show
from agent_sim.conform.verdicts import Finding, Verdict, summed

FOUND = (
    Finding("P-PERMIT-1", Verdict.PASS, "update", ""),
    Finding("P-PERMIT-1", Verdict.FAIL, "run-out", "INSTALL_STARTED was told without a permit for it"),
    Finding("P-PERMIT-5", Verdict.PASS, "update", ""),
    Finding("P-PERMIT-6", Verdict.NOT_JUDGED, "update", "could not go on"),
)


def a_report(*findings: Finding) -> Report:
    played = Played(SCENARIOS[0], findings, 1.5, Path("/logs/agent.log"))
    other = Played(next(each for each in SCENARIOS if each.name == "run-out"), (), 2.0, Path("/logs/other.log"))
    return Report(tuple(summed(clause, findings) for clause in CLAUSES), (played, other))


def test_one_breach_counts_whatever_went_well_elsewhere() -> None:
    """A rule that holds nine times of ten does not hold."""
    assert summed("P-PERMIT-1", FOUND).verdict is Verdict.FAIL
    assert summed("P-PERMIT-5", FOUND).verdict is Verdict.PASS
    assert summed("P-PERMIT-6", FOUND).verdict is Verdict.NOT_JUDGED
    assert summed("P-META-1", FOUND).verdict is Verdict.NOT_JUDGED


def test_only_a_breach_fails_a_run() -> None:
    """What nobody can see must not stop an author."""
    assert not a_report(*FOUND).passed
    assert a_report(*FOUND[2:]).passed


def test_json_names_every_clause_with_what_was_seen() -> None:
    """Programs go by these fields."""
    document = json.loads(json.dumps(as_json(a_report(*FOUND))))
    clauses = {clause["id"]: clause for clause in document["clauses"]}
    assert list(clauses) == list(CLAUSES)
    assert set(document) == {"passed", "clauses", "scenarios"}
    assert clauses["P-PERMIT-1"] == {
        "id": "P-PERMIT-1",
        "verdict": "FAIL",
        "asks": CLAUSES["P-PERMIT-1"],
        "findings": [{"scenario": "run-out", "seen": "INSTALL_STARTED was told without a permit for it"}],
        "why_not_judged": "",
    }
    assert clauses["P-PERMIT-6"]["why_not_judged"] == "could not go on"
    assert clauses["P-TLS-3"]["why_not_judged"] == "only the agent's author can see it"
    assert set(document["scenarios"][0]) == {"name", "story", "took_s", "log"}


def test_table_says_what_was_seen_and_what_is_wanted() -> None:
    """An author reads one line and knows where to look."""
    out = io.StringIO()
    show(a_report(*FOUND), Console(file=out, width=160))
    text = out.getvalue()
    assert "P-PERMIT-1 wants that an agent installs only with a permit for this very attempt." in text
    assert "seen in run-out: INSTALL_STARTED was told without a permit for it" in text
    assert "the agent's log: /logs/other.log" in text
    assert "1 PASS, 1 FAIL" in text
