"""A store that lost its tail: the ledger remembers more than it does."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from outrider.v1 import rollout_pb2

from tests.e2e.evidence import happened, permits_given
from tests.e2e.load import GOOD, SIZE
from tests.e2e.rolling import ROLLOUT_TIMEOUT_S, TEST_TIMEOUT_S, Road, a_fleet_on_the_road
from tests.processes import CALL_TIMEOUT_S, eventually, run_cli
from tests.vehicles import refusal

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

        assert "outrider store repair" in lose_the_tail(road, append_only, early_bytes)
        road.installation.start()
        shown = run_cli("rollout", "status", name, "--data", road.installation.data).stdout
        assert "paused" in shown
        told = road.rollout(name)
        assert road.status(name) == "PAUSED"
        assert told.last_actor == "recovery"
        assert "the ledger has seen" in told.last_reason
        assert_nothing_moves(road, name)
        assert road.status(name) == "PAUSED"


@pytest.mark.fault("F3")
def test_abort_that_the_store_has_lost_and_the_ledger_knows_stays_an_abort(fleet: Path, tmp_path: Path) -> None:
    """Who aborted a bad release has gone home: what ran in the store's past must not wait for a careless resume."""
    with a_fleet_on_the_road(fleet, tmp_path) as road:
        with road.driving():
            name = road.start_rollout(GOOD)
            road.await_done(name, 4)
            append_only = newest_append_only_file(road)
            early_bytes = append_only.stat().st_size
            asked = rollout_pb2.AbortRolloutRequest(name=f"rollouts/{name}", reason="brakes fail")
            road.api.rollouts.AbortRollout(asked, timeout=CALL_TIMEOUT_S)
            eventually(lambda: aborts(road, name), what="the ledger knows of the abort")
        assert road.installation.terminate() == 0
        lose_the_tail(road, append_only, early_bytes)

        road.installation.start()
        told = road.rollout(name)
        assert (road.status(name), told.last_actor) == ("ABORTED", "recovery")
        assert told.last_reason == "the ledger has it aborted by admin (brakes fail), which the store has lost"
        assert "brakes fail" in run_cli("rollout", "status", name, "--data", road.installation.data).stdout
        assert_nothing_moves(road, name)
        resume = rollout_pb2.ResumeRolloutRequest(name=f"rollouts/{name}", reason="what was paused here?")
        with pytest.raises(grpc.RpcError) as error:
            road.api.rollouts.ResumeRollout(resume, timeout=CALL_TIMEOUT_S)
        assert refusal(error.value).code is grpc.StatusCode.FAILED_PRECONDITION
        eventually(lambda: aborts(road, name) == ["admin", "recovery"], what="both stand in the ledger")


def aborts(road: Road, name: str) -> list[str]:
    """Who aborted the rollout, as the ledger has it."""
    return [entry.data["actor"] for entry in happened(road.installation, name) if entry.kind == "rollout_aborted"]


def lose_the_tail(road: Road, append_only: Path, early_bytes: int) -> str:
    """Cut the store back, torn in the middle of a command, as a disk that lies to fsync leaves it after a power cut,
    and repair it; what a start said before that.
    """
    with append_only.open("r+b") as file:
        file.truncate(early_bytes + 7)
    refused = run_cli("serve", "--data", road.installation.data)
    assert refused.exit_code == 1
    assert road.installation.must("store", "repair")["bytes_cut"] == 7
    return refused.stderr


def assert_nothing_moves(road: Road, name: str) -> None:
    """Vehicles call for a while, and none is granted or permitted anything."""
    began = road.rollout(name).fleet_time.ToMilliseconds()
    given, granted = permits_given(road.installation, name), grants(road, name)
    with road.driving():
        eventually(
            # The simulator's own record, not our clock: a fleet that has not started yet has not called.
            lambda: road.record()["fleet_time_ms"] > began + QUIET_MS,
            timeout_s=ROLLOUT_TIMEOUT_S,
            what="vehicles called",
        )
    assert permits_given(road.installation, name) == given
    assert grants(road, name) == granted


def grants(road: Road, name: str) -> int:
    """Attempts of the rollout, in whatever state."""
    return sum(sum(cell.states.values()) for cell in road.rollout(name).cells)


def newest_append_only_file(road: Road) -> Path:
    """The file that the store appends to."""
    folder = road.installation.data / "store" / "appendonlydir"
    return max(folder.glob("*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
