"""The short form of `make chaos`: a handful of kills of everything, in about a minute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.rolling import TEST_TIMEOUT_S, a_fleet_on_the_road
from tests.faults.chaos import Chaos
from tests.faults.judging import check_everything
from tests.faults.run_chaos import figures, table

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

SEED = int(os.environ.get("OUTRIDER_CHAOS_SEED", "20261129"))
KILLS = 8


@pytest.mark.fault("F1", "P1")
def test_nothing_is_lost_doubled_or_exceeded_whatever_is_killed(fleet: Path, tmp_path: Path) -> None:
    """The vehicles' own record is the judge; OUTRIDER_CHAOS_SEED tries other moments, `make chaos` many more."""
    print(f"OUTRIDER_CHAOS_SEED={SEED}")
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        chaos = Chaos(road, SEED)
        with road.driving():
            chaos.run(KILLS)
        check_everything(road, chaos.rollouts, chaos.stops)
        measured = figures(chaos)
        assert measured["quiet"] < KILLS // 2, "vehicles went on telling between kills"
        assert f"| all | {KILLS} |" in table(measured)
        assert len(chaos.kills) == KILLS
        assert chaos.stops, "a rollout was stopped in the middle"
