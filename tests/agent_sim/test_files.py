"""What the simulator reads from and writes for others: endpoints, tokens, the report, a vehicle's state."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from agent_sim.car_state import CarState
from agent_sim.endpoints import EndpointsFile, read_endpoints
from agent_sim.enrolment import read_tokens
from agent_sim.errors import InputFileError, StateError
from agent_sim.faults import Fault, FaultKind
from agent_sim.report import Record, Run, vehicle_report
from agent_sim.state_journal import StateJournal, read_states
from agent_sim.tally import Tally
from agent_sim.verification import read_provisioning
from tests.agent_sim.builders import NEW, NEW_BRAKE, Road, a_car, a_state
from tests.agent_sim.fake_orchestrator import HOUR_MS, FakeOrchestrator


def a_ride(*faults: Fault) -> Road:
    road = Road(a_car(*faults), FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="a1"))
    road.start()
    road.run(until=24 * HOUR_MS)
    return road


def a_report(folder: Path, *roads: Road) -> dict[str, object]:
    tally = Tally()
    tally.calls["CheckIn", "OK"] += 3
    record, now = Record(), roads[0].now
    for road in roads:
        record.take(road.car.spec.vehicle_id, vehicle_report(road.car, now))
    path = folder / "report.json"
    record.write(path, tally, Run("test", 1, now, "", 0))
    report: dict[str, object] = json.loads(path.read_text())
    return report


def test_report_tells_what_runs_and_what_was_asked_and_told(tmp_path: Path) -> None:
    """An auditor compares these numbers with the orchestrator's."""
    report = a_report(tmp_path, a_ride())
    vehicle = report["vehicles"]["v1"]  # type: ignore[index]
    assert vehicle["release"] == "1.1.0"
    assert {serial: ecu["sha256"] for serial, ecu in vehicle["ecus"].items()} == {
        "v1-e0": NEW.sha256,
        "v1-e1": NEW_BRAKE.sha256,
    }
    assert vehicle["attempts"] == [{"attempt_id": "a1", "release": "1.1.0"}]
    assert vehicle["permits"] == vehicle["installs"] == ["a1"]
    assert vehicle["events_told"] == vehicle["events_acknowledged"] == 5
    assert vehicle["manifest_submitted"]
    assert report["calls"] == [{"method": "CheckIn", "status": "OK", "count": 3}]


def test_report_sums_by_region_hardware_and_cohort(tmp_path: Path) -> None:
    """The table at the end of a run comes from here."""
    report = a_report(tmp_path, a_ride(Fault(FaultKind.SILENT_BRICK)))
    (cell,) = report["totals"]["cells"]  # type: ignore[index]
    assert (cell["region"], cell["hardware"], cell["cohort"]) == ("eu", "gen1", "canary")
    assert (cell["vehicles"], cell["bricked"], cell["permits"], cell["installs"]) == (1, 1, 1, 1)
    assert cell["events_acknowledged"] <= cell["events_told"]


def test_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Another process may read it at any moment."""
    path = tmp_path / "report.json"
    Record().write(path, Tally(), Run("test", 1, 0, "", 0))
    with path.open() as old:
        Record().write(path, Tally(), Run("test", 1, 0, "settled", 0))
        assert json.loads(old.read())["over"] == ""
    assert json.loads(path.read_text())["over"] == "settled"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_state_of_a_vehicle_is_read_back(tmp_path: Path) -> None:
    """A bricked vehicle stays bricked when the simulator is started again."""
    road = a_ride(Fault(FaultKind.SILENT_BRICK))
    path = tmp_path / "states.jsonl"
    with closing(StateJournal(path)) as journal:
        assert journal.found == {}
        journal.save("v1", CarState(agent=a_state()))
        journal.save("v1", road.car.state)
    with closing(StateJournal(path)) as journal:
        assert journal.found == {"v1": road.car.state}
    assert path.read_bytes().count(b"\n") == 1
    again = a_car(state=read_states(path)["v1"])
    assert again.start(road.now) == []
    assert again.due_at is None


def test_second_simulator_on_one_fleet_is_refused(tmp_path: Path) -> None:
    """Two drivers would give one vehicle two lives and one outbox."""
    path = tmp_path / "states.jsonl"
    with closing(StateJournal(path)), pytest.raises(StateError, match="another simulator drives the fleet"):
        StateJournal(path)
    StateJournal(path).close()


def test_line_that_was_cut_short_leaves_the_state_before(tmp_path: Path) -> None:
    """Kill -9 in the middle of a write is a loss of power, not the end of the fleet."""
    path = tmp_path / "states.jsonl"
    with closing(StateJournal(path)) as journal:
        journal.save("v1", CarState(agent=a_state()))
        journal.save("v1", CarState(agent=a_state(), boots=1))
    path.write_bytes(path.read_bytes()[:-2])
    assert read_states(path)["v1"].boots == 0


@pytest.mark.parametrize("line", [b"", b"{}", b'{"vehicle_id": "v1", "state": {"agent": {"format": 99}}}', b"[1]"])
def test_damaged_state_is_named_with_its_place(tmp_path: Path, line: bytes) -> None:
    """Nobody can guess which of 200 vehicles it was."""
    path = tmp_path / "states.jsonl"
    path.write_bytes(line + b"\n")
    with pytest.raises(StateError, match=r"states.jsonl:1: .*make it again"):
        StateJournal(path)


def test_restarted_orchestrator_is_found_on_its_new_port(tmp_path: Path) -> None:
    """A new endpoints.json counts from the next connection on; a half written one does not."""
    path = tmp_path / "endpoints.json"
    path.write_text('{"enrollment": "127.0.0.1:1", "vehicles": "127.0.0.1:2"}')
    endpoints = EndpointsFile(path)
    assert endpoints.vehicles() == "127.0.0.1:2"
    path.write_text("{")
    os.utime(path, ns=(1, 1))
    assert endpoints.vehicles() == "127.0.0.1:2"
    path.write_text('{"enrollment": "127.0.0.1:1", "vehicles": "127.0.0.1:3"}')
    os.utime(path, ns=(2, 2))
    assert endpoints.vehicles() == "127.0.0.1:3"


def test_unusable_inputs_are_one_line_with_a_remedy(tmp_path: Path) -> None:
    """Each names the file and what writes it."""
    with pytest.raises(InputFileError, match="is `outrider serve` running"):
        read_endpoints(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"vehicles": "127.0.0.1:2"}')
    with pytest.raises(InputFileError, match=r"bad.json is not an endpoints.json: KeyError\('enrollment'\)"):
        read_endpoints(tmp_path / "bad.json")
    with pytest.raises(InputFileError, match="write them with `outrider fleet tokens`"):
        read_tokens(tmp_path / "none.jsonl")
    (tmp_path / "tokens.jsonl").write_text('{"vehicle_id": "v1", "token": "t"}\n\n{"vehicle_id": "v2"}\n')
    with pytest.raises(InputFileError, match=r"tokens.jsonl:3: not a JSON line with vehicle_id and token"):
        read_tokens(tmp_path / "tokens.jsonl")
    with pytest.raises(InputFileError, match=r"director-root.json.*give --provisioning"):
        read_provisioning(tmp_path)
