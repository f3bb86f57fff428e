"""`outrider fleet`: import, lists, revocation."""

from __future__ import annotations

import io
import itertools
import os
import threading
from pathlib import Path

import grpc
import pytest
from outrider.v1.fleet_pb2 import (
    ImportVehiclesRequest,
    ImportVehiclesResponse,
    ListVehiclesResponse,
)

from orchestrator.cli import fleet
from orchestrator.cli.fleet_parts import FleetFile, Part, fleet_file
from tests.cli.answers import a_vehicle
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused

HEADER = b"vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key\n"


def row(vehicle_id: str, ecu: str = "gw") -> bytes:
    primary = "true" if ecu == "gw" else "false"
    return f"{vehicle_id},S,gen1,eu,canary,beta;qa,{vehicle_id}-{ecu},acme-{ecu}-1,{primary},AA==\n".encode()


@pytest.fixture
def csv(data: Path) -> Path:
    path = data / "fleet.csv"
    path.write_bytes(HEADER + row("v-1") + row("v-1", "br") + row("v-2") + row("v-2", "br"))
    return path


def test_import_sends_the_file_once_and_says_what_it_did(server: OperatorServer, csv: Path, outrider: Outrider) -> None:
    """A file that fits into one call is one atomic step of the server."""
    server.will_answer("ImportVehicles", ImportVehiclesResponse(added_count=1, changed_count=2, unchanged_count=1200))
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 0
    assert not outcome.stderr, "a bar where nobody watches"
    assert [line.split() for line in outcome.stdout.splitlines()[1:]] == [
        ["new", "1"],
        ["changed", "2"],
        ["unchanged", "1,200"],
    ]
    [request] = server.asked("ImportVehicles")
    assert request.csv == csv.read_bytes()
    assert not request.validate_only
    assert request.reason == "import of fleet.csv"


def test_dry_run_only_asks_for_a_check(server: OperatorServer, csv: Path, outrider: Outrider) -> None:
    """A rehearsal must not change anything, and must say that it did not."""
    server.will_answer("ImportVehicles", ImportVehiclesResponse(added_count=2))
    outcome = outrider("fleet", "import", csv, "--dry-run")
    assert outcome.stdout.startswith("Nothing was changed")
    assert [request.validate_only for request in server.asked("ImportVehicles")] == [True]


def test_bad_rows_are_named_by_line_and_column(server: OperatorServer, csv: Path, outrider: Outrider) -> None:
    """Whoever has to mend a thousand rows needs to know which."""
    refusal = Refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "the fleet file has 2 faults; nothing was imported",
        violations=[("2:region", "needs 1 to 32 of A-Z"), ("file", "7 more faults are not shown")],
    )
    server.will_answer("ImportVehicles", refusal)
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines() == [
        f"{csv}:2:region: needs 1 to 32 of A-Z",
        f"{csv}: file: 7 more faults are not shown",
        "error: the fleet file has 2 faults; nothing was imported",
    ]


