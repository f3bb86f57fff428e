"""Whole runs of the simulator on real sockets: mutual TLS, real signatures, downloads by range, files on disk."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from agent_sim.errors import EnrollmentError, SimulationError
from agent_sim.scenario import parse_scenario
from tests.agent_sim.fake_orchestrator import HOUR_MS, OVER
from tests.agent_sim.ground import SCALE, SCENARIO, Ground, a_scenario, release_images, releases
from tests.agent_sim.wire_orchestrator import serving


@pytest.mark.uptane("V7", "D1", "P1")
async def test_fleet_is_updated_over_the_wire(tmp_path: Path) -> None:
    """The whole path with real parts: enrolment, both repositories, downloads, permits, signed manifests."""
    ground = Ground(tmp_path, a_scenario())
    report = await ground.ride()
    assert report["over"] == "settled"
    assert releases(report) == ["1.1.0"] * 8
    for vehicle_id, served in ground.orchestrator.vehicles.items():
        record = report["vehicles"][vehicle_id]
        proven = {entry.ecu_serial: entry.sha256 for entry in served.orchestrator.manifests[-1].reports}
        assert proven == {serial: ecu["sha256"] for serial, ecu in record["ecus"].items()}
        assert record["permits"] == record["installs"] == served.orchestrator.permits
        assert record["events_told"] == record["events_acknowledged"] == 5
    memories = list(ground.fleet.folder.rglob("secondaries/*.json"))
    assert len(memories) == 8, "every Secondary verified what its Primary passed on"
    assert all(json.loads(memory.read_bytes())["targets"] for memory in memories)
    assert report["downloads"]["complete"] == 16
    assert report["bytes_downloaded"] == 16 * 200_000
    assert {call["status"] for call in report["calls"]} == {"OK"}


async def test_record_and_orchestrator_agree_under_every_fault(tmp_path: Path) -> None:
    """What the simulator says happened is what the orchestrator saw, whatever went wrong on the way."""
    ground = Ground(
        tmp_path,
        a_scenario(
            'kind = "silent_brick"\nhardware = ["gen2"]\nregions = ["eu"]',
            'kind = "link_break"',
            'kind = "power_loss"\nprobability = 0.5',
            'kind = "lost_replies"\nprobability = 0.1',
            'kind = "offline"\nprobability = 0.5\nduration = "2h"',
        ),
    )
    report = await ground.ride()
    hurt = [v for v in report["vehicles"].values() if v["hardware"] == "gen2" and v["region"] == "eu"]
    assert hurt
    assert report["totals"]["bricked"] == len(hurt)
    assert all(v["bricked"] == (v in hurt) for v in report["vehicles"].values())
    assert releases(report) == ["1.1.0"] * 8
    assert report["downloads"]["resumed"] >= 16
    assert any(value.startswith("bytes=") for value in ground.orchestrator.ranges)
    for vehicle_id, served in ground.orchestrator.vehicles.items():
        record = report["vehicles"][vehicle_id]
        assert set(record["permits"]) <= set(served.orchestrator.permits)
        assert record["installs"] == [f"to-1.1.0.{vehicle_id}.1"]
        assert not OVER & set(served.orchestrator.kinds)
        (events,) = served.orchestrator.applied.values()
        assert len(events) >= record["events_acknowledged"]


async def test_outage_silences_its_regions_and_all_come_back_within_two_minutes(tmp_path: Path) -> None:
    """The herd that a worker has to bear: not spread over the hour in which vehicles poll."""
    text = SCENARIO.replace(
        'until = "settled"\nrelease = "1.1.0"\nduration = "30d"', 'until = "duration"\nduration = "7h"'
    )
    outage = '[[outages]]\nafter = "1h"\nduration = "3h"\nregions = ["eu"]\n'
    ground = Ground(tmp_path, parse_scenario(text + outage), offered=False)
    report = await ground.ride()
    returned_at = []
    for vehicle_id, heard_at in ground.orchestrator.heard_at.items():
        silences = [(later - earlier, later) for earlier, later in pairwise(heard_at)]
        longest_ms, ended_at = max(silences)
        if report["vehicles"][vehicle_id]["region"] == "eu":
            assert longest_ms >= 3 * HOUR_MS
            returned_at.append(ended_at)
        else:
            assert longest_ms < 2 * HOUR_MS
    assert len(returned_at) >= 2
    assert max(returned_at) - min(returned_at) < 10 * 60_000, "two minutes, and what this machine is late"
    assert {call["status"] for call in report["calls"]} == {"OK"}


async def test_run_goes_on_where_an_earlier_one_was_stopped(tmp_path: Path) -> None:
    """The fleet folder is all that a vehicle is: a new process finds it, certificates, outbox and slots."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    (tmp_path / "stop").touch()
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        first = await ground.run(endpoints)
        assert first["over"].startswith("stop file")
        (tmp_path / "stop").unlink()
        ground.orchestrator.tokens.clear()
        ground.orchestrator.offer("1.1.0", release_images(ground.fleet, tmp_path, "1.1.0"), list(first["vehicles"]))
        second = await ground.run(endpoints)
    assert releases(second) == ["1.1.0"] * 8
    outboxes = [{name: v["outbox_id"] for name, v in report["vehicles"].items()} for report in (first, second)]
    assert outboxes[0] == outboxes[1]


