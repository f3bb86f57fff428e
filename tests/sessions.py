"""Recorded terminal sessions of the guide: runs what stands behind each `$` against a real installation.

A session is a Markdown page in docs/sessions. Its `console` blocks are one shell's work from top to bottom, in a folder
of its own. A page that says `<!-- session: prepared SCENARIO -->` starts with an installation that serves, a fleet that
has enrolled, and releases 1.1.0, 1.1.1 and 1.2.0; one that says `<!-- session: bare SCENARIO -->`
with nothing but $SCENARIO.

Owns running, comparing and writing. What differs between two good runs (times, durations, counts, hashes, lengths of
bars, which vehicle was first) is made equal before comparing; words, order, ids of rollouts, versions, signs are not.

    python -m tests.sessions          # compares every page, says what differs
    python -m tests.sessions --write  # records every page anew
"""

from __future__ import annotations

import difflib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "sessions"
SCENARIOS = ROOT / "examples" / "scenarios"
BIN = Path(sys.executable).parent
HEAD = re.compile(r"<!-- session: (bare|prepared) ([\w-]+) -->")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ENDING_S = 30.0

PREPARE = r"""
outrider keys init
outrider serve --scale 200 2> serve.log &
until [ -e outrider-data/endpoints.json ]; do sleep 0.2; done
outrider image-repo renew --every 30 > renew.log 2>&1 &
outrider-sim fleet $SCENARIO --out fleet && outrider fleet import fleet/fleet.csv
outrider fleet tokens --out tokens.jsonl
outrider-sim run $SCENARIO --endpoints outrider-data/endpoints.json --provisioning outrider-data/provisioning \
  --fleet fleet --tokens tokens.jsonl --report simulator.json > fleet.log 2>&1 &
for version in 1.1.0 1.1.1 1.2.0; do
  counter=100$(echo $version | cut -d. -f2)0$(echo $version | cut -d. -f3)0
  for unit in gw brake; do head -c 4096 /dev/urandom > $unit-$version.img; done
  cat > release-$version.yaml <<END
version: $version
images:
  - {file: gw-$version.img, hardware_id: acme-gw-1, release_counter: $counter, path: acme/gw-1-$version.img}
  - {file: brake-$version.img, hardware_id: acme-brake-1, release_counter: $counter, path: acme/brake-1-$version.img}
END
  outrider release publish release-$version.yaml --without-evidence "trying it out"
done
while outrider fleet list -o json | grep -q '"enrolled": false'; do sleep 0.5; done
"""
"""What a prepared session finds done."""

ALIKE: Sequence[tuple[str, str]] = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z|\+00:00)?", "TIME"),
    (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d\d \w{3} \d\d:\d\d", "TIME"),
    (r"\b[0-9a-f]{16,}\b", "HASH"),
    (r"\([0-9a-f]{8}\)", "(KEY)"),
    (r"(?<![\w.-])\d+ (d|h|min|s)\b( \d+ (h|min|s)\b)?", "SPAN"),
    (r"\bsim-\d{6}\b", "VEHICLE"),
    (r"\b(all|[a-z]+/gen\d)(?=: \d)|(?<= on )(all|[a-z]+/gen\d)\b", "SCOPE"),
    (r"(?<![\w.-])\d[\d,]*(\.\d+)?(e[+-]\d+)?(?![\w-]|\.\d)", "N"),
    (r"[━─╌╳╸╺]+", "BAR"),
    (r"[ \t]+", " "),
    (r" ?\n", "\n"),
    # Whether a day of the fleet ended meanwhile depends on the hour.
    (r"(?m)^N signed heads?: signed by this ledger's key\.\n", ""),
    # Which ages the first vehicles have reached when somebody looks is a matter of seconds.
    (r"(?m)^(before N granted, N failed before a permit), N of N silent without one after SPAN$", r"\1"),
    (r"(?m)^(silent)? ?after SPAN: N of N,?( controls N of N)?\n", ""),
)
"""In order: pattern, and what stands for it when two runs are compared."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session."""

    typed: str
    """As a person types it; further lines of it begin with `> ` on the page."""
    output: str
    """What it printed, with line ends; empty when nothing."""

    def page(self) -> str:
        """As it stands on the page."""
        first, *rest = self.typed.split("\n")
        return "".join([f"$ {first}\n", *(f"> {line}\n" for line in rest), self.output])


