"""`outrider fleet tokens`: each replaces an earlier one, so none that was made may be lost with the command."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf.message import Message
from outrider.v1.fleet_pb2 import (
    CreateEnrollmentTokensRequest,
    CreateEnrollmentTokensResponse,
    EnrollmentToken,
    ListVehiclesResponse,
)

from orchestrator.cli.fleet_selection import PAGE_SIZE, VEHICLES_PER_CALL
from tests.cli.answers import a_vehicle
from tests.cli.conftest import Outcome, Outrider
from tests.cli.server import OperatorServer, Refused

FLEET = tuple(f"v-{number:04d}" for number in range(2 * VEHICLES_PER_CALL + 10))
AWAY = Refused(grpc.StatusCode.UNAVAILABLE, "the store is away")


@pytest.fixture
def out(data: Path, tmp_path: Path) -> Path:
    return tmp_path / "tokens.jsonl"


def given(request: CreateEnrollmentTokensRequest) -> CreateEnrollmentTokensResponse:
    """A token for each vehicle, as a server makes them."""
    made = [EnrollmentToken(vehicle_id=each, token=f"secret-{each}") for each in request.vehicle_ids]
    return CreateEnrollmentTokensResponse(tokens=made)


def with_fleet(server: OperatorServer, *answers: Message | Refused | Callable[..., Message]) -> None:
    """The inventory in pages, the second of which has a vehicle of the first again; then what becomes of each call."""
    first, second = FLEET[:PAGE_SIZE], FLEET[PAGE_SIZE - 1 :]
    server.will_answer(
        "ListVehicles",
        ListVehiclesResponse(vehicles=map(a_vehicle, first), next_page_token="p2", registered_count=3000),
        ListVehiclesResponse(vehicles=map(a_vehicle, second), registered_count=3000),
    )
    server.will_answer("CreateEnrollmentTokens", *(answers or (given,)))


def vehicles_in(path: Path) -> list[str]:
    """Who has a token in a file, by line."""
    return [json.loads(line)["vehicle_id"] for line in path.read_text().splitlines()]


def test_tokens_are_json_lines_on_stdout(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A factory's tool reads them line by line."""
    server.will_answer("CreateEnrollmentTokens", given)
    outcome = outrider("fleet", "tokens", "v-1", "v-2", "v-1")
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [
        {"vehicle_id": "v-1", "token": "secret-v-1"},
        {"vehicle_id": "v-2", "token": "secret-v-2"},
    ]
    assert list(server.asked("CreateEnrollmentTokens")[0].vehicle_ids) == ["v-1", "v-2"]
    assert outrider("fleet", "tokens", "v-1", "-o", "json").json["tokens"][0]["token"] == "secret-v-1"


def test_everybody_who_has_not_enrolled_is_found_page_by_page(
    server: OperatorServer, out: Path, outrider: Outrider
) -> None:
    """All of a fleet in one call would end at its deadline, with every token replaced and none at hand."""
    with_fleet(server)
    outcome = outrider("fleet", "tokens", "--out", out)
    assert outcome.stdout == f"{len(FLEET):,} tokens written to {out}.\n"
    assert vehicles_in(out) == list(FLEET)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert {request.filter for request in server.asked("ListVehicles")} == {"enrolled=false"}
    asked = [len(request.vehicle_ids) for request in server.asked("CreateEnrollmentTokens")]
    assert asked == [VEHICLES_PER_CALL, VEHICLES_PER_CALL, 10]


def test_each_answer_is_in_the_file_before_the_next_call(server: OperatorServer, out: Path, outrider: Outrider) -> None:
    """Whatever ends the command then, what it was given is there."""
    found: list[int] = []

    def looking(request: CreateEnrollmentTokensRequest) -> CreateEnrollmentTokensResponse:
        found.append(len(vehicles_in(out)))
        return given(request)

    with_fleet(server, looking)
    assert outrider("fleet", "tokens", "--out", out).exit_code == 0
    assert found == [0, VEHICLES_PER_CALL, 2 * VEHICLES_PER_CALL]


def goes_on(server: OperatorServer, out: Path, outrider: Outrider) -> Outcome:
    """The same command again, with --continue: everybody has one token afterwards, nobody a second."""
    there, before = vehicles_in(out), len(server.requests)
    with_fleet(server)
    outcome = outrider("fleet", "tokens", "--out", out, "--continue")
    assert outcome.stdout == f"{len(FLEET) - len(there):,} tokens written to {out}.\n"
    assert vehicles_in(out) == list(FLEET)
    asked = {each for _, request in server.requests[before:] for each in getattr(request, "vehicle_ids", ())}
    assert asked == set(FLEET) - set(there)
    return outcome


