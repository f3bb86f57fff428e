"""What needs a real terminal: the live page of a watch, the prompt of a start, and ending by a signal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from outrider.v1.case_pb2 import ListCasesResponse
from outrider.v1.fleet_pb2 import ImportVehiclesRequest, ImportVehiclesResponse
from outrider.v1.ledger_pb2 import ListLedgerEntriesResponse
from outrider.v1.rollout_pb2 import ListRolloutsResponse, Rollout, WatchRolloutRequest

from orchestrator.cli.fleet_parts import PART_BYTES_MAX
from tests.cli.answers import a_preview, a_rollout
from tests.cli.server import OperatorServer

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("in_the_foreground")]

CODE = "from orchestrator.cli import main; main()"


def at_a_terminal(
    *arguments: str, typed: str = "", stdout: IO[str] | None = None, seen: Callable[[str], None] = lambda shown: None
) -> tuple[int, str]:
    """Run the command line at a terminal of its own; exit code and all that it showed.

    Args:
        arguments: without the program's name.
        typed: at its keyboard.
        stdout: where answers go instead.
        seen: told what was shown so far, each time that there is more.
    """
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"}
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments], stdin=theirs, stdout=stdout or theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            # Linux ends the reading side so when the last writer is gone.
            break
        if not chunk:
            break
        shown += chunk
        seen(shown.decode(errors="replace"))
    os.close(ours)
    return process.wait(30), shown.decode()


def test_watch_draws_on_the_second_screen_and_leaves_the_end_on_the_first(server: OperatorServer, data: Path) -> None:
    """What stood on the terminal is there again afterwards, with the last state and the next step below it."""
    server.will_stream("WatchRollout", [a_rollout(), a_rollout("COMPLETED")])
    server.will_answer("ListCases", ListCasesResponse(open_count=3))
    server.will_answer("ListLedgerEntries", ListLedgerEntriesResponse())
    exit_code, shown = at_a_terminal("rollout", "watch", "spring-1-1-0", "--data", str(data))
    assert exit_code == 0
    assert shown.count("\x1b[?1049h") == 1
    page, _, after = shown.partition("\x1b[?1049l")
    assert "▶ running" in page
    assert "\x1b[32m" in page
    assert "✓ completed" in after
    assert "Next: outrider case list --rollout spring-1-1-0" in after


@pytest.mark.parametrize(("typed", "started"), [("spring-1-1-0", True), ("yes", False)])
def test_start_asks_for_the_name(typed: str, started: bool, server: OperatorServer, data: Path) -> None:
    """Typing the name makes a person read it; anything else starts nothing."""
    (data / "plan.yaml").write_text("name: spring-1-1-0\nrelease: 1.1.0\n")
    server.will_answer("PreviewRollout", a_preview())
    server.will_answer("CreateRollout", a_rollout())
    exit_code, shown = at_a_terminal(
        "rollout", "start", str(data / "plan.yaml"), "--data", str(data), typed=f"{typed}\n"
    )
    assert "Type spring-1-1-0 to start it" in shown
    assert exit_code == (0 if started else 2)
    assert len(server.asked("CreateRollout")) == started


@pytest.mark.parametrize("form", ["table", "json"])
def test_import_says_how_far_it_is_beside_its_answer(server: OperatorServer, data: Path, form: str) -> None:
    """A million vehicles take minutes; and whoever reads the answer must not find a bar in it."""
    rows = [f"v-{number:06d},{'S' * 90}\n" for number in range(3 * PART_BYTES_MAX // 2 // 100)]
    (data / "fleet.csv").write_text("".join(["vehicle_id,model\n", *rows]))
    half_way, waited = threading.Event(), list[bool]()

    def answer(request: ImportVehiclesRequest) -> ImportVehiclesResponse:
        # Two parts are checked, then imported; before the third call half of the work is done.
        if not request.validate_only and not waited:
            waited.append(half_way.wait(30))
        return ImportVehiclesResponse(added_count=1)

    def look(shown: str) -> None:
        if "Importing fleet.csv" in shown and " 50%" in shown:
            half_way.set()

    server.will_answer("ImportVehicles", answer)
    with (data / "answer").open("w+") as stdout:
        arguments = ("fleet", "import", str(data / "fleet.csv"), "--data", str(data), "-o", form)
        exit_code, shown = at_a_terminal(*arguments, stdout=stdout, seen=look)
        stdout.seek(0)
        said = stdout.read()
    assert exit_code == 0
    assert len(server.asked("ImportVehicles")) == 4
    assert waited == [True], shown
    assert "Checking fleet.csv" in shown
    assert "100%" in shown
    assert json.loads(said)["added_count"] == 2 if form == "json" else said.startswith("Imported fleet.csv.\n")


def test_ctrl_c_ends_a_watch_and_says_that_the_rollout_goes_on(server: OperatorServer, data: Path) -> None:
    """Whoever stops watching must not believe that they stopped the rollout."""
    released = threading.Event()

    def hang(request: WatchRolloutRequest) -> Rollout:
        released.wait(30)
        return a_rollout()

    server.will_stream("WatchRollout", [a_rollout(name="rollouts/spring"), hang])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "rollout", "watch", "spring", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "running" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        released.set()
        process.kill()
    assert process.returncode == 130
    assert said.startswith("Stopped watching; rollout spring goes on: running | done 60/120 | ")
    assert said.endswith('Next: outrider rollout status spring, or outrider rollout pause spring --reason "..."\n')


def test_renew_every_goes_on_until_a_signal(server: OperatorServer, data: Path, tmp_path: Path) -> None:
    """A service manager ends the job by SIGTERM, and a failed pass does not end it."""
    server.will_answer("ListRollouts", ListRolloutsResponse())
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "image-repo", "renew", "--every", "0.1", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = [process.stderr.readline() for _ in range(2)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert all(line.startswith("renewal failed, next try in 0.1 s: there is no Image repository") for line in lines)
    assert process.returncode == 0
