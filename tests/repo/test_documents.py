"""What the documents name exists: links, files, tests, commands, options, targets, metrics, methods."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from typer.main import get_command

from agent_sim.cli import app as simulator
from orchestrator.cli.main import GROUPS, load
from orchestrator.telemetry import Metrics
from tests.repo.checkout import ROOT, anchors, console_lines, documents, sources, text_of, tracked

LIBRARIES = {"outrider_v3"}
"""Names that begin like a metric and are none."""
PACKAGES = ("orchestrator/", "signing/", "agent_sim/")
PROSE_STOPS = {"the"}
"""Words after `outrider` in backticks that no command has, because a sentence goes on."""


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of both programs, by the words that call it."""
    for program, groups in (("outrider", {name: load(name) for name in GROUPS}), ("outrider-sim", None)):
        loaded = groups if groups is not None else get_command(simulator).commands  # type: ignore[attr-defined]
        for name, command in loaded.items():
            yield from below((program, name), command)


def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command by its words; of a group, itself as None and every command in it, however deep."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    yield words, None
    for verb, each in command.commands.items():
        yield from below((*words, verb), each)


COMMANDS = dict(commands())
SHARED_OPTIONS = {"--data", "--as", "--server", "--identity", "--timeout", "--output", "-o", "--debug", "--help"}


def called(words: list[str]) -> tuple[str, ...]:
    """The words of a command line that choose the command; options and their values are not looked at."""
    plain = [word for word in words if not word.startswith("-")]
    return next((words for length in (4, 3) if (words := tuple(plain[:length])) in COMMANDS), tuple(plain[:2]))


def typed() -> list[tuple[str, str]]:
    """Every call of `outrider` or `outrider-sim` that a document tells people to type, with the document."""
    found = []
    for name in documents():
        for line in console_lines(name):
            for part in re.split(r"\s(?:&&|\||&)\s?|;", line.partition(" #")[0]):
                if re.match(r"\s*outrider(-sim)?\s", part):
                    found.append((name, part.strip()))  # noqa: PERF401 - one level of comprehension less
    return found


def spoken() -> list[tuple[str, str]]:
    """Every call of either program in backticks in running text, with the document."""
    return [
        (name, call)
        for name in documents()
        for call in re.findall(r"`(outrider(?:-sim)? [a-z][^`\n]*)`", text_of(name))
        if call.split()[1] not in PROSE_STOPS
    ]


@pytest.mark.parametrize("name", documents())
def test_every_relative_link_leads_somewhere(name: str) -> None:
    """A reader who follows a link must not end in nothing; anchors included."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        document = place.resolve().relative_to(ROOT.resolve()).as_posix()
        if not place.exists() or (anchor and anchor not in anchors(document)):
            broken.append(target)
    assert broken == []


def test_every_make_target_that_is_named_exists() -> None:
    """`make` with a target of yesterday is the first thing a newcomer would see fail."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), flags=re.MULTILINE))
    named = {
        target
        for name in documents()
        for target in [
            *re.findall(r"`make ([a-z-]+)", text_of(name)),
            *(line.split()[1] for line in console_lines(name) if line.startswith("make ")),
        ]
    }
    assert {"demo", "test"} <= named
    assert named - targets == set()


@pytest.mark.parametrize(("name", "call"), typed() + spoken())
def test_every_command_that_is_named_exists(name: str, call: str) -> None:
    """A command of the documents is copied as it stands."""
    words = shlex.split(call.replace("$(", "(").replace("...", ""), comments=True)
    assert called(words) in COMMANDS, f"{name}: {call}"


@pytest.mark.parametrize(("name", "call"), typed())
def test_every_option_that_is_typed_exists(name: str, call: str) -> None:
    """An option is looked for on that very command, not on any."""
    words = shlex.split(call)
    command = COMMANDS[called(words)]
    own = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given - own - SHARED_OPTIONS == set(), f"{name}: {call}"


def test_every_metric_that_is_named_exists() -> None:
    """Who writes an alert copies the name."""
    registry = CollectorRegistry()
    Metrics(registry)
    real = {sample for family in registry.collect() for sample in (family.name, f"{family.name}_total")}
    named = {word for name in documents() for word in re.findall(r"\boutrider_[a-z0-9_]+\b", text_of(name))}
    assert named - LIBRARIES - real == set()
    assert named & real, "no document names any metric"


def test_every_test_that_is_named_exists() -> None:
    """The promises point to tests; a renamed one would leave a promise without proof."""
    named = {
        reference for name in documents() for reference in re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", text_of(name))
    }
    missing = [
        f"{path}::{test}"
        for path, test in sorted(named)
        if path not in tracked() or not re.search(rf"^(?:async )?def {test}\(", text_of(path), flags=re.MULTILINE)
    ]
    assert missing == []
    assert len(named) >= 8, "each of the eight promises names a test"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_source_file_that_is_named_exists(name: str) -> None:
    """A file may be named by the end of its path, as people do."""
    named = set(re.findall(r"`([\w./-]+\.(?:py|lua|proto|yaml|toml|in))[`:]", text_of(name)))
    made = {"outrider.toml", "plan.yaml", "release.yaml"}
    missing = [path for path in sorted(named - made) if not any(f"/{file}".endswith(f"/{path}") for file in tracked())]
    assert missing == []


def test_every_method_that_the_architecture_names_exists() -> None:
    """The way of a check-in is read beside the code."""
    members = {member for name in sources(".py") if name.startswith(PACKAGES) for member in members_of(text_of(name))}
    rpcs = set(re.findall(r"rpc (\w+)\(", "".join(map(text_of, sources(".proto")))))
    named = set(re.findall(r"\b([A-Z][A-Za-z]+)\.(\w+)\b", text_of("ARCHITECTURE.md")))
    methods = {(holder, member) for holder, member in named if holder.upper() != holder}
    assert {("Evaluator", "recover"), ("PermitDesk", "authorize"), ("VehicleServicer", "CheckIn")} <= methods
    assert {pair for pair in methods if pair not in members and pair[1] not in rpcs} == set()


def members_of(source: str) -> set[tuple[str, str]]:
    """Class and member for every method and every field that a module defines."""
    found = set()
    for holder in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(holder):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add((holder.name, node.name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add((holder.name, node.target.id))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add((holder.name, node.attr))
    return found


def test_decisions_are_numbered_without_holes_and_listed() -> None:
    """A record is named by its number for ever."""
    records = [name.removeprefix("docs/decisions/") for name in documents() if re.match(r"docs/decisions/\d", name)]
    assert [int(name[:4]) for name in records] == list(range(1, len(records) + 1))
    index = text_of("docs/decisions/README.md")
    for record in records:
        text = text_of(f"docs/decisions/{record}")
        title = text.splitlines()[0].removeprefix("# ")
        assert title.startswith(f"{record[:4]} "), record
        assert f"[{title}]({record})" in index, record
        assert all(f"\n## {part}\n" in text for part in ("Context", "Options", "Outcome")), record


def test_index_names_every_guide() -> None:
    """A guide that nothing points to is not found."""
    guides = [name for name in documents() if re.fullmatch(r"docs/[a-z-]+\.md", name)]
    assert guides
    assert [name for name in guides if f"]({name.removeprefix('docs/')})" not in text_of("docs/README.md")] == []


def test_changelog_has_an_entry_for_this_version() -> None:
    """Who upgrades reads it first."""
    version = re.findall(r'^version = "(.+)"$', text_of("pyproject.toml"), flags=re.MULTILINE)[0]
    headings = re.findall(r"^## \[(.+?)\]", text_of("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]
