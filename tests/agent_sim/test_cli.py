"""The `outrider-sim` command as a person meets it: real processes, one line for an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent_sim.test_scenario import GOOD

pytestmark = pytest.mark.processes


def outrider_sim(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from agent_sim.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_fleet_command_makes_a_fleet_and_says_what_is_next(tmp_path: Path) -> None:
    """The CSV is there, and the next command is named."""
    (tmp_path / "good.toml").write_text(GOOD)
    done = outrider_sim("fleet", tmp_path / "good.toml", "--out", tmp_path / "fleet")
    assert done.returncode == 0, done.stderr
    assert "10 vehicles" in done.stdout
    assert f"Next: outrider fleet import {tmp_path}/fleet/fleet.csv" in done.stdout
    assert (tmp_path / "fleet" / "fleet.csv").exists()


def test_fleet_command_answers_programs_in_json(tmp_path: Path) -> None:
    """Machine output is one JSON document on stdout and nothing else."""
    (tmp_path / "good.toml").write_text(GOOD)
    done = outrider_sim("fleet", tmp_path / "good.toml", "--out", tmp_path / "fleet", "--output", "json")
    answer = json.loads(done.stdout)
    assert answer["vehicles"] == 10
    assert [image["hardware_id"] for image in answer["factory_images"]] == ["acme-gw-1"]
    assert done.stderr == ""


def test_error_is_one_line_with_cause_and_remedy(tmp_path: Path) -> None:
    """No stack trace for a mistake of the caller; exit 1."""
    done = outrider_sim("fleet", tmp_path / "none.toml", "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "none.toml: cannot be read" in done.stderr
    (tmp_path / "good.toml").write_text(GOOD)
    options = ["--endpoints", "e", "--provisioning", "p", "--fleet", "f", "--report", "r"]
    done = outrider_sim("run", tmp_path / "good.toml", *options)
    assert done.returncode == 1
    assert "cannot read endpoints" in done.stderr
    assert "is `outrider serve` running?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agent", "my-agent"), "names no {folder}"),
        (("--agent", "no-such-agent {folder}", "--clause", "P-POLL-10"), "cannot start no-such-agent"),
        (("--agent", "true {folder}", "--clause", "no-clause"), "no such clause"),
        (("--agent", "true {folder}", "--folder", "."), "is not empty; name a new one"),
    ],
)
def test_judge_says_what_is_wrong_with_its_options(arguments: tuple[str, ...], said: str) -> None:
    """One line, before anything is played."""
    done = outrider_sim("conform", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("outrider-sim: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_judge_tells_of_an_agent_that_does_not_stay_up() -> None:
    """An agent that ends at once is a breach, said in words, and not a wait of minutes."""
    done = outrider_sim("conform", "--agent", "true {folder}", "--clause", "P-POLL-10", "--output", "json")
    assert done.returncode == 1
    (clause,) = json.loads(done.stdout)["clauses"]
    assert clause["verdict"] == "FAIL"
    assert "ended 8 times by itself" in clause["findings"][0]["seen"]
