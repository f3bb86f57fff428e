"""How the command line finds, believes and outwaits a server."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import pytest
from outrider.v1.rollout_pb2 import ListRolloutsRequest, ListRolloutsResponse

from orchestrator.cli.client import Identity, OperatorClient, fleet_time
from orchestrator.cli.errors import CliError, UnreachableError
from tests.cli.answers import a_rollout
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, OperatorServer, Refused, make_authorities, make_operator, write_endpoints
from tests.ports import HOST, free_port


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: OperatorServer, data: Path, waits: list[float]) -> OperatorClient:
    identity = Identity.load(data / "operators" / "admin")
    return OperatorClient(
        address=server.address, identity=identity, timeout_s=5, wait=waits.append, note=lambda words: None
    )


def test_no_server_is_one_line_and_its_own_exit_code(data: Path, outrider: Outrider) -> None:
    """The most common mishap names its remedy."""
    address = f"{HOST}:{free_port()}"
    outcome = outrider("rollout", "list", "--server", address)
    assert outcome.exit_code == 5
    assert outcome.stderr == (
        f"error: cannot reach the orchestrator at {address} -> start it with `outrider serve`, "
        "or name another --server\n"
    )


def test_a_folder_that_nobody_serves_says_how_to_serve_it(data: Path, outrider: Outrider) -> None:
    """Between `keys init` and `serve` there is no endpoints.json."""
    (data / "endpoints.json").unlink()
    outcome = outrider("rollout", "list")
    assert outcome.exit_code == 5
    assert f"start it: `outrider serve --data {data}`" in outcome.stderr


def test_a_missing_data_folder_is_not_found(data: Path, outrider: Outrider) -> None:
    """A typing error in --data is not a server that is down."""
    outcome = outrider("rollout", "list", "--data", "nowhere")
    assert outcome.exit_code == 3
    assert "there is no data folder nowhere" in outcome.stderr


def test_a_damaged_endpoints_file_is_said(data: Path, outrider: Outrider) -> None:
    """A half-written file must not end in a stack trace."""
    (data / "endpoints.json").write_text("[]", encoding="utf-8")
    outcome = outrider("rollout", "list")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith(f"error: {data}/endpoints.json cannot be used")
    assert outcome.stderr.count("\n") == 1


def test_a_missing_identity_names_the_file(data: Path, outrider: Outrider) -> None:
    """`--as` with a name that nobody issued."""
    outcome = outrider("--as", "mallory", "rollout", "list")
    assert outcome.exit_code == 3
    assert f"{data}/operators/mallory/operator.crt" in outcome.stderr


@pytest.mark.parametrize("name", ["operator.crt", "operator.key", "server-ca.pem"])
@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\n", "another key"])
def test_a_damaged_identity_is_bad_input(
    name: str, content: bytes | str, data: Path, authorities: Path, outrider: Outrider
) -> None:
    """GRPC aborts the whole process on some of these: they are found before it sees them."""
    make_operator(authorities, data / "operators" / "eve", "eve")
    if isinstance(content, str):
        content = (data / "operators" / "eve" / "operator.key").read_bytes()
    (data / "operators" / "admin" / name).write_bytes(content)
    outcome = outrider("rollout", "list")
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith(f"error: the identity in {data}/operators/admin cannot be used")


@pytest.mark.parametrize("arguments", [("--as", "../admin"), ("--as", "admin", "--identity", ".")])
def test_odd_identities_are_bad_input(arguments: tuple[str, ...], data: Path, outrider: Outrider) -> None:
    """A name is not a path, and two identities are one too many."""
    assert outrider("rollout", "list", *arguments).exit_code == 2


def test_another_operator_can_be_chosen(
    server: OperatorServer, data: Path, authorities: Path, outrider: Outrider
) -> None:
    """A person has more than one hat."""
    make_operator(authorities, data / "operators" / "eve", "eve", "viewer")
    server.will_answer("ListRollouts", ListRolloutsResponse(rollouts=[a_rollout()]))
    assert outrider("rollout", "list", "--as", "eve").exit_code == 0
    assert outrider("rollout", "list", "--identity", data / "operators" / "eve").exit_code == 0


def test_an_identity_of_another_authority_is_turned_away(
    server: OperatorServer, data: Path, tmp_path: Path, outrider: Outrider
) -> None:
    """A certificate of another installation opens nothing here, and the line says what is wrong."""
    other = tmp_path / "other-authorities"
    make_authorities(other)
    make_operator(other, tmp_path / "stranger", "stranger")
    right_ca = (data / "operators" / "admin" / "server-ca.pem").read_bytes()
    (tmp_path / "stranger" / "server-ca.pem").write_bytes(right_ca)
    outcome = outrider("rollout", "list", "--identity", tmp_path / "stranger")
    assert outcome.exit_code == 5
    assert outcome.stderr.startswith(f"error: the server at {server.address} closed the connection at once -> see")
    assert not server.requests


def test_a_server_of_another_authority_is_not_believed(
    server: OperatorServer, data: Path, tmp_path: Path, outrider: Outrider
) -> None:
    """Whoever answers on that port must prove to be ours before it hears anything."""
    other = tmp_path / "other-authorities"
    make_authorities(other)
    make_operator(other, tmp_path / "stranger", "stranger")
    outcome = outrider("rollout", "list", "--identity", tmp_path / "stranger")
    assert outcome.exit_code == 5
    assert "did not prove who it is" in outcome.stderr
    assert not server.requests


def test_a_role_that_is_too_low_says_how_to_get_another(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A viewer who wants to pause needs a colleague or a role."""
    server.will_answer("PauseRollout", Refused(grpc.StatusCode.PERMISSION_DENIED, "eve is a viewer"))
    outcome = outrider("rollout", "pause", "x", "--reason", "y")
    assert outcome.exit_code == 6
    assert "--as NAME" in outcome.stderr