def steps_of(block: str) -> list[Step]:
    """The commands of one block, with what they printed when they were recorded."""
    steps: list[Step] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            steps.append(Step(line[2:].rstrip("\n"), ""))
        elif line.startswith("> ") and steps and not steps[-1].output:
            steps[-1] = Step(f"{steps[-1].typed}\n{line[2:].rstrip(chr(10))}", "")
        elif steps:
            steps[-1] = Step(steps[-1].typed, steps[-1].output + line)
    return steps


def alike(text: str) -> str:
    """Text with what differs between two good runs made equal."""
    for pattern, stands_for in ALIKE:
        text = re.sub(pattern, stands_for, text)
    return text


class Shell:
    """One shell in a folder of its own, with the programs of this checkout on its path."""

    def __init__(self, folder: Path, scenario: str) -> None:
        environment = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL") if name in os.environ}
        environment |= {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "SCENARIO": str(SCENARIOS / f"{scenario}.toml"),
            "TZ": "UTC",
            "PYTHONIOENCODING": "utf-8",
        }
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )

    def run(self, typed: str) -> str:
        """What a command prints until the shell takes the next one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{typed}\nprintf '\\n--over--\\n'\n")
        self._process.stdin.flush()
        printed: list[str] = []
        for line in self._process.stdout:
            if line == "--over--\n":
                break
            printed.append(line)
        else:
            raise RuntimeError(f"the shell ended at: {typed}\n{''.join(printed)}")
        # Tables pad their lines; a page has no blanks at the end of one.
        return re.sub(r"[ \t]+\n", "\n", "".join(printed)).removesuffix("\n")

    def end(self) -> None:
        """End what runs in the background: everything of this session, gently first.

        Raises:
            RuntimeError: something had to be killed, which leaves its store behind: a job was not a single command.
        """
        assert self._process.stdin is not None
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait; exit\n")
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(ENDING_S)
        if group_lives(self._process.pid):
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            raise RuntimeError("the session left processes behind; a job in the background must be one command")


def group_lives(leader: int) -> bool:
    """Whether a process of this group runs still."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def a_shell(page: str) -> Iterator[Shell]:
    """The shell that a page wants, prepared if it says so; ended afterwards."""
    head = HEAD.search(page)
    if head is None:
        raise ValueError("the page does not say `<!-- session: bare|prepared SCENARIO -->`")
    with tempfile.TemporaryDirectory(prefix="session-", ignore_cleanup_errors=True) as folder:
        shell = Shell(Path(folder), head[2])
        try:
            if head[1] == "prepared":
                shell.run(PREPARE)
            yield shell
        finally:
            shell.end()


def recorded(page: str) -> str:
    """The page with what its commands print now."""
    with a_shell(page) as shell:

        def run(block: re.Match[str]) -> str:
            done = [Step(step.typed, shell.run(step.typed)) for step in steps_of(block[1])]
            return f"```console\n{''.join(step.page() for step in done)}```"

        return BLOCK.sub(run, page)


def difference(page: str, now: str) -> str:
    """What is not alike between a page and the same page recorded now; empty when nothing is."""
    lines = difflib.unified_diff(
        alike(page).splitlines(keepends=True), alike(now).splitlines(keepends=True), "on the page", "now"
    )
    return "".join(lines)


def pages() -> list[Path]:
    """Every session of the guide."""
    return [path for path in sorted(FOLDER.glob("*.md")) if HEAD.search(path.read_text("utf-8"))]


def main(arguments: Sequence[str]) -> int:
    """Compare or record; names of pages may follow."""
    write = "--write" in arguments
    names = [argument for argument in arguments if argument != "--write"]
    differs = False
    for path in pages():
        if names and path.stem not in names:
            continue
        page = path.read_text("utf-8")
        now = recorded(page)
        found = difference(page, now)
        differs |= bool(found)
        print(f"{path.name}: {'differs' if found else 'as recorded'}\n{found}", end="")
        if write:
            path.write_text(now, encoding="utf-8")
    return int(differs and not write)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
