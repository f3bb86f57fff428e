"""docs/scenario-file.md names everything that a scenario may say, and its example is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent_sim.connectivity import LinkModel
from agent_sim.faults import FaultKind
from agent_sim.owner import Manner
from agent_sim.scenario import (
    AgentPart,
    ConnectivityPart,
    FaultPart,
    FleetPart,
    HardwarePart,
    OutagePart,
    OwnerPart,
    RunPart,
    Scenario,
    parse_scenario,
)

TEXT = (Path(__file__).parents[2] / "docs" / "scenario-file.md").read_text(encoding="utf-8")
PARTS = (Scenario, FleetPart, HardwarePart, ConnectivityPart, OwnerPart, FaultPart, OutagePart, AgentPart, RunPart)
FIELDS = sorted({field for part in PARTS for field in part.model_fields})


def test_the_example_is_a_scenario() -> None:
    """Whoever copies it has a fleet with one bad variant."""
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    scenario = parse_scenario(example)
    assert scenario.fleet.size == 80
    assert scenario.faults[0].hardware == ("gen2",)


@pytest.mark.parametrize("word", [*FIELDS, *FaultKind, *LinkModel, *Manner])
def test_every_field_and_kind_is_documented(word: str) -> None:
    """By its name, as it is written in a file."""
    assert re.search(rf"`(\[)?{word}(\])?`|^{word} = |^\[\[?{word}\]", TEXT, flags=re.MULTILINE)
