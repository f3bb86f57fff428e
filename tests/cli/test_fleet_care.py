"""`outrider fleet set|remove|quarantine|deny|count|export`: what is asked before, what is sent, what is said after."""

from __future__ import annotations

import io
from pathlib import Path

import grpc
import pytest
from outrider.v1.fleet_pb2 import (
    CountVehiclesResponse,
    ExcludeVehiclesResponse,
    ListVehiclesResponse,
    ReadmitVehiclesResponse,
    RemoveVehiclesResponse,
    UpdateVehiclesResponse,
    VehicleCount,
)

from orchestrator.cli import fleet_selection
from orchestrator.cli.fleet_export import HEADER, RunsOfVehicles, vehicle_lines
from orchestrator.rpc import convert
from orchestrator.service.fleet_csv import ZONED_HEADER, read_fleet_csv
from signing.keys import generate_ecu_key, public_key_base64
from tests.builders import a_record, an_ecu
from tests.builders import a_vehicle as model_vehicle
from tests.cli.answers import a_vehicle
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused

WHY = ("--reason", "moved house")


class Terminal(io.StringIO):
    """A person at a keyboard who types one line."""

    def isatty(self) -> bool:
        return True


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{text}\n"))


def three_pages(server: OperatorServer) -> None:
    """Three vehicles on three pages, one of them empty."""
    server.will_answer(
        "ListVehicles",
        ListVehiclesResponse(vehicles=[a_vehicle("v-3"), a_vehicle("v-1")], next_page_token="a"),
        ListVehiclesResponse(next_page_token="b"),
        ListVehiclesResponse(vehicles=[a_vehicle("v-2", region="us")]),
    )


