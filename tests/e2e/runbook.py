"""Types what a runbook says, in the state that the runbook is for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import CliOutcome, Installation
from tests.repo.checkout import ROOT

COMMAND_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Runbook:
    """One page beside one installation.

    Attributes:
        name: of the page, without its ending.
        installation: where its commands are typed.
        words: what stands for what: `spring` for a rollout, `v-0007` for a vehicle.
    """

    name: str
    installation: Installation
    words: Mapping[str, str]

    def commands(self, section: str) -> Sequence[str]:
        """What a section tells the reader to type, in order."""
        text = (ROOT / "docs" / "runbooks" / f"{self.name}.md").read_text(encoding="utf-8")
        [body] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
        blocks = re.findall(r"^```console\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
        return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]

    def type(self, command: str) -> CliOutcome:
        """Type one command line where the data folder is."""
        for word, meant in self.words.items():
            command = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", meant, command)
        here = self.installation.data.parent
        if not (here / "outrider-data").exists():
            (here / "outrider-data").symlink_to(self.installation.data, target_is_directory=True)
        tools = Path(sys.executable).parent
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=here,
            env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return CliOutcome(done.returncode, done.stdout, done.stderr)

    def follow(
        self, section: str, *, leaving_out: Collection[str] = (), may_end_with: Mapping[str, int] | None = None
    ) -> Mapping[str, str]:
        """Type a whole section; what each command said, by command.

        Args:
            section: its heading.
            leaving_out: beginnings of commands that the test does another way, or that belong to another decision.
            may_end_with: exit codes by the beginning of a command, where the state makes it other than 0.
        """
        said: dict[str, str] = {}
        for command in self.commands(section):
            if any(command.startswith(beginning) for beginning in leaving_out):
                continue
            outcome = self.type(command)
            expected = [code for start, code in (may_end_with or {}).items() if command.startswith(start)] or [0]
            assert outcome.exit_code == expected[0], f"{command}\n{outcome.stdout}\n{outcome.stderr}"
            said[command] = outcome.stdout
        assert said, f"{self.name} has nothing to type under {section}"
        return said
