"""The command line as a whole: every command has help, every run ends in one line and a known code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import durations, words
from orchestrator.cli.errors import ExitCode
from orchestrator.cli.main import GROUPS, load
from tests.cli.answers import a_preview, a_rollout
from tests.cli.conftest import Outrider
from tests.cli.server import OperatorServer, make_authorities, make_operator

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that runs something, with its full name."""
    for name in GROUPS:
        yield from below(name, load(name))


def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command itself, or every one of a group, however deep it lies."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, one in command.commands.items():
        yield from below(f"{name} {word}", one)


COMMANDS = dict(commands())


@pytest.mark.parametrize("arguments", [[], ["--help"], *([*name.split(), "--help"] for name in COMMANDS)])
def test_help_works_everywhere(arguments: list[str], outrider: Outrider) -> None:
    """Whoever is lost types --help."""
    outcome = outrider(*arguments)
    assert outcome.exit_code == (0 if arguments else 2)
    assert "Usage: outrider" in outcome.stdout
    assert outcome.stderr == ""


def test_the_list_of_commands_agrees_with_their_modules() -> None:
    """The list loads no module, so that it can drift: each summary is the one in the group's own help."""
    for name, group in GROUPS.items():
        assert load(name).help.splitlines()[0].startswith(group.summary.rstrip(".")), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_documented(name: str) -> None:
    """docs/cli.md has a heading for each command, and names each of its own options there."""
    text = DOCS.read_text(encoding="utf-8")
    sections = re.split(r"^#{2,3} ", text, flags=re.MULTILINE)
    section = next((part for part in sections if part.startswith(f"`outrider {name}")), None)
    assert section is not None, f"docs/cli.md has no heading for `outrider {name}`"
    shared = next(part for part in sections if part.startswith("Shared options"))
    for option in options_of(COMMANDS[name]):
        assert f"`{option}" in section + shared, f"{option} of `outrider {name}` is not documented"


def test_the_docs_name_no_option_that_does_not_exist() -> None:
    """A renamed option must not live on in the guide."""
    real = {option for command in COMMANDS.values() for option in options_of(command)} | {"--help"}
    real |= {"--install-completion", "--show-completion", "--version"}
    assert set(re.findall(r"--[a-z][a-z-]*", DOCS.read_text(encoding="utf-8"))) - real == set()


def test_the_docs_list_every_exit_code() -> None:
    """Scripts rely on the table."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name.lower()) for code in ExitCode]


def options_of(command: Any) -> list[str]:
    """Long names of a command's options."""
    names = (name for item in command.params for name in (*item.opts, *item.secondary_opts))
    return [name for name in names if name.startswith("--") and name != "--help"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "error: No such command 'nonsense' -> see `outrider --help`"),
        (["rolout"], "error: No such command 'rolout'. Did you mean 'rollout'? -> see `outrider --help`"),
        (["rollout", "strat"], "-> see `outrider rollout --help`"),
        (["rollout", "watch"], "error: Missing argument 'ID' -> see `outrider rollout watch --help`"),
        (["rollout", "list", "--colour"], "error: No such option: --colour"),
        (["rollout", "list", "-o", "xml"], "-> see `outrider rollout list --help`"),
        (["rollout", "watch", "x", "--until", "never"], "-> see `outrider rollout watch --help`"),
        (["fleet", "list", "--limit", "-1"], "-> see `outrider fleet list --help`"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(arguments: list[str], line: str, outrider: Outrider) -> None:
    """The line says what is wrong and where to read on."""
    outcome = outrider(*arguments)
    assert outcome.exit_code == ExitCode.BAD_INPUT
    assert line in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.stdout == ""


def test_a_defect_shows_no_stack_trace_unless_asked(
    server: OperatorServer, data: Path, outrider: Outrider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person gets one line; whoever reports the defect gets the trace."""
    monkeypatch.setattr("orchestrator.cli.client.operators_address", lambda data: 1 / 0)
    monkeypatch.setattr("orchestrator.cli.session.operators_address", lambda data: 1 / 0)
    outcome = outrider("rollout", "list")
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("error: ZeroDivisionError: division by zero -> run it again with --debug")
    assert outcome.stderr.count("\n") == 1
    assert "Traceback" in outrider("rollout", "list", "--debug").stderr


@pytest.mark.parametrize(
    ("seconds", "words_"),
    [
        (0, "0 s"),
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_599, "59 min 59 s"),
        (3_600, "1 h"),
        (86_400 + 59, "1 d"),
        (3 * 86_400 + 4 * 3_600 + 1_800, "3 d 4 h"),
        (400 * 86_400, "400 d"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words_: str) -> None:
    """Two units are enough to decide by."""
    assert durations.in_words(seconds) == words_


def test_every_status_word_has_a_mark_besides_its_colour() -> None:
    """Whoever sees no colour must lose nothing: words differ anyway, and carry a mark."""
    assert all(mark for mark, _ in words.STYLES.values())
    assert words.status("held").plain == "▲ held"
    assert words.status("something_new").plain == "something_new"


def in_a_process(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command line as a process, without a terminal."""
    code = "from orchestrator.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        input=stdin or "",
        timeout=60,
        env=environment,
        check=False,
    )


@pytest.mark.processes
def test_a_process_says_nothing_but_its_answer(server: OperatorServer, data: Path, tmp_path: Path) -> None:
    """Log lines of gRPC stay off the screen, piped tables are not cut, and the exit code is the process's."""
    server.will_answer("GetRollout", a_rollout(last_reason="x" * 300))
    shown = in_a_process("rollout", "status", "spring-1-1-0", "--data", str(data))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "x" * 300 in shown.stdout
    make_authorities(tmp_path / "other")
    make_operator(tmp_path / "other", tmp_path / "stranger", "stranger")
    refused = in_a_process("rollout", "list", "--data", str(data), "--identity", str(tmp_path / "stranger"))
    assert refused.returncode == 5
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: ")


@pytest.mark.processes
def test_start_without_a_terminal_demands_yes(server: OperatorServer, data: Path) -> None:
    """A script that forgets --yes must not hang at a prompt; piping the name in is not a person confirming it."""
    (data / "plan.yaml").write_text("name: spring\nrelease: 1.1.0\n")
    server.will_answer("PreviewRollout", a_preview())
    outcome = in_a_process("rollout", "start", str(data / "plan.yaml"), "--data", str(data), stdin="spring\n")
    assert outcome.returncode == 2
    assert outcome.stderr.splitlines()[-1] == ("error: a person must confirm to start it -> add --yes if you are sure")
    assert not server.asked("CreateRollout")


@pytest.mark.processes
def test_help_loads_neither_grpc_nor_the_orchestrator() -> None:
    """What makes --help slow is what it imports; that can be counted, seconds cannot."""
    code = (
        "import sys; from orchestrator.cli import run; run(['--help']); "
        "heavy = {'grpc', 'redis', 'aiohttp', 'tuf', 'pydantic', 'cryptography'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_the_version_is_said_without_an_installation(outrider: Outrider) -> None:
    """The first thing that a report of a defect needs."""
    outcome = outrider("--version")
    assert (outcome.exit_code, outcome.stdout) == (0, f"outrider {version('outrider')}\n")