def cut(content: bytes, *, size_max: int) -> list[Part]:
    """The parts of a file."""
    return list(FleetFile(io.BytesIO(content), size_max=size_max).parts())


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few vehicles."""
    monkeypatch.setattr(fleet, "fleet_file", lambda path: fleet_file(path, size_max=250))


def test_a_large_file_is_cut_between_vehicles_and_every_row_arrives_once() -> None:
    """A part without all rows of a vehicle would be refused, or worse, replace the vehicle by half of it."""
    vehicles = [f"v-{number}" for number in range(50)]
    # The Secondaries stand apart from their Primaries: rows of a vehicle may.
    content = HEADER + b"".join(row(name) for name in vehicles) + b"".join(row(name, "br") for name in vehicles)
    parts = cut(content, size_max=1000)
    assert len(parts) > 5
    seen: dict[str, int] = {}
    for index, part in enumerate(parts):
        lines = part.content.splitlines(keepends=True)
        assert lines[0] == HEADER
        assert len(part.content) <= 1000
        for line, text in enumerate(lines[1:], start=2):
            assert content.splitlines(keepends=True)[part.line_in_file(line) - 1] == text
            assert seen.setdefault(text.split(b",")[0].decode(), index) == index
    assert sum(len(part.lines) - 1 for part in parts) == 100


def test_a_quoted_id_and_a_last_row_without_line_break_are_cut_right() -> None:
    """Spreadsheets quote as they like and forget the last line break."""
    content = HEADER + row("v-1") + b'"v-1"' + row("v-1", "br")[3:].rstrip(b"\n") + b"\n" + row("v-2").rstrip(b"\n")
    parts = cut(content, size_max=200)
    assert [part.lines for part in parts] == [(1, 2, 3), (1, 4)]
    assert parts[1].content.endswith(b"AA==\n")


def test_parts_of_a_file_keep_its_order_where_rows_of_a_vehicle_stand_together() -> None:
    """As everybody writes it; what stands apart comes last, whole."""
    names = [f"v-{number}" for number in range(30)]
    content = HEADER + row("late") + b"".join(row(name) + row(name, "br") for name in names) + row("late", "br")
    parts = cut(content, size_max=600)
    assert [line for part in parts for line in part.lines[1:]] == [*range(3, 63), 2, 63]
    assert all(len(part.content) <= 600 for part in parts)


def test_serial_that_stands_in_two_parts_is_a_fault_of_the_file(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None
) -> None:
    """No part shows it: two vehicles would be told apart by nothing."""
    csv.write_bytes(HEADER + b"".join(row(f"v-{number}") for number in range(9)) + row("v-3").replace(b"v-3,", b"v-9,"))
    server.will_answer("ImportVehicles", ImportVehiclesResponse())
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[0] == f"{csv}:11:ecu_serial: v-3-gw stands on line 5 already"
    assert all(request.validate_only for request in server.asked("ImportVehicles"))


def test_import_through_a_pipe_is_cut_as_any_other(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None
) -> None:
    """`zcat fleet.csv.gz | outrider fleet import /dev/stdin`: a pipe is read once, the file as often as it takes."""
    pipe = csv.with_name("pipe")
    os.mkfifo(pipe)
    content = HEADER + b"".join(row(f"v-{number}") for number in range(9))
    server.will_answer("ImportVehicles", ImportVehiclesResponse(added_count=1))
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert outrider("fleet", "import", pipe).exit_code == 0
    writer.join()
    imported = [request.csv for request in server.asked("ImportVehicles") if not request.validate_only]
    assert b"".join(part.removeprefix(HEADER) for part in imported) == content.removeprefix(HEADER)


def test_import_waits_for_a_server_that_went_away_half_way(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies takes a call with it; who imports a million vehicles must not begin anew for that."""
    monkeypatch.setattr("orchestrator.cli.client.AWAY_RETRY_S", 0.01)
    csv.write_bytes(HEADER + b"".join(row(f"v-{number}") for number in range(9)))
    asked = itertools.count()

    def answer(request: ImportVehiclesRequest) -> ImportVehiclesResponse | Refused:
        if next(asked) in (2, 3, 7):
            return Refused(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return ImportVehiclesResponse(added_count=1)

    server.will_answer("ImportVehicles", answer)
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 0
    assert "waiting for it to come back" in outcome.stderr
    imported = [request.csv for request in server.asked("ImportVehicles") if not request.validate_only]
    assert {row for part in imported for row in part.splitlines()[1:]} == set(csv.read_bytes().splitlines()[1:])


def test_import_does_not_wait_for_a_server_that_never_answered(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None
) -> None:
    """A wrong address is a mistake, not an outage."""
    server.will_answer("ImportVehicles", Refused(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    assert outrider("fleet", "import", csv).exit_code == 5
    assert len(server.asked("ImportVehicles")) == 1


def test_faults_of_all_parts_are_told_at_once(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None
) -> None:
    """Whoever mends a million rows mends them once; other lines that a complaint names are lines of the file too."""
    csv.write_bytes(HEADER + b"".join(row(f"v-{number}") for number in range(6)))
    words = "is `eu`, but `us` on line 2 of the same vehicle"
    refusal = Refused(grpc.StatusCode.INVALID_ARGUMENT, "1 fault", violations=[("3:region", words)])
    server.will_answer("ImportVehicles", refusal)
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 2
    told = outcome.stderr.splitlines()
    assert told[:3] == [
        f"{csv}:{line}:region: is `eu`, but `us` on line {line - 1} of the same vehicle" for line in (3, 5, 7)
    ]
    assert told[3].startswith("error: the fleet file has 3 faults or more; nothing was imported")


def test_faults_of_a_later_part_name_lines_of_the_file(
    server: OperatorServer, csv: Path, outrider: Outrider, small_parts: None
) -> None:
    """The person has one file, not the parts that we made of it; and nothing is imported before all are checked."""

    def answer(request: ImportVehiclesRequest) -> ImportVehiclesResponse | Refused:
        if b"v-2" in request.csv:
            return Refused(grpc.StatusCode.INVALID_ARGUMENT, "1 fault", violations=[("3:primary", "must be `true`")])
        return ImportVehiclesResponse(added_count=1)

    server.will_answer("ImportVehicles", answer)
    outcome = outrider("fleet", "import", csv)
    assert outcome.exit_code == 2
    assert outcome.stderr.splitlines()[0] == f"{csv}:5:primary: must be `true`"
    assert all(request.validate_only for request in server.asked("ImportVehicles"))


def test_a_missing_file_is_bad_input(data: Path, outrider: Outrider) -> None:
    """One line, not a stack trace."""
    outcome = outrider("fleet", "import", "nothing.csv")
    assert outcome.exit_code == 2
    assert (
        outcome.stderr == "error: nothing.csv cannot be read (No such file or directory) -> name a file that exists\n"
    )


def test_list_follows_pages_and_filters(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A fleet is larger than a page."""
    server.will_answer(
        "ListVehicles",
        ListVehiclesResponse(vehicles=[a_vehicle("v-1")], next_page_token="p2", registered_count=3),
        ListVehiclesResponse(vehicles=[a_vehicle("v-2", revoked=True)], registered_count=3),
    )
    outcome = outrider("fleet", "list", "--region", "eu", "--cohort", "canary")
    assert "✓ enrolled" in outcome.stdout
    assert "✗ revoked" in outcome.stdout
    assert outcome.stdout.endswith("2 shown, 3 registered.\n")
    requests = server.asked("ListVehicles")
    assert [(item.region, item.cohort, item.page_token) for item in requests] == [
        ("eu", "canary", ""),
        ("eu", "canary", "p2"),
    ]


def test_list_stops_at_its_limit_and_says_so(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Ten million lines help nobody; silently fewer would mislead."""
    page = ListVehiclesResponse(vehicles=[a_vehicle("v-1"), a_vehicle("v-2")], next_page_token="p2", registered_count=9)
    server.will_answer("ListVehicles", page)
    outcome = outrider("fleet", "list", "--limit", "1")
    assert "1 shown, 9 registered. There are more" in outcome.stdout
    assert "v-2" not in outcome.stdout
    assert server.asked("ListVehicles")[0].page_size == 1


def test_revoke_needs_a_reason(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A vehicle that is locked out has somebody who will ask why."""
    server.will_answer("RevokeVehicle", a_vehicle("v-1", revoked=True))
    assert outrider("fleet", "revoke", "v-1").exit_code == 2
    outcome = outrider("fleet", "revoke", "v-1", "--reason", "stolen")
    assert outcome.stdout == "Vehicle v-1 is refused from now on.\n"
    [request] = server.asked("RevokeVehicle")
    assert (request.name, request.reason) == ("vehicles/v-1", "stolen")
