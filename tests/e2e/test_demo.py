"""The demonstration as a person runs it, with fewer vehicles; and that its audit can say no."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_sim import demo
from agent_sim.demo.audit import Audit, cases_agree, rollout_agrees, vehicles_agree
from agent_sim.demo.story import GOOD, PLAN
from agent_sim.demo.view import View
from agent_sim.scenario import load_scenario
from orchestrator.engine import openings
from orchestrator.engine.controls import FLEET_MIN
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.reach import with_limits_for
from orchestrator.model.fleet import Cell
from tests.e2e.rolling import SIMULATOR, TEST_TIMEOUT_S
from tests.processes import eventually

SCENARIO = Path(demo.__file__).parent / "demo.toml"
SIZE = 60
DEMO_TIMEOUT_S = 480.0
"""Machine time: about 50 s on an idle machine."""


@pytest.mark.processes
@pytest.mark.timeout(TEST_TIMEOUT_S)
def test_demo_ends_with_every_record_agreed_and_leaves_no_process(tmp_path: Path) -> None:
    """It is the first thing that anybody runs: it must end well, say the truth, and clean up behind itself."""
    scenario = tmp_path / "demo.toml"
    text, replaced = re.subn(r"(?m)^size = \d+", f"size = {SIZE}", SCENARIO.read_text())
    assert replaced == 1
    scenario.write_text(text)
    folder = tmp_path / "demo"
    with ended(folder):
        done = subprocess.run(
            [SIMULATOR, "demo", "--folder", folder, "--scenario", scenario],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEMO_TIMEOUT_S,
            check=False,
        )
        logs = "\n".join(log.read_text()[-2000:] for log in sorted(folder.glob("*.log")))
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{logs}"
        # A rollout may end before a vehicle that timed out has told that it arrived, and goes to who has proven what it
        # runs by then. That all of them agree in the end is the audit's matter.
        arrived = re.search(r"(\d+) of (\d+) vehicles run 1\.1\.0\.", done.stdout)
        assert arrived is not None
        assert 0.9 * SIZE <= int(arrived[1]) <= int(arrived[2]) <= SIZE
        assert re.search(r"The gate says (HELD|HALTED) by rule \w+ on ", done.stdout)
        assert "Every record agrees." in done.stdout
        assert "DIFFER" not in done.stdout
        assert processes_of(folder) == []


def test_plan_of_the_demonstration_compares_every_exposure_of_its_first_wave() -> None:
    """Without controls silence is held against a guess, and the bad release hurt twice as many until it was stopped."""
    plan = with_limits_for(read_plan(PLAN.format(name="demo", release=GOOD, installed=f"<{GOOD}")), FLEET_MIN)
    scenario = load_scenario(SCENARIO)
    assert scenario.fleet.size >= FLEET_MIN
    targeted = {
        Cell(region, hardware.name, cohort): round(scenario.fleet.size * part * hardware.share * share)
        for region, part in scenario.regions.items()
        for hardware in scenario.hardware
        for cohort, share in scenario.cohorts.items()
    }
    assert plan.gate.controls_per_exposure
    for region in scenario.regions:
        assert openings.trial(plan, 0, {c: n for c, n in targeted.items() if c.region == region}) == 1.0


def processes_of(folder: Path) -> list[int]:
    """Processes that were told of a folder or work below it; a store says where only by the latter."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return [pid for pid in pids if str(folder) in command_line(pid) or works_in(pid).is_relative_to(folder)]


def command_line(pid: int) -> str:
    """The arguments that a process was started with; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def works_in(pid: int) -> Path:
    """A process's working directory; the root when it is gone or another user's."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return Path("/")


@contextmanager
def ended(folder: Path) -> Iterator[None]:
    """End what a demonstration that went wrong left behind."""
    try:
        yield
    finally:
        for pid in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes_of(folder))


# -- the audit can say no -----------------------------------------------------------------------------------------


def a_vehicle(release: str, *, bricked: bool = False, permits: tuple[str, ...] = ()) -> dict[str, Any]:
    """A vehicle in the simulator's record."""
    attempts = [{"attempt_id": permit, "release": release} for permit in permits]
    return {
        "release": release,
        "bricked": bricked,
        "permits": list(permits),
        "installs": list(permits),
        "attempts": attempts,
    }


