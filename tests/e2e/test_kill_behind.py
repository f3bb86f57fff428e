"""A store that lost its tail: the ledger remembers more than it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.evidence import permits_given
from tests.e2e.load import GOOD, SIZE
from tests.e2e.rolling import ROLLOUT_TIMEOUT_S, TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.processes import eventually, run_cli

pytestmark = [pytest.mark.processes, pytest.mark.timeout(TEST_TIMEOUT_S)]

QUIET_MS = 10 * 60_000


@pytest.mark.fault("F3")
def test_store_behind_the_ledger_comes_up_paused_and_says_why(fleet: Path, tmp_path: Path) -> None:
    """What was acknowledged and is gone is not guessed: nothing moves before a person has looked."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            road.await_done(name, 4)
        append_only = newest_append_only_file(road)
        early_bytes = append_only.stat().st_size
        with road.driving():
            road.await_done(name, SIZE // 3)
        assert road.installation.terminate() == 0

        # Torn in the middle of a command, as a disk that lies to fsync leaves it after a power cut.
        with append_only.open("r+b") as file:
            file.truncate(early_bytes + 7)
        refused = run_cli("serve", "--data", road.installation.data)
        assert refused.exit_code == 1
        assert "outrider store repair" in refused.stderr
        repaired = road.installation.must("store", "repair")
        assert repaired["bytes_cut"] == 7

        road.installation.start()
        shown = run_cli("rollout", "status", name, "--data", road.installation.data).stdout
        assert "paused" in shown
        told = road.rollout(name)
        assert road.status(name) == "PAUSED"
        assert told.last_actor == "recovery"
        assert "the ledger has seen" in told.last_reason
        given = permits_given(road.installation, name)
        with road.driving():
            began = told.fleet_time.ToMilliseconds()
            eventually(
                # The simulator's own record, not our clock: a fleet that has not started yet has not called.
                lambda: road.record()["fleet_time_ms"] > began + QUIET_MS,
                timeout_s=ROLLOUT_TIMEOUT_S,
                what="vehicles called",
            )
            assert road.status(name) == "PAUSED"
            assert permits_given(road.installation, name) == given


def newest_append_only_file(road: Road) -> Path:
    """The file that the store appends to."""
    folder = road.installation.data / "store" / "appendonlydir"
    return max(folder.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
