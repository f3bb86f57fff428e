"""A run: every chosen scenario on its own stage, some at a time, and what all of them found.

Owns the order and the bound of what runs at once, and what a stalled or broken scenario means for its clauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_sim.clock import machine_ms
from agent_sim.conform.clauses import CLAUSES
from agent_sim.conform.invariants import Known, judge
from agent_sim.conform.scenario import Scenario
from agent_sim.conform.stage import Conditions, Stage, StalledError, set_stage
from agent_sim.conform.verdicts import ClauseVerdict, Finding, Verdict, summed
from agent_sim.conform.world import NEWER, RELEASE, World
from agent_sim.errors import InputFileError


@dataclass(frozen=True, slots=True)
class Played:
    """One scenario that is over."""

    scenario: Scenario
    findings: tuple[Finding, ...]
    took_s: float
    log: Path
    """What the agent said meanwhile."""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    verdicts: tuple[ClauseVerdict, ...]
    played: tuple[Played, ...]

    @property
    def passed(self) -> bool:
        """Whether no clause was broken."""
        return not any(verdict.verdict is Verdict.FAIL for verdict in self.verdicts)


def chosen(scenarios: Sequence[Scenario], clauses: Sequence[str], *, short: bool) -> list[Scenario]:
    """The scenarios that a run needs.

    Args:
        scenarios: all there are.
        clauses: judge these only; empty: all.
        short: only those of the short form.

    Raises:
        InputFileError: a clause is unknown, or no scenario judges it.
    """
    if unknown := [clause for clause in clauses if clause not in CLAUSES]:
        raise InputFileError(f"--clause {unknown[0]}: no such clause; docs/agent-protocol.md lists them")
    wanted = [scenario for scenario in scenarios if scenario.short or not short]
    if not clauses:
        return wanted
    judging = [scenario for scenario in wanted if set(clauses) & set(scenario.clauses)]
    if not judging:
        # Invariants are judged by every scenario: one that goes the whole way shows most of them.
        judging = wanted[:1]
    return judging


async def conform(
    folder: Path,
    scenarios: Sequence[Scenario],
    conditions: Conditions,
    *,
    at_once: int,
    clauses: Sequence[str] = (),
    progress: Callable[[Played | Scenario], None] = lambda _: None,
) -> Report:
    """Judge an agent.

    Args:
        folder: where vehicles' folders and logs go; must be new.
        scenarios: what is played.
        conditions: the agent's command and how fast time runs.
        at_once: scenarios at a time.
        clauses: report on these only; empty: all.
        progress: told of each scenario when it begins, and when it is over.

    Raises:
        InputFileError: the command is unusable.
        OSError: a port or a file cannot be had.
    """
    world = await asyncio.to_thread(World, folder)
    free = asyncio.Semaphore(at_once)
    over: dict[str, Played] = {}

    async def play(number: int, scenario: Scenario) -> None:
        async with free:
            progress(scenario)
            over[scenario.name] = await _play(scenario, conditions, world, f"veh-{number}")
            progress(over[scenario.name])

    try:
        async with asyncio.TaskGroup() as tasks:
            for number, scenario in enumerate(scenarios, start=1):
                tasks.create_task(play(number, scenario))
    except* (InputFileError, OSError) as errors:
        raise errors.exceptions[0] from errors
    played = tuple(over[scenario.name] for scenario in scenarios)
    findings = [finding for each in played for finding in each.findings]
    return Report(tuple(summed(clause, findings) for clause in clauses or CLAUSES), played)


async def _play(scenario: Scenario, conditions: Conditions, world: World, vehicle_id: str) -> Played:
    began_ms = machine_ms()
    async with set_stage(scenario.name, conditions, world, vehicle_id) as stage:
        stalled: StalledError | None = None
        try:
            await scenario.play(stage)
        except StalledError as error:
            stalled = error
        findings = [*stage.findings, *judge(stage.tape, known_of(stage))]
        if stalled is not None:
            findings.append(_of_stall(stalled, findings, scenario))
    judged = {finding.clause for finding in findings}
    why = f"not reached: {stalled}" if stalled else "no occasion"
    findings += [
        Finding(clause, Verdict.NOT_JUDGED, scenario.name, why) for clause in scenario.clauses if clause not in judged
    ]
    return Played(scenario, tuple(findings), (machine_ms() - began_ms) / 1000, stage.vehicle.folder.path / "agent.log")


def _of_stall(stalled: StalledError, findings: Sequence[Finding], scenario: Scenario) -> Finding:
    """Waiting in vain is a breach, unless an earlier one in the same scenario explains it."""
    breach = next((finding for finding in findings if finding.verdict is Verdict.FAIL), None)
    if breach is None:
        return Finding(stalled.clause, Verdict.FAIL, scenario.name, str(stalled))
    seen = f"could not go on after the breach of {breach.clause}: {stalled}"
    return Finding(stalled.clause, Verdict.NOT_JUDGED, scenario.name, seen)


def known_of(stage: Stage) -> Known:
    """What judges of a tape have to know beside it."""
    images = [image for version in (RELEASE, NEWER) for image in stage.world.released(version, stage.vehicle)]
    return Known(
        scenario=stage.name,
        vehicle_id=stage.vehicle.vehicle_id,
        offered=frozenset(stage.offered),
        scale=stage.conditions.scale,
        refused_manifests=tuple(stage.desk.refused_manifests),
        new_digests=frozenset(image.sha256 for image in images),
        proven=tuple(stage.desk.proven),
    )
