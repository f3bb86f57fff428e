"""A server with canned answers, a data folder that leads to it, and a way to run a command line."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import run
from tests.cli.server import OperatorServer, make_authorities, make_operator, write_endpoints

GRPC_LOG = re.compile(r"^[IWEF]\d{4} .*\n", re.MULTILINE)
"""What gRPC's core logs in this process, where the server of the test runs as well."""


@dataclass(frozen=True)
class Outcome:
    """How one command line ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


Outrider = Callable[..., Outcome]


@pytest.fixture
def in_the_foreground() -> Iterator[None]:
    """Whoever runs tests in the background has Ctrl-C ignored, and so would a watch, here or in another process."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authorities")
    make_authorities(folder)
    return folder


@pytest.fixture
def server(authorities: Path) -> Iterator[OperatorServer]:
    server = OperatorServer()
    running = server.start(authorities)
    yield server
    running.stop(None).wait()


@pytest.fixture
def data(tmp_path: Path, authorities: Path, server: OperatorServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose admin is known to the server; the default of every command."""
    data = tmp_path / "data"
    make_operator(authorities, data / "operators" / "admin", "admin")
    write_endpoints(data, server.address)
    monkeypatch.setenv("OUTRIDER_DATA", str(data))
    monkeypatch.chdir(tmp_path)
    return data


@pytest.fixture
def outrider(capfd: pytest.CaptureFixture[str]) -> Outrider:
    """Runs a command line in this process."""

    def run_it(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        exit_code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Outcome(int(exit_code), captured.out, GRPC_LOG.sub("", captured.err))

    return run_it
