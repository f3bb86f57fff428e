"""`outrider rollout watch`: what it shows, when it ends, and how it survives a lost connection."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from outrider.v1.rollout_pb2 import Rollout

from orchestrator.cli.client import Identity, OperatorClient
from orchestrator.cli.errors import UnreachableError
from orchestrator.cli.rollout_watch import RECONNECTS_MAX, Until, watch
from orchestrator.cli.screen import OutputFormat, Screen
from tests.cli.answers import a_gate, a_rollout, ago
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused

LOST = Refused(grpc.StatusCode.UNAVAILABLE, "connection lost", remedy="wait")


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: OperatorServer, data: Path) -> OperatorClient:
    identity = Identity.load(data / "operators" / "admin")
    return OperatorClient(
        address=server.address, identity=identity, timeout_s=5, wait=lambda _: None, note=lambda _: None
    )


def watch_it(client: OperatorClient, waits: list[float], until: Until = Until.OVER) -> Rollout:
    return watch(client, Screen(OutputFormat.TABLE), "rollouts/spring", until=until, wait=waits.append)


def test_without_a_terminal_each_change_is_one_line(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """A log of a pipeline shows what changed, not the same state every second."""
    same = a_rollout(fleet_time=ago(minutes=3))
    held = a_rollout("HELD", gate=a_gate("HOLD"))
    server.will_stream("WatchRollout", [same, a_rollout(fleet_time=ago(minutes=2)), held, a_rollout("COMPLETED")])
    outcome = outrider("rollout", "watch", "spring-1-1-0")
    assert outcome.exit_code == 0
    lines = outcome.stdout.splitlines()
    assert len(lines) == 3
    assert lines[0] == (
        "2031-04-05 06:04:08 UTC  spring-1-1-0  running | done 60/120 | active 15 | exposed 75 | failed 6 | silent 9 | "
        "eu early (2 of 3); us aging | gate proceed"
    )
    assert lines[1].endswith("gate hold by failures_evalue on eu/gen1: failed (2) of 25 exposed")
    assert "completed" in lines[2]


def test_json_is_one_document_a_line(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """`watch -o json` feeds a program line by line."""
    server.will_stream("WatchRollout", [a_rollout(), a_rollout("COMPLETED")])
    lines = outrider("rollout", "watch", "x", "-o", "json").stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith('{"name": "rollouts/spring-1-1-0"') for line in lines)


@pytest.mark.parametrize(
    ("until", "last"),
    [("held", "HELD"), ("halted", "HALTED"), ("completed", "COMPLETED"), ("over", "ABORTED"), ("over", "COMPLETED")],
)
def test_until_ends_the_watch_there(
    until: str, last: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A script waits for the state it needs, and no longer."""
    server.will_stream("WatchRollout", [a_rollout(), a_rollout(last), a_rollout("RUNNING", epoch=9)])
    outcome = outrider("rollout", "watch", "x", "--until", until)
    assert outcome.exit_code == 0
    assert len(outcome.stdout.splitlines()) == 2


def test_a_rollout_that_ends_otherwise_is_a_refusal(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Waiting for completion of what was aborted would wait for ever."""
    server.will_stream("WatchRollout", [a_rollout(), a_rollout("ABORTED")])
    outcome = outrider("rollout", "watch", "x", "--until", "completed")
    assert outcome.exit_code == 4
    assert outcome.stderr.startswith("error: rollout x ended as aborted, not as completed -> see why")


def test_a_lost_connection_is_opened_again(
    server: OperatorServer, client: OperatorClient, waits: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """A restart of the orchestrator must not blind whoever watches."""
    server.will_stream("WatchRollout", [a_rollout(), LOST], [LOST], [a_rollout("COMPLETED")])
    assert watch_it(client, waits).status == a_rollout("COMPLETED").status
    assert waits == [1.0, 2.0]
    assert capsys.readouterr().err.count("trying again") == 2


def test_a_server_that_stays_away_ends_the_watch(
    server: OperatorServer, client: OperatorClient, waits: list[float]
) -> None:
    """About a minute is enough to know."""
    server.will_stream("WatchRollout", [LOST])
    with pytest.raises(UnreachableError, match="connection lost"):
        watch_it(client, waits)
    assert len(waits) == RECONNECTS_MAX
    assert 50 <= sum(waits) <= 90


def test_a_stream_that_ends_early_is_followed_by_the_next(
    server: OperatorServer, client: OperatorClient, waits: list[float]
) -> None:
    """A draining server ends its streams politely; the rollout goes on."""
    server.will_stream("WatchRollout", [a_rollout()], [a_rollout("COMPLETED")])
    assert watch_it(client, waits).status == a_rollout("COMPLETED").status
    assert len(server.asked("WatchRollout")) == 2
    assert waits == [1.0]


def test_an_unknown_rollout_is_not_found_at_once(server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Only a lost connection is worth repeating."""
    server.will_stream("WatchRollout", [Refused(grpc.StatusCode.NOT_FOUND, "no rollout x")])
    assert outrider("rollout", "watch", "x").exit_code == 3
    assert len(server.asked("WatchRollout")) == 1