@dataclass
class Records:
    """Four records of one run that agree: two vehicles arrived, one was bricked."""

    simulator: dict[str, Any] = field(
        default_factory=lambda: {
            "vehicles": {
                "v-1": a_vehicle("1.1.0", permits=("r.v-1.1",)),
                "v-2": a_vehicle("1.1.0", permits=("r.v-2.1",)),
                "v-3": a_vehicle("1.1.0", bricked=True, permits=("r.v-3.1",)),
            }
        }
    )
    vehicles: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"vehicle_id": "v-1", "installed_release": "1.1.0"},
            {"vehicle_id": "v-2", "installed_release": "1.1.0"},
            {"vehicle_id": "v-3", "installed_release": "1.0.0"},
        ]
    )
    status: dict[str, Any] = field(
        default_factory=lambda: {
            "name": "rollouts/r",
            "status": "ROLLOUT_STATUS_HALTED",
            "cells": [
                {
                    **{"region": "eu", "hardware": "gen1", "cohort": "canary"},
                    **{"targeted": "3", "exposed": "3", "age_groups": []},
                    "states": {"succeeded": "2", "timed_out": "1"},
                }
            ],
        }
    )
    ledger: dict[str, Any] = field(default_factory=lambda: {"states": {"succeeded": 2, "timed_out": 1}, "permitted": 3})
    metrics: str = (
        'outrider_attempts{rollout="r",region="eu",state="succeeded"} 2.0\n'
        'outrider_attempts{rollout="r",region="eu",state="timed_out"} 1.0\n'
        'outrider_exposures{rollout="r",region="eu"} 3.0\n'
    )
    cases: list[dict[str, Any]] = field(default_factory=lambda: [{"vehicle_id": "v-3", "attempt_id": "r.v-3.1"}])

    def audit(self) -> Audit:
        """Lay them side by side."""
        audit = Audit()
        vehicles_agree(audit, self.simulator, self.vehicles)
        rollout_agrees(audit, View(self.status), self.simulator, self.ledger, self.metrics)
        cases_agree(audit, self.simulator, self.cases)
        return audit


def test_audit_of_records_that_agree_passes() -> None:
    """Otherwise the failures below would prove nothing."""
    audit = Records().audit()
    assert audit.passed, (audit.facts, audit.faults)
    assert {fact.what for fact in audit.facts} == {
        "healthy vehicles on 1.1.0",
        "r: permits",
        "r: succeeded",
        "vehicles hurt",
    }


def counted(state: str, number: str) -> Callable[[Records], None]:
    """Another number of attempts in a state, by the orchestrator."""

    def tamper(records: Records) -> None:
        records.status["cells"][0]["states"][state] = number

    return tamper


def replaced(before: str, after: str) -> Callable[[Records], None]:
    """Another line in the scrape."""

    def tamper(records: Records) -> None:
        assert before in records.metrics
        records.metrics = records.metrics.replace(before, after)

    return tamper


TAMPERED: dict[str, Callable[[Records], Any]] = {
    "a vehicle runs something else than its record says": lambda it: it.vehicles[0].update(installed_release="1.0.0"),
    "a vehicle did not arrive": lambda it: it.simulator["vehicles"]["v-1"].update(release="1.0.0"),
    "a vehicle is not on record": lambda it: it.vehicles.pop(0),
    "a vehicle on record does not exist": lambda it: it.simulator["vehicles"].pop("v-1"),
    "a vehicle had a permit that nobody counted": lambda it: it.simulator["vehicles"]["v-1"]["permits"].append("r.x.2"),
    "a vehicle never had the permit that was counted": lambda it: it.simulator["vehicles"]["v-3"]["permits"].clear(),
    "a vehicle with a permit never installed": lambda it: it.simulator["vehicles"]["v-1"]["installs"].clear(),
    "the orchestrator counts another exposure": lambda it: it.status["cells"][0].update(exposed="4"),
    "the orchestrator counts another success": counted("succeeded", "3"),
    "the orchestrator counts another time-out": counted("timed_out", "2"),
    "the ledger knows another permit": lambda it: it.ledger.update(permitted=4),
    "the ledger misses a success": lambda it: it.ledger["states"].update(succeeded=1),
    "the ledger misses a time-out": lambda it: it.ledger["states"].pop("timed_out"),
    "/metrics shows another success": replaced('"succeeded"} 2.0', '"succeeded"} 3.0'),
    "/metrics shows another time-out": replaced('"timed_out"} 1.0', '"timed_out"} 0.0'),
    "/metrics shows another exposure": replaced("} 3.0", "} 2.0"),
    "/metrics shows nothing": lambda it: setattr(it, "metrics", ""),
    "a hurt vehicle stands in no case": lambda it: it.cases.clear(),
    "a case is of another vehicle": lambda it: it.cases[0].update(vehicle_id="v-1", attempt_id="r.v-1.1"),
    "a vehicle that is well stands in a case": lambda it: it.cases.append(
        {"vehicle_id": "v-2", "attempt_id": "r.v-2.1"}
    ),
}


@pytest.mark.parametrize("tampering", TAMPERED)
def test_audit_fails_when_one_record_is_altered(tampering: str) -> None:
    """An audit that cannot fail is a decoration: every compared fact, altered in one record alone, is seen."""
    records = Records()
    TAMPERED[tampering](records)
    assert not records.audit().passed


def test_permit_that_went_unused_is_a_case_and_no_harm():
    """A vehicle whose permit's reply was lost may stand in a case: exposed it was, hurt it is not."""
    records = Records()
    records.simulator["vehicles"]["v-2"]["installs"] = []
    audit = Audit()
    cases = [*records.cases, {"vehicle_id": "v-2", "attempt_id": "r.v-2.1"}]
    cases_agree(audit, records.simulator, cases)
    assert audit.passed
