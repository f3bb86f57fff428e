"""What a preview expects is what a rehearsal of a good release takes: the arithmetic is held against the engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.preview import preview
from orchestrator.model.ids import ReleaseVersion
from orchestrator.rehearsal import CallPattern, Delays, Ending, FleetModel, ReleaseModel
from orchestrator.rehearsal.fleets import FLEET_13, HABITS
from orchestrator.rehearsal.inventory import invented
from orchestrator.rehearsal.rehearse import Scenario, rehearse
from tests.builders import DAY_MS, NOW, a_vehicle

WITHIN = 1.25
"""Factor between what is expected and what a rehearsal takes."""

MINUTES = """\
release: 1.1.0
waves: [{name: canary, cohorts: [canary], soak: 20m}, {name: general, soak: 20m}]
gate: {sample: 2, checkpoints: [30m, 1h], silence_reference: [10%, 6%], failure_ratio: 40%}
"""
"""That of the README's tour. Its gate is wide here, as that of all: what is measured is the pace, not chance."""
DEFAULT = "release: 1.1.0\ngate: {failure_ratio: 40%}\n"
PACED = f"{DEFAULT}limits: {{starts_per_minute: 1}}\n"
FEW_SLOTS, FEWER_SLOTS = (f"{DEFAULT}limits: {{in_flight: {slots}}}\n" for slots in (200, 120))
TWO_WAVES = f"{DEFAULT}waves: [{{name: a, share: 10%, soak: 6h}}, {{name: b, soak: 6h}}]\n"

_WELL = Delays(install_median_h=0.15, install_sigma=0.4, stays_in_touch=False, garage_share=0.0, lost_share=0.0)
BRISK = FleetModel("brisk", 1, (CallPattern("minutes", 1.0, 0.15, 0.2, 0.3),), _WELL)
HOURLY = FleetModel("hourly", 1, (CallPattern("hourly", 1.0, 1.0, 0.3, 0.35),), replace(_WELL, install_median_h=1.0))


@pytest.mark.parametrize(
    ("text", "fleet", "vehicles", "step_h", "often"),
    [
        (MINUTES, BRISK, 60, 0.05, True),
        (MINUTES, BRISK, 800, 0.05, True),
        (DEFAULT, HOURLY, 60, 1.0, True),
        (DEFAULT, HOURLY, 20_000, 1.0, True),
        (TWO_WAVES, HOURLY, 2_000, 1.0, True),
        (PACED, HOURLY, 10_000, 1.0, True),
        (FEWER_SLOTS, HOURLY, 20_000, 1.0, True),
        (DEFAULT, FLEET_13, 20_000, 1.0, False),
        (FEW_SLOTS, FLEET_13, 20_000, 1.0, False),
        (DEFAULT, HABITS, 20_000, 1.0, False),
        (PACED, HABITS, 10_000, 1.0, False),
    ],
    ids=[
        "tour, 60 vehicles",
        "tour, 800",
        "default, hourly, 60",
        "default, hourly",
        "two waves, hourly",
        "paced, hourly",
        "slots, hourly",
        "default, 1.3",
        "slots, 1.3",
        "default, habits",
        "paced, habits",
    ],
)
def test_preview_expects_what_a_rehearsal_takes(
    text: str, fleet: FleetModel, vehicles: int, step_h: float, often: bool
) -> None:
    """An estimate that nobody held against the engine said a month of four hours."""
    plan = read_plan(text)
    inventory = invented(plan, vehicles, regions={}, hardware={}, cohorts={})
    profiles = {
        a_vehicle(region=cell.region, hardware=cell.hardware, cohort=cell.cohort).profile(
            ReleaseVersion("1.0.0")
        ): count
        for cell, count in inventory.counts().items()
    }
    found = preview(plan, profiles, None, NOW)
    expected_ms = found.expected_often_ms if often else found.expected_ms
    assert expected_ms is not None
    good = ReleaseModel(0.0, 0.0)
    story = rehearse(plan, Scenario(inventory, fleet, good, NOW, horizon_days=60.0, step_h=step_h), seed=1)
    assert story.ending is Ending.COMPLETED
    assert 1 / WITHIN <= expected_ms / DAY_MS / story.ended_days <= WITHIN