@pytest.mark.uptane("A15")
async def test_outage_of_the_orchestrator_is_survived(tmp_path: Path) -> None:
    """Calls that find nobody are made again; nothing is lost and nobody installs twice."""
    ground = Ground(tmp_path, a_scenario())
    ground.orchestrator.unavailable = 40
    report = await ground.ride()
    assert releases(report) == ["1.1.0"] * 8
    assert all(len(vehicle["installs"]) == 1 for vehicle in report["vehicles"].values())
    assert sum(call["count"] for call in report["calls"] if call["status"] == "UNAVAILABLE") == 40


async def test_scale_is_learned_from_replies(tmp_path: Path) -> None:
    """Without --scale the simulator drives at the orchestrator's own pace."""
    ground = Ground(tmp_path, a_scenario())
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        report = await ground.run(endpoints, scale=None)
    assert releases(report) == ["1.1.0"] * 8
    assert abs(report["fleet_time_ms"] - ground.orchestrator.fleet_ms()) < 60 * 1000 * SCALE


@pytest.mark.uptane("A1")
async def test_image_that_was_swapped_on_the_mirror_is_rejected(tmp_path: Path) -> None:
    """The transport is not trusted: other bytes of the same length never reach a slot."""
    ground = Ground(tmp_path, a_scenario())
    for path in (ground.orchestrator.data.image_repo / "targets").iterdir():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    files_scenario = ground.scenario.model_copy(
        update={"run": ground.scenario.run.model_copy(update={"until": "duration", "duration": 40 * 60_000})}
    )
    ground.scenario = files_scenario
    report = await ground.ride()
    assert releases(report) == ["1.0.0"] * 8
    assert report["downloads"]["refused"] == 8
    assert not any(vehicle["permits"] for vehicle in report["vehicles"].values())
    for served in ground.orchestrator.vehicles.values():
        (events,) = served.orchestrator.applied.values()
        assert [event.failure_code for event in events][-1] == "arbitrary_software"


async def test_wrong_token_ends_the_run_with_the_vehicle_named(tmp_path: Path) -> None:
    """Bad input gets a clear error."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        ground.orchestrator.tokens["sim-000003"] = "another"
        with pytest.raises(EnrollmentError, match=r"sim-000003.*PERMISSION_DENIED"):
            await ground.run(endpoints)


async def test_missing_token_is_named_before_anyone_enrols(tmp_path: Path) -> None:
    """A fleet that was not imported says so, with the remedy."""
    ground = Ground(tmp_path, a_scenario(), offered=False)
    del ground.orchestrator.tokens["sim-000000"]
    async with serving(ground.orchestrator, tmp_path) as endpoints:
        with pytest.raises(SimulationError, match=r"1 vehicles have neither.*sim-000000.*outrider fleet tokens"):
            await ground.run(endpoints)
    assert ground.orchestrator.calls == []
