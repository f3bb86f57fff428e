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