def test_a_call_waits_and_repeats_as_the_server_asks(
    server: OperatorServer, client: OperatorClient, waits: list[float]
) -> None:
    """RetryInfo is honoured: the same request goes out again after the wait that was asked for."""
    busy = Refused(grpc.StatusCode.UNAVAILABLE, "busy", retry_after_s=2.5)
    server.will_answer("ListRollouts", busy, busy, ListRolloutsResponse())
    client.ask(client.rollouts.ListRollouts, ListRolloutsRequest(page_size=7))
    assert waits == [2.5, 2.5]
    assert [request.page_size for request in server.asked("ListRollouts")] == [7, 7, 7]


def test_a_call_gives_up_after_a_few_repetitions(
    server: OperatorServer, client: OperatorClient, waits: list[float]
) -> None:
    """A person is not kept waiting for ever."""
    server.will_answer("ListRollouts", Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after_s=1))
    with pytest.raises(UnreachableError, match="full"):
        client.ask(client.rollouts.ListRollouts, ListRolloutsRequest())
    assert waits == [1, 1, 1]


def test_a_refusal_without_retry_info_is_not_repeated(
    server: OperatorServer, client: OperatorClient, waits: list[float]
) -> None:
    """Repeating what was refused for good only delays the answer."""
    server.will_answer("ListRollouts", Refused(grpc.StatusCode.FAILED_PRECONDITION, "no"))
    with pytest.raises(CliError, match="no"):
        client.ask(client.rollouts.ListRollouts, ListRolloutsRequest())
    assert (waits, len(server.requests)) == ([], 1)


def test_every_call_has_a_deadline(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A server that hangs must not hang the person."""

    def hang(request: ListRolloutsRequest) -> ListRolloutsResponse:
        released.wait(10)
        return ListRolloutsResponse()

    released = threading.Event()
    server.will_answer("ListRollouts", hang)
    outcome = outrider("rollout", "list", "--timeout", "0.2")
    released.set()
    assert outcome.exit_code == 5
    assert "no answer from" in outcome.stderr
    assert "--timeout" in outcome.stderr


def test_fleet_time_rides_on_every_answer(server: OperatorServer, client: OperatorClient) -> None:
    """Signatures are dated by fleet time, in whole seconds."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    assert fleet_time(client) == FLEET_TIME


def test_a_server_that_does_not_tell_fleet_time_is_named(server: OperatorServer, client: OperatorClient) -> None:
    """Signing by a guessed date could make every vehicle refuse the metadata."""
    server.tells_fleet_time = False
    server.will_answer("ListRollouts", ListRolloutsResponse())
    with pytest.raises(CliError, match="does not say the fleet time"):
        fleet_time(client)


def test_shared_options_work_before_and_after_the_command_and_after_wins(
    server: OperatorServer, data: Path, tmp_path: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody should have to remember where an option belongs."""
    server.will_answer("ListRollouts", ListRolloutsResponse(rollouts=[a_rollout()]))
    monkeypatch.setenv("OUTRIDER_DATA", "nowhere")
    assert outrider("rollout", "list").exit_code == 3
    assert outrider("--data", data, "rollout", "list").exit_code == 0
    assert outrider("rollout", "list", "--data", data).exit_code == 0
    assert outrider("--data", "nowhere", "rollout", "list", "--data", data).exit_code == 0
    assert outrider("--output", "json", "rollout", "list", "--data", data, "-o", "table").stdout[0] != "{"


def test_the_default_data_folder_stands_beside_the_person(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any option the command line looks into ./outrider-data."""
    monkeypatch.delenv("OUTRIDER_DATA")
    data.rename(data.parent / "outrider-data")
    write_endpoints(data.parent / "outrider-data", server.address)
    server.will_answer("ListRollouts", ListRolloutsResponse())
    assert outrider("rollout", "list").exit_code == 0