def test_set_sends_what_shall_change_and_says_what_did(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Named vehicles are not asked about; what is not given is not sent."""
    server.will_answer("UpdateVehicles", UpdateVehiclesResponse(changed_count=1, unchanged_count=1))
    outcome = outrider("fleet", "set", "v-1", "v-2", "v-1", "--cohort", "early", "--tag", "a", "--untag", "b", *WHY)
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout == "1 changed, 1 were so already.\n"
    (request,) = server.asked("UpdateVehicles")
    assert list(request.vehicle_ids) == ["v-1", "v-2"]
    assert (request.region, request.cohort, request.zone, request.reason) == ("", "early", "", "moved house")
    assert (list(request.add_tags), list(request.remove_tags)) == (["a"], ["b"])


def test_filter_shows_what_it_finds_and_asks_for_the_number(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types the number has read it."""
    three_pages(server)
    server.will_answer("UpdateVehicles", UpdateVehiclesResponse(changed_count=3))
    type_in(monkeypatch, "3")
    outcome = outrider("fleet", "set", "--where", "tag=beta", "--region", "eu", *WHY)
    assert outcome.exit_code == 0, outcome.stderr
    assert "3 vehicles fit tag=beta:" in outcome.stderr
    assert "Type 3 to change them" in outcome.stderr
    assert [request.filter for request in server.asked("ListVehicles")] == ["tag=beta"] * 3
    assert list(server.asked("UpdateVehicles")[0].vehicle_ids) == ["v-1", "v-2", "v-3"]


def test_wrong_number_changes_nothing(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter that finds ten times as many as was thought ends here."""
    three_pages(server)
    type_in(monkeypatch, "30")
    outcome = outrider("fleet", "quarantine", "--where", "tag=beta", *WHY)
    assert outcome.exit_code == 2
    assert "nothing was changed" in outcome.stderr
    assert server.asked("ExcludeVehicles") == []


def test_script_must_say_yes(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there to be asked; with --yes nobody is asked."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    three_pages(server)
    server.will_answer("RemoveVehicles", RemoveVehiclesResponse(removed_count=3))
    assert outrider("fleet", "remove", "--where", "tag=beta", *WHY).exit_code == 2
    three_pages(server)
    outcome = outrider("fleet", "remove", "--where", "tag=beta", "--yes", *WHY)
    assert (outcome.exit_code, outcome.stdout) == (0, "3 removed.\n")


def test_removal_asks_for_named_vehicles_too(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that cannot be set right by the opposite command."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert outrider("fleet", "remove", "v-1", *WHY).exit_code == 2
    server.will_answer("RemoveVehicles", RemoveVehiclesResponse(removed_count=1))
    type_in(monkeypatch, "1")
    assert outrider("fleet", "remove", "v-1", *WHY).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "--region", "eu", *WHY), "by their ids or by --where"),
        (("set", "v-1", "--where", "tag=a", "--region", "eu", *WHY), "by their ids or by --where"),
        (("set", "--where", " ", "--region", "eu", *WHY), "--where is empty"),
        (("set", "v-1", *WHY), "nothing is to change"),
        (("set", "v-1", "--region", "eu", "--reason", " "), "--reason is empty"),
        (("set", "v-1", "--region", "eu"), "--reason"),
        (("deny", "v-1", *WHY), "--rollout"),
        (("export", "-o", "json"), "the export is CSV"),
    ],
)
def test_what_is_missing_is_said(data: Path, outrider: Outrider, arguments: tuple[str, ...], words: str) -> None:
    """Before anything is sent."""
    outcome = outrider("fleet", *arguments)
    assert outcome.exit_code == 2
    assert words in outcome.stderr


def test_filter_that_finds_nothing_is_not_found(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A misspelt region must not look like done."""
    server.will_answer("ListVehicles", ListVehiclesResponse())
    outcome = outrider("fleet", "quarantine", "--where", "region=eu", *WHY)
    assert outcome.exit_code == 3
    assert "no vehicle fits 'region=eu'" in outcome.stderr


def test_quarantine_and_deny_are_lifted_by_the_same_command(
    server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """One scope each, and what was so already is told."""
    server.will_answer("ExcludeVehicles", ExcludeVehiclesResponse(changed_count=1))
    server.will_answer("ReadmitVehicles", ReadmitVehiclesResponse(changed_count=2))
    quarantined = outrider("fleet", "quarantine", "v-1", "v-2", *WHY)
    assert quarantined.stdout == "1 kept out of every rollout from now on, 1 were so already.\n"
    assert outrider("fleet", "deny", "v-1", "--rollout", "spring", *WHY).exit_code == 0
    lifted = outrider("fleet", "deny", "v-1", "v-2", "--rollout", "spring", "--lift", *WHY)
    assert lifted.stdout == "2 let into rollout spring again, 0 were not kept out.\n"
    outrider("fleet", "quarantine", "v-1", "--lift", *WHY)
    assert [request.rollout for request in server.asked("ExcludeVehicles")] == ["", "rollouts/spring"]
    assert [request.rollout for request in server.asked("ReadmitVehicles")] == ["rollouts/spring", ""]


def test_many_vehicles_go_in_steps_and_an_error_says_how_far_it_came(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server bounds a call; whoever repeats the command must know that a part is done."""
    monkeypatch.setattr(fleet_selection, "VEHICLES_PER_CALL", 2)
    names = [f"v-{number}" for number in range(5)]
    server.will_answer(
        "UpdateVehicles",
        UpdateVehiclesResponse(changed_count=2),
        UpdateVehiclesResponse(changed_count=1, unchanged_count=1),
        UpdateVehiclesResponse(changed_count=1),
    )
    whole = outrider("fleet", "set", *names, "--region", "us", "-o", "json", *WHY)
    assert whole.json == {"changed_count": 4, "unchanged_count": 1}
    assert [len(request.vehicle_ids) for request in server.asked("UpdateVehicles")] == [2, 2, 1]
    refused = Refused(grpc.StatusCode.NOT_FOUND, "not in the inventory: v-3", remedy="look")
    server.will_answer("UpdateVehicles", UpdateVehiclesResponse(changed_count=2), refused)
    outcome = outrider("fleet", "set", *names, "--region", "us", *WHY)
    assert outcome.exit_code == 3
    assert "2 of 5 vehicles were dealt with before the error." in outcome.stderr


def test_faults_of_a_filter_are_shown_line_by_line(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """With the column in which the term begins."""
    refused = Refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the filter has 1 fault",
        remedy="write terms",
        violations=[("filter:11", "`colour` is not a field")],
    )
    server.will_answer("ListVehicles", refused)
    outcome = outrider("fleet", "list", "--where", "region=eu,colour=red")
    assert outcome.exit_code == 2
    assert "filter:11: `colour` is not a field" in outcome.stderr


def test_count_shows_groups_with_their_share(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Large first, as the server says."""
    server.will_answer(
        "CountVehicles",
        CountVehiclesResponse(
            counts=[
                VehicleCount(values={"region": "eu", "zone": ""}, count=3000),
                VehicleCount(values={"region": "us", "zone": "America/New_York"}, count=1000),
            ],
            total=4000,
        ),
    )
    outcome = outrider("fleet", "count", "--by", "region, zone", "--where", "tag=beta")
    lines = [line.split() for line in outcome.stdout.splitlines()]
    assert ["eu", "–", "3,000", "75.0%"] in lines
    assert ["us", "America/New_York", "1,000", "25.0%"] in lines
    assert outcome.stdout.endswith("4,000 vehicles.\n")
    (request,) = server.asked("CountVehicles")
    assert (list(request.group_by), request.filter) == (["region", "zone"], "tag=beta")


def test_export_is_the_file_that_import_reads(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """In order of id, every control unit a line; a file is whole or not there."""
    three_pages(server)
    to_stdout = outrider("fleet", "export")
    lines = to_stdout.stdout.splitlines()
    assert lines[0] == ",".join(ZONED_HEADER)
    assert lines[1] == "v-1,S,gen2,eu,canary,beta,v-1-gw,acme-gw-2,true,AA==,"
    assert [line.split(",")[0] for line in lines[1:]] == ["v-1", "v-1", "v-2", "v-2", "v-3", "v-3"]
    three_pages(server)
    target = data / "out.csv"
    outcome = outrider("fleet", "export", "--out", target, "--where", "tag=beta", "-o", "json")
    assert outcome.json == {"file": str(target), "vehicle_count": 3}
    assert target.read_text() == to_stdout.stdout
    assert [path.name for path in data.iterdir() if path.name.endswith(".part")] == []
    failed = outrider("fleet", "export", "--out", data / "no" / "such" / "folder.csv")
    assert failed.exit_code == 1
    assert "cannot be written" in failed.stderr


def test_exported_and_imported_fleet_is_the_same_fleet() -> None:
    """From the inventory over the wire and the file and back: nothing is lost, nothing added."""
    key = public_key_base64(generate_ecu_key())
    vehicles = [
        model_vehicle("v-1", tags=("night", "beta"), zone="Europe/Berlin", ecus=[an_ecu("v-1-gw", key=key)]),
        model_vehicle(
            "v-2",
            region="us",
            ecus=[an_ecu("v-2-bcm", hardware_id="acme-bcm-2", primary=False, key=key), an_ecu("v-2-gw", key=key)],
        ),
    ]
    on_the_wire = [convert.vehicle(a_record(vehicle), revoked=False) for vehicle in vehicles]
    file = "\n".join((",".join(HEADER), *(line for each in on_the_wire for line in vehicle_lines(each)))).encode()
    assert read_fleet_csv(file) == vehicles


def test_export_of_any_size_is_in_order_with_few_vehicles_in_memory() -> None:
    """Pages come in the order of the store, and may have a vehicle twice that moved between two of them."""
    names = [f"v-{number:03d}" for number in range(50)]
    shuffled = [*names[::7], *names[3::5], *names]
    with RunsOfVehicles(run_vehicles=4) as runs:
        for name in shuffled:
            runs.add(name, [f"{name},a", f"{name},b"])
        assert list(runs.lines()) == [f"{name},{unit}" for name in names for unit in "ab"]
        assert runs.vehicles == 50
