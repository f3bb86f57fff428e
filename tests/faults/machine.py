"""A machine that fails on demand: the store's server meets a full or dying disk, or a clock that jumps.

Owns the library that is put in front of its system calls (`failing_machine.c`, compiled once) and the file that says
what fails now. What cannot be had here is skipped with a line that says why; with CI set nothing is skipped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import Installation, an_installation

SOURCE = Path(__file__).with_name("failing_machine.c")


def unless_ci(reason: str) -> None:
    """Skip this test and say why; an error where nothing may be skipped."""
    assert not os.environ.get("CI"), f"{reason}, and CI is set"
    pytest.skip(reason)


def needs_root() -> None:
    """For what only root may do to a machine."""
    if os.geteuid() != 0:
        unless_ci("only root can mount a small disk or cut a network: run it in a container as root")


@dataclass(frozen=True, slots=True)
class FailingMachine:
    """What a server that is started with this environment runs on."""

    library: Path
    orders: Path
    """Says what fails now."""

    @property
    def environment(self) -> dict[str, str]:
        """Of the server."""
        return {"LD_PRELOAD": str(self.library), "OUTRIDER_FAULT_FILE": str(self.orders)}

    def fail(self, fault: str) -> None:
        """From now on this goes wrong; see `failing_machine.c`."""
        fresh = self.orders.with_suffix(".new")
        fresh.write_text(fault)
        fresh.replace(self.orders)

    def mend(self) -> None:
        """From now on all is well."""
        self.fail("")


def a_failing_machine(folder: Path) -> FailingMachine:
    """One that is well so far; its orders lie in a folder of the test."""
    return FailingMachine(_compiled(), folder / "fault")


@contextmanager
def a_house_on(machine: FailingMachine, folder: Path) -> Iterator[Installation]:
    """An installation that serves with a release published, whose store runs on this machine; it is well afterwards."""
    with pytest.MonkeyPatch.context() as patch, an_installation(folder, start=False) as house:
        for name, value in machine.environment.items():
            patch.setenv(name, value)
        house.start()
        for name in machine.environment:
            patch.delenv(name)
        house.publish("1.1.0", release_counter=2)
        yield house
        machine.mend()


def _compiled() -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        unless_ci("no C compiler (cc) to build tests/faults/failing_machine.c with")
    assert compiler is not None
    mark = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"outrider-failing-machine-{os.getuid()}-{mark}.so"
    if not library.exists():
        # Beside it and then renamed: test processes share it.
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            fresh = Path(folder) / library.name
            subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", fresh, SOURCE], check=True)
            fresh.replace(library)
    return library


@contextmanager
def a_small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of that size."""
    needs_root()
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
