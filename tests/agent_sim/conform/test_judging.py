"""The judge at work on real agents: the right ones pass, and each wrong one fails for its own clause and no other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from agent_sim.conform import SCENARIOS, Conditions, Report, Scenario, conform
from agent_sim.conform.verdicts import Verdict
from tests.agent_sim.conform.wrong_agents import WRONG
from tests.repo.checkout import ROOT

pytestmark = pytest.mark.processes

LONG = os.environ.get("OUTRIDER_CONFORM") == "long"
OWN = f"{Path(sys.executable).with_name('outrider-sim')} agent {{folder}} --first-poll-within 30s --install 2m"
WHOLE = [scenario for scenario in SCENARIOS if LONG or scenario.short]


async def judged(
    folder: Path,
    agent: str,
    scenarios: Sequence[Scenario],
    monkeypatch: pytest.MonkeyPatch,
    *,
    patience_s: float = 45.0,
) -> Report:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return await conform(folder, scenarios, Conditions(agent, patience_s=patience_s), at_once=3)


def broken(report: Report) -> dict[str, list[str]]:
    """Clause -> what was seen."""
    return {
        verdict.clause: [f"{finding.scenario}: {finding.seen}" for finding in verdict.findings]
        for verdict in report.verdicts
        if verdict.verdict is Verdict.FAIL
    }


@pytest.mark.timeout(900)
async def test_own_agent_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What drives the simulations is what a foreign agent is asked to be."""
    report = await judged(tmp_path, OWN, WHOLE, monkeypatch)
    assert broken(report) == {}
    assert sum(verdict.verdict is Verdict.PASS for verdict in report.verdicts) >= (70 if LONG else 45)


@pytest.mark.timeout(900)
async def test_minimal_agent_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is what authors start from: whatever it does, they will do."""
    agent = f"{sys.executable} {ROOT / 'examples/minimal_agent.py'} {{folder}}"
    report = await judged(tmp_path, agent, WHOLE, monkeypatch)
    assert broken(report) == {}
    assert sum(verdict.verdict is Verdict.PASS for verdict in report.verdicts) >= (70 if LONG else 45)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", WRONG)
async def test_wrong_agent_fails_for_its_own_clause(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that blames another clause sends the author to the wrong place."""
    _, clause, shows = WRONG[name]
    agent = f"{sys.executable} -m tests.agent_sim.conform.wrong_agents {name} {{folder}}"
    # A scenario in which nothing goes wrong stands beside the one that shows it: there the agent must look right.
    usual = [each for each in SCENARIOS if (LONG and each.short) or each.name in (shows, "update")]
    # Waiting in vain after the breach tells nothing more.
    report = await judged(tmp_path, agent, usual, monkeypatch, patience_s=20.0)
    assert set(broken(report)) == {clause}