def test_command_that_failed_says_what_is_in_the_file_and_is_continued(
    server: OperatorServer, out: Path, outrider: Outrider
) -> None:
    """Tokens that are handed out already stay good."""
    with_fleet(server, given, AWAY)
    failed = outrider("fleet", "tokens", "--out", out)
    assert failed.exit_code == 5
    assert failed.stderr.startswith(f"Tokens of 1,000 vehicles are in {out}. Go on by the same command with --continue")
    assert vehicles_in(out) == list(FLEET[:VEHICLES_PER_CALL])
    refused = outrider("fleet", "tokens", "--out", out)
    assert refused.exit_code == 2
    assert "--continue" in refused.stderr
    goes_on(server, out, outrider)
    again = outrider("fleet", "tokens", "v-0003", "--out", out, "--continue", "-o", "json")
    assert again.json == {"file": str(out), "token_count": 0}


@pytest.mark.usefixtures("in_the_foreground")
def test_ctrl_c_says_what_is_in_the_file(server: OperatorServer, out: Path, outrider: Outrider) -> None:
    """It is how a person ends what takes too long."""

    def pressed(request: CreateEnrollmentTokensRequest) -> CreateEnrollmentTokensResponse:
        os.kill(os.getpid(), signal.SIGINT)
        return given(request)

    with_fleet(server, given, pressed)
    outcome = outrider("fleet", "tokens", "--out", out)
    assert outcome.exit_code == 130
    assert outcome.stderr.startswith(f"Tokens of 1,000 vehicles are in {out}.")
    goes_on(server, out, outrider)


@pytest.mark.parametrize("cut", [1, 5, 30, 50])
def test_line_that_was_cut_short_is_made_anew(server: OperatorServer, out: Path, outrider: Outrider, cut: int) -> None:
    """A loss of power may leave half a line, or one without its end."""
    with_fleet(server, given, AWAY)
    outrider("fleet", "tokens", "--out", out)
    os.truncate(out, out.stat().st_size - cut)
    whole = [line for line in out.read_text().splitlines() if line.endswith("}")]
    assert len(whole) == VEHICLES_PER_CALL - (cut > 1)
    with_fleet(server)
    assert outrider("fleet", "tokens", "--out", out, "--continue").exit_code == 0
    assert out.read_text().splitlines()[: len(whole)] == whole
    assert sorted(vehicles_in(out)) == list(FLEET)


@pytest.mark.parametrize("content", ["vehicle_id,token\n", "no line of ours", '{"token": "x"}\n', "[]\n"])
def test_file_of_something_else_is_left_as_it_is(
    server: OperatorServer, out: Path, outrider: Outrider, content: str
) -> None:
    """Whoever mistypes a name loses nothing."""
    out.write_text(content)
    outcome = outrider("fleet", "tokens", "v-1", "--out", out, "--continue")
    assert outcome.exit_code == 2
    assert f"{out}:1: not a line of `fleet tokens`" in outcome.stderr
    assert out.read_text() == content
    assert not server.requests


def test_nothing_stays_where_no_token_was_made(server: OperatorServer, out: Path, outrider: Outrider) -> None:
    """The same command can be repeated."""
    server.will_answer("CreateEnrollmentTokens", AWAY)
    outcome = outrider("fleet", "tokens", "v-1", "--out", out)
    assert outcome.exit_code == 5
    assert "Go on" not in outcome.stderr
    assert not out.exists()
    missing = outrider("fleet", "tokens", "v-1", "--out", out.parent / "missing" / "tokens.jsonl")
    assert "cannot be written" in missing.stderr
    assert outrider("fleet", "tokens", "--continue").exit_code == 2


@pytest.mark.parametrize("form", ["table", "json"])
def test_tokens_on_stdout_are_shown_after_an_error_as_well(
    server: OperatorServer, data: Path, outrider: Outrider, form: str
) -> None:
    """They replaced earlier ones, and nobody else has them."""
    with_fleet(server, given, AWAY)
    outcome = outrider("fleet", "tokens", "-o", form)
    assert outcome.exit_code == 5
    shown = outcome.json["tokens"] if form == "json" else list(map(json.loads, outcome.stdout.splitlines()))
    assert [each["vehicle_id"] for each in shown] == list(FLEET[:VEHICLES_PER_CALL])
