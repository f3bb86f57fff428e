"""Rules about the files themselves: what must stand in them, and what must not."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from tests.repo.checkout import ROOT, sources, text_of, tracked

LINES_MAX = 400
LONG = {
    "tests/engine/test_progress.py": (460, "one step, every status under every event"),
}
"""Modules that may be longer, each with its own bound and the reason. To be emptied, not to be filled."""
BINARY = (".png", ".svg", ".ico", ".woff2")

# Character classes keep these from finding themselves.
REGISTRIES = re.compile(
    r"pypi[.]org|pythonhosted[.]org|index[-]url|npmjs[.]|docker[.]io|gh[c]r[.]io|proxy[.]golang|artifac[t]ory|/simpl[e]/"
)
MACHINES = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|workspace|mnt|srv)/[\w.]")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")


def text_files() -> list[str]:
    """Every tracked file that people can read."""
    return [name for name in tracked() if not name.endswith(BINARY)]


def found(pattern: re.Pattern[str], names: list[str]) -> list[str]:
    """Every place where a pattern stands, as `file:line: text`."""
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in names
        for number, line in enumerate(text_of(name).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_file_names_a_registry() -> None:
    """Whoever builds chooses where packages come from; an address of ours would be a dependency on it."""
    assert found(REGISTRIES, text_files()) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    """What works only where it was written does not work."""
    assert found(MACHINES, text_files()) == []


def test_nothing_is_left_to_do_in_comments() -> None:
    """What is not done stands in the README or in an issue, where people look."""
    assert found(UNFINISHED, text_files()) == []


def test_patterns_find_what_they_look_for() -> None:
    """A pattern that finds nothing would let everything pass."""
    assert REGISTRIES.search("https://pypi" + ".org/simple")
    assert REGISTRIES.search("--extra-index" + "-url")
    assert MACHINES.search("see /ho" + "me/ada/outrider")
    assert MACHINES.search('"/wo' + 'rk/main"')
    assert not MACHINES.search("docs/work/plan and orchestrator/home/x")
    assert UNFINISHED.search("# TO" + "DO: later")
    assert not UNFINISHED.search("todo list")


def test_generated_code_is_not_committed() -> None:
    """It is made from the .proto files at every install, and would drift."""
    assert [name for name in tracked() if name.startswith(("gen/", "build/")) or "_pb2" in name] == []


@pytest.mark.parametrize("name", sources(".py"))
def test_modules_stay_within_400_lines(name: str) -> None:
    """Beyond that a module has two jobs."""
    allowed = LONG[name][0] if name in LONG else LINES_MAX
    assert len(text_of(name).splitlines()) <= allowed


def test_the_list_of_long_modules_is_short_and_true() -> None:
    """A module that was cut leaves the list."""
    needed = {name for name in sources(".py") if len(text_of(name).splitlines()) > LINES_MAX}
    assert set(LONG) == needed
    assert len(LONG) <= 5


def requirements(name: str) -> Iterator[str]:
    """The requirements of a file, each in one line with its hashes."""
    yield from filter(None, text_of(name).replace("\\\n", " ").splitlines())


@pytest.mark.parametrize("name", [name for name in sources(".txt") if name.startswith("requirements/")])
def test_every_requirement_is_pinned_with_hashes_and_without_address(name: str) -> None:
    """A changed package must not install, wherever it comes from."""
    lines = list(requirements(name))
    form = re.compile(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert lines
    assert [line[:80] for line in lines if not form.fullmatch(re.sub(r"\s+", " ", line).strip())] == []
    assert "://" not in text_of(name)


def names_of(lines: list[str]) -> set[str]:
    """The packages that requirements name, spelt in one way."""
    return {re.split(r"[\[<>=; ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in lines if line.strip()}


def test_requirements_are_those_of_the_package() -> None:
    """`pip install` of the wheel and `make demo` must run the same things."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    written = names_of(text_of("requirements/run.in").splitlines())
    extra = project["optional-dependencies"]["judge"]
    assert written == names_of([*project["dependencies"], *extra])
    assert written <= names_of(list(requirements("requirements/run.txt")))
    assert len(written) <= 24, "about twenty direct dependencies"


def test_every_package_of_the_wheel_is_typed() -> None:
    """Without py.typed a type checker does not look at our types."""
    wheel = tomllib.loads(text_of("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    own = [name for name in wheel["packages"] if not name.startswith("gen/")]
    assert {"orchestrator", "signing", "agent_sim"} <= set(own)
    assert [name for name in own if f"{name}/py.typed" not in tracked()] == []
    assert "py.typed" in text_of("hatch_build.py"), "the generated package is typed as well"


def test_licence_is_apache_2() -> None:
    """The file and what the package says of itself."""
    licence = text_of("LICENSE")
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", licence)
    assert "END OF TERMS AND CONDITIONS" in licence
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_gate_is_the_readmes_test_command() -> None:
    """One gate for people and for machines."""
    assert re.search(r"^exec make test$", text_of(".ci/run"), flags=re.MULTILINE)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert "$ make test" in text_of("README.md")
