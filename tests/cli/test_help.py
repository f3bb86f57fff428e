"""Help that helps: examples that work, completion in every shell, and every exit code by the way that leads to it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from outrider.v1.rollout_pb2 import ListRolloutsResponse
from rich.text import Text
from typer.main import get_command

from orchestrator.cli.errors import ExitCode
from orchestrator.cli.examples import EXAMPLES
from orchestrator.cli.main import EPILOG, build
from tests.cli.answers import a_rollout
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, Refused
from tests.cli.test_main import COMMANDS

SHELLS = ("bash", "zsh", "fish")
CODE = "from orchestrator.cli import main; main()"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example(name: str, outrider: Outrider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most people read the example and nothing else."""
    monkeypatch.setenv("COLUMNS", "300")
    shown = outrider(*name.split(), "--help").stdout
    assert EXAMPLES[name]
    for line in EXAMPLES[name]:
        assert f"$ {line}" in shown


@pytest.mark.parametrize("line", [line for name in COMMANDS for line in EXAMPLES.get(name, ())])
def test_examples_are_command_lines_that_parse(line: str) -> None:
    """An example with an option that was renamed sends people astray."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "outrider"
    command: Any = get_command(build())
    context = command.make_context(program, arguments, resilient_parsing=False)
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    assert context.command_path.removeprefix("outrider ") in COMMANDS


def test_root_help_names_every_exit_code(outrider: Outrider) -> None:
    """Whoever writes a script looks there first."""
    shown = " ".join(outrider("--help").stdout.split())
    for code in ExitCode:
        assert f"{code.value} {code.name.lower().replace('_', ' ')}" in Text.from_markup(EPILOG).plain
        assert f"{code.value} {code.name.lower().replace('_', ' ')}" in shown


def ends_by_a_defect(server: OperatorServer, outrider: Outrider) -> int:
    server.will_answer("ListRollouts", Refused(grpc.StatusCode.INTERNAL, "broken"))
    return outrider("rollout", "list").exit_code


def ends_out_of_reach(server: OperatorServer, outrider: Outrider) -> int:
    return outrider("rollout", "list", "--server", "127.0.0.1:1", "--timeout", "1").exit_code


def refused_as(code: grpc.StatusCode) -> Callable[[OperatorServer, Outrider], int]:
    def end(server: OperatorServer, outrider: Outrider) -> int:
        server.will_answer("PauseRollout", Refused(code, "no"))
        return outrider("rollout", "pause", "x", "--reason", "y").exit_code

    return end


def ends_well(server: OperatorServer, outrider: Outrider) -> int:
    server.will_answer("ListRollouts", ListRolloutsResponse())
    return outrider("rollout", "list").exit_code


def ends_by_ctrl_c(server: OperatorServer, outrider: Outrider) -> int:
    server.will_stream("WatchRollout", [a_rollout(), lambda _: (os.kill(process.pid, signal.SIGINT), a_rollout())[1]])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, "rollout", "watch", "x"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return process.wait(timeout=60)


ENDS: dict[ExitCode, Callable[[OperatorServer, Outrider], int]] = {
    ExitCode.OK: ends_well,
    ExitCode.FAILED: ends_by_a_defect,
    ExitCode.BAD_INPUT: lambda server, outrider: outrider("rollout", "pause", "x").exit_code,
    ExitCode.NOT_FOUND: refused_as(grpc.StatusCode.NOT_FOUND),
    ExitCode.REFUSED: refused_as(grpc.StatusCode.FAILED_PRECONDITION),
    ExitCode.UNREACHABLE: ends_out_of_reach,
    ExitCode.FORBIDDEN: refused_as(grpc.StatusCode.PERMISSION_DENIED),
    ExitCode.INTERRUPTED: ends_by_ctrl_c,
}


@pytest.mark.parametrize("code", ExitCode, ids=lambda code: code.name.lower())
def test_every_exit_code_is_reached(code: ExitCode, server: OperatorServer, data: Path, outrider: Outrider) -> None:
    """Each documented code is one that a script can really see."""
    assert ENDS[code](server, outrider) == code


def completed(words: str, shell: str = "bash", **environment: str) -> list[str]:
    """What the shell is offered for a command line."""
    asked = {
        "_OUTRIDER_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    asked |= {"_TYPER_COMPLETE_ARGS": words}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **asked, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return [word for word in done.stdout.split("\n") if word]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script_and_completes_commands(shell: str) -> None:
    """`--show-completion` prints the script; the script asks for the words."""
    asked = {"_OUTRIDER_COMPLETE": f"source_{shell}"}
    command = [sys.executable, "-c", CODE]
    script = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True).stdout
    assert "_OUTRIDER_COMPLETE=complete_" in script
    offered = "\n".join(completed("outrider rollout a", shell, _TYPER_COMPLETE_FISH_ACTION="get-args"))
    assert "abort" in offered
    assert "approve" in offered
    assert "pause" not in offered


def test_rollout_ids_are_completed_from_the_server(server: OperatorServer, data: Path) -> None:
    """Ids are long, and a wrong one stops the wrong rollout."""
    names = ["rollouts/spring-1", "rollouts/spring-2", "rollouts/autumn-1"]
    server.will_answer("ListRollouts", ListRolloutsResponse(rollouts=[a_rollout(name=name) for name in names]))
    assert completed(f"outrider --data {data} rollout abort spr") == ["spring-1", "spring-2"]


def test_completion_without_a_server_offers_nothing_and_says_nothing(data: Path) -> None:
    """Pressing tab must not print an error into the command line."""
    assert completed("outrider --server 127.0.0.1:1 rollout abort spr") == []
    assert completed("outrider --data nowhere rollout abort spr") == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_script_that_is_shown(tmp_path: Path) -> None:
    """The script is what people install: a real shell must be able to use it."""
    asked = {"_OUTRIDER_COMPLETE": "source_bash"}
    command = [sys.executable, "-c", CODE]
    script = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=True).stdout
    (tmp_path / "outrider").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{CODE}" "$@"\n')
    (tmp_path / "outrider").chmod(0o755)
    question = 'COMP_WORDS=(outrider rollout wat); COMP_CWORD=2; _outrider_completion outrider; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{question}"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "watch"
